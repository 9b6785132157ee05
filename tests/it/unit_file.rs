//! The systemd unit, by systemd's own tools.

use super::support::stderr;
use std::path::Path;
use std::process::Command;

/// The unit with the binary under test in the place of the installed one.
fn unit() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let text = include_str!("../../systemd/constancy.service");
    let text = text.replace("/usr/bin/constancy", env!("CARGO_BIN_EXE_constancy"));
    let path = folder.path().join("constancy.service");
    std::fs::write(&path, text).expect("unit");
    (folder, path)
}

fn systemd_analyze(args: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(args)
        .arg(unit)
        .output()
        .expect("systemd-analyze: run tools/setup.sh");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    (output.status.success(), text)
}

#[test]
fn the_unit_verifies() {
    let (_folder, path) = unit();
    let (good, text) = systemd_analyze(&["verify"], &path);
    let about_us: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("constancy.service"))
        .collect();
    assert!(good && about_us.is_empty(), "{text}");
}

#[test]
fn the_unit_is_exposed_at_2_0_or_less() {
    let (_folder, path) = unit();
    let (good, text) = systemd_analyze(
        &["security", "--offline=yes", "--threshold=20", "--no-pager"],
        &path,
    );
    let verdict = text
        .lines()
        .find(|l| l.contains("Overall exposure level"))
        .unwrap_or("no verdict");
    println!("{verdict}");
    assert!(good && verdict.contains("Overall"), "{text}");
}

#[test]
fn the_unit_verifies_with_what_a_gpu_needs() {
    let (folder, path) = unit();
    let more = folder.path().join("constancy.service.d");
    std::fs::create_dir(&more).expect("folder");
    std::fs::write(
        more.join("gpu.conf"),
        include_str!("../../packaging/gpu.conf"),
    )
    .expect("drop-in");
    let (good, text) = systemd_analyze(&["verify"], &path);
    let about_us: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("constancy.service") || l.contains("gpu.conf"))
        .collect();
    assert!(good && about_us.is_empty(), "{text}");
    // It is read: a line that systemd does not know would be told.
    std::fs::write(more.join("gpu.conf"), "[Service]\nDevicePolicies=auto\n").expect("drop-in");
    assert!(systemd_analyze(&["verify"], &path).1.contains("gpu.conf"));
}

#[test]
fn the_unit_keeps_the_promises() {
    let text = include_str!("../../systemd/constancy.service");
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "Type=notify",
        "Restart=on-failure",
        "RestartPreventExitStatus=78",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "DynamicUser=yes",
        "StateDirectory=constancy",
        "SupplementaryGroups=video",
        "DevicePolicy=closed",
        "DeviceAllow=char-video4linux rw",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "SystemCallFilter=@system-service",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
    assert!(
        lines.iter().any(|l| l.starts_with("WatchdogSec="))
            && lines.iter().any(|l| l.starts_with("MemoryMax="))
    );
}
