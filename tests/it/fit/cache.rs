//! The cache of embeddings.

use super::Workspace;
use crate::support::{fixture, stderr, tiny_model, wait_for};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

#[test]
fn a_second_fit_computes_nothing_and_gives_the_same_file() {
    let workspace = Workspace::with_images(20);
    let args = ["images", "--interventions", "paper,jpeg", "--seed", "5"];
    let first = workspace.report(&[&args[..], &["-o", "first"]].concat());
    assert_eq!(
        (
            &first["embeddings"]["known"],
            &first["embeddings"]["computed"]
        ),
        (&0.into(), &180.into())
    );
    let second = workspace.report(&[&args[..], &["-o", "second", "--threads", "1"]].concat());
    assert_eq!(
        (
            &second["embeddings"]["known"],
            &second["embeddings"]["computed"]
        ),
        (&180.into(), &0.into())
    );
    assert_eq!(first["selection"], second["selection"]);
    let bytes = |name| std::fs::read(workspace.path(name)).expect("projection");
    assert!(bytes("first") == bytes("second"));
    let other = workspace.report(&[
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
    std::fs::remove_dir_all(workspace.path("cache")).expect("cache");
    let uncached = workspace.report(&[&args[..], &["-o", "third", "--no-cache"]].concat());
    assert_eq!(uncached["selection"], first["selection"]);
    assert!(!workspace.path("cache").exists());
}

#[test]
fn the_caches_of_two_encoders_do_not_mix() {
    let workspace = Workspace::with_images(4);
    let fixed = ["images", "--interventions", "haze", "--map", "soft:1"];
    workspace.report(&fixed);
    let tiny = workspace.cache_file().expect("cache");
    let kept = workspace.path("kept");
    std::fs::rename(&tiny, &kept).expect("cache");
    // The same tower in int8 is another encoder.
    let int8 = fixture("encoder/vision-int8-tensor.toml")
        .display()
        .to_string();
    let other = [&fixed[..], &["--model", &int8]].concat();
    assert!(workspace.run(&other).status.success());
    std::fs::rename(&kept, workspace.cache_file().expect("cache")).expect("cache");
    let output = workspace.run(&other);
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

/// A limit on the size of files stands for the disk: the embeddings exceed it, the projection does not.
#[test]
fn a_full_disk_is_reported_and_the_fit_goes_on() {
    const MOST_BYTES: libc::rlim_t = 20_000;
    let workspace = Workspace::with_images(100);
    let mut command = workspace.command(&["images", "--interventions", "haze", "--map", "soft:1"]);
    command.arg("--model").arg(tiny_model());
    let limit_files = || {
        let limit = libc::rlimit {
            rlim_cur: MOST_BYTES,
            rlim_max: MOST_BYTES,
        };
        // SAFETY: `limit` outlives the call; an ignored signal runs no code.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        }
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(limit_files) };
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(
        message.contains("File too large") && message.contains("going on without a cache"),
        "{message}"
    );
}

/// Opening a pipe would wait for whoever writes into it.
#[test]
fn a_cache_that_is_no_file_is_reported_and_the_fit_goes_on() {
    let workspace = Workspace::with_images(4);
    let fixed = ["images", "--interventions", "haze", "--map", "soft:1"];
    workspace.report(&fixed);
    let cache = workspace.cache_file().expect("cache");
    std::fs::remove_file(&cache).expect("cache");
    std::os::unix::fs::symlink("/dev/full", &cache).expect("link");
    let output = workspace.fit(&fixed);
    assert!(output.status.success(), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(
        message.contains("a device") && message.contains("going on without a cache"),
        "{message}"
    );
}

#[test]
fn an_interrupted_fit_keeps_its_embeddings() {
    let workspace = Workspace::with_images(150);
    let args = ["images", "--threads", "1", "--map", "soft:1"];
    let mut child = workspace
        .command(&args)
        .arg("--model")
        .arg(tiny_model())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    // Longer than the header alone.
    wait_for("embeddings in the cache", || {
        (workspace.cache_file()?.metadata().ok()?.len() > 10_000).then_some(())
    });
    // SAFETY: kill takes no pointers. The child has not been waited for, so its process number is not reused.
    unsafe {
        libc::kill(
            i32::try_from(child.id()).expect("a process number"),
            libc::SIGINT,
        )
    };
    child.wait().expect("it ends");
    let report = workspace.report(&args);
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
fn concurrent_fits_share_a_cache() {
    let workspace = Workspace::with_images(30);
    let args = ["images", "--interventions", "paper", "--map", "soft:1"];
    let start = |output: &str| {
        let mut command = workspace.command(&args);
        command
            .args(["-o", output, "--model"])
            .arg(tiny_model())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs")
    };
    for mut child in [start("one"), start("two")] {
        assert!(child.wait().expect("it ends").success());
    }
    let bytes = |name| std::fs::read(workspace.path(name)).expect("projection");
    assert!(bytes("one") == bytes("two"));
    assert_eq!(workspace.report(&args)["embeddings"]["computed"], 0);
}
