//! `constancy check`.

use super::{run, text};
use crate::support::{Setup, free_port, json_lines, stdout, write_images};

#[test]
fn check_reports_all_faults_at_once() {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n[[camera]]\nname = \"gate\"\n[camera.v4l]\ndevice = \"/dev/video99\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n",
        free_port()
    ));
    write_images(&setup.path("images"), 1);
    setup.replace("[mqtt]", "[queue]\nfolder = \"not-there\"\n[mqtt]");
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
fn check_tells_what_a_silent_camera_sends_instead() {
    for (script, expected) in [
        (
            "echo no such sensor >&2; exec sleep 60",
            "no frame for 1.0 s: nothing came; the program says: no such sensor",
        ),
        (
            "echo all is well; exec sleep 60",
            "12 bytes came, which look like text, `all is well`; let the program write pictures to stdout",
        ),
        (
            "echo no such file >&2; exit 3",
            "ended (exit status: 3): no such file",
        ),
    ] {
        let setup = Setup::new(&format!(
            "[[camera]]\nname = \"belt\"\nstall_s = 1.0\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
        ));
        let output = run(&["check", "--json", "--config", &text(&setup.config())]);
        let findings = json_lines(&output);
        let camera = findings.iter().find(|f| f["check"] == "camera belt");
        let detail = camera
            .and_then(|f| f["detail"].as_str())
            .expect("a finding");
        assert!(detail.contains(expected), "{detail}");
        assert_eq!(output.status.code(), Some(69));
    }
}
