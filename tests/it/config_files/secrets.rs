//! What holds a password is not printed, and what should hide one is checked.

use super::{assert_refused, with};
use crate::support::{Setup, constancy, json_lines, set_mode, stderr, stdout, unprivileged};

/// Lines that hold a password in the wrong place, and what the message names instead.
const MISPLACED: [(&str, &str); 9] = [
    (
        "[mqtt]\npassword = \"hunter2\"\n",
        "unknown field `password`",
    ),
    ("[mqtt]\npassword = hunter2\n", "line "),
    ("[mqtt]\nusername = \"hunter2\n", "line "),
    (
        "mqtt = \"mqtt://me:hunter2@host\"\n",
        "invalid type: string",
    ),
    (
        "[mqtt]\nbroker = \"mqtt://me:hunter2@host\"\n",
        "mqtt.password_file",
    ),
    (
        "[mqtt]\nbroker = \"tcp://me:hunter2@host\"\n",
        "mqtt.password_file",
    ),
    (
        "[mqtt]\nbroker = \"mqtt:/me:hunter2\"\n",
        "mqtt://host:port",
    ),
    (
        "[mqtt]\nbroker = \"mqtt://host:1883?password=hunter2\"\n",
        "1 to 65535",
    ),
    (
        "[mqtt]\nbroker = \"mqtt://host?password=hunter2\"\n",
        "mqtt://host:port",
    ),
];

#[test]
fn a_password_in_the_wrong_place_is_not_printed() {
    for (lines, named) in MISPLACED {
        let setup = with("");
        let text = std::fs::read_to_string(setup.config()).expect("configuration");
        // A section is appended; a lone key stands before the first section.
        let text = if lines.starts_with('[') {
            text + lines
        } else {
            format!("{lines}{text}")
        };
        std::fs::write(setup.config(), text).expect("configuration");
        assert_refused(&setup, 78, &[named, "constancy.toml"]);
        for command in ["run", "check"] {
            let mut run = constancy();
            let output = run.args([command, "--config"]).arg(setup.config()).output();
            let output = output.expect("it runs");
            let shown = stdout(&output) + &stderr(&output);
            assert!(!shown.contains("hunter2"), "{command}: {shown}");
            assert_eq!(
                shown.matches("constancy.toml").count(),
                shown.matches("config/constancy.toml").count() + 1,
                "{shown}"
            );
        }
    }
}

#[test]
fn a_moved_key_has_one_way_out() {
    for lines in ["[mqtt]\nqueue = 500\n", "[mqtt.queue]\nmemory = 500\n"] {
        let setup = with(lines);
        assert_refused(
            &setup,
            78,
            &["`mqtt.queue` has become the section `[queue]`"],
        );
        let mut check = constancy();
        let output = check
            .args(["check", "--config"])
            .arg(setup.config())
            .output();
        let shown = stdout(&output.expect("it runs"));
        assert!(
            !shown.contains("expected one of") && !shown.contains("every key"),
            "{shown}"
        );
    }
}

/// Lines of `[mqtt]`, and what is wrong with them.
#[test]
fn what_mqtt_cannot_carry_is_refused_with_its_key() {
    let long = "x".repeat(70_000);
    for (lines, key, problem) in [
        (
            "client_id = \"a\\u0000b\"".to_owned(),
            "mqtt.client_id",
            "control character",
        ),
        (
            "username = \"a\\u0000b\"".to_owned(),
            "mqtt.username",
            "control character",
        ),
        (
            "username = \"me\\n\"".to_owned(),
            "mqtt.username",
            "control character",
        ),
        ("client_id = \"\"".to_owned(), "mqtt.client_id", "is empty"),
        (
            format!("client_id = \"{long}\""),
            "mqtt.client_id",
            "70000 bytes",
        ),
        (
            format!("username = \"{long}\""),
            "mqtt.username",
            "70000 bytes",
        ),
        (
            format!("prefix = \"{}\"", "x/".repeat(35_000) + "x"),
            "mqtt.prefix",
            "70001 bytes",
        ),
        ("prefix = \"a\\u0000b\"".to_owned(), "mqtt.prefix", "A–Z"),
    ] {
        assert_refused(&with(&format!("[mqtt]\n{lines}\n")), 78, &[key, problem]);
    }
    let prefix = format!(
        "[homeassistant]\nprefix = \"{}\"\n",
        "x/".repeat(35_000) + "x"
    );
    assert_refused(&with(&prefix), 78, &["homeassistant.prefix", "70001 bytes"]);
    let setup =
        with("[mqtt]\nbroker = \"mqtt://127.0.0.1\"\nusername = \"me\"\npassword_file = \"p\"\n");
    std::fs::write(setup.path("p"), &long).expect("password");
    assert_refused(&setup, 78, &["mqtt.password_file", "70000 bytes"]);
}

#[test]
fn a_secret_that_every_user_may_read_is_warned_of() {
    let port = crate::support::free_port();
    let setup = with(&format!(
        "[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nusername = \"me\"\npassword_file = \"password\"\n"
    ));
    let password = setup.path("password");
    std::fs::write(&password, "hunter2\n").expect("password");
    let check = |setup: &Setup| {
        let mut check = constancy();
        let output = check
            .args(["check", "--json", "--config"])
            .arg(setup.config())
            .output();
        let findings = json_lines(&output.expect("it runs"));
        findings
            .into_iter()
            .find(|f| f["check"] == "mqtt.password_file")
    };
    set_mode(&password, 0o640);
    assert_eq!(check(&setup), None);
    set_mode(&password, 0o644);
    let finding = check(&setup).expect("a warning");
    assert_eq!(
        (&finding["ok"], &finding["warning"]),
        (&true.into(), &true.into())
    );
    let detail = finding["detail"].as_str().expect("detail");
    assert!(
        detail.contains("mode 644") && detail.contains("chmod o= "),
        "{detail}"
    );
    let daemon = setup.start();
    daemon.wait_log("`mqtt.password_file`: ");
    assert!(daemon.log().contains("chmod o= "), "{}", daemon.log());
}

#[test]
fn a_configuration_that_may_not_be_read_says_so_with_its_own_way_out() {
    let setup = with("");
    set_mode(&setup.config(), 0o600);
    let mut command = unprivileged(setup.folder.path());
    if !command.get_program().to_string_lossy().contains("setpriv") {
        set_mode(&setup.config(), 0o000);
    }
    let output = command
        .args(["check", "--config", "constancy.toml"])
        .output();
    let output = output.expect("it runs");
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(78), "{shown}");
    assert!(
        shown.contains("permission denied; give the user who runs this"),
        "{shown}"
    );
    assert!(!shown.contains("--config"), "{shown}");
}
