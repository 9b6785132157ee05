//! Pairs besides an image and the same image under an intervention: images of one class, and captions.

use super::Workspace;
use crate::support::{fixture, stderr};

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
