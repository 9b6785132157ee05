//! JPEGs as cameras send them, from `tests/golden/cameras.py`, through every way into the program: a stream, a replay, and
//! files on the command line. `crates/core/tests/it/cameras.rs` compares their pixels.

use super::support::{LIMIT, Setup, constancy, fixture, json_lines, stderr, tiny_model, wait_for};
use std::collections::BTreeMap;

/// Names of the files, and whether a picture must be seen in them.
fn cases() -> BTreeMap<String, bool> {
    let text = std::fs::read(fixture("cameras/cases.json")).expect("cases");
    let cases: BTreeMap<String, String> = serde_json::from_slice(&text).expect("cases");
    let seen = |expected: &String| matches!(expected.as_str(), "clean" | "grey");
    cases
        .iter()
        .map(|(name, expected)| (name.clone(), seen(expected)))
        .collect()
}

#[test]
fn a_stream_shows_each_picture_once() {
    let folder = fixture("cameras");
    let names: Vec<String> = cases().into_iter().filter(|c| c.1).map(|c| c.0).collect();
    // The three bytes begin another picture, as in a live stream: where there is no end marker, they are the end.
    let mut script = format!(
        "await() {{ until [ -e $1 ]; do sleep 0.02; done; }}; start() {{ head -c 3 {}/clean.jpg; }}; ",
        folder.display()
    );
    for name in &names {
        script += &format!(
            "await send-{name}; cat {}/{name}.jpg; start; ",
            folder.display()
        );
    }
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"gate\"\nstall_s = 600.0\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cd DIR; {script} exec sleep 600\"]\n"
    ));
    let daemon = setup.start();
    for (count, name) in (1..).zip(&names) {
        std::fs::write(daemon.setup.path(&format!("send-{name}")), "").expect("file");
        wait_for(&format!("the picture of {name}"), || {
            (daemon.events().len() >= count).then_some(())
        });
        assert_eq!(daemon.events().len(), count, "{name} is one picture");
    }
    let last = daemon.events().pop().expect("an event");
    // Only `begins-twice` loses a frame whose scan had begun.
    assert_eq!(last["damaged_frames"], 1, "log:\n{}", daemon.log());
}

#[test]
fn a_replay_shows_each_picture_and_counts_the_damaged() {
    let setup = Setup::new("[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images.txt\"\n");
    let cases = cases();
    let line = |name: &String| {
        format!(
            "{}\n",
            fixture("cameras")
                .join(name)
                .with_extension("jpg")
                .display()
        )
    };
    let list: String = cases.keys().map(line).collect();
    // The last is a picture, whose event has the count.
    std::fs::write(setup.path("images.txt"), list + &line(&"clean".to_owned())).expect("list");
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{}", daemon.log());
    let seen = cases.values().filter(|&&seen| seen).count();
    let events = daemon.wait_events(seen + 1);
    assert_eq!(events.len(), seen + 1);
    assert_eq!(
        events[seen]["damaged_frames"],
        cases.len() - seen,
        "log:\n{}",
        daemon.log()
    );
}

#[test]
fn files_are_read_as_the_same_picture_and_the_damaged_are_named() {
    let cases = cases();
    let path = |name: &str| fixture("cameras").join(format!("{name}.jpg"));
    let output = constancy()
        .args(["embed", "--model"])
        .arg(tiny_model())
        .args(cases.keys().map(|name| path(name)))
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert_eq!(
        json_lines(&output).len(),
        cases.values().filter(|&&seen| seen).count()
    );
    for (name, _) in cases.iter().filter(|case| !case.1) {
        let error = stderr(&output);
        assert!(
            error.contains(&format!("{name}.jpg")),
            "{name} is named in:\n{error}"
        );
    }
}
