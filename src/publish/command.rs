//! Commands that come by message: which there are, what they may say, and the answers.
//!
//! A command is a topic `<prefix>/<device>/<camera>/set/<name>` and a short payload that is checked here. None carries
//! a path or a program. Nothing is commanded unless `mqtt.commands` allows it.

use crate::config::{CommandName, Settings, is_topic_name};
use serde::Serialize;

/// A payload that is longer says nothing that is understood.
const MAX_PAYLOAD_BYTES: usize = 16 << 10;
const MAX_LABELS: usize = 100;
const MAX_LABEL_CHARS: usize = 200;

/// What is asked of a camera.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Whether its frames are looked at.
    Enabled(bool),
    /// What its answer is chosen from, 1 to 100 of them.
    Labels(Vec<String>),
    /// Least score of a known class, `0..=1`.
    Threshold(f32),
    /// A picture of its next frame.
    Snapshot,
}

impl Command {
    #[must_use]
    pub fn name(&self) -> CommandName {
        match self {
            Self::Enabled(_) => CommandName::Enabled,
            Self::Labels(_) => CommandName::Labels,
            Self::Threshold(_) => CommandName::Threshold,
            Self::Snapshot => CommandName::Snapshot,
        }
    }
}

/// A command that was found good, and the camera it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub camera: String,
    pub command: Command,
}

/// What is published to `…/set/<name>/result`, `docs/result.schema.json`.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    pub schema: u32,
    pub device: &'a str,
    pub camera: &'a str,
    pub command: &'a str,
    pub ok: bool,
    /// What was done, or why it was not.
    pub detail: &'a str,
    /// RFC 3339, UTC.
    pub ts: String,
}

/// Which commands are taken.
#[derive(Debug)]
pub(super) struct Rules {
    /// `<prefix>/<device>`.
    base_topic: String,
    allowed: Vec<CommandName>,
    cameras: Vec<String>,
}

/// A message for which there is an answer at once: it was no good.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) camera: String,
    pub(super) command: String,
    pub(super) why: String,
}

impl Rules {
    /// `None` where nothing is allowed.
    pub(super) fn new(settings: &Settings, base_topic: &str) -> Option<Self> {
        let allowed = settings.mqtt.commands.clone();
        let cameras = settings.cameras.iter().map(|c| c.name.clone()).collect();
        (!allowed.is_empty()).then(|| Self {
            base_topic: base_topic.to_owned(),
            allowed,
            cameras,
        })
    }

    /// What is to be subscribed to.
    pub(super) fn filter(&self) -> String {
        format!("{}/+/set/+", self.base_topic)
    }

    /// Camera and command of a topic, if it is one of ours.
    fn parts<'t>(&self, topic: &'t str) -> Option<(&'t str, &'t str)> {
        let rest = topic.strip_prefix(&self.base_topic)?.strip_prefix('/')?;
        let (camera, command) = rest.split_once("/set/")?;
        (is_topic_name(camera) && is_topic_name(command)).then_some((camera, command))
    }

    /// What a message asks for. `None` where nobody could be answered: the topic is none of ours.
    pub(super) fn read(
        &self,
        topic: &str,
        payload: &[u8],
        retained: bool,
    ) -> Option<Result<Request, Refusal>> {
        let (camera, command) = self.parts(topic)?;
        let found = self.check(camera, command, payload, retained);
        Some(match found {
            Ok(command) => Ok(Request {
                camera: camera.to_owned(),
                command,
            }),
            Err(why) => Err(Refusal {
                camera: camera.to_owned(),
                command: command.to_owned(),
                why,
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
        let name = name.ok_or_else(|| {
            format!(
                "there is no such command; there are {}",
                names(&CommandName::ALL)
            )
        })?;
        if !self.allowed.contains(&name) {
            let allowed = names(&self.allowed);
            return Err(format!(
                "not allowed here: `mqtt.commands` of this device has {allowed}"
            ));
        }
        if !self.cameras.iter().any(|c| c == camera) {
            return Err(format!(
                "there is no such camera; there are {}",
                self.cameras.join(", ")
            ));
        }
        if retained {
            return Err("the message is retained, and would come again with every connection; send it without, and delete the retained one".into());
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(format!(
                "{} bytes are too many, expected {MAX_PAYLOAD_BYTES} at most",
                payload.len()
            ));
        }
        match name {
            CommandName::Enabled => enabled(payload),
            CommandName::Labels => labels(payload),
            CommandName::Threshold => threshold(payload),
            CommandName::Snapshot if payload.is_empty() => Ok(Command::Snapshot),
            CommandName::Snapshot => Err("expected an empty payload".into()),
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

fn enabled(payload: &[u8]) -> Result<Command, String> {
    match payload {
        b"true" => Ok(Command::Enabled(true)),
        b"false" => Ok(Command::Enabled(false)),
        _ => Err("expected true or false".into()),
    }
}

fn threshold(payload: &[u8]) -> Result<Command, String> {
    let number: Option<f32> = serde_json::from_slice(payload).ok();
    let number = number.filter(|n| (0.0..=1.0).contains(n));
    number
        .map(Command::Threshold)
        .ok_or_else(|| "expected a number from 0 to 1".into())
}

fn labels(payload: &[u8]) -> Result<Command, String> {
    let labels: Vec<String> = serde_json::from_slice(payload).map_err(|_| {
        "expected a JSON list of labels, as [\"an intact part\", \"a scratched part\"]".to_owned()
    })?;
    if !(1..=MAX_LABELS).contains(&labels.len()) {
        return Err(format!(
            "{} labels, expected 1 to {MAX_LABELS}",
            labels.len()
        ));
    }
    let odd = |label: &&String| {
        label.trim().is_empty()
            || label.chars().count() > MAX_LABEL_CHARS
            || label.chars().any(char::is_control)
    };
    if let Some(label) = labels.iter().find(odd) {
        let start: String = label.chars().take(40).collect();
        return Err(format!(
            "label {start:?}: expected 1 to {MAX_LABEL_CHARS} characters, none of them a control"
        ));
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

    fn rules() -> Rules {
        Rules {
            base_topic: "constancy/bench".into(),
            allowed: vec![
                CommandName::Enabled,
                CommandName::Labels,
                CommandName::Threshold,
                CommandName::Snapshot,
            ],
            cameras: vec!["belt".into()],
        }
    }

    fn read(command: &str, payload: &str) -> Result<Command, String> {
        let topic = format!("constancy/bench/belt/set/{command}");
        let read = rules()
            .read(&topic, payload.as_bytes(), false)
            .expect("it is ours");
        read.map(|r| r.command).map_err(|r| r.why)
    }

    #[test]
    fn good_commands_are_understood() {
        assert_eq!(read("enabled", "false"), Ok(Command::Enabled(false)));
        assert_eq!(read("threshold", "0.25"), Ok(Command::Threshold(0.25)));
        assert_eq!(read("threshold", "1"), Ok(Command::Threshold(1.0)));
        assert_eq!(
            read("labels", "[\"a\", \"b c\"]"),
            Ok(Command::Labels(vec!["a".into(), "b c".into()]))
        );
        assert_eq!(read("snapshot", ""), Ok(Command::Snapshot));
    }

    #[test]
    fn whatever_else_is_refused_with_what_is_expected() {
        let long = format!("[\"{}\"]", "x".repeat(201));
        let many = format!(
            "[{}\"z\"]",
            (0..100).map(|i| format!("\"{i}\",")).collect::<String>()
        );
        let huge = " ".repeat(MAX_PAYLOAD_BYTES + 1);
        let cases = [
            ("enabled", "yes", "expected true or false"),
            ("enabled", "", "expected true or false"),
            ("threshold", "1.5", "from 0 to 1"),
            ("threshold", "NaN", "from 0 to 1"),
            ("threshold", "\"0.5\"", "from 0 to 1"),
            ("labels", "a, b", "expected a JSON list"),
            ("labels", "[]", "0 labels, expected 1 to 100"),
            ("labels", &many, "101 labels"),
            ("labels", &long, "1 to 200 characters"),
            ("labels", "[\"a\\u0000\"]", "control"),
            ("labels", "[\"a\", \" \"]", "expected 1 to 200 characters"),
            ("labels", "[\"a\", \"a\"]", "given twice"),
            ("snapshot", "/etc/passwd", "expected an empty payload"),
            ("threshold", &huge, "too many, expected 16384 at most"),
            (
                "reboot",
                "",
                "there are enabled, labels, threshold, snapshot",
            ),
        ];
        for (command, payload, expected) in cases {
            let why = read(command, payload).expect_err(command);
            assert!(why.contains(expected), "{command}: {why}");
        }
    }

    #[test]
    fn what_is_retained_not_allowed_or_for_no_camera_is_refused() {
        let why = |rules: &Rules, topic: &str, retained: bool| {
            rules
                .read(topic, b"true", retained)
                .expect("it is ours")
                .expect_err("it is refused")
                .why
        };
        assert!(
            why(&rules(), "constancy/bench/belt/set/enabled", true)
                .contains("delete the retained one")
        );
        assert!(
            why(&rules(), "constancy/bench/gate/set/enabled", false).contains("there are belt")
        );
        let fewer = Rules {
            allowed: vec![CommandName::Snapshot],
            ..rules()
        };
        assert!(
            why(&fewer, "constancy/bench/belt/set/enabled", false)
                .contains("`mqtt.commands` of this device has snapshot")
        );
        for topic in [
            "constancy/bench/belt/event",
            "constancy/other/belt/set/enabled",
            "constancy/bench/be.lt/set/enabled",
        ] {
            assert_eq!(rules().read(topic, b"true", false), None, "{topic}");
        }
        assert_eq!(
            rules().read("constancy/bench/belt/set/enabled/result", b"true", false),
            None
        );
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(topic in "(constancy/bench/)?[a-z/+#]{0,12}(/set/)?[a-z]{0,9}", payload: Vec<u8>, retained: bool) {
            if let Some(Ok(request)) = rules().read(&topic, &payload, retained) {
                prop_assert!(!retained && request.camera == "belt");
            }
        }
    }
}
