//! The configuration file: raw TOML, checked once into [`Settings`]. Code that takes settings does not check them again.
//!
//! Unknown keys are refused, so that a misspelt key is not silently ignored. Paths are relative to the file's own
//! folder. `config/constancy.toml` shows every key with its default.

mod camera;
mod check;
mod classes;
mod error;
mod light;
mod load;
mod mqtt;
mod publish;
mod queue;
mod settings;
mod synthetic;
mod warnings;

pub use camera::{
    CameraSettings, PipeFormat, PipeSettings, ReplaySettings, SourceSettings, V4lFormat,
    V4lSettings,
};
pub use classes::{ClassCost, ClassSettings, Wanted};
pub use error::ConfigError;
pub use light::{Adapt, LightSettings};
pub use mqtt::{BrokerAddress, CommandName, MqttSettings, PayloadFormat, is_topic_name};
pub use publish::{PublishSettings, PublishWhen};
pub use queue::QueueSettings;
pub use settings::{HomeAssistantSettings, ModelSettings, Settings, SnapshotSettings};
pub use synthetic::SyntheticSettings;
pub use warnings::Warning;
