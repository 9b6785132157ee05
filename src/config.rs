//! The configuration file: raw TOML, checked once into [`Settings`]; nothing below checks again.
//!
//! Unknown keys are refused, so that a misspelt one is not silently without effect. Paths are relative
//! to the file's own folder. `config/constancy.toml` shows every key with its default.

mod check;
mod publish;
mod queue;

pub use publish::{
    CommandName, HomeAssistantSettings, PayloadFormat, PublishSettings, SnapshotSettings, When,
};
pub use queue::QueueSettings;

use constancy_core::preprocess::View;
use constancy_engine::EngineOptions;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("configuration {path}: {source}; name another with --config")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("configuration {path}: {message}\n  config/constancy.toml shows every key")]
    Parse { path: PathBuf, message: String },
    #[error("configuration {path}: `{key}` {problem}")]
    Value {
        path: PathBuf,
        key: String,
        problem: String,
    },
    #[error(
        "configuration {path}: `{key}` names {file}, which cannot be read: {source}. Correct the path or put the file there"
    )]
    Missing {
        path: PathBuf,
        key: String,
        file: PathBuf,
        source: std::io::Error,
    },
}

/// A checked configuration. Every path is absolute or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This device's name in topics and events, `[A-Za-z0-9_-]{1,64}`; the host's name unless given.
    #[serde(default = "host_name")]
    pub device: String,
    pub model: ModelSettings,
    #[serde(default = "EngineOptions::of_daemon")]
    pub engine: EngineOptions,
    pub classes: ClassSettings,
    /// At least one; names are unique.
    #[serde(rename = "camera", default)]
    pub cameras: Vec<CameraSettings>,
    #[serde(default)]
    pub mqtt: MqttSettings,
    #[serde(default)]
    pub queue: QueueSettings,
    #[serde(default)]
    pub homeassistant: HomeAssistantSettings,
    #[serde(default)]
    pub snapshots: SnapshotSettings,
}

/// `[model]`: what looks at the frames.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// The model's manifest.
    pub manifest: PathBuf,
    /// The invariant projection; identity unless given.
    pub projection: Option<PathBuf>,
}

/// `[classes]`: what the answer is chosen from. Either `bank` or `labels`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSettings {
    /// A class bank file, as `constancy classes` writes it.
    pub bank: Option<PathBuf>,
    /// Class names, embedded by the model's text tower when the daemon starts.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Prompt templates for `labels`, averaged over.
    #[serde(default = "default_prompts")]
    pub prompts: Vec<String>,
    /// How many classes an event lists, 1 to 100.
    #[serde(default = "default_top_k")]
    pub top_k: usize,
    /// Least score for `known`, 0 to 1.
    #[serde(default = "default_threshold")]
    pub threshold: f32,
}

/// `[[camera]]`: one source of frames.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawCamera")]
pub struct CameraSettings {
    /// The camera's name in topics and events, `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    pub source: SourceSettings,
    /// Seconds without a new frame after which the source is taken for frozen and opened again.
    pub stall_s: f64,
    pub publish: PublishSettings,
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

/// `[[camera]]` as it is written.
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
            publish: raw.publish,
            view: raw.view,
        })
    }
}

/// `camera.v4l`: a Video4Linux2 capture device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V4lSettings {
    /// `/dev/v4l/by-id/…` or `by-path/…`, which do not move; `/dev/videoN` works too.
    pub device: PathBuf,
    /// Pixels; the driver takes the nearest it has.
    #[serde(default = "default_width")]
    pub width: u32,
    #[serde(default = "default_height")]
    pub height: u32,
    /// Frames per second; the driver takes the nearest it has. Its own default unless given.
    pub fps: Option<u32>,
    /// `auto` takes the first that the device has of MJPEG, YUYV, NV12, UYVY, GREY.
    #[serde(default)]
    pub format: V4lFormat,
    /// Absolute exposure in units of 100 µs with automatic exposure off; automatic unless given.
    pub exposure: Option<u32>,
    /// Colour temperature in kelvin with automatic white balance off; automatic unless given.
    pub white_balance: Option<u32>,
    /// Other controls by the names that `constancy camera controls` lists, set and read back.
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
    /// What its stdout carries.
    #[serde(default)]
    pub format: PipeFormat,
}

/// `camera.pipe.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PipeFormat {
    /// JPEG images one after the other.
    #[default]
    Mjpeg,
    /// A yuv4mpeg stream, which tells size and subsampling itself.
    Y4m,
}

/// `camera.replay`: images from disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// A folder, whose JPEG, PNG and WebP files are shown in the order of their names, subfolders
    /// included; or a text file with one image path a line, relative to itself.
    pub path: PathBuf,
    /// Images per second, as a camera would give them: those that come too fast are dropped. Without it every
    /// image is looked at, as fast as that goes.
    pub rate: Option<f64>,
    /// Begin again at the end.
    #[serde(rename = "loop", default)]
    pub looping: bool,
}

/// `camera.synthetic`: a rendered workshop, whose every frame's truth is known.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticSettings {
    /// Names of environments, shown one after the other and then again; all of them unless given.
    #[serde(default = "every_environment")]
    pub environments: Vec<String>,
    /// Frames of an environment before the next one.
    #[serde(default = "default_frames_each")]
    pub frames_each: u64,
    /// Which scenes are drawn, below 2²¹.
    #[serde(default)]
    pub seed: u64,
    /// Frames per second, as a camera gives them. Without it every frame is looked at, as fast as that goes.
    pub rate: Option<f64>,
    /// Frames until the source ends; it does not unless given.
    pub count: Option<u64>,
    /// Pixels.
    #[serde(default = "default_synthetic_width")]
    pub width: u32,
    #[serde(default = "default_synthetic_height")]
    pub height: u32,
}

/// `[mqtt]`: where events go. Without a broker they go to stdout, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSettings {
    /// `mqtt://host:port` or `mqtts://host:port`; ports 1883 and 8883 unless given.
    pub broker: Option<String>,
    /// First part of every topic.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Derived from the machine id unless given, so that two devices do not fight over one.
    pub client_id: Option<String>,
    pub username: Option<String>,
    /// A file that holds the password; a name without a slash is looked up among systemd's credentials.
    pub password_file: Option<PathBuf>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM chain and key by which this device shows who it is.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// Seconds between signs of life on a quiet connection, 5 to 3600.
    #[serde(default = "default_keep_alive_s")]
    pub keep_alive_s: u16,
    /// Longest wait between attempts to connect, seconds.
    #[serde(default = "default_backoff_max_s")]
    pub backoff_max_s: u64,
    /// What messages look like.
    #[serde(default)]
    pub payload: PayloadFormat,
    /// With Sparkplug, the group that this device's node belongs to.
    #[serde(default = "default_prefix")]
    pub sparkplug_group: String,
    /// What may be commanded by messages; nothing unless given.
    #[serde(default)]
    pub commands: Vec<CommandName>,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            broker: None,
            prefix: default_prefix(),
            client_id: None,
            username: None,
            password_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            keep_alive_s: default_keep_alive_s(),
            backoff_max_s: default_backoff_max_s(),
            payload: PayloadFormat::default(),
            sparkplug_group: default_prefix(),
            commands: Vec::new(),
        }
    }
}

fn default_prompts() -> Vec<String> {
    vec!["a photo of {}".into()]
}
fn default_top_k() -> usize {
    constancy_core::classify::DEFAULT_TOP_K
}
fn default_threshold() -> f32 {
    constancy_core::classify::DEFAULT_THRESHOLD
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
fn every_environment() -> Vec<String> {
    constancy_core::workshop::ENVIRONMENTS
        .iter()
        .map(|e| e.name.to_owned())
        .collect()
}
fn default_frames_each() -> u64 {
    20
}
fn default_synthetic_width() -> u32 {
    640
}
fn default_synthetic_height() -> u32 {
    480
}
fn default_prefix() -> String {
    "constancy".into()
}
fn default_keep_alive_s() -> u16 {
    30
}
fn default_backoff_max_s() -> u64 {
    60
}

/// The host's name with what topics do not allow replaced by `-`.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.trim().chars().map(allowed).take(64).collect();
    if name.is_empty() {
        "device".into()
    } else {
        name
    }
}

impl Settings {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text` as the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut settings: Self = toml::from_str(text).map_err(|e| ConfigError::Parse {
            path: path.into(),
            message: e.to_string().trim_end().to_owned(),
        })?;
        settings.resolve(path.parent().unwrap_or(Path::new("")));
        check::check(&settings, path)?;
        Ok(settings)
    }

    /// Makes paths relative to the configuration's folder.
    fn resolve(&mut self, folder: &Path) {
        let join = |p: &mut PathBuf| *p = folder.join(&p);
        join(&mut self.model.manifest);
        self.model.projection.iter_mut().for_each(join);
        self.classes.bank.iter_mut().for_each(join);
        for camera in &mut self.cameras {
            if let SourceSettings::Replay(replay) = &mut camera.source {
                join(&mut replay.path);
            }
        }
        let mqtt = &mut self.mqtt;
        if let Some(password) = &mut mqtt.password_file {
            *password = credential(password).unwrap_or_else(|| folder.join(&*password));
        }
        let files = [
            &mut mqtt.ca_file,
            &mut mqtt.client_cert_file,
            &mut mqtt.client_key_file,
        ];
        files.into_iter().flatten().for_each(join);
        self.snapshots.folder.iter_mut().for_each(join);
        self.queue.folder = self
            .queue
            .folder
            .take()
            .map_or_else(queue::state_directory, |f| Some(folder.join(f)));
    }
}

/// A bare name as systemd's `LoadCredential=` provides it.
fn credential(name: &Path) -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    (name.components().count() == 1).then(|| Path::new(&folder).join(name))
}

/// A broker's address as `mqtt.broker` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl BrokerAddress {
    /// Parses `mqtt://host[:port]` or `mqtts://host[:port]`; IPv6 addresses stand in brackets.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => {
                return Err(format!(
                    "is `{url}`, expected mqtt://host:port or mqtts://host:port"
                ));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(
                "must not carry a password; use `mqtt.username` and `mqtt.password_file`".into(),
            );
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let number = port.parse().ok().filter(|&p: &u16| p > 0);
                (
                    host,
                    number.ok_or_else(|| format!("has port `{port}`, expected 1 to 65535"))?,
                )
            }
            _ => (rest, if tls { 8883 } else { 1883 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err(format!("is `{url}`, which names no host"));
        }
        Ok(Self {
            host: host.into(),
            port,
            tls,
        })
    }
}

/// Whether `name` may stand in a topic: `[A-Za-z0-9_-]{1,64}`.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}
