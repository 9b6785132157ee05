//! `constancy classes evaluate`: its figures against a count of what `classify` answers, its formats and its errors.

use super::classes::{bank_from_images, classify};
use super::{model, run, text};
use crate::support::{json_lines, picture, stderr, stdout};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// Writes images as bright as `level` to `folder`, one for each seed.
fn write(folder: &Path, level: u8, seeds: std::ops::Range<u32>) {
    std::fs::create_dir_all(folder).expect("folder");
    for seed in seeds {
        let mut image = picture(64, 64, seed);
        let pixels = image.pixels_mut();
        pixels.for_each(|p| p.0 = p.0.map(|c| level + c / 8));
        let file = folder.join(format!("{level}-{seed}.png"));
        image.save(file).expect("image");
    }
}

/// A folder with a bank of the classes `bright` and `dark`, and images in `held` that it has not seen: some of each class
/// look like the other, and some are of no class.
struct Workspace {
    folder: tempfile::TempDir,
    bank: String,
}

impl Workspace {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let train = folder.path().join("train");
        write(&train.join("bright"), 200, 0..12);
        write(&train.join("dark"), 20, 0..12);
        let held = folder.path().join("held");
        write(&held.join("bright"), 200, 100..140);
        write(&held.join("bright"), 20, 200..203);
        write(&held.join("dark"), 20, 100..140);
        write(&held.join("dark"), 200, 200..202);
        write(&held.join("grey"), 110, 100..105);
        let bank = bank_from_images(&train);
        Self { folder, bank }
    }

    fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name))
    }

    fn evaluate(&self, held: &str, more: &[&str]) -> Output {
        let (model, held) = (model(), self.path(held));
        let args = ["classes", "evaluate", &self.bank, &held, "--model", &model];
        run(&[&args[..], &["--no-cache"], more].concat())
    }

    fn report(&self, held: &str, more: &[&str]) -> Value {
        let output = self.evaluate(held, &[&["--json"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        json_lines(&output).remove(0)
    }

    /// What `classify` answers to each image of a class folder.
    fn answers(&self, class: &str) -> Vec<Value> {
        classify(&self.bank, &self.folder.path().join("held").join(class))
    }
}

fn count(answers: &[Value], wanted: impl Fn(&Value) -> bool) -> u64 {
    answers.iter().filter(|a| wanted(a)).count() as u64
}

fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|v| (v - expected).abs() < 1e-9)
}

fn share(hits: u64, of: u64) -> f64 {
    hits as f64 / of as f64
}

#[test]
fn figures_are_those_of_a_count() {
    let workspace = Workspace::new();
    let report = workspace.report("held", &["--interventions", "none"]);
    let [bright, dark, grey] = ["bright", "dark", "grey"].map(|class| workspace.answers(class));
    let named = |answers: &[Value], class: &str| count(answers, |a| a["class"] == class);
    let known = |answers: &[Value]| count(answers, |a| a["known"] == true);

    assert_eq!(
        (&report["schema"], &report["judged_by"], &report["images"]),
        (&1.into(), &"confidence".into(), &85.into())
    );
    assert_eq!(
        (&report["unknown"], &report["unknown_images"]),
        (&serde_json::json!(["grey"]), &5.into())
    );
    assert_eq!(report["made_from_held"], false);
    assert!(report["under_interventions"].is_null() && report["families"] == serde_json::json!([]));

    let right = named(&bright, "bright") + named(&dark, "dark");
    assert_eq!(right, 80, "the images that look like their class");
    let quality = &report["as_they_are"];
    assert!(
        near(&quality["accuracy"]["estimate"], share(right, 85)),
        "{quality}"
    );
    // Wilson's interval of 80 of 85.
    assert!((quality["accuracy"]["low"].as_f64().expect("low") - 0.869_6).abs() < 1e-3);

    let dark_named_bright = report["confusion"].as_array().expect("confusion").iter();
    let images: u64 = dark_named_bright
        .filter(|c| c["class"] == "dark" && c["answer"] == "bright")
        .filter_map(|c| c["images"].as_u64())
        .sum();
    assert_eq!(images, 2);
    let class = &report["classes"][0];
    assert!(class["class"] == "bright" && near(&class["recall"]["estimate"], share(40, 43)));
    let all = named(&bright, "bright") + named(&dark, "bright") + named(&grey, "bright");
    assert_eq!(class["answers"], all);
    assert!(near(&class["precision"]["estimate"], share(40, all)));
    assert!(near(&class["known"]["estimate"], share(known(&bright), 43)));

    let mut thresholds = report["thresholds"].as_array().expect("thresholds").iter();
    let at = thresholds
        .find(|at| at["origin"] == "set")
        .expect("the set one");
    assert!(near(&at["threshold"], 0.9), "{at}");
    let accepted = known(&bright) + known(&dark);
    assert_eq!(at["as_they_are"]["answers"], accepted);
    assert!(near(
        &at["as_they_are"]["coverage"]["estimate"],
        share(accepted, 85)
    ));
    assert_eq!(
        at["as_they_are"]["risk"]["estimate"],
        at["worst_risk"]["estimate"]
    );
    let wrong = count(&bright, |a| a["known"] == true && a["class"] != "bright")
        + count(&dark, |a| a["known"] == true && a["class"] != "dark");
    assert!(near(
        &at["as_they_are"]["risk"]["estimate"],
        share(wrong, accepted)
    ));
    assert!(near(
        &at["unknown"]["as_they_are"]["estimate"],
        share(known(&grey), 5)
    ));

    let text = stdout(&workspace.evaluate("held", &["--interventions", "none"]));
    for part in [
        "85 images of 2 classes, and 5 of no class of the bank (grey); judged by confidence",
        "as they are: 94.1 (87.0 to 97.5) % right of 85 answers",
        "confusion matrix",
        "0.9 (set)",
        "images of no class of the bank that are called known",
        "the bank's own thresholds",
        "thresholds for a target, from these images as they are; images of no class count as wrong",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("under interventions,"), "{text}");
}

#[test]
fn proposals_can_be_pasted_and_keep_their_word() {
    let workspace = Workspace::new();
    std::fs::remove_dir_all(workspace.path("held/grey")).expect("no unknown images");
    for class in ["bright", "dark"] {
        let held = workspace.folder.path().join("held").join(class);
        let level = if class == "bright" { 20 } else { 200 };
        for seed in 200..203 {
            // What looks like the other class goes.
            let _ = std::fs::remove_file(held.join(format!("{level}-{seed}.png")));
        }
    }
    let report = workspace.report("held", &["--interventions", "none"]);
    assert!(near(&report["as_they_are"]["accuracy"]["estimate"], 1.0));
    let proposal = &report["proposals"][0];
    assert!(near(&proposal["precision"], 0.9), "{proposal}");
    let table: toml::Table = proposal["toml"]
        .as_str()
        .expect("lines")
        .parse()
        .expect("TOML");
    let threshold = table["classes"]["threshold"].as_float().expect("threshold");
    assert!(near(&proposal["all"]["threshold"], threshold));
    let each = table["classes"]["thresholds"]
        .as_table()
        .expect("for each class");
    assert!(
        each.contains_key("bright") && each.contains_key("dark"),
        "{proposal}"
    );
    // The threshold accepts as many answers as it says.
    let threshold = threshold.to_string();
    let more = ["--interventions", "none", "--threshold", &threshold];
    let again = workspace.report("held", &more);
    let at = again["thresholds"].as_array().expect("thresholds").iter();
    let at = at
        .clone()
        .find(|t| t["origin"] == "set")
        .expect("the threshold that is set");
    let known = proposal["all"]["known"].as_f64().expect("known");
    assert!(
        near(&at["as_they_are"]["coverage"]["estimate"], known),
        "{at}"
    );
    // 80 images cannot show 99 %.
    let last = &report["proposals"][2];
    assert!(last["all"]["threshold"].is_null(), "{last}");
    assert!(
        last["toml"]
            .as_str()
            .is_some_and(|l| l.contains("hold out more"))
    );
}

#[test]
fn interventions_and_environments_have_figures_and_the_page_has_all() {
    let workspace = Workspace::new();
    let held = workspace.folder.path().join("two");
    for (environment, skipped) in [("noon", 0), ("night", 6)] {
        let from = workspace.folder.path().join("held");
        std::fs::create_dir_all(held.join(environment)).expect("folder");
        for class in ["bright", "dark"] {
            let to = held.join(environment).join(class);
            std::fs::create_dir_all(&to).expect("folder");
            let files = std::fs::read_dir(from.join(class)).expect("class");
            for file in files.skip(skipped).take(6) {
                let file = file.expect("file");
                std::fs::copy(file.path(), to.join(file.file_name())).expect("copy");
            }
        }
    }
    let page = workspace.path("page <1>.html");
    let more = ["--interventions", "inversion,haze", "--html", &page];
    let report = workspace.report("two", &more);
    let families = report["families"].as_array().expect("families");
    assert_eq!(families.len(), 2);
    let accuracy = |i: usize| families[i]["accuracy"]["estimate"].as_f64().expect("share");
    assert!(accuracy(0) <= accuracy(1), "the worst first");
    let mean = f64::midpoint(accuracy(0), accuracy(1));
    let changed = &report["under_interventions"];
    assert!(near(&changed["accuracy"]["estimate"], mean) && changed["answers"] == 48);
    assert_eq!(report["environments"].as_array().map(Vec::len), Some(2));

    let html = std::fs::read_to_string(&page).expect("page");
    assert_eq!(html.matches("<svg").count(), 2);
    assert!(html.contains("page &lt;1&gt;.html") && !html.contains("<1>"));
    assert!(!html.contains("http"), "it loads nothing from elsewhere");
    for part in [
        "haze",
        "inversion",
        "confusion matrix",
        "noon",
        "Reliability under interventions",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_closed(&html);
}

/// Fails unless every element is closed in its turn.
fn assert_closed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>").expect("a page");
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag
            .split([' ', '/'])
            .find(|n| !n.is_empty())
            .expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && !["meta", "br", "img"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_bank_of_these_very_images_is_warned_of() {
    let workspace = Workspace::new();
    let output = workspace.evaluate("train", &["--json", "--interventions", "none"]);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("give images that it has not seen"),
        "{}",
        stderr(&output)
    );
    assert_eq!(json_lines(&output)[0]["made_from_held"], true);
    let output = workspace.evaluate("held", &["--json", "--interventions", "none"]);
    assert!(
        !stderr(&output).contains("has not seen"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bank_without_confidence_is_judged_by_its_scores() {
    let mut workspace = Workspace::new();
    let few = workspace.folder.path().join("few");
    write(&few.join("bright"), 200, 0..1);
    write(&few.join("dark"), 20, 0..1);
    workspace.bank = bank_from_images(&few);
    let report = workspace.report("held", &["--interventions", "none"]);
    assert_eq!(report["judged_by"], "score");
    assert_eq!(report["unreached"], serde_json::json!([]));
    assert!(report["thresholds"][0]["unknown"]["stated"].is_null());
    let known = |class: &str| count(&workspace.answers(class), |a| a["known"] == true);
    let known = known("bright") + known("dark");
    assert_eq!(report["thresholds"][0]["as_they_are"]["answers"], known);
}

#[test]
fn what_cannot_be_judged_is_refused_with_the_way_out() {
    let workspace = Workspace::new();
    let refused = |held: &str, more: &[&str], code: i32, words: &str| {
        let output = workspace.evaluate(held, more);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{held}: {message}");
        assert!(message.contains(words), "{held}: {message}");
        assert!(output.stdout.is_empty());
    };
    refused("missing", &[], 66, "there is no such folder");
    refused("held/bright", &[], 65, "ENVIRONMENT/CLASS/IMAGE");
    refused(
        "held",
        &["--threshold", "2"],
        64,
        "expected a number from 0 to 1",
    );
    let others = workspace.folder.path().join("others");
    write(&others.join("red"), 110, 0..2);
    write(&others.join("blue"), 110, 2..4);
    refused("others", &[], 64, "give held-out images of these classes");
}

#[test]
fn an_image_that_cannot_be_read_is_told_and_the_others_are_judged() {
    let workspace = Workspace::new();
    let broken = workspace.folder.path().join("held/dark/broken.png");
    std::fs::write(&broken, b"\x89PNG\r\n\x1a\nno picture").expect("file");
    let output = workspace.evaluate("held", &["--json", "--interventions", "none"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("broken.png"),
        "{}",
        stderr(&output)
    );
    let report = &json_lines(&output)[0];
    assert_eq!(
        (&report["images"], &report["unreadable"]),
        (&85.into(), &1.into())
    );
}
