//! Pairs besides an image and the same image under an intervention: images of one class, captions, and pictures of a
//! camera's own interventions.

use super::Workspace;
use crate::support::{fixture, picture, stderr};
use std::path::Path;

#[test]
fn same_class_pairs_images_of_a_class() {
    let workspace = Workspace::with_environments(&["noon"], &["gear", "bolt"], 12);
    let with = |families: &'static str, more: &[&'static str]| {
        [&["--interventions", families][..], more].concat()
    };
    let fit = |args: Vec<&'static str>| workspace.report(&[&["images/noon"][..], &args].concat());
    let (labels, no_labels) = ("exposure,haze,gamma,same-class", "exposure,haze,gamma");
    let (fixed, without) = (
        fit(with(labels, &["--map", "soft:1"])),
        fit(with(no_labels, &["--map", "soft:1"])),
    );
    assert_eq!(
        (&fixed["pairs"]["same-class"], &fixed["pairs"]["haze"]),
        (&24.into(), &24.into())
    );
    assert!(
        without["pairs"]["same-class"].is_null() && fixed["removed"] != without["removed"],
        "{without}"
    );
    // Identification ignores labels; accuracy uses them.
    for (choice, same) in [("identification", true), ("interventions", false)] {
        let trials =
            |families| fit(with(families, &["--select", choice]))["selection"]["trials"].clone();
        assert_eq!(trials(labels) == trials(no_labels), same, "{choice}");
    }
    workspace.assert_refused(
        &[&["images/noon/gear"][..], &with(labels, &[])].concat(),
        65,
        &["CLASS/IMAGE"],
    );
    let one = [&["images/noon/gear/1.jpg"][..], &with(labels, &[])].concat();
    workspace.assert_refused(&one, 64, &["one folder", "CLASS/IMAGE"]);
    workspace.assert_refused(
        &["images", "--interventions", "same-class"],
        64,
        &["at least one intervention on images"],
    );
}

#[test]
fn captions_join_the_fit() {
    let workspace = Workspace::with_environments(&["noon", "dusk"], &["hex_bolt", "gear"], 6);
    let few = [
        "images",
        "--interventions",
        "exposure,haze",
        "--select",
        "identification",
    ];
    let without = workspace.report(&few);
    std::fs::write(
        workspace.path("pairs.tsv"),
        "a gear\ta gear at night\na bolt\ta bolt in fog\n",
    )
    .expect("pairs");
    let with =
        workspace.report(&[&few[..], &["--captions", "pairs.tsv", "--caption-edits"]].concat());
    // Thirty edits of two classes.
    assert_eq!(with["pairs"]["captions"], 62);
    assert_ne!(with["removed"], without["removed"]);
    let labels = workspace.report(
        &[
            &few[..],
            &["--caption-edits", "--labels", "a, b, c", "--prompt", "{}"],
        ]
        .concat(),
    );
    assert_eq!(labels["pairs"]["captions"], 90);
}

#[test]
fn classes_known_by_text_are_changed_in_text_unless_families_are_named() {
    let workspace = Workspace::with_environments(&["noon"], &["hex_bolt", "gear"], 12);
    std::fs::write(workspace.path("labels.txt"), "a bolt\na gear\n").expect("labels");
    let captions = |args: &[&str]| workspace.report(args)["pairs"]["captions"].clone();
    let by_text = ["images", "--for", "labels.txt", "--prompt", "{}"];
    // Thirty edits of two classes.
    assert_eq!(captions(&by_text), 60);
    let named = [&by_text[..], &["--interventions", "paper,camera"]].concat();
    assert!(captions(&named).is_null(), "families were named");
    assert!(
        captions(&["images"]).is_null(),
        "folders are known by images"
    );
}

#[test]
fn captions_that_cannot_be_used_are_refused() {
    let workspace = Workspace::with_environments(&["noon", "dusk"], &["hex_bolt", "gear"], 6);
    std::fs::write(
        workspace.path("pairs.tsv"),
        "a gear\ta gear at night\nonly one\n",
    )
    .expect("pairs");
    workspace.assert_refused(
        &["images", "--captions", "pairs.tsv"],
        65,
        &["pairs.tsv, line 2", "a caption, a tab"],
    );
    workspace.assert_refused(
        &["images/noon/gear", "--caption-edits"],
        64,
        &["--labels", "ENVIRONMENT/CLASS/IMAGE"],
    );
    let no_text_tower = workspace.run(&[
        "images",
        "--caption-edits",
        "--model",
        &fixture("encoder/vision-dynamo.toml").display().to_string(),
    ]);
    assert!(
        !no_text_tower.status.success() && stderr(&no_text_tower).contains("no [text] section"),
        "{}",
        stderr(&no_text_tower)
    );
}

/// Writes six pairs of pictures, of which the second is darker or redder, as `camera intervene` does.
fn write_pairs(folder: &Path) {
    std::fs::create_dir_all(folder).expect("folder");
    let mut lines = String::new();
    for i in 0..6 {
        let reference = picture(96, 72, i / 3);
        let family = ["exposure", "white-balance"][i as usize % 2];
        let mut changed = reference.clone();
        for pixel in changed.pixels_mut() {
            let [r, g, b] = pixel.0;
            pixel.0 = if i % 2 == 0 {
                [r / 2, g / 2, b / 2]
            } else {
                [r, g, b / 3]
            };
        }
        let (a, b) = (
            format!("{}-reference.png", i / 3),
            format!("{i}-changed.png"),
        );
        reference.save(folder.join(&a)).expect("image");
        changed.save(folder.join(&b)).expect("image");
        lines += &serde_json::json!({
            "reference": a, "changed": b, "family": format!("physical-{family}"), "control": family, "from": 1, "to": 2,
            "camera": "belt",
        })
        .to_string();
        lines += "\n";
    }
    std::fs::write(folder.join("pairs.jsonl"), lines).expect("manifest");
}

#[test]
fn pairs_of_a_cameras_own_interventions_join_the_fit() {
    let workspace = Workspace::with_environments(&["noon", "dusk"], &["hex_bolt", "gear"], 6);
    write_pairs(&workspace.path("pairs"));
    let few = ["images", "--interventions", "exposure,haze"];
    let with = |more: &[&str]| workspace.report(&[&few[..], more].concat());
    let (without, both) = (
        with(&["--map", "soft:1"]),
        with(&["--map", "soft:1", "--pairs", "pairs"]),
    );
    assert_eq!(both["pairs"]["physical-exposure"], 3);
    assert_eq!(both["pairs"]["physical-white-balance"], 3);
    assert_eq!(both["pairs"]["haze"], 24);
    assert_ne!(both["removed"], without["removed"]);
    let alone = with(&["--map", "soft:1", "--pairs", "pairs", "--pairs-only"]);
    let families: Vec<_> = alone["pairs"].as_object().expect("pairs").keys().collect();
    assert_eq!(families, ["physical-exposure", "physical-white-balance"]);
    assert_ne!(alone["removed"], both["removed"]);
    // The interventions on images judge the maps even then.
    let chosen = with(&[
        "--pairs",
        "pairs",
        "--pairs-only",
        "--select",
        "interventions",
    ]);
    assert_eq!(chosen["selection"]["criterion"], "left_out_intervention");
}

#[test]
fn pairs_that_cannot_be_used_are_named() {
    let workspace = Workspace::with_environments(&["noon"], &["hex_bolt", "gear"], 6);
    let folder = workspace.path("pairs");
    write_pairs(&folder);
    let manifest = folder.join("pairs.jsonl");
    let whole = std::fs::read_to_string(&manifest).expect("manifest");
    let fit = [
        "images",
        "--interventions",
        "exposure,haze",
        "--map",
        "soft:1",
        "--pairs",
        "pairs",
    ];
    std::fs::write(&manifest, format!("{whole}{{\"reference\": 1}}\n")).expect("manifest");
    workspace.assert_refused(&fit, 65, &["pairs.jsonl, line 7"]);
    std::fs::write(&manifest, whole.replace("physical-exposure", "exposure")).expect("manifest");
    workspace.assert_refused(&fit, 65, &["line 1", "`exposure`", "`physical-`"]);
    std::fs::write(&manifest, "").expect("manifest");
    workspace.assert_refused(&fit, 64, &["no pair is listed", "camera intervene"]);
    std::fs::remove_file(&manifest).expect("manifest");
    workspace.assert_refused(&fit, 66, &["pairs.jsonl"]);
    // A picture that is gone costs its pairs, and is told.
    std::fs::write(&manifest, &whole).expect("manifest");
    std::fs::remove_file(folder.join("0-changed.png")).expect("image");
    workspace.assert_refused(&fit, 65, &["0-changed.png", "1 of 8 images"]);
    workspace.assert_refused(&["images", "--pairs-only"], 64, &["--pairs"]);
}
