//! What a bank states of classes that it does not have: each class is left out, shown to a bank of the others, and known at
//! most as often as that bank says.

use super::{run, text};
use crate::support::{json_lines, pocket_model, stderr, stdout, test_data};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Thresholds whose rates are compared.
const AT: [f64; 4] = [0.5, 0.7, 0.9, 0.95];

/// `train/CLASS/IMAGE` and `held/CLASS/IMAGE`.
struct Images {
    folder: tempfile::TempDir,
    model: String,
}

impl Images {
    fn new(model: &Path) -> Self {
        Self {
            folder: tempfile::tempdir().expect("folder"),
            model: text(model),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds images of a class, every other one to be held out.
    fn add(&self, class: &str, images: &[PathBuf]) {
        for (i, image) in images.iter().enumerate() {
            let part = self.path(["train", "held"][i % 2]).join(class);
            std::fs::create_dir_all(&part).expect("folder");
            let name = image.file_name().expect("name").to_string_lossy();
            symlink(image, part.join(format!("{i}-{name}"))).expect("link");
        }
    }

    fn classes(&self) -> Vec<String> {
        names(&self.path("train"))
    }

    /// A bank of the classes that are `kept`, and what is printed.
    fn bank(&self, kept: &[&String]) -> (String, String) {
        let some = tempfile::tempdir().expect("folder");
        for class in kept {
            let from = self.path("train").join(class);
            symlink(from, some.path().join(class)).expect("link");
        }
        let bank = text(&self.path("bank"));
        let images = text(some.path());
        let output = self.run(&["classes", "--from-images", &images, "--output", &bank]);
        assert!(output.status.success(), "{}", stderr(&output));
        (bank, stdout(&output))
    }

    /// The thresholds of an evaluation on everything that is held out.
    fn thresholds(&self, bank: &str) -> Vec<Value> {
        let held = text(&self.path("held"));
        let output = self.run(&["classes", "evaluate", bank, &held, "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        json_lines(&output)[0]["thresholds"]
            .as_array()
            .expect("thresholds")
            .clone()
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        let cache = text(&self.path("cache"));
        let more = [
            "--model",
            &self.model,
            "--cache",
            &cache,
            "--interventions",
            "none",
        ];
        run(&[args, &more].concat())
    }

    /// Leaves each class out; returns how many rates were compared, and which were above.
    fn above(&self) -> (usize, Vec<String>) {
        let (classes, mut compared, mut above) = (self.classes(), 0, Vec::new());
        for left_out in &classes {
            let kept: Vec<&String> = classes.iter().filter(|c| *c != left_out).collect();
            let (bank, _) = self.bank(&kept);
            for at in self.thresholds(&bank) {
                let threshold = at["threshold"].as_f64().expect("a threshold");
                if at["origin"] != "fixed" && at["origin"] != "set"
                    || !AT.iter().any(|t| (t - threshold).abs() < 1e-6)
                {
                    continue;
                }
                let figure = |of: &str, name: &str| {
                    let unknown = &at["unknown"][of][name];
                    unknown.as_f64().unwrap_or_else(|| panic!("{of}: {at}"))
                };
                let (rate, high) = (figure("as_they_are", "estimate"), figure("stated", "high"));
                println!(
                    "{left_out} at {threshold}: {rate:.3}, stated {:.3} to {high:.3}",
                    figure("stated", "low")
                );
                compared += 1;
                if rate > high {
                    above.push(format!("{left_out} at {threshold}: {rate} above {high}"));
                }
            }
        }
        (compared, above)
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("folder");
    let name = |e: std::io::Result<std::fs::DirEntry>| {
        e.expect("entry").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

fn files(folder: &Path) -> Vec<PathBuf> {
    names(folder)
        .into_iter()
        .map(|name| folder.join(name))
        .collect()
}

/// The workshop's parts, each in all of its states: the shipped model knows them by name, and here by example.
#[test]
fn a_part_of_the_workshop_left_out_is_known_at_most_as_often_as_stated() {
    let images = Images::new(&pocket_model());
    let renders = text(&images.path("renders"));
    let made = run(&[
        "synth",
        "--out",
        &renders,
        "--count",
        "400",
        "--seed",
        "21",
        "--environments",
        "noon",
        "--format",
        "folders",
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let noon = images.path("renders").join("noon");
    let mut parts: std::collections::BTreeMap<String, Vec<PathBuf>> = [].into();
    for class in names(&noon) {
        // "cracked pipe fitting"
        let (_, part) = class.split_once(' ').expect("state and part");
        parts
            .entry(part.into())
            .or_default()
            .extend(files(&noon.join(&class)));
    }
    for (part, found) in &parts {
        images.add(part, found);
    }
    let (compared, above) = images.above();
    assert_eq!(compared, 8 * AT.len(), "parts and thresholds");
    assert!(above.is_empty(), "{above:?}");

    // Of two classes none can be left out, and the bank says so.
    let classes = images.classes();
    let (bank, printed) = images.bank(&[&classes[0], &classes[1]]);
    let said = "how often it takes another class for one of these is not known";
    assert!(printed.contains(said), "{printed}");
    assert!(
        images
            .thresholds(&bank)
            .iter()
            .all(|at| at["unknown"]["stated"].is_null())
    );
}

fn mobilenet(folder: &Path) -> Option<PathBuf> {
    let file = test_data("mobilenet/mobilenet_v2_conse.onnx")?;
    let manifest = folder.join("mobilenet.toml");
    let content = format!(
        "[encoder]\nname = \"mobilenet-v2\"\nfile = \"{}\"\n[input]\nname = \"input\"\nsize = 224\nresize = \"shortest-edge\"\nfilter = \"bilinear\"\ncrop = \"center\"\nmean = [0.50196078, 0.50196078, 0.50196078]\nstd = [0.50196078, 0.50196078, 0.50196078]\n[output]\nname = \"features\"\nwidth = 1280\nlogit_scale = 100.0\n",
        file.canonicalize().expect("file").display()
    );
    std::fs::write(&manifest, content).expect("manifest");
    Some(manifest)
}

#[test]
fn a_class_of_photographs_left_out_is_known_at_most_as_often_as_stated() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(manifest) = mobilenet(folder.path()) else {
        return;
    };
    let Some(photographs) = test_data("pacs-mini/photo") else {
        return;
    };
    let images = Images::new(&manifest);
    for class in names(&photographs) {
        let all = files(&photographs.canonicalize().expect("folder").join(&class));
        images.add(&class, &all[..40]);
    }
    let (compared, above) = images.above();
    assert_eq!(compared, 7 * AT.len(), "classes and thresholds");
    assert!(above.is_empty(), "{above:?}");
}
