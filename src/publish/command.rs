//! Commands received over MQTT: which there are, how they are checked, and their results.
//!
//! A command is a message to `<prefix>/<device>/<camera>/set/<name>` with a short payload, which is checked here. No
//! command carries a path or a program, and none is accepted unless `mqtt.commands` lists it.

mod calibrate;

pub use calibrate::{CALIBRATE_FRAMES, CalibrateCommand};

use super::topics::Topics;
use crate::config::{CommandName, Settings};
use constancy_core::classify::check_label;
use serde::Serialize;

/// Longer than any valid payload.
const MAX_PAYLOAD_BYTES: usize = 16 << 10;
const MAX_LABELS: usize = 100;

/// A command to a camera.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Switch recognition of its frames on or off.
    Enabled(bool),
    /// Replace the classes to choose from: 1 to 100 labels.
    Labels(Vec<String>),
    /// Set the minimum score for an answer to be `known`, `0..=1`.
    Threshold(f32),
    /// Publish its next frame as a JPEG.
    Snapshot,
    /// Learn a new reference picture.
    Reference,
    /// What to do with the camera's condition profiles.
    Calibrate(CalibrateCommand),
}

impl Command {
    #[must_use]
    pub fn name(&self) -> CommandName {
        match self {
            Self::Enabled(_) => CommandName::Enabled,
            Self::Labels(_) => CommandName::Labels,
            Self::Threshold(_) => CommandName::Threshold,
            Self::Snapshot => CommandName::Snapshot,
            Self::Reference => CommandName::Reference,
            Self::Calibrate(_) => CommandName::Calibrate,
        }
    }
}

/// A valid command, and its camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub camera: String,
    pub command: Command,
}

/// The message published to `…/set/<name>/result`; `docs/result.schema.json` describes it.
#[derive(Debug, Serialize)]
pub(super) struct CommandResult<'a> {
    pub schema: u32,
    pub device: &'a str,
    pub camera: &'a str,
    pub command: &'a str,
    pub ok: bool,
    /// What was done, or why nothing was.
    pub detail: &'a str,
    /// RFC 3339, UTC.
    pub ts: String,
}

/// Decides which commands are accepted.
#[derive(Debug)]
pub(super) struct CommandPolicy {
    topics: Topics,
    allowed: Vec<CommandName>,
    cameras: Vec<String>,
}

/// An invalid command, which is answered at once.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) camera: String,
    pub(super) command: String,
    pub(super) reason: String,
}

impl CommandPolicy {
    /// `None` if no command is allowed.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let allowed = settings.mqtt.commands.clone();
        let cameras = settings.cameras.iter().map(|c| c.name.clone()).collect();
        (!allowed.is_empty()).then(|| Self {
            topics: Topics::new(settings),
            allowed,
            cameras,
        })
    }

    /// The topic filter to subscribe to.
    pub(super) fn filter(&self) -> String {
        self.topics.commands()
    }

    /// Whether a message on this topic is a command.
    pub(super) fn is_command(&self, topic: &str) -> bool {
        self.topics.split_command(topic).is_some()
    }

    /// Parses a message. `None` if it is no command: if its topic is another, so that nobody could be answered, or if it is
    /// how a retained command is deleted.
    pub(super) fn parse(
        &self,
        topic: &str,
        payload: &[u8],
        retained: bool,
    ) -> Option<Result<Request, Refusal>> {
        let (camera, command) = self.topics.split_command(topic)?;
        // An empty message deletes the topic's retained one, and is sent to whoever has subscribed.
        if payload.is_empty() && command != CommandName::Snapshot.as_str() {
            return None;
        }
        let checked = self.check(camera, command, payload, retained);
        Some(match checked {
            Ok(command) => Ok(Request {
                camera: camera.to_owned(),
                command,
            }),
            Err(reason) => Err(Refusal {
                camera: camera.to_owned(),
                command: command.to_owned(),
                reason,
            }),
        })
    }

    fn check(
        &self,
        camera: &str,
        command: &str,
        payload: &[u8],
        retained: bool,
    ) -> Result<Command, String> {
        let name = CommandName::ALL.into_iter().find(|c| c.as_str() == command);
        let name =
            name.ok_or_else(|| format!("no such command, expected {}", names(&CommandName::ALL)))?;
        if !self.allowed.contains(&name) {
            let allowed = names(&self.allowed);
            return Err(format!(
                "not allowed: this device's `mqtt.commands` lists {allowed}"
            ));
        }
        if !self.cameras.iter().any(|c| c == camera) {
            return Err(format!(
                "no such camera, expected {}",
                self.cameras.join(", ")
            ));
        }
        if retained {
            return Err("the message is retained, so the broker would send it again on every connection; delete the retained message, and publish the command without the retain flag".into());
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(format!(
                "the payload has {} bytes, expected at most {MAX_PAYLOAD_BYTES}",
                payload.len()
            ));
        }
        match name {
            CommandName::Enabled => parse_enabled(payload),
            CommandName::Labels => parse_labels(payload),
            CommandName::Threshold => parse_threshold(payload),
            CommandName::Snapshot if payload.is_empty() => Ok(Command::Snapshot),
            CommandName::Snapshot => Err("expected an empty payload".into()),
            CommandName::Reference if payload.trim_ascii() == b"renew" => Ok(Command::Reference),
            CommandName::Reference => Err("expected renew".into()),
            CommandName::Calibrate => CalibrateCommand::parse(payload).map(Command::Calibrate),
        }
    }
}

fn names(commands: &[CommandName]) -> String {
    commands
        .iter()
        .map(|c| c.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse_enabled(payload: &[u8]) -> Result<Command, String> {
    // `echo true | mosquitto_pub -s` ends it with a line break.
    match payload.trim_ascii() {
        b"true" => Ok(Command::Enabled(true)),
        b"false" => Ok(Command::Enabled(false)),
        _ => Err("expected true or false".into()),
    }
}

fn parse_threshold(payload: &[u8]) -> Result<Command, String> {
    let number: Option<f32> = serde_json::from_slice(payload).ok();
    let number = number.filter(|n| (0.0..=1.0).contains(n));
    number
        .map(Command::Threshold)
        .ok_or_else(|| "expected a number from 0 to 1".into())
}

fn parse_labels(payload: &[u8]) -> Result<Command, String> {
    let labels: Vec<String> = serde_json::from_slice(payload).map_err(|_| {
        "expected a JSON list of labels, such as [\"intact part\", \"scratched part\"]".to_owned()
    })?;
    if !(1..=MAX_LABELS).contains(&labels.len()) {
        return Err(format!(
            "{} labels, expected 1 to {MAX_LABELS}",
            labels.len()
        ));
    }
    for label in &labels {
        check_label(label)?;
    }
    if let Some((_, twice)) = labels
        .iter()
        .enumerate()
        .find(|(i, label)| labels[..*i].contains(label))
    {
        return Err(format!("label {twice:?} is given twice"));
    }
    Ok(Command::Labels(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> CommandPolicy {
        CommandPolicy {
            topics: Topics::of_bench(),
            allowed: vec![
                CommandName::Enabled,
                CommandName::Labels,
                CommandName::Threshold,
                CommandName::Snapshot,
                CommandName::Reference,
                CommandName::Calibrate,
            ],
            cameras: vec!["belt".into()],
        }
    }

    fn parse(command: &str, payload: &str) -> Result<Command, String> {
        let topic = format!("constancy/bench/belt/set/{command}");
        let parsed = policy()
            .parse(&topic, payload.as_bytes(), false)
            .expect("a command's topic");
        parsed.map(|r| r.command).map_err(|r| r.reason)
    }

    #[test]
    fn valid_commands_are_parsed() {
        assert_eq!(parse("enabled", "false"), Ok(Command::Enabled(false)));
        assert_eq!(parse("threshold", "0.25"), Ok(Command::Threshold(0.25)));
        assert_eq!(parse("threshold", "1"), Ok(Command::Threshold(1.0)));
        assert_eq!(
            parse("labels", "[\"a\", \"b c\"]"),
            Ok(Command::Labels(vec!["a".into(), "b c".into()]))
        );
        assert_eq!(parse("snapshot", ""), Ok(Command::Snapshot));
        assert_eq!(parse("reference", "renew\n"), Ok(Command::Reference));
        assert_eq!(
            parse("calibrate", "{\"undo\": true}"),
            Ok(Command::Calibrate(CalibrateCommand::Undo))
        );
    }

    #[test]
    fn invalid_commands_are_refused_with_what_is_expected() {
        let long = format!("[\"{}\"]", "x".repeat(201));
        let many = format!(
            "[{}\"z\"]",
            (0..100).map(|i| format!("\"{i}\",")).collect::<String>()
        );
        let huge = " ".repeat(MAX_PAYLOAD_BYTES + 1);
        let cases = [
            ("enabled", "yes", "expected true or false"),
            ("enabled", " ", "expected true or false"),
            ("threshold", "1.5", "from 0 to 1"),
            ("threshold", "NaN", "from 0 to 1"),
            ("threshold", "\"0.5\"", "from 0 to 1"),
            ("labels", "a, b", "expected a JSON list"),
            ("labels", "[]", "0 labels, expected 1 to 100"),
            ("labels", &many, "101 labels"),
            ("labels", &long, "201 characters, expected 1 to 200"),
            ("labels", "[\"a\\u0000\"]", "control"),
            (
                "labels",
                "[\"a\", \" \"]",
                "a label is empty, expected 1 to 200 characters",
            ),
            ("labels", "[\"a\", \"a\"]", "given twice"),
            ("snapshot", "/etc/passwd", "expected an empty payload"),
            ("reference", "/etc/passwd", "expected renew"),
            ("calibrate", "40", "expected {\"frames\": N}"),
            (
                "calibrate",
                "{\"frames\": 9}",
                "9 frames, expected 10 to 1000",
            ),
            (
                "calibrate",
                "{\"frames\": 40, \"undo\": true}",
                "or {\"list\": true}",
            ),
            (
                "calibrate",
                "{\"path\": \"/etc/passwd\"}",
                "expected {\"frames\": N}",
            ),
            (
                "threshold",
                &huge,
                "the payload has 16385 bytes, expected at most 16384",
            ),
            (
                "reboot",
                "now",
                "expected enabled, labels, threshold, snapshot, reference, calibrate",
            ),
        ];
        for (command, payload, expected) in cases {
            let reason = parse(command, payload).expect_err(command);
            assert!(reason.contains(expected), "{command}: {reason}");
        }
    }

    #[test]
    fn what_deletes_a_retained_command_is_none() {
        for command in ["enabled", "labels", "threshold", "reboot"] {
            let topic = format!("constancy/bench/belt/set/{command}");
            assert_eq!(policy().parse(&topic, b"", false), None, "{command}");
        }
    }

    #[test]
    fn retained_and_disallowed_commands_and_unknown_cameras_are_refused() {
        let reason = |policy: &CommandPolicy, topic: &str, retained: bool| {
            policy
                .parse(topic, b"true", retained)
                .expect("a command's topic")
                .expect_err("it is refused")
                .reason
        };
        assert!(
            reason(&policy(), "constancy/bench/belt/set/enabled", true)
                .contains("delete the retained message")
        );
        assert!(
            reason(&policy(), "constancy/bench/gate/set/enabled", false)
                .contains("no such camera, expected belt")
        );
        let fewer = CommandPolicy {
            allowed: vec![CommandName::Snapshot],
            ..policy()
        };
        assert!(
            reason(&fewer, "constancy/bench/belt/set/enabled", false)
                .contains("this device's `mqtt.commands` lists snapshot")
        );
        for topic in [
            "constancy/bench/belt/event",
            "constancy/other/belt/set/enabled",
            "constancy/bench/be.lt/set/enabled",
        ] {
            assert_eq!(policy().parse(topic, b"true", false), None, "{topic}");
        }
        assert_eq!(
            policy().parse("constancy/bench/belt/set/enabled/result", b"true", false),
            None
        );
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(topic in "(constancy/bench/)?[a-z/+#]{0,12}(/set/)?[a-z]{0,9}", payload: Vec<u8>, retained: bool) {
            if let Some(Ok(request)) = policy().parse(&topic, &payload, retained) {
                prop_assert!(!retained && request.camera == "belt");
            }
        }
    }
}
