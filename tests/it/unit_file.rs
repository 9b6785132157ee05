//! The systemd unit, checked with systemd's own tools.

use super::support::stderr;
use std::path::Path;
use std::process::Command;

/// The unit with the path of the binary under test.
fn unit() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let text = include_str!("../../systemd/constancy.service");
    let text = text.replace("/usr/bin/constancy", env!("CARGO_BIN_EXE_constancy"));
    let path = folder.path().join("constancy.service");
    std::fs::write(&path, text).expect("unit");
    (folder, path)
}

/// Runs systemd-analyze; returns whether it succeeded, and its output.
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
    let complaints: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("constancy.service"))
        .collect();
    assert!(good && complaints.is_empty(), "{text}");
}

#[test]
fn the_exposure_level_is_2_0_or_less() {
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
fn the_unit_verifies_with_the_drop_in_for_gpus() {
    let (folder, path) = unit();
    let drop_ins = folder.path().join("constancy.service.d");
    std::fs::create_dir(&drop_ins).expect("folder");
    std::fs::write(
        drop_ins.join("gpu.conf"),
        include_str!("../../packaging/gpu.conf"),
    )
    .expect("drop-in");
    let (good, text) = systemd_analyze(&["verify"], &path);
    let complaints: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("constancy.service") || l.contains("gpu.conf"))
        .collect();
    assert!(good && complaints.is_empty(), "{text}");
    // The drop-in is read: an unknown key in it is reported.
    std::fs::write(
        drop_ins.join("gpu.conf"),
        "[Service]\nDevicePolicies=auto\n",
    )
    .expect("drop-in");
    assert!(systemd_analyze(&["verify"], &path).1.contains("gpu.conf"));
}

#[test]
fn the_unit_has_every_documented_setting() {
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
