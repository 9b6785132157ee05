//! `camera.synthetic`: a rendered workshop in place of a camera.

use constancy_core::workshop::{Controls, ENVIRONMENTS};
use serde::Deserialize;
use std::path::PathBuf;

/// `camera.synthetic`: a rendered workshop; what each frame shows is known.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticSettings {
    /// Names of environments, shown in turn, over and over. Defaults to all.
    #[serde(default = "every_environment")]
    pub environments: Vec<String>,
    /// Frames of one environment before the next.
    #[serde(default = "default_frames_each")]
    pub frames_each: u64,
    /// Frames for which each scene stands still, with noise of their own.
    #[serde(default = "default_hold")]
    pub hold: u64,
    /// Which scenes are drawn, below 2²¹.
    #[serde(default)]
    pub seed: u64,
    /// Frames per second, as from a camera. Without a rate, every frame is recognised, as fast as possible.
    pub rate: Option<f64>,
    /// Frames until the source ends. Defaults to no end.
    pub count: Option<u64>,
    /// Pixels.
    #[serde(default = "default_width")]
    pub width: u32,
    #[serde(default = "default_height")]
    pub height: u32,
    /// What the sensor's controls are set to.
    #[serde(default)]
    pub controls: Controls,
    /// Keeps the controls when the program ends, as a camera's driver does; `controls` are its first content.
    pub controls_file: Option<PathBuf>,
}

fn every_environment() -> Vec<String> {
    ENVIRONMENTS.iter().map(|e| e.name.to_owned()).collect()
}

fn default_frames_each() -> u64 {
    20
}

fn default_hold() -> u64 {
    1
}

fn default_width() -> u32 {
    640
}

fn default_height() -> u32 {
    480
}
