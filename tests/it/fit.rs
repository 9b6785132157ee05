//! `constancy fit`: what it writes and says, what it keeps, and what it refuses.

use super::support::{
    constancy, fixture, jpeg, overflowing_model, picture, stderr, stdout, tiny_model, wait_for,
    write_environments, write_images,
};
use constancy_core::icm::{Projection, ProjectionKind};
use constancy_engine::{Encoder, EngineOptions};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Width of the small tower's embeddings.
const WIDTH: usize = 48;

/// A folder with images, a cache, and what fits write.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// With `count` images in `images`.
    fn with_images(count: u32) -> Self {
        let place = Self::new();
        write_images(&place.path("images"), count);
        place
    }

    /// `count` images of each class in each environment: `images/ENVIRONMENT/CLASS`.
    fn with_environments(environments: &[&str], classes: &[&str], count: u32) -> Self {
        let place = Self::new();
        write_environments(&place.path("images"), environments, classes, count);
        place
    }

    /// `fit` in this folder, with its cache.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_constancy"));
        command
            .current_dir(self.0.path())
            .arg("fit")
            .args(args)
            .env("XDG_CACHE_HOME", self.path("cache"));
        command.env("SOURCE_DATE_EPOCH", "1767225600");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// With the small tower.
    fn fit(&self, args: &[&str]) -> Output {
        let model = tiny_model();
        self.run(&[&["--model", model.to_str().expect("UTF-8")], args].concat())
    }

    /// The same, which must go well, as JSON.
    fn report(&self, args: &[&str]) -> Value {
        let output = self.fit(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// That must be refused, with `code` and all of `words`.
    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.fit(args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{args:?}: {message} lacks {word}");
        }
    }

    /// The projection that was written, as the daemon reads it.
    fn projection(&self, name: &str) -> Projection {
        let encoder = Encoder::load(&tiny_model(), &EngineOptions::default()).expect("model");
        let bytes = std::fs::read(self.path(name)).expect("projection");
        Projection::parse(&bytes, encoder.sha256(), WIDTH).expect("projection")
    }

    /// The only file of the cache.
    fn cache(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path("cache/constancy")).ok()?;
        let files: Vec<PathBuf> = entries.map(|e| e.expect("entry").path()).collect();
        assert!(files.len() < 2, "{files:?}");
        files.into_iter().next()
    }
}

/// The projector A·Aᵀ of a file.
fn projector(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).expect("projection");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor("projection").expect("projection");
    let (width, rank) = (view.shape()[0], view.shape()[1]);
    let (words, _) = view.data().as_chunks::<4>();
    let values: Vec<f64> = words
        .iter()
        .map(|&w| f64::from(f32::from_le_bytes(w)))
        .collect();
    let row = |i: usize| &values[i * rank..(i + 1) * rank];
    (0..width * width)
        .map(|ij| {
            row(ij / width)
                .iter()
                .zip(row(ij % width))
                .map(|(a, b)| a * b)
                .sum()
        })
        .collect()
}

#[test]
fn a_fit_says_what_it_chose_and_why_and_the_projection_can_be_used() {
    let place = Place::with_images(40);
    let output = place.fit(&[
        "images",
        "--interventions",
        "paper",
        "--draws",
        "2",
        "-o",
        "p.safetensors",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for words in [
        "images       40\n",
        "0 from the cache, 600 computed",
        "80 each of colour-jitter, equalise,",
        "tried by identification of images under an intervention that was left out",
        "* ",
        "soft, strength 1 ",
        "without the 20 most variant directions",
        "% of what interventions changed",
        "s for the fit at width 48",
        "written      p.safetensors",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    let used = constancy()
        .current_dir(place.0.path())
        .args([
            "embed",
            "images/00001.jpg",
            "--projection",
            "p.safetensors",
            "--model",
        ])
        .arg(tiny_model())
        .output()
        .expect("it runs");
    assert!(used.status.success(), "{}", stderr(&used));
}

#[test]
fn a_second_fit_computes_nothing_and_gives_the_same_file() {
    let place = Place::with_images(20);
    let args = ["images", "--interventions", "paper,jpeg", "--seed", "5"];
    let first = place.report(&[&args[..], &["-o", "first"]].concat());
    assert_eq!(
        (
            &first["embeddings"]["known"],
            &first["embeddings"]["computed"]
        ),
        (&0.into(), &180.into())
    );
    let second = place.report(&[&args[..], &["-o", "second", "--threads", "1"]].concat());
    assert_eq!(
        (
            &second["embeddings"]["known"],
            &second["embeddings"]["computed"]
        ),
        (&180.into(), &0.into())
    );
    assert_eq!(first["selection"], second["selection"]);
    let bytes = |name| std::fs::read(place.path(name)).expect("projection");
    assert!(bytes("first") == bytes("second"));
    let other = place.report(&[
        "images",
        "--interventions",
        "jpeg,haze",
        "--seed",
        "6",
        "--map",
        "soft:1",
    ]);
    assert_eq!(
        (
            &other["embeddings"]["known"],
            &other["embeddings"]["computed"]
        ),
        (&20.into(), &40.into())
    );
    std::fs::remove_dir_all(place.path("cache")).expect("cache");
    let uncached = place.report(&[&args[..], &["-o", "third", "--no-cache"]].concat());
    assert_eq!(uncached["selection"], first["selection"]);
    assert!(!place.path("cache").exists());
}

#[test]
fn the_file_says_how_it_was_fitted() {
    let place = Place::with_environments(&["noon", "dusk"], &["gear", "bolt"], 6);
    place.report(&["images", "--interventions", "exposure,haze", "-o", "p"]);
    let bytes = std::fs::read(place.path("p")).expect("projection");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("metadata");
    let fitted: Value = serde_json::from_str(&metadata["fitted"]).expect("JSON");
    assert_eq!(fitted["environments"], serde_json::json!(["dusk", "noon"]));
    assert_eq!(
        fitted["interventions"],
        serde_json::json!({"exposure": 24, "haze": 24})
    );
    assert_eq!(fitted["images"], 24);
    assert!(
        fitted["score_before"].is_f64()
            && fitted["score_after"].is_f64()
            && fitted["identity"].is_boolean()
    );
    assert_eq!(metadata["created"], "2026-01-01T00:00:00.000Z");
}

#[test]
fn the_map_that_is_asked_for_is_the_one_that_is_fitted() {
    let place = Place::with_images(30);
    for (map, rank, kind) in [
        ("remove:5", WIDTH - 5, ProjectionKind::Hard),
        ("lambda:10,remove:7", WIDTH - 7, ProjectionKind::Hard),
        ("soft:2", WIDTH, ProjectionKind::Soft),
        ("identity", WIDTH, ProjectionKind::Hard),
    ] {
        let report = place.report(&[
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
        let projection = place.projection("p");
        assert_eq!(
            (projection.rank(), projection.kind()),
            (rank, kind),
            "{map}"
        );
    }
    let report = place.report(&[
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
    place.refused(
        &["images", "--map", "remove:0"],
        64,
        &["remove:0", "soft:1", "lambda:10,remove:50"],
    );
    place.refused(
        &["images", "--map", "remove:48"],
        65,
        &["48 directions cannot be removed", "at most 47"],
    );
}

#[test]
fn environments_choose_where_folders_name_them() {
    let place = Place::with_environments(&["noon", "dusk", "fog"], &["gear", "bolt"], 6);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--select",
        "environments",
    ];
    for predictor in ["means", "probe", "zero-shot"] {
        let report = place.report(&[&args[..], &["--predictor", predictor]].concat());
        assert_eq!(report["selection"]["criterion"], "left_out_environment");
        assert_eq!(
            report["environments"],
            serde_json::json!(["dusk", "fog", "noon"])
        );
    }
    // A class that an environment lacks is told.
    std::fs::remove_dir_all(place.path("images/fog/gear")).expect("class");
    let output = place.fit(&args);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("environment `fog` has no image of class `gear`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn interventions_choose_where_folders_name_classes() {
    let place = Place::with_environments(&["noon"], &["gear", "bolt"], 12);
    let args = [
        "--interventions",
        "exposure,haze,gamma",
        "--select",
        "interventions",
    ];
    for (folder, environment) in [("images", "noon"), ("images/noon", "noon")] {
        let report = place.report(&[&[folder][..], &args, &["--predictor", "probe"]].concat());
        assert_eq!(report["selection"]["criterion"], "left_out_intervention");
        assert_eq!(report["environments"], serde_json::json!([environment]));
        assert_eq!(report["classes"], serde_json::json!(["bolt", "gear"]));
    }
    place.refused(
        &[&["images/noon/gear"][..], &args].concat(),
        65,
        &["ENVIRONMENT/CLASS/IMAGE"],
    );
    place.refused(
        &[&["images/noon/gear/1.jpg"][..], &args].concat(),
        64,
        &["one folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
}

#[test]
fn images_of_one_class_are_pairs_where_that_is_asked() {
    let place = Place::with_environments(&["noon"], &["gear", "bolt"], 12);
    let with = |families: &'static str, more: &[&'static str]| {
        [&["--interventions", families][..], more].concat()
    };
    let fit = |args: Vec<&'static str>| place.report(&[&["images/noon"][..], &args].concat());
    let (labels, blind) = ("exposure,haze,gamma,same-class", "exposure,haze,gamma");
    let (fixed, without) = (
        fit(with(labels, &["--map", "soft:1"])),
        fit(with(blind, &["--map", "soft:1"])),
    );
    assert_eq!(
        (&fixed["pairs"]["same-class"], &fixed["pairs"]["haze"]),
        (&24.into(), &24.into())
    );
    assert!(
        without["pairs"]["same-class"].is_null() && fixed["removed"] != without["removed"],
        "{without}"
    );
    // Identification looks at no labels, accuracy does.
    for (choice, same) in [("identification", true), ("interventions", false)] {
        let trials =
            |families| fit(with(families, &["--select", choice]))["selection"]["trials"].clone();
        assert_eq!(trials(labels) == trials(blind), same, "{choice}");
    }
    place.refused(
        &[&["images/noon/gear"][..], &with(labels, &[])].concat(),
        65,
        &["CLASS/IMAGE"],
    );
    let one = [&["images/noon/gear/1.jpg"][..], &with(labels, &[])].concat();
    place.refused(&one, 64, &["one folder", "CLASS/IMAGE"]);
    place.refused(
        &["images", "--interventions", "same-class"],
        64,
        &["at least one intervention on images"],
    );
}

#[test]
fn environments_cannot_choose_where_there_is_one_or_none() {
    let place = Place::with_environments(&["noon"], &["gear", "bolt"], 2);
    let choose = ["--select", "environments"];
    let with = |folder: &'static str| [&[folder][..], &choose].concat();
    place.refused(
        &with("images"),
        65,
        &["one environment, `noon`", "images/ENVIRONMENT/CLASS/IMAGE"],
    );
    place.refused(
        &with("images/noon"),
        65,
        &["lies in no class folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
    place.refused(
        &[&["images/noon", "images/noon"][..], &choose].concat(),
        64,
        &["one folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
}

#[test]
fn captions_join_the_fit() {
    let place = Place::with_environments(&["noon", "dusk"], &["hex_bolt", "gear"], 6);
    let few = ["images", "--interventions", "exposure,haze"];
    let without = place.report(&few);
    std::fs::write(
        place.path("pairs.tsv"),
        "a gear\ta gear at night\na bolt\ta bolt in fog\n",
    )
    .expect("pairs");
    let with = place.report(&[&few[..], &["--captions", "pairs.tsv", "--caption-edits"]].concat());
    // Thirty edits of two classes.
    assert_eq!(with["pairs"]["captions"], 62);
    assert_ne!(with["removed"], without["removed"]);
    let labels = place.report(
        &[
            &few[..],
            &["--caption-edits", "--labels", "a, b, c", "--prompt", "{}"],
        ]
        .concat(),
    );
    assert_eq!(labels["pairs"]["captions"], 90);
    std::fs::write(
        place.path("pairs.tsv"),
        "a gear\ta gear at night\nonly one\n",
    )
    .expect("pairs");
    place.refused(
        &["images", "--captions", "pairs.tsv"],
        65,
        &["pairs.tsv, line 2", "a caption, a tab"],
    );
    place.refused(
        &["images/noon/gear", "--caption-edits"],
        64,
        &["--labels", "ENVIRONMENT/CLASS/IMAGE"],
    );
    let blind = place.run(&[
        "images",
        "--caption-edits",
        "--model",
        &fixture("encoder/vision-dynamo.toml").display().to_string(),
    ]);
    assert!(
        !blind.status.success() && stderr(&blind).contains("no [text] section"),
        "{}",
        stderr(&blind)
    );
}

#[test]
fn merged_moments_give_the_projection_of_all_images_at_once() {
    let place = Place::with_images(40);
    for (i, file) in (0..40).map(|i| (i, format!("{i:05}.jpg"))) {
        let part = place.path(if i < 13 { "a" } else { "b" });
        std::fs::create_dir_all(&part).expect("folder");
        std::fs::copy(place.path("images").join(&file), part.join(&file)).expect("image");
    }
    let paper = ["--interventions", "paper"];
    for map in ["remove:6", "lambda:3,remove:9"] {
        let fixed = [&paper[..], &["--map", map]].concat();
        place.report(&[&["images", "-o", "all"][..], &fixed].concat());
        place.report(&[&["a", "--moments-out", "a.m"][..], &fixed].concat());
        place.report(&[&["b", "--moments-out", "b.m"][..], &fixed].concat());
        let output = place.run(&[
            "--merge",
            "a.m",
            "b.m",
            "--map",
            map,
            "-o",
            "merged",
            "--json",
            "--moments-out",
            "ab.m",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&report["images"], &report["pairs"]["equalise"]),
            (&40.into(), &40.into())
        );
        let (all, merged) = (
            projector(&place.path("all")),
            projector(&place.path("merged")),
        );
        let off = all
            .iter()
            .zip(&merged)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(off < 1e-6, "{map}: {off}");
    }
    // There is nothing to choose by.
    let output = place.run(&["--merge", "a.m", "b.m"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("hold no images") && stderr(&output).contains("--map soft:1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn moments_of_two_encoders_do_not_mix() {
    let place = Place::with_images(10);
    place.report(&[
        "images",
        "--interventions",
        "haze",
        "--map",
        "soft:1",
        "--moments-out",
        "tiny.m",
    ]);
    let pocket = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket/pocket.toml");
    let pocket = pocket.to_str().expect("UTF-8");
    let args = [
        "images",
        "--interventions",
        "haze",
        "--map",
        "soft:1",
        "--moments-out",
        "pocket.m",
        "--model",
        pocket,
    ];
    assert!(place.run(&args).status.success());
    let output = place.run(&["--merge", "tiny.m", "pocket.m", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    assert!(
        message.contains("pocket.m") && message.contains("with one model"),
        "{message}"
    );
    assert!(
        message.contains("4e54a9a055d7"),
        "the hashes of both: {message}"
    );
    std::fs::write(place.path("broken.m"), "no moments").expect("file");
    let output = place.run(&["--merge", "tiny.m", "broken.m", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("broken.m: not a safetensors file"),
        "{}",
        stderr(&output)
    );
    let output = place.run(&["--merge", "nowhere.m", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(66), "{}", stderr(&output));
}

#[test]
fn an_image_that_cannot_be_read_costs_only_itself() {
    let place = Place::with_images(12);
    std::fs::write(place.path("images/bad.jpg"), &jpeg(100, 100, 1)[..900]).expect("image");
    std::fs::write(place.path("images/worse.png"), "no image").expect("image");
    let output = place.fit(&["images", "--interventions", "exposure,haze", "--json"]);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    for words in [
        "bad.jpg: the JPEG is corrupt",
        "worse.png: not a readable",
        "2 of 14 images could not be read",
    ] {
        assert!(message.contains(words), "{message}");
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["images"], &report["unreadable"]),
        (&12.into(), &2.into())
    );
    assert!(place.path("projection.safetensors").exists());
    std::fs::remove_file(place.path("projection.safetensors")).expect("projection");
    place.refused(
        &["images/bad.jpg", "images/worse.png", "--map", "soft:1"],
        65,
        &["2 of 2 images"],
    );
    assert!(!place.path("projection.safetensors").exists());
}

#[test]
fn fewer_images_than_dimensions_are_told_and_give_a_right_projection() {
    let place = Place::with_images(9);
    let output = place.fit(&["images", "--interventions", "exposure,haze"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("18 pairs for embeddings of width 48")
            && stderr(&output).contains("more images")
    );
    // Of few pairs only soft maps are fitted, which keep what no pair showed.
    assert!(
        !stdout(&output).contains("without the"),
        "{}",
        stdout(&output)
    );
    place.projection("projection.safetensors");
    place.refused(
        &["images", "--interventions", "haze"],
        65,
        &["1 families", "at least two"],
    );
    place.refused(
        &["images/00001.jpg"],
        65,
        &["there are 1 images", "at least 8"],
    );
}

#[test]
fn what_does_not_exist_is_named() {
    let place = Place::with_images(2);
    std::fs::create_dir(place.path("empty")).expect("folder");
    place.refused(&["empty"], 66, &["empty"]);
    place.refused(
        &["images", "--interventions", "paper,fog"],
        64,
        &["`fog`", "haze", "paper, camera and all"],
    );
    place.refused(&["images", "--interventions", ","], 64, &["at least one"]);
    let output = place.run(&["images"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("--model or --config"),
        "{}",
        stderr(&output)
    );
    assert_eq!(place.run(&[]).status.code(), Some(64));
}

#[test]
fn an_embedding_that_is_no_number_is_refused_by_its_images_name() {
    let place = Place::new();
    overflowing_model(&place.path("overflow.toml"));
    std::fs::create_dir(place.path("images")).expect("folder");
    image::RgbImage::new(40, 30)
        .save(place.path("images/black.png"))
        .expect("image");
    picture(40, 30, 1)
        .save(place.path("images/bright.png"))
        .expect("image");
    let output = place.run(&["images", "--model", "overflow.toml", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    // Either image may come first.
    let named = [".png: its embedding holds", ".png under"]
        .iter()
        .any(|part| message.contains(part));
    assert!(
        named && message.contains("its embedding holds a value that is not a finite number"),
        "{message}"
    );
}

#[test]
fn the_caches_of_two_encoders_do_not_mix() {
    let place = Place::with_images(4);
    let fixed = ["images", "--interventions", "haze", "--map", "soft:1"];
    place.report(&fixed);
    let tiny = place.cache().expect("cache");
    let kept = place.path("kept");
    std::fs::rename(&tiny, &kept).expect("cache");
    // The other form of the same tower is another encoder.
    let int8 = fixture("encoder/vision-int8-tensor.toml")
        .display()
        .to_string();
    let other = [&fixed[..], &["--model", &int8]].concat();
    assert!(place.run(&other).status.success());
    std::fs::rename(&kept, place.cache().expect("cache")).expect("cache");
    let output = place.run(&other);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    assert!(
        message.contains("holds embeddings of the encoder with sha256 4e54a9a055d7"),
        "{message}"
    );
    assert!(
        message.contains("not of the encoder with sha256") && message.contains("--cache"),
        "{message}"
    );
}

#[test]
fn a_full_disk_is_told_and_the_fit_goes_on() {
    let place = Place::with_images(4);
    let fixed = ["images", "--interventions", "haze", "--map", "soft:1"];
    place.report(&fixed);
    let cache = place.cache().expect("cache");
    std::fs::remove_file(&cache).expect("cache");
    std::os::unix::fs::symlink("/dev/full", &cache).expect("link");
    let output = place.fit(&fixed);
    assert!(output.status.success(), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(
        message.contains("No space left on device") && message.contains("going on without a cache"),
        "{message}"
    );
}

#[test]
fn an_interruption_keeps_what_was_done() {
    let place = Place::with_images(150);
    let args = ["images", "--threads", "1", "--map", "soft:1"];
    let mut child = place
        .command(&args)
        .arg("--model")
        .arg(tiny_model())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    // The header alone is shorter.
    wait_for("embeddings in the cache", || {
        (place.cache()?.metadata().ok()?.len() > 10_000).then_some(())
    });
    // SAFETY: kill takes no pointers, and the child has not been waited for.
    unsafe {
        libc::kill(
            i32::try_from(child.id()).expect("a process number"),
            libc::SIGINT,
        )
    };
    child.wait().expect("it ends");
    let report = place.report(&args);
    let (known, computed) = (
        &report["embeddings"]["known"],
        &report["embeddings"]["computed"],
    );
    println!("{known} known, {computed} computed");
    assert!(known.as_u64() > Some(40), "{report}");
    assert_eq!(
        known.as_u64().zip(computed.as_u64()).map(|(k, c)| k + c),
        Some(150 * 21)
    );
}

#[test]
fn two_fits_at_once_share_a_cache() {
    let place = Place::with_images(30);
    let args = ["images", "--interventions", "paper", "--map", "soft:1"];
    let start = |output: &str| {
        let mut command = place.command(&args);
        command
            .args(["-o", output, "--model"])
            .arg(tiny_model())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs")
    };
    let both = [start("one"), start("two")];
    for mut child in both {
        assert!(child.wait().expect("it ends").success());
    }
    let bytes = |name| std::fs::read(place.path(name)).expect("projection");
    assert!(bytes("one") == bytes("two"));
    assert_eq!(place.report(&args)["embeddings"]["computed"], 0);
}
