//! The commands besides `run`.

use super::support::{constancy, fixture, jpeg, picture, stderr, stdout, tiny_model, write_images};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

fn run(args: &[&str]) -> Output {
    constancy().args(args).output().expect("it runs")
}

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect()
}

fn model() -> String {
    tiny_model().display().to_string()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn help_and_version_go_to_stdout_and_a_wrong_command_line_is_64() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["classes", "--help"],
        &["camera", "list", "--help"],
        &["--version"],
    ] {
        let output = run(args);
        assert!(
            output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(),
            "{args:?}"
        );
    }
    for args in [
        &["ruin"][..],
        &["classify"],
        &["run", "--confg", "x"],
        &[],
        &["classes", "--model", "x"],
    ] {
        let output = run(args);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn classify_says_what_images_show() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 3);
    let (images, model) = (text(folder.path()), model());
    let args = [
        "classify",
        "--model",
        &model,
        "--labels",
        "a gear, a bolt, a spring",
        &images,
    ];
    let output = run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3);
    let output = run(&[&args[..], &["--json", "--top", "2"]].concat());
    for line in json_lines(&output) {
        assert_eq!(line["top"].as_array().map(Vec::len), Some(2));
        assert_eq!(line["class"], line["top"][0]["class"]);
        assert!(
            line["in_support"].is_null(),
            "labels cannot tell what is unlike them"
        );
    }
}

#[test]
fn images_that_cannot_be_read_are_reported_and_the_others_are_not_lost() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 2);
    std::fs::write(folder.path().join("bad.jpg"), &jpeg(100, 100, 1)[..900]).expect("image");
    std::fs::write(folder.path().join("worse.png"), "no image").expect("image");
    let output = run(&[
        "classify",
        "--model",
        &model(),
        "--labels",
        "a,b",
        &text(folder.path()),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(65));
    assert_eq!(json_lines(&output).len(), 2);
    let errors = stderr(&output);
    assert!(
        errors.contains("bad.jpg")
            && errors.contains("worse.png")
            && errors.contains("2 of 4 images"),
        "{errors}"
    );
    let output = run(&[
        "classify",
        "--model",
        &model(),
        "--labels",
        "a,b",
        "/nowhere/at/all.jpg",
    ]);
    assert_eq!(output.status.code(), Some(66), "{}", stderr(&output));
    let output = run(&[
        "classify",
        "--model",
        "/nowhere.toml",
        "--labels",
        "a,b",
        "x.jpg",
    ]);
    assert_eq!(output.status.code(), Some(66));
    assert!(stderr(&output).contains("/nowhere.toml"));
}

#[test]
fn labels_must_make_sense() {
    let (model, image) = (model(), text(&fixture("preprocess/rgb.png")));
    for (labels, hint) in [
        (",", "names no class"),
        ("a, b, a", "`a`"),
        ("@/nowhere.txt", "/nowhere.txt"),
    ] {
        let output = run(&["classify", "--model", &model, "--labels", labels, &image]);
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains(hint),
            "{labels}: {}",
            stderr(&output)
        );
    }
    let output = run(&[
        "classify", "--model", &model, "--labels", "a,b", "--prompt", "a photo", &image,
    ]);
    assert!(
        !output.status.success() && stderr(&output).contains("{}"),
        "{}",
        stderr(&output)
    );
    let output = run(&["classify", "--model", &model, &image]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--labels"));
}

#[test]
fn as_many_classes_are_shown_as_are_asked_for() {
    let (model, image) = (model(), text(&fixture("preprocess/rgb.png")));
    for top in ["1", "8"] {
        let args = [
            "classify",
            "--model",
            &model,
            "--labels",
            "a,b,c,d,e,f,g,h,i",
            "--json",
            "--top",
            top,
            &image,
        ];
        let shown = json_lines(&run(&args))[0]["top"]
            .as_array()
            .map(|t| t.len().to_string());
        assert_eq!(shown.as_deref(), Some(top));
    }
}

/// Two classes that any embedding tells apart: flat dark, flat bright; each picture a little different.
fn example_folder(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (class, level) in [("bright", 200u8), ("dark", 20)] {
        std::fs::create_dir(folder.path().join(class)).expect("class");
        for i in 0..count {
            let mut image = picture(64, 64, i);
            image
                .pixels_mut()
                .for_each(|p| p.0 = p.0.map(|c| level + c / 8));
            image
                .save(folder.path().join(class).join(format!("{i}.png")))
                .expect("image");
        }
    }
    folder
}

#[test]
fn classes_from_images_name_their_like_and_know_what_is_unlike() {
    let folder = example_folder(15);
    let bank = folder.path().join("bank.safetensors");
    let (model, bank_text) = (model(), text(&bank));
    let output = run(&[
        "classes",
        "--model",
        &model,
        "--from-images",
        &text(folder.path()),
        "--output",
        &bank_text,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("2 classes (bright, dark)"),
        "{}",
        stdout(&output)
    );
    for class in ["bright", "dark"] {
        let images = text(&folder.path().join(class));
        let output = run(&[
            "classify",
            "--model",
            &model,
            "--classes",
            &bank_text,
            &images,
            "--json",
        ]);
        let lines = json_lines(&output);
        assert_eq!(lines.len(), 15);
        assert!(
            lines.iter().all(|l| l["class"] == class),
            "{}",
            stdout(&output)
        );
        let inside = lines.iter().filter(|l| l["in_support"] == true).count();
        assert!(
            inside >= 13,
            "{inside} of 15 examples of {class} are in support"
        );
    }
    let strange = folder.path().join("strange.png");
    let checks = |x: u32, y: u32| {
        if (x / 4 + y / 4).is_multiple_of(2) {
            [255, 0, 255]
        } else {
            [0, 255, 0]
        }
    };
    image::RgbImage::from_fn(64, 64, |x, y| image::Rgb(checks(x, y)))
        .save(&strange)
        .expect("image");
    let output = run(&[
        "classify",
        "--model",
        &model,
        "--classes",
        &bank_text,
        &text(&strange),
        "--json",
    ]);
    let line = &json_lines(&output)[0];
    assert_eq!(
        (&line["in_support"], &line["known"]),
        (&Value::Bool(false), &Value::Bool(false)),
        "{line}"
    );
    assert!(line["shift"].as_f64().is_some_and(|s| s > 1.0));
}

#[test]
fn a_bank_of_labels_tells_what_is_unlike_the_images_it_was_shown() {
    let folder = example_folder(15);
    let bank = text(&folder.path().join("bank.safetensors"));
    let (model, images) = (model(), text(folder.path()));
    let few = text(&folder.path().join("dark"));
    let args = [
        "classes",
        "--model",
        &model,
        "--labels",
        "a dark thing, a bright thing",
        "--output",
        &bank,
        "--like",
    ];
    let output = run(&[&args[..], &[&few]].concat());
    assert_eq!(
        output.status.code(),
        Some(64),
        "15 images are too few: {}",
        stderr(&output)
    );
    let output = run(&[&args[..], &[&images]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("30 images measured"),
        "{}",
        stdout(&output)
    );
    let lines = json_lines(&run(&[
        "classify",
        "--model",
        &model,
        "--classes",
        &bank,
        &images,
        "--json",
    ]));
    assert!(lines.iter().filter(|l| l["in_support"] == true).count() >= 28);
}

#[test]
fn a_bank_of_another_model_is_refused() {
    let folder = example_folder(2);
    let bank = text(&folder.path().join("bank.safetensors"));
    let output = run(&[
        "classes",
        "--model",
        &model(),
        "--from-images",
        &text(folder.path()),
        "--output",
        &bank,
    ]);
    assert!(output.status.success());
    let other = text(&fixture("encoder/vision-dynamo.toml"));
    let output = run(&[
        "classify",
        "--model",
        &other,
        "--classes",
        &bank,
        &text(&fixture("preprocess/rgb.png")),
    ]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("constancy classes"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn embed_gives_unit_rows_as_json_and_as_safetensors() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 2);
    let (images, model) = (text(folder.path()), model());
    let lines = json_lines(&run(&["embed", "--model", &model, &images]));
    for line in &lines {
        let row: Vec<f64> = line["embedding"]
            .as_array()
            .expect("row")
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        assert_eq!(row.len(), 48);
        assert!((row.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    let output = folder.path().join("out.safetensors");
    let projection = text(&fixture("projection/tiny.safetensors"));
    let result = run(&[
        "embed",
        "--model",
        &model,
        "--projection",
        &projection,
        &images,
        "--output",
        &text(&output),
    ]);
    assert!(result.status.success(), "{}", stderr(&result));
    let bytes = std::fs::read(&output).expect("output");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(
        file.tensor("embeddings").expect("embeddings").shape(),
        [2, 40],
        "the projection keeps 40 directions"
    );
    let result = run(&[
        "embed",
        "--model",
        &model,
        &images,
        "--output",
        "/nowhere/out.safetensors",
    ]);
    assert_eq!(result.status.code(), Some(73), "{}", stderr(&result));
}

#[test]
fn check_finds_everything_that_is_wrong_at_once() {
    let setup = super::support::Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n[[camera]]\nname = \"gate\"\n[camera.v4l]\ndevice = \"/dev/video99\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n",
        super::support::free_port()
    ));
    write_images(&setup.path("images"), 1);
    let config = std::fs::read_to_string(setup.config()).expect("configuration");
    std::fs::write(
        setup.config(),
        format!("{config}[queue]\nfolder = \"not-there\"\n"),
    )
    .expect("configuration");
    let output = run(&["check", "--json", "--config", &text(&setup.config())]);
    let findings = json_lines(&output);
    let ok: Vec<(&str, bool)> = findings
        .iter()
        .map(|f| (f["check"].as_str().unwrap_or_default(), f["ok"] == true))
        .collect();
    let expected = [
        ("configuration", true),
        ("model", true),
        ("camera belt", true),
        ("camera gate", false),
        ("broker", false),
        ("queue", false),
    ];
    assert_eq!(ok, expected, "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(69));
    assert!(
        findings[3]["detail"]
            .as_str()
            .is_some_and(|d| d.contains("/dev/video99") && d.contains("camera list"))
    );
    assert!(
        findings[4]["detail"]
            .as_str()
            .is_some_and(|d| d.contains("is the broker running"))
    );
    let detail = findings[5]["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("not-there: there is no such folder; create it, or correct `queue.folder`"),
        "{detail}"
    );
}

#[test]
fn a_camera_that_is_not_there_is_69_and_named() {
    for command in ["formats", "controls", "grab"] {
        let output = run(&["camera", command, "/dev/video99"]);
        assert_eq!(
            output.status.code(),
            Some(69),
            "{command}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("/dev/video99"),
            "{}",
            stderr(&output)
        );
    }
    let output = run(&["camera", "formats", "/dev/null"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("/dev/null"));
    assert!(run(&["camera", "list"]).status.success());
}

#[test]
fn a_frame_can_be_grabbed_from_any_configured_camera() {
    let setup = super::support::Setup::new(
        "[[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cat DIR/a.jpg DIR/a.jpg; sleep 60\"]\n",
    );
    let bytes = jpeg(64, 48, 1);
    std::fs::write(setup.path("a.jpg"), &bytes).expect("image");
    let (config, jpg, png) = (
        text(&setup.config()),
        text(&setup.path("out.jpg")),
        text(&setup.path("out.png")),
    );
    for output in [&jpg, &png] {
        let result = run(&[
            "camera", "grab", "gate", "--config", &config, "--skip", "1", "--output", output,
        ]);
        assert!(result.status.success(), "{}", stderr(&result));
    }
    assert_eq!(
        std::fs::read(&jpg).expect("frame"),
        bytes,
        "a JPEG camera's frame is not compressed again"
    );
    assert_eq!(
        image::open(&png).expect("frame").into_rgb8().dimensions(),
        (64, 48)
    );
    let result = run(&["camera", "grab", "door", "--config", &config]);
    assert_eq!(result.status.code(), Some(64));
    assert!(stderr(&result).contains("gate"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 30);
    let script = format!(
        "{} classify --model {} --labels a,b {} | head -n 1",
        env!("CARGO_BIN_EXE_constancy"),
        tiny_model().display(),
        folder.path().display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("sh");
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn bench_tells_latency_memory_and_where_the_time_goes() {
    let model = model();
    let bench = |more: &[&str]| {
        let args = [
            &["bench", "--model", &model, "--runs", "3", "--threads", "2"],
            more,
        ]
        .concat();
        let output = run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let report = &json_lines(&bench(&["--batch", "2", "--json"]))[0];
    for key in [
        "load_ms",
        "median_ms",
        "p95_ms",
        "images_per_second",
        "weights_mb",
        "peak_resident_mb",
    ] {
        assert!(
            report[key].as_f64().is_some_and(|v| v > 0.0),
            "{key}: {report}"
        );
    }
    assert_eq!(
        (&report["threads"], &report["batch"]),
        (&2.into(), &2.into())
    );
    let operators = report["operators"].as_array().expect("operators");
    let percent: f64 = operators.iter().filter_map(|o| o["percent"].as_f64()).sum();
    assert!(
        (percent - 100.0).abs() < 1e-6 && operators.iter().any(|o| o["operator"] == "attention"),
        "{report}"
    );
    let plain = stdout(&bench(&["--plain"]));
    assert!(
        plain.contains(" on tract, ") && !plain.contains("attention"),
        "{plain}"
    );
}
