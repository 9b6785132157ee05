//! `[[camera]]`: where its frames come from, which part of them is recognised, and what is published.

use super::publish::PublishSettings;
use super::synthetic::SyntheticSettings;
use constancy_core::preprocess::View;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[[camera]]`: one source of frames.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawCamera")]
pub struct CameraSettings {
    /// The camera's name in topics and events, `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    pub source: SourceSettings,
    /// Seconds without a new frame after which the source counts as frozen and is reopened.
    pub stall_s: f64,
    /// Seconds for which the answer may be reused while the picture stays the same; 0: every frame is embedded.
    pub reuse_s: f64,
    pub publish: PublishSettings,
    /// The part of the picture that the model sees.
    pub view: View,
}

/// Where a camera's frames come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceSettings {
    V4l(V4lSettings),
    Pipe(PipeSettings),
    Replay(ReplaySettings),
    Synthetic(SyntheticSettings),
}

/// `[[camera]]` as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCamera {
    name: String,
    v4l: Option<V4lSettings>,
    pipe: Option<PipeSettings>,
    replay: Option<ReplaySettings>,
    synthetic: Option<SyntheticSettings>,
    #[serde(default = "default_stall_s")]
    stall_s: f64,
    #[serde(default)]
    reuse_s: f64,
    #[serde(default)]
    publish: PublishSettings,
    #[serde(default)]
    view: View,
}

impl TryFrom<RawCamera> for CameraSettings {
    type Error = String;

    fn try_from(raw: RawCamera) -> Result<Self, String> {
        let given = [
            raw.v4l.map(SourceSettings::V4l),
            raw.pipe.map(SourceSettings::Pipe),
            raw.replay.map(SourceSettings::Replay),
            raw.synthetic.map(SourceSettings::Synthetic),
        ];
        let mut given = given.into_iter().flatten();
        let (Some(source), None) = (given.next(), given.next()) else {
            let name = raw.name;
            return Err(format!(
                "camera `{name}` needs exactly one of `v4l`, `pipe`, `replay` and `synthetic`"
            ));
        };
        Ok(Self {
            name: raw.name,
            source,
            stall_s: raw.stall_s,
            reuse_s: raw.reuse_s,
            publish: raw.publish,
            view: raw.view,
        })
    }
}

/// `camera.v4l`: a Video4Linux2 capture device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V4lSettings {
    /// `/dev/v4l/by-id/…` or `by-path/…`, which stay the same when cameras are replugged;
    /// `/dev/videoN` also works.
    pub device: PathBuf,
    /// Pixels; the driver takes the nearest size it has.
    #[serde(default = "default_width")]
    pub width: u32,
    #[serde(default = "default_height")]
    pub height: u32,
    /// Frames per second; the driver takes the nearest rate it has. Defaults to the driver's own.
    pub fps: Option<u32>,
    /// `auto` takes the first of MJPEG, YUYV, NV12, UYVY and GREY that the device has.
    #[serde(default)]
    pub format: V4lFormat,
    /// Absolute exposure in units of 100 µs, with automatic exposure off. Defaults to automatic.
    pub exposure: Option<u32>,
    /// Colour temperature in kelvin, with automatic white balance off. Defaults to automatic.
    pub white_balance: Option<u32>,
    /// Other controls, by the names that `constancy camera controls` lists. Each is set and read back.
    #[serde(default)]
    pub controls: BTreeMap<String, i64>,
}

/// `camera.v4l.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum V4lFormat {
    #[default]
    Auto,
    Mjpeg,
    Yuyv,
    Uyvy,
    Nv12,
    Grey,
}

/// `camera.pipe`: a child process whose stdout carries frames.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipeSettings {
    /// Program and arguments; no shell is involved.
    pub command: Vec<String>,
    /// The format of its stdout.
    #[serde(default)]
    pub format: PipeFormat,
}

/// `camera.pipe.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PipeFormat {
    /// Concatenated JPEG images.
    #[default]
    Mjpeg,
    /// A yuv4mpeg stream, whose header gives size and subsampling.
    Y4m,
}

/// `camera.replay`: images from disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// A folder, whose JPEG, PNG, WebP, BMP and TIFF files are shown in the order of their names, subfolders included,
    /// hidden ones not; or a text file with one image path per line, relative to that file.
    pub path: PathBuf,
    /// Images per second, as from a camera: images that come too fast for the model are dropped. Without a rate, every
    /// image is recognised, as fast as possible.
    pub rate: Option<f64>,
    /// Start over at the end.
    #[serde(rename = "loop", default)]
    pub looping: bool,
}

fn default_stall_s() -> f64 {
    5.0
}

fn default_width() -> u32 {
    1280
}

fn default_height() -> u32 {
    720
}
