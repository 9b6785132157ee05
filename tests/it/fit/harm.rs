//! A map that `fit` chooses by itself harms no classes, whatever is known of the images.

use super::Workspace;
use crate::support::{constancy, pocket_model, stderr, stdout};
use std::path::Path;

const IMAGES: &str = "400";
const FAMILIES: &str =
    "exposure,gamma,white-balance,vignetting,low-light,infrared,colour-jitter,grey-scale";
const PROMPT: &str = "a photo of a {}";
/// Right answers that a map may cost: a point and a half of the images.
const MAY_COST: usize = 6;

fn run(folder: &Path, args: &[&str]) -> String {
    let output = constancy()
        .current_dir(folder)
        .args(args)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn render(folder: &Path, to: &str, seed: &str) {
    let of = ["--count", IMAGES, "--seed", seed, "--environments", "seen"];
    let args = [&["synth", "--out", to, "--format", "folders"][..], &of].concat();
    run(folder, &args);
}

/// Right answers on the held-out images, with a projection if one is named.
fn right(folder: &Path, projection: Option<&str>) -> usize {
    let model = pocket_model().display().to_string();
    let labels = format!("@{}", pocket_model().with_file_name("labels.txt").display());
    let mut args = vec!["classify", "--model", &model, "--labels", &labels];
    args.extend(["--prompt", PROMPT, "--json", "held-out"]);
    args.extend(projection.iter().flat_map(|p| ["--projection", *p]));
    let is_right = |line: &&str| {
        let answer: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let file = answer["file"].as_str().expect("file");
        let class = Path::new(file).parent().and_then(Path::file_name);
        class.is_some_and(|class| class == answer["class"].as_str().expect("class"))
    };
    run(folder, &args).lines().filter(is_right).count()
}

#[test]
fn the_default_choice_harms_no_classes() {
    let workspace = Workspace::new();
    let folder = workspace.path(".");
    render(&folder, "sources", "9");
    render(&folder, "held-out", "10");
    // The same images, of which nothing is known.
    let flat = workspace.path("flat");
    std::fs::create_dir(&flat).expect("folder");
    for (i, image) in images(&workspace.path("sources")).iter().enumerate() {
        std::fs::hard_link(image, flat.join(format!("{i:03}.png"))).expect("image");
    }
    let raw = right(&folder, None);
    let labels = pocket_model().with_file_name("labels.txt");
    let labels = labels.display().to_string();
    for (name, args) in [
        ("folders", &["sources"][..]),
        ("flat", &["flat"]),
        ("labels", &["flat", "--for", &labels, "--prompt", PROMPT]),
    ] {
        let (model, file) = (pocket_model().display().to_string(), format!("{name}.map"));
        let options = ["--model", &model, "--interventions", FAMILIES, "-o", &file];
        let fit = [args, &options].concat();
        let output = workspace.run(&fit);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let with = right(&folder, Some(&file));
        println!("{name}: {with} right, raw {raw}");
        assert!(
            with + MAY_COST >= raw,
            "{name}: {with} right, raw {raw}\n{}",
            stdout(&output)
        );
    }
}

/// Every file below a folder.
fn images(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(images(&path));
        } else if path.extension().is_some_and(|e| e == "png") {
            found.push(path);
        }
    }
    found.sort();
    found
}
