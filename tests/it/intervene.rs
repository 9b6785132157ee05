//! `constancy camera intervene` on the workshop's camera, whose sensor keeps its controls in a file as a driver does.

use super::support::{LIMIT, Setup, constancy, stderr, stdout, wait_for};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A camera `belt` whose scenes stand still for `hold` frames, with more keys.
fn setup(hold: u32, more: &str) -> Setup {
    Setup::new(&format!(
        "[queue]\nfolder = \".\"\n[[camera]]\nname = \"belt\"\n[camera.synthetic]\nenvironments = [\"noon\"]\nwidth = 160\n\
         height = 120\nhold = {hold}\ncontrols_file = \"workshop.controls\"\n{more}\n"
    ))
}

fn arguments(setup: &Setup, args: &[&str]) -> Vec<String> {
    let config = setup.config().display().to_string();
    let output = setup.path("pairs").display().to_string();
    let fixed = [
        "camera",
        "intervene",
        "belt",
        "--config",
        &config,
        "--output",
        &output,
    ];
    fixed.iter().chain(args).map(|&a| a.to_owned()).collect()
}

fn intervene(setup: &Setup, args: &[&str]) -> Output {
    constancy()
        .args(arguments(setup, args))
        .output()
        .expect("it runs")
}

/// Starts it, to be stopped in the middle.
fn start(setup: &Setup, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_constancy"))
        .args(arguments(setup, args))
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        stdout(output),
        stderr(output)
    );
    stdout(output)
}

fn pairs(setup: &Setup) -> Vec<Value> {
    let text = std::fs::read_to_string(setup.path("pairs/pairs.jsonl")).expect("manifest");
    text.lines()
        .map(|l| serde_json::from_str(l).expect("a whole line"))
        .collect()
}

/// What the sensor is set to, by the file that stands for its driver.
fn controls(setup: &Setup) -> toml::Table {
    let text = std::fs::read_to_string(setup.path("workshop.controls")).unwrap_or_default();
    toml::from_str(&text).expect("controls")
}

fn assert_as_before(setup: &Setup) {
    let controls = controls(setup);
    for key in ["exposure", "gain"] {
        let value = controls.get(key).and_then(toml::Value::as_float);
        assert!(
            value.is_none_or(|v| v.to_bits() == 1.0_f64.to_bits()),
            "{controls}"
        );
    }
    assert!(
        !controls.contains_key("white_balance"),
        "automatic again: {controls}"
    );
    assert!(
        !setup.path("controls-belt.json").exists(),
        "the journal has ended"
    );
}

/// Mean level of an image.
fn level(setup: &Setup, name: &Value) -> f64 {
    let path = setup.path("pairs").join(name.as_str().expect("a name"));
    let pixels = image::open(path).expect("image").into_rgb8().into_raw();
    pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / pixels.len() as f64
}

/// Waits until the sensor is moved.
fn wait_moved(setup: &Setup) {
    wait_for("a control that is moved", || {
        let text = std::fs::read_to_string(setup.path("workshop.controls")).ok()?;
        let controls: toml::Table = toml::from_str(&text).ok()?;
        (controls.get("exposure")?.as_float() != Some(1.0)).then_some(())
    });
}

/// Sends a signal, and waits for the end.
fn end(child: Child, signal: i32) -> Output {
    let pid = i32::try_from(child.id()).expect("a process number");
    // SAFETY: kill takes no pointers. The child has not been waited for, so its process number is not reused.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    child.wait_with_output().expect("it ends")
}

#[test]
fn pairs_show_one_scene_with_one_control_moved() {
    let setup = setup(1000, "");
    let text = succeeded(&intervene(&setup, &["--scenes", "2"]));
    let pairs = pairs(&setup);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut references = BTreeSet::new();
    for pair in &pairs {
        *counts
            .entry(pair["family"].as_str().expect("family"))
            .or_default() += 1;
        references.insert(pair["reference"].as_str().expect("reference"));
        let (before, after) = (
            level(&setup, &pair["reference"]),
            level(&setup, &pair["changed"]),
        );
        let (from, to) = (pair["from"].as_i64(), pair["to"].as_i64());
        if ["exposure_time", "gain"].contains(&pair["control"].as_str().expect("control")) {
            assert_eq!(from < to, before < after, "{pair}: {before} to {after}");
        }
        assert_eq!(pair["camera"], "belt");
    }
    let expected = [
        ("physical-exposure", 8),
        ("physical-gain", 4),
        ("physical-white-balance", 8),
    ];
    assert_eq!(counts, BTreeMap::from(expected), "{text}");
    assert_eq!(references.len(), 2, "a scene has one reference");
    for words in [
        "20: 8 physical-exposure",
        "put back     ",
        "exposure_time = 100",
        "controls-belt.json",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    assert_as_before(&setup);
    // Further pairs join those that are there.
    succeeded(&intervene(
        &setup,
        &["--controls", "exposure", "--steps", "1"],
    ));
    let more = self::pairs(&setup);
    assert_eq!((more.len(), &more[..20]), (22, &pairs[..]));
}

#[test]
fn pairs_during_which_the_scene_moved_are_dropped() {
    let setup = setup(29, "");
    let text = succeeded(&intervene(&setup, &[]));
    let dropped = text
        .lines()
        .find(|l| l.starts_with("dropped"))
        .unwrap_or_default();
    assert!(dropped.contains("the scene moved"), "{text}");
    let dropped: usize = dropped
        .split([' ', ':'])
        .find_map(|w| w.parse().ok())
        .expect("a count");
    let pairs = pairs(&setup);
    assert_eq!(pairs.len() + dropped, 10, "{text}");
    let references: BTreeSet<_> = pairs.iter().map(|p| p["reference"].as_str()).collect();
    assert!(
        references.len() > 1,
        "each scene has a reference of its own"
    );
    // A pair of two scenes would differ without end.
    for pair in pairs
        .iter()
        .filter(|p| p["control"] == "white_balance_temperature")
    {
        assert!((level(&setup, &pair["reference"]) - level(&setup, &pair["changed"])).abs() < 40.0);
    }
    assert_as_before(&setup);
}

#[test]
fn a_scene_that_never_stands_still_is_refused() {
    let setup = setup(1, "");
    let output = intervene(&setup, &[]);
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(stderr(&output).contains("camera belt: the picture does not stand still"));
    assert_as_before(&setup);
}

#[test]
fn ctrl_c_puts_every_control_back() {
    let setup = setup(100_000, "rate = 40.0");
    let child = start(&setup, &["--scenes", "100"]);
    wait_moved(&setup);
    let output = end(child, libc::SIGINT);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("stopped by signal 2"),
        "{}",
        stderr(&output)
    );
    assert_as_before(&setup);
    pairs(&setup);
}

#[test]
fn after_sigkill_the_next_start_puts_every_control_back() {
    let setup = setup(100_000, "rate = 40.0");
    let killed = || {
        let child = start(&setup, &["--controls", "exposure,white-balance"]);
        wait_moved(&setup);
        end(child, libc::SIGKILL);
        assert_ne!(controls(&setup)["exposure"].as_float(), Some(1.0));
        assert!(
            controls(&setup).contains_key("white_balance"),
            "still by hand"
        );
    };
    killed();
    let text = succeeded(&intervene(&setup, &["--restore"]));
    assert!(
        text.contains("was cut off") && text.contains("exposure_time = 100"),
        "{text}"
    );
    assert_as_before(&setup);
    let text = succeeded(&intervene(&setup, &["--restore"]));
    assert!(text.contains("nothing to put back"), "{text}");
    // The daemon does the same before it takes the first frame.
    killed();
    let daemon = setup.start();
    daemon.wait_log("camera belt: an intervention of");
    daemon.wait_events(1);
    assert_as_before(&daemon.setup);
}

#[test]
fn a_camera_that_is_opened_again_and_again_is_told_once_of_what_was_left() {
    let setup = Setup::new(
        "[queue]\nfolder = \".\"\n[[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cd DIR; echo >> starts\"]\n",
    );
    let left = r#"{"sensor": "/dev/video7", "started": "now", "controls": [{"id": 1, "name": "gain", "value": 3}], "light": []}"#;
    std::fs::write(setup.path("controls-gate.json"), left).expect("journal");
    let daemon = setup.start();
    let starts = || std::fs::read_to_string(daemon.setup.path("starts")).unwrap_or_default();
    wait_for("three starts of the camera", || {
        (starts().lines().count() >= 3).then_some(())
    });
    let log = daemon.log();
    let told = log.lines().filter(|l| l.contains("controls-gate.json"));
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn a_hook_moves_the_light_and_puts_it_back() {
    let setup = setup(100_000, "");
    let log = setup.path("light.log");
    let hook = |level: &str| format!("echo {level} >> {}", log.display());
    let args = [
        "--controls",
        "none",
        "--light-levels",
        "on,off",
        "--light-command",
        "sh",
        "-c",
    ];
    let output = intervene(&setup, &[&args[..], &[&hook("{}")]].concat());
    // The workshop's light has no switch, so the picture stays the same.
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("1 physical-light"),
        "{}",
        stdout(&output)
    );
    assert_eq!(
        std::fs::read_to_string(&log).expect("log"),
        "on\noff\non\non\n"
    );
    let slow = [
        "--controls",
        "none",
        "--light-timeout",
        "0.2",
        "--light-command",
        "sh",
        "-c",
        "exec sleep 60",
        "{}",
    ];
    let output = intervene(&setup, &slow);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("did not end within 0.2 s (--light-timeout)"));
}

#[test]
fn a_light_that_is_seen_gives_pairs() {
    // The lamp is the sensor's exposure, which the hook sets behind the program's back.
    let setup = setup(100_000, "");
    let file = setup.path("workshop.controls");
    let hook = format!(
        "printf 'exposure = {{}}\\n' > {0}.lamp && mv {0}.lamp {0}",
        file.display()
    );
    let args = [
        "--controls",
        "none",
        "--light-levels",
        "1.0,0.3,2.0",
        "--light-command",
        "sh",
        "-c",
    ];
    succeeded(&intervene(&setup, &[&args[..], &[&hook]].concat()));
    let pairs = pairs(&setup);
    assert_eq!(pairs.len(), 2);
    assert_eq!(
        (&pairs[0]["family"], &pairs[0]["to"]),
        (&"physical-light".into(), &"0.3".into())
    );
    assert!(level(&setup, &pairs[0]["reference"]) > level(&setup, &pairs[0]["changed"]));
    assert_as_before(&setup);
}

#[test]
fn cameras_on_which_nothing_can_be_done_are_refused() {
    let replay =
        "[queue]\nfolder = \".\"\n[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \".\"\n";
    let pipe = "[queue]\nfolder = \".\"\n[[camera]]\nname = \"belt\"\n[camera.pipe]\ncommand = [\"sleep\", \"60\"]\n";
    let homeless = "[[camera]]\nname = \"belt\"\n[camera.synthetic]\n";
    for (rest, code, words) in [
        (replay, 64, "replays recordings"),
        (pipe, 65, "--light-command"),
        (homeless, 64, "`queue.folder`"),
    ] {
        let setup = Setup::new(rest);
        let output = constancy()
            .args(arguments(&setup, &[]))
            .env_remove("STATE_DIRECTORY")
            .timeout(Duration::from_secs(LIMIT.as_secs()))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let setup = setup(1000, "");
    for (args, words) in [
        (&["--controls", "focus"][..], "there is no control `focus`"),
        (&["--light-command", "true"], "`{}`"),
        (&["--settle", "0"], "0.1 to 86400"),
    ] {
        let output = intervene(&setup, args);
        assert!(
            !output.status.success() && stderr(&output).contains(words),
            "{}",
            stderr(&output)
        );
    }
    assert!(!Path::new(&setup.path("pairs")).exists());
}
