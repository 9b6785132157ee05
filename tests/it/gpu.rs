//! Without a usable GPU: what is reported, and that the CPU's results stay the same. The driver of
//! `tests/fixtures/gpu/driver.c` stands in for the real one.

use super::support::{Setup, constancy, fixture, jpeg, stderr, tiny_model};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// A driver version that is new enough for every build: CUDA 13.0.
const NEW: i32 = 13000;

/// A folder with a `libcuda.so.1` for CUDA `version` with `count` GPUs, whose cuInit returns `init`.
pub fn driver(version: i32, init: i32, count: i32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let numbers = [("VERSION", version), ("INIT", init), ("COUNT", count)];
    let numbers = numbers.map(|(name, number)| format!("-D{name}={number}"));
    compile(
        &folder.path().join("libcuda.so.1"),
        &fixture("gpu/driver.c"),
        &numbers,
    );
    folder
}

/// Compiles `source` into a library that stands in for one of CUDA's, or for a part of the C library.
pub fn library(folder: &Path, name: &str, source: &str) {
    let c = folder.join("library.c");
    std::fs::write(&c, source).expect("source");
    compile(&folder.join(name), &c, &[]);
}

fn compile(library: &Path, source: &Path, options: &[String]) {
    let mut cc = Command::new("cc");
    let built = cc
        .args(options)
        .args(["-shared", "-fPIC", "-o"])
        .args([library, source])
        .output()
        .expect("cc");
    assert!(built.status.success(), "{}", stderr(&built));
}

/// An empty folder. The machines that run these tests have no driver of their own.
fn no_driver() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

/// Runs constancy with these libraries.
fn run(libraries: &Path, args: &[&str]) -> Output {
    constancy()
        .env("LD_LIBRARY_PATH", libraries)
        .args(args)
        .output()
        .expect("it runs")
}

fn embed(libraries: &Path, device: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("folder");
    let image = folder.path().join("a.jpg");
    std::fs::write(&image, jpeg(64, 48, 1)).expect("image");
    let (model, image) = (
        tiny_model().display().to_string(),
        image.display().to_string(),
    );
    run(
        libraries,
        &[&["embed", "--model", &model, &image], device].concat(),
    )
}

fn embedding(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    line["embedding"].clone()
}

/// Unusable drivers, and a part of the reason that must be reported: as an error if the GPU was requested, as a line of
/// the log for "auto".
#[cfg(feature = "gpu")]
fn unusable() -> Vec<(tempfile::TempDir, &'static str)> {
    let without_nvrtc = driver(NEW, 0, 1);
    library(without_nvrtc.path(), "libcudart.so", "int cudart;");
    vec![
        (driver(12040, 0, 1), "too old: it knows CUDA 12.4"),
        (driver(NEW, 100, 0), "sees no GPU"),
        (driver(NEW, 0, 0), "sees no GPU"),
        (driver(NEW, 2, 1), "memory does not suffice"),
        (driver(NEW, 999, 1), "cuInit returned 999"),
        (driver(NEW, 0, 1), "CUDA's libraries are not all there"),
        (without_nvrtc, "\"nvrtc\" could not be"),
    ]
}

#[cfg(not(feature = "gpu"))]
fn unusable() -> Vec<(tempfile::TempDir, &'static str)> {
    vec![(driver(NEW, 0, 1), "no GPU support")]
}

#[test]
fn a_requested_gpu_that_cannot_be_used_exits_with_69_and_the_reason() {
    let built = cfg!(feature = "gpu");
    let absent = if built {
        "no NVIDIA driver"
    } else {
        "no GPU support"
    };
    let second = if built {
        "no GPU 1: the driver sees 1"
    } else {
        absent
    };
    let mut cases: Vec<_> = unusable()
        .into_iter()
        .map(|(folder, reason)| (folder, "cuda", reason))
        .collect();
    cases.extend([
        (no_driver(), "cuda", absent),
        (driver(NEW, 0, 1), "cuda:1", second),
    ]);
    for (libraries, device, reason) in cases {
        let output = embed(libraries.path(), &["--device", device]);
        assert_eq!(
            output.status.code(),
            Some(69),
            "{reason}: {}",
            stderr(&output)
        );
        assert!(
            output.stdout.is_empty() && stderr(&output).contains(reason),
            "{reason}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn auto_falls_back_to_the_cpu_with_one_line_and_the_same_embedding() {
    let cpu = embedding(&embed(no_driver().path(), &[]));
    let mut cases: Vec<_> = unusable()
        .into_iter()
        .map(|(folder, reason)| (folder, Some(reason)))
        .collect();
    cases.push((no_driver(), None));
    for (libraries, reason) in cases {
        let output = embed(libraries.path(), &["--device", "auto"]);
        assert_eq!(embedding(&output), cpu, "the CPU's embedding");
        let log = stderr(&output);
        let lines: Vec<_> = log
            .lines()
            .filter(|l| ["GPU", "CUDA", "NVIDIA"].iter().any(|w| l.contains(w)))
            .collect();
        match reason {
            None => assert!(lines.is_empty(), "{log}"),
            Some(reason) => assert!(
                matches!(lines[..], [line] if line.contains("the tower runs on the CPU: ") && line.contains(reason)),
                "{reason}: {log}"
            ),
        }
    }
}

#[test]
fn an_invalid_device_exits_with_64_on_the_command_line_and_78_in_the_configuration() {
    let output = embed(no_driver().path(), &["--device", "gpu"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("\"cuda:N\""),
        "{}",
        stderr(&output)
    );
    let setup = Setup::new("[engine]\ndevice = \"tpu\"\n");
    let output = run(
        no_driver().path(),
        &["check", "--config", &setup.config().display().to_string()],
    );
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("`tpu` is none of"));
}

#[test]
fn check_lists_gpus_with_driver_and_memory() {
    let setup = Setup::new("[[camera]]\nname = \"a\"\n[camera.synthetic]\ncount = 1\n");
    let config = setup.config().display().to_string();
    let check = |libraries: &Path| {
        let output = run(libraries, &["check", "--json", "--config", &config]);
        let findings = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = findings
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        found
            .filter(|f| f["check"] == "gpu")
            .map(|f| (f["ok"] == true, f["detail"].to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(check(no_driver().path()), [], "no finding without a driver");
    let found = check(driver(NEW, 0, 2).path());
    let expected = "driver for CUDA 13.0: cuda:0 Fake 0, 1024 MiB, compute capability 8.7; cuda:1 Fake 1, 2048 MiB";
    assert!(
        matches!(found.as_slice(), [(true, detail)] if detail.contains(expected)),
        "{found:?}"
    );
    let found = check(driver(NEW, 999, 1).path());
    assert!(
        matches!(found.as_slice(), [(false, detail)] if detail.contains("cuInit returned 999")),
        "{found:?}"
    );
}

#[test]
fn the_gpu_bench_judges_by_its_goals() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu/test_judge.py");
    let done = Command::new("python3")
        .arg(tests)
        .output()
        .expect("python3");
    assert!(done.status.success(), "{}", stderr(&done));
}
