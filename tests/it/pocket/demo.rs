//! `constancy demo`, which runs the daemon and a broker on the shipped model.

use crate::support::{LIMIT, stderr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// `constancy demo` with these arguments, and the folder that it writes its temporary files to.
fn demo(args: &[&str]) -> (Command, tempfile::TempDir) {
    let temporary = tempfile::tempdir().expect("folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_constancy"));
    command
        .arg("demo")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TMPDIR", temporary.path())
        .env_remove("RUST_LOG");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, temporary)
}

/// Asserts that neither files in the folder nor processes with the folder on their command line are left.
fn assert_nothing_left(temporary: &Path) {
    assert_eq!(std::fs::read_dir(temporary).expect("folder").count(), 0);
    let name = temporary.to_string_lossy().into_owned();
    let command_lines = std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok());
    let left: Vec<String> = command_lines
        .map(|l| String::from_utf8_lossy(&l).replace('\0', " "))
        .filter(|l| l.contains(&name))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_demo_ends_by_itself_and_loses_nothing() {
    let (mut command, temporary) = demo(&["--seconds", "4", "--rate", "10"]);
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert!(
        text.contains("= like daylight") && text.contains("= never seen"),
        "{text}"
    );
    let last = text.lines().last().expect("a summary");
    let numbers: Vec<u64> = last
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    assert!(
        last.contains("events published") && last.ends_with(" 0 lost"),
        "{last}"
    );
    assert!(numbers[0] > 0 && numbers[0] == numbers[1], "{last}");
    assert_nothing_left(temporary.path());
}

#[test]
fn one_ctrl_c_ends_the_demo_cleanly() {
    let (mut command, temporary) = demo(&["--seconds", "60"]);
    let mut child = command.spawn().expect("it runs");
    let pid = child.id();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().expect("stdout"),
    ));
    for _ in 0..5 {
        lines.next().expect("a line").expect("text");
    }
    // SAFETY: kill takes no pointers. The child has not been waited for, so its process number is not reused.
    unsafe { libc::kill(i32::try_from(pid).expect("a process number"), libc::SIGINT) };
    let start = Instant::now();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().expect("it ends").success());
    assert!(start.elapsed() < LIMIT);
    assert!(
        rest.iter().any(|l| l.contains("events published")),
        "{rest:?}"
    );
    assert_nothing_left(temporary.path());
}

#[test]
fn a_missing_model_is_named() {
    let (mut command, temporary) = demo(&["--model", "/nowhere"]);
    let output = command.output().expect("it runs");
    assert_nothing_left(temporary.path());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(66), "{text}");
    assert!(
        text.contains("/nowhere/pocket.toml") && text.contains("--model"),
        "{text}"
    );
}
