//! Which map `fit` chooses, and by which criterion.

use super::{WIDTH, Workspace};
use crate::support::stderr;
use constancy_core::icm::ProjectionKind;

#[test]
fn environments_choose_the_map_if_folders_name_them() {
    let workspace = Workspace::with_environments(&["noon", "dusk", "fog"], &["gear", "bolt"], 6);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--select",
        "environments",
    ];
    for predictor in ["means", "probe", "zero-shot"] {
        let report = workspace.report(&[&args[..], &["--predictor", predictor]].concat());
        assert_eq!(report["selection"]["criterion"], "left_out_environment");
        assert_eq!(
            report["environments"],
            serde_json::json!(["dusk", "fog", "noon"])
        );
    }
    // A class that an environment lacks is reported.
    std::fs::remove_dir_all(workspace.path("images/fog/gear")).expect("class");
    let output = workspace.fit(&args);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("environment `fog` has no image of class `gear`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn interventions_choose_the_map_if_folders_name_classes() {
    let workspace = Workspace::with_environments(&["noon"], &["gear", "bolt"], 12);
    let args = [
        "--interventions",
        "exposure,haze,gamma",
        "--select",
        "interventions",
    ];
    for (folder, environment) in [("images", "noon"), ("images/noon", "noon")] {
        let report = workspace.report(&[&[folder][..], &args, &["--predictor", "probe"]].concat());
        assert_eq!(report["selection"]["criterion"], "left_out_intervention");
        assert_eq!(report["environments"], serde_json::json!([environment]));
        assert_eq!(report["classes"], serde_json::json!(["bolt", "gear"]));
    }
    workspace.assert_refused(
        &[&["images/noon/gear"][..], &args].concat(),
        65,
        &["ENVIRONMENT/CLASS/IMAGE"],
    );
    workspace.assert_refused(
        &[&["images/noon/gear/1.jpg"][..], &args].concat(),
        64,
        &["one folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
}

#[test]
fn a_whitening_is_chosen_or_named_where_folders_name_classes() {
    let workspace = Workspace::with_environments(&["noon", "dusk"], &["gear", "bolt"], 8);
    let families = ["--interventions", "exposure,haze,gamma"];
    for folder in ["images", "images/noon"] {
        let chosen = [&[folder][..], &families, &["--select", "within-class"]].concat();
        let report = workspace.report(&chosen);
        assert_eq!(report["selection"]["criterion"], "held_out_images");
        assert_eq!(report["selection"]["trials"][0]["map"], "identity");
    }
    let named = [&families[..], &["--map", "soft:1,within:3"]].concat();
    let report = workspace.report(&[&["images/noon"][..], &named].concat());
    assert_eq!(report["map"], "whitened, interventions 1, within classes 3");
    let projection = workspace.projection("projection.safetensors");
    assert_eq!(
        (projection.kind(), projection.rank()),
        (ProjectionKind::Soft, WIDTH)
    );
    workspace.assert_refused(
        &[&["images/noon/gear/1.jpg"][..], &named].concat(),
        64,
        &["labels come from folder names"],
    );
}

#[test]
fn environments_cannot_choose_if_there_is_at_most_one() {
    let workspace = Workspace::with_environments(&["noon"], &["gear", "bolt"], 2);
    let choose = ["--select", "environments"];
    let with = |folder: &'static str| [&[folder][..], &choose].concat();
    workspace.assert_refused(
        &with("images"),
        65,
        &["one environment, `noon`", "images/ENVIRONMENT/CLASS/IMAGE"],
    );
    workspace.assert_refused(
        &with("images/noon"),
        65,
        &["lies in no class folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
    workspace.assert_refused(
        &[&["images/noon", "images/noon"][..], &choose].concat(),
        64,
        &["one folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
}

#[test]
fn the_requested_map_is_fitted() {
    let workspace = Workspace::with_images(30);
    for (map, rank, kind) in [
        ("remove:5", WIDTH - 5, ProjectionKind::Hard),
        ("lambda:10,remove:7", WIDTH - 7, ProjectionKind::Hard),
        ("soft:2", WIDTH, ProjectionKind::Soft),
        ("identity", WIDTH, ProjectionKind::Hard),
    ] {
        let report = workspace.report(&[
            "images",
            "--interventions",
            "paper",
            "--map",
            map,
            "-o",
            "p",
        ]);
        assert!(
            report["selection"].is_null() && report["rank"] == rank,
            "{report}"
        );
        let projection = workspace.projection("p");
        assert_eq!(
            (projection.rank(), projection.kind()),
            (rank, kind),
            "{map}"
        );
    }
}

#[test]
fn a_map_can_be_centred() {
    let workspace = Workspace::with_images(30);
    let report = workspace.report(&[
        "images",
        "--interventions",
        "paper",
        "--map",
        "remove:5",
        "--centre",
    ]);
    assert_eq!(
        report["map"],
        "without the 5 most variant directions, centred"
    );
}

#[test]
fn impossible_maps_are_refused() {
    let workspace = Workspace::with_images(30);
    workspace.assert_refused(
        &["images", "--map", "remove:0"],
        64,
        &["remove:0", "soft:1", "lambda:10,remove:50"],
    );
    workspace.assert_refused(
        &["images", "--map", "remove:48"],
        65,
        &["48 directions cannot be removed", "at most 47"],
    );
}
