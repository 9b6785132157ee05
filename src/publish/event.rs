//! The event and the camera's state, as published. `docs/event.schema.json` and `docs/state.schema.json` describe them.

use super::proposal::Proposal;
use constancy_core::camera_health::{CameraHealth, ImageStatistics};
use constancy_core::classify::{Light, Reason, Scored};
use constancy_core::frame::GroundTruth;
use serde::Serialize;
use std::borrow::Cow;

/// One decision about one frame, schema 1.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    pub schema: u32,
    pub device: &'a str,
    pub camera: &'a str,
    /// Random, different on every start of the daemon.
    pub boot_id: &'a str,
    /// Counts this camera's events from 0 within a `boot_id`, without gaps.
    pub seq: u64,
    /// `device/boot_id/camera/seq`; a receiver drops events whose `id` it has seen.
    pub id: String,
    /// When the frame was taken, RFC 3339, UTC.
    pub ts: String,
    /// When the frame was taken, nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    pub clock_synced: bool,
    /// The best class.
    pub class: &'a str,
    /// Its probability, `0..=1`.
    pub score: f32,
    /// How probable it is that the class is right, `0..=1`; `None` if the class bank is not calibrated.
    pub confidence: Option<f32>,
    /// Its score minus that of the second class, `0..=1`.
    pub margin: f32,
    /// The confidence reaches the threshold, and the image is not unlike everything in the bank. Without calibration the
    /// score must reach it, and the image must not be out of support.
    pub known: bool,
    /// Why the answer is not known.
    pub reason: Option<Reason>,
    /// `None` if the class bank cannot tell.
    pub in_support: Option<bool>,
    /// 0 at a typical example, 1 at the edge of support; `None` if the class bank cannot tell.
    pub shift: Option<f32>,
    #[serde(flatten)]
    pub sight: Sight,
    /// The condition profile that the answer was given with, or `auto`; `None` in the light of the calibration.
    pub condition: Option<&'a str>,
    /// The best classes, best first.
    pub top: &'a [Scored],
    /// The picture has stayed the same, and the answer is that of an earlier frame.
    pub reused: bool,
    /// How much earlier, milliseconds.
    pub age_ms: Option<f64>,
    pub latency_ms: LatencyMs,
    /// Short digest of the encoder.
    pub model: &'a str,
    /// Short digest of the projection, or `identity`.
    pub projection: &'a str,
    /// Frames of this camera, since the start, that a newer frame replaced before recognition or that the driver lost.
    pub dropped_frames: u64,
    /// Frames of this camera, since the start, that could not be decoded.
    pub damaged_frames: u64,
    /// The file of a replayed frame; what is not UTF-8 in its name became U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Cow<'a, str>>,
    /// What a rendered frame shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truth: Option<&'a GroundTruth>,
}

/// How well a camera sees, over its recent frames.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sight {
    /// The light beside that of the calibration; `None` if the class bank does not measure drift.
    pub light: Option<Light>,
    /// How far the light is from that of the calibration.
    pub drift: Option<Drift>,
    /// What is wrong with the camera; `None` while it does not work.
    pub camera_health: Option<CameraHealth>,
    /// Statistics of the picture itself.
    pub image: Option<ImageStatistics>,
}

/// The median distance of recent frames from the calibration, inside the directions that light moves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    /// 1 is usual for clean calibration images.
    pub level: f32,
    /// The share of clean calibration images that are nearer, `0..=1`.
    pub quantile: f32,
}

/// What a camera's faults are told by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CameraReference {
    /// When it was learnt, RFC 3339, UTC.
    pub ts: String,
    /// Whether something in the picture always stays in its place, so that a moved camera can be told.
    pub background: bool,
}

/// Milliseconds of each stage of a frame's path.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LatencyMs {
    /// From the moment the frame was taken until recognition started.
    pub capture: f64,
    pub preprocess: f64,
    pub embed: f64,
    pub classify: f64,
}

impl LatencyMs {
    /// Rounded to microseconds.
    #[must_use]
    pub fn rounded(self) -> Self {
        let round = |ms: f64| (ms * 1e3).round() / 1e3;
        Self {
            capture: round(self.capture),
            preprocess: round(self.preprocess),
            embed: round(self.embed),
            classify: round(self.classify),
        }
    }
}

/// What a camera sees at present: retained, published when it changes. Without a class, the camera is not working, and
/// `fault` says why.
#[derive(Debug, Serialize)]
pub struct CameraState<'a> {
    pub schema: u32,
    pub device: &'a str,
    pub camera: &'a str,
    pub class: Option<&'a str>,
    pub score: Option<f32>,
    /// How probable it was that the class is right, in the frame that began the state; `None` if the class bank is not
    /// calibrated.
    pub confidence: Option<f32>,
    pub known: bool,
    #[serde(flatten)]
    pub sight: Sight,
    /// The condition profile in use, or `auto`; `None` in the light of the calibration.
    pub condition: Option<&'a str>,
    /// What a calibration would change, while the light is another and no profile fits it.
    pub proposal: Option<&'a Proposal>,
    /// `None` until it is learnt.
    pub reference: Option<&'a CameraReference>,
    /// When the state began, RFC 3339, UTC.
    pub ts: String,
    pub fault: Option<&'a str>,
}

/// Nanoseconds since the Unix epoch as RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn rfc3339(unix_ns: i64) -> String {
    let millis = unix_ns.div_euclid(1_000_000);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| "1970-01-01T00:00:00.000Z".into(), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(1_795_516_504_123_456_789),
            "2026-11-24T10:35:04.123Z"
        );
    }
}
