//! A skipped test is visible, and fails in CI unless CI may lack what it needs.
//!
//! Each case runs one test of this program again, in an environment that lacks what that test needs.

use std::path::Path;
use std::process::Command;

const PHOTOGRAPHS: &str =
    "real_images::photographs_are_classified_correctly_and_every_event_matches_the_schema";
const TEMPLATES: &str = "homeassistant::home_assistant_shows_what_the_daemon_publishes";
const TOWER: &str = "encoder::a_full_size_tower_embeds_a_frame_as_its_stages_do";

/// Runs `test` with the variable set or unset. Returns whether it passed, and all that reached the terminal.
fn run(test: &str, variable: &str, value: Option<&Path>, ci: bool) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", test])
        .env_remove(variable)
        .env_remove("CI");
    if let Some(value) = value {
        command.env(variable, value);
    }
    if ci {
        command.env("CI", "true");
    }
    let output = command.output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        text.contains("running 1 test"),
        "there is no {test}: {text}"
    );
    (output.status.success(), text)
}

#[test]
fn a_skip_is_visible_and_fails_in_ci_where_ci_has_what_is_missing() {
    let empty = tempfile::tempdir().expect("folder");
    let (empty, nowhere) = (Some(empty.path()), Some(Path::new("/nowhere")));
    for (test, variable, value, required) in [
        (PHOTOGRAPHS, "CONSTANCY_TEST_DATA", empty, true),
        (PHOTOGRAPHS, "CONSTANCY_TEST_DATA", nowhere, false),
        (TEMPLATES, "CONSTANCY_TEST_JUDGES", nowhere, true),
        (TEMPLATES, "CONSTANCY_TEST_JUDGES", None, true),
        (TOWER, "CONSTANCY_TEST_TOWER", nowhere, true),
        (TOWER, "CONSTANCY_TEST_TOWER", None, false),
    ] {
        let (passed, text) = run(test, variable, value, false);
        let skipped = format!("SKIPPED {test}: ");
        assert!(
            passed && text.contains(&skipped) && text.contains(variable),
            "{variable} = {value:?}: {text}"
        );
        let (passed, text) = run(test, variable, value, true);
        assert_eq!(passed, !required, "in CI, {variable} = {value:?}: {text}");
        assert!(text.contains(variable), "{text}");
    }
}
