//! The command `calibrate`: what it asks for, and its payload.

use serde::Deserialize;
use std::ops::RangeInclusive;

/// How many frames a calibration may take.
pub const CALIBRATE_FRAMES: RangeInclusive<usize> = 10..=1000;
/// How many it takes unless told otherwise.
const DEFAULT_CALIBRATE_FRAMES: usize = 40;

/// The payload of `calibrate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalibrateCommand {
    /// Make a profile from so many frames, [`CALIBRATE_FRAMES`].
    Frames(usize),
    /// Forget the newest profile.
    Undo,
    List,
}

/// The fields of `calibrate`'s payload, of which one may be set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibratePayload {
    frames: Option<usize>,
    #[serde(default)]
    undo: bool,
    #[serde(default)]
    list: bool,
}

impl CalibrateCommand {
    /// The message that asks a daemon for it.
    #[must_use]
    pub fn payload(self) -> String {
        match self {
            Self::Frames(frames) => format!("{{\"frames\": {frames}}}"),
            Self::Undo => "{\"undo\": true}".into(),
            Self::List => "{\"list\": true}".into(),
        }
    }

    /// Reads the message; fails with what is expected.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        let (least, most) = (CALIBRATE_FRAMES.start(), CALIBRATE_FRAMES.end());
        let parsed: Option<CalibratePayload> = serde_json::from_slice(payload).ok();
        match parsed {
            Some(CalibratePayload {
                frames,
                undo: false,
                list: false,
            }) => {
                let frames = frames.unwrap_or(DEFAULT_CALIBRATE_FRAMES);
                let fits = CALIBRATE_FRAMES.contains(&frames);
                fits.then_some(Self::Frames(frames))
                    .ok_or_else(|| format!("{frames} frames, expected {least} to {most}"))
            }
            Some(CalibratePayload {
                frames: None,
                undo: true,
                list: false,
            }) => Ok(Self::Undo),
            Some(CalibratePayload {
                frames: None,
                undo: false,
                list: true,
            }) => Ok(Self::List),
            _ => Err(format!(
                "expected {{\"frames\": N}} with {least} to {most} frames, {{\"undo\": true}} or {{\"list\": true}}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        for (payload, command) in [
            ("{\"frames\": 12}", CalibrateCommand::Frames(12)),
            ("{\"undo\": true}", CalibrateCommand::Undo),
            ("{\"list\": true}", CalibrateCommand::List),
        ] {
            assert_eq!(CalibrateCommand::parse(payload.as_bytes()), Ok(command));
            assert_eq!(command.payload(), payload);
        }
        assert_eq!(
            CalibrateCommand::parse(b"{}"),
            Ok(CalibrateCommand::Frames(40))
        );
    }
}
