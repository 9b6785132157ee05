//! Files and folders as users really name them: hidden entries, links in circles, pipes and devices, odd names, lists.

mod names;
mod replayed;
mod special;
mod walk;

use super::support::{constancy, tiny_model};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// Runs constancy; one that waits for a pipe is killed.
fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    let mut command = constancy();
    command.args(args).timeout(Duration::from_secs(60));
    command.output().expect("it runs")
}

/// A subcommand with the tiny model, more arguments, and a path.
fn with_model(subcommand: &str, more: &[&str], path: &Path) -> Output {
    let model = tiny_model();
    let mut args = vec![
        OsStr::new(subcommand),
        OsStr::new("--model"),
        model.as_os_str(),
    ];
    args.extend(more.iter().map(OsStr::new));
    args.push(path.as_os_str());
    run(&args)
}

fn mkfifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status();
    assert!(status.expect("mkfifo").success());
}
