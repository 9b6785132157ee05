//! Where there is no GPU, or none that can be used: what is said, and that the CPU's results stay what they are. A
//! driver in C stands for the real one.

use super::support::{Setup, constancy, jpeg, stderr, tiny_model};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// A folder with a `libcuda.so.1` that has one GPU.
fn driver(version: i32, init: i32, count: i32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let source = format!(
        "#include <string.h>
         int cuInit(unsigned flags) {{ return {init}; }}
         int cuDriverGetVersion(int *v) {{ *v = {version}; return 0; }}
         int cuDeviceGetCount(int *n) {{ *n = {count}; return 0; }}
         int cuDeviceGet(int *device, int i) {{ *device = i; return 0; }}
         int cuDeviceGetName(char *s, int n, int d) {{ strcpy(s, \"Fake GPU\"); return 0; }}
         int cuDeviceTotalMem_v2(size_t *n, int d) {{ *n = (size_t)8 << 30; return 0; }}
         int cuDeviceGetAttribute(int *v, int a, int d) {{ *v = a == 75 ? 8 : 7; return 0; }}"
    );
    let (c, so) = (folder.path().join("fake.c"), folder.path().join("libcuda.so.1"));
    std::fs::write(&c, source).expect("source");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&so, &c]).output().expect("cc");
    assert!(built.status.success(), "{}", stderr(&built));
    folder
}

/// An empty folder: there is no driver on the machines that run these tests.
fn no_driver() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

fn run(libraries: &Path, args: &[&str]) -> Output {
    constancy().env("LD_LIBRARY_PATH", libraries).args(args).output().expect("it runs")
}

fn embed(libraries: &Path, device: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("folder");
    let image = folder.path().join("a.jpg");
    std::fs::write(&image, jpeg(64, 48, 1)).expect("image");
    let (model, image) = (tiny_model().display().to_string(), image.display().to_string());
    run(libraries, &[&["embed", "--model", &model, &image], device].concat())
}

fn embedding(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    line["embedding"].clone()
}

#[test]
fn a_gpu_that_is_asked_for_and_cannot_be_had_is_69_with_the_reason() {
    let new = if cfg!(feature = "gpu") { 13000 } else { 12000 };
    let cases: &[(tempfile::TempDir, &[&str], &str)] = if cfg!(feature = "gpu") {
        &[
            (no_driver(), &["--device", "cuda"], "no NVIDIA driver"),
            (driver(12040, 0, 1), &["--device", "cuda"], "too old: it knows CUDA 12.4"),
            (driver(new, 100, 0), &["--device", "cuda"], "sees no GPU"),
            (driver(new, 0, 0), &["--device", "cuda"], "sees no GPU"),
            (driver(new, 2, 1), &["--device", "cuda"], "memory does not suffice"),
            (driver(new, 0, 1), &["--device", "cuda:1"], "no GPU 1: the driver sees 1"),
            (driver(new, 0, 1), &["--device", "cuda"], "CUDA's libraries are not all there"),
        ]
    } else {
        &[
            (no_driver(), &["--device", "cuda"], "no GPU support"),
            (driver(new, 0, 1), &["--device", "cuda"], "no GPU support"),
        ]
    };
    for (libraries, device, reason) in cases {
        let output = embed(libraries.path(), device);
        assert_eq!(output.status.code(), Some(69), "{reason}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && stderr(&output).contains(reason), "{reason}: {}", stderr(&output));
    }
}

#[test]
fn auto_falls_back_to_the_cpu_with_one_line_and_the_same_numbers() {
    let cpu = embedding(&embed(no_driver().path(), &[]));
    for (libraries, said) in [(no_driver(), None), (driver(13000, 0, 1), Some("the tower runs on the CPU: "))] {
        let output = embed(libraries.path(), &["--device", "auto"]);
        assert_eq!(embedding(&output), cpu, "the CPU's numbers");
        let lines = stderr(&output).lines().filter(|l| l.contains("GPU") || l.contains("CUDA")).count();
        assert_eq!(lines, usize::from(said.is_some()), "{}", stderr(&output));
        assert!(said.is_none_or(|s| stderr(&output).contains(s)), "{}", stderr(&output));
    }
}

#[test]
fn a_device_that_is_none_is_64_on_the_command_line_and_78_in_the_configuration() {
    let output = embed(no_driver().path(), &["--device", "gpu"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(stderr(&output).contains("\"cuda:N\""), "{}", stderr(&output));
    let setup = Setup::new("[engine]\ndevice = \"tpu\"\n");
    let output = run(no_driver().path(), &["check", "--config", &setup.config().display().to_string()]);
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
        let found = findings.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        found.filter(|f| f["check"] == "gpu").map(|f| (f["ok"] == true, f["detail"].to_string())).collect::<Vec<_>>()
    };
    assert_eq!(check(no_driver().path()), [], "nothing to say where there is no driver");
    let found = check(driver(13000, 0, 1).path());
    let expected = "driver for CUDA 13.0: cuda:0 Fake GPU, 8192 MiB, compute capability 8.7";
    assert!(matches!(found.as_slice(), [(true, detail)] if detail.contains(expected)), "{found:?}");
    let found = check(driver(13000, 999, 1).path());
    assert!(matches!(found.as_slice(), [(false, detail)] if detail.contains("cuInit returned 999")), "{found:?}");
}
