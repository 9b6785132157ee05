//! What the tests share: the real binary, a real broker, a subscriber, images, and places.

mod broker;
mod daemon;
mod event;
mod images;

pub use broker::{Broker, Heard, Link, Subscriber, free_port, publish_as};
pub use daemon::{Daemon, Setup};
pub use event::event;
pub use images::{jpeg, picture};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything that is waited for may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A file of `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

/// The small CLIP with random weights, image and text tower.
pub fn tiny_model() -> PathBuf {
    fixture("encoder/vision-fp32.toml")
}

/// A file of the test data that is not part of the project; says that the test is skipped where it is missing.
pub fn test_data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONSTANCY_TEST_DATA")
        .map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "SKIPPED: {} is not there; set CONSTANCY_TEST_DATA to the folder of test data",
        path.display()
    );
    None
}

/// A Python with the packages that judge what is published; says that the test is skipped where there is none.
pub fn judges() -> Option<PathBuf> {
    let python = std::env::var_os("CONSTANCY_TEST_JUDGES")
        .map(PathBuf::from)
        .filter(|p| p.exists());
    if python.is_none() {
        println!(
            "SKIPPED: CONSTANCY_TEST_JUDGES names no Python with pysparkplug and jinja2; `make test` makes one"
        );
    }
    python
}

/// The binary under test.
pub fn constancy() -> assert_cmd::Command {
    assert_cmd::Command::new(env!("CARGO_BIN_EXE_constancy"))
}

/// What a program wrote to stderr.
pub fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it wrote to stdout.
pub fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder of `count` different JPEG images.
pub fn write_images(folder: &Path, count: u32) {
    std::fs::create_dir_all(folder).expect("folder of images");
    for seed in 0..count {
        let path = folder.join(format!("{seed:05}.jpg"));
        std::fs::write(path, jpeg(160, 120, seed)).expect("image");
    }
}

/// `count` pictures of each class in each environment: `folder/ENVIRONMENT/CLASS`; those of a class look alike.
pub fn write_environments(folder: &Path, environments: &[&str], classes: &[&str], count: u32) {
    for (e, environment) in (0..).zip(environments) {
        for (c, class) in (0..).zip(classes) {
            let folder = folder.join(environment).join(class);
            std::fs::create_dir_all(&folder).expect("folder");
            for i in 0..count {
                let path = folder.join(format!("{i}.jpg"));
                std::fs::write(path, jpeg(120, 90, 3 * c + 40 * e + 100 * i)).expect("image");
            }
        }
    }
}

/// Writes the manifest of the small tower with an input at which anything but black overflows.
pub fn overflowing_model(manifest: &Path) {
    let tower = tiny_model();
    let text = std::fs::read_to_string(&tower).expect("manifest");
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("mean", _)) => "mean = [0.0, 0.0, 0.0]".to_owned(),
        Some(("std", _)) => "std = [1e-38, 1e-38, 1e-38]".to_owned(),
        Some((key @ ("file" | "tokenizer"), file)) => {
            format!(
                "{key} = \"{}\"",
                tower.with_file_name(file.trim_matches('"')).display()
            )
        }
        _ => line.to_owned(),
    });
    std::fs::write(manifest, lines.collect::<Vec<_>>().join("\n")).expect("manifest");
}

/// Waits until `ready` gives something; panics with `what` after [`LIMIT`].
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
