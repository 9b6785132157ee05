//! Where decisions go: the event and its schema, the queue before the network, MQTT, and stdout.

mod command;
mod event;
mod homeassistant;
mod mqtt;
mod queue;
mod sparkplug;
mod tls;

pub use command::{Command, Request};
pub use event::{CameraState, Event, LatencyMs, rfc3339};
pub use mqtt::{BrokerError, Left, Listener, MAX_PICTURE_BYTES, MqttPublisher, probe};
pub use tls::TlsError;

use crate::config::{CommandName, Settings};
use mqtt::Connector;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// Why nothing can be published.
#[derive(Debug, Error)]
pub enum PublishError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("stdout does not take the event: {0}")]
    Stdout(std::io::Error),
    #[error("the event cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is in a queue's folder, which must be writable; or why it cannot be used. Touches nothing.
pub fn inspect_queue(folder: &Path) -> Result<String, String> {
    queue::inspect(folder)
}

/// Takes events for good: a broker if one is configured, else stdout.
pub enum Sink {
    Mqtt(MqttPublisher),
    Stdout,
}

/// A sink whose settings are good, before it touches anything: the one before it may still be at work.
pub struct PreparedSink(Option<Connector>);

impl PreparedSink {
    /// Only settings that can never work are errors.
    pub fn new(settings: &Settings) -> Result<Self, PublishError> {
        let connector = settings
            .mqtt
            .broker
            .as_ref()
            .map(|_| Connector::new(settings))
            .transpose()?;
        Ok(Self(connector))
    }

    /// Opens the queue and starts connecting, in the background.
    pub fn start(self, settings: &Settings) -> Result<Sink, PublishError> {
        Ok(match self.0 {
            Some(connector) => Sink::Mqtt(MqttPublisher::start(connector, settings)?),
            None => Sink::Stdout,
        })
    }
}

impl Sink {
    /// Prepares and starts.
    pub fn open(settings: &Settings) -> Result<Self, PublishError> {
        PreparedSink::new(settings)?.start(settings)
    }

    /// Hands over one event.
    pub fn event(&self, event: &Event<'_>) -> Result<(), PublishError> {
        match self {
            Self::Mqtt(mqtt) => mqtt.event(
                mqtt.camera_topic(event.camera, "event"),
                serde_json::to_vec(event)?,
            ),
            Self::Stdout => {
                let mut line = serde_json::to_vec(event)?;
                line.push(b'\n');
                let mut stdout = std::io::stdout().lock();
                stdout
                    .write_all(&line)
                    .and_then(|()| stdout.flush())
                    .map_err(PublishError::Stdout)?;
            }
        }
        Ok(())
    }

    /// Hands over a camera's present state, which the broker keeps for whoever asks later.
    pub fn state(&self, state: &CameraState<'_>) -> Result<(), PublishError> {
        if let Self::Mqtt(mqtt) = self {
            mqtt.state(state)?;
        }
        Ok(())
    }

    /// Commands that came since this was last asked.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        match self {
            Self::Mqtt(mqtt) => mqtt.requests(),
            Self::Stdout => Vec::new(),
        }
    }

    /// Says what came of a command: what was done, or why it was not.
    pub fn answer(&self, camera: &str, command: CommandName, outcome: &Result<String, String>) {
        if let Self::Mqtt(mqtt) = self {
            mqtt.answer(camera, command, outcome);
        }
    }

    /// Publishes a JPEG of at most [`MAX_PICTURE_BYTES`].
    pub fn picture(&self, camera: &str, jpeg: Vec<u8>) {
        if let Self::Mqtt(mqtt) = self {
            mqtt.picture(camera, jpeg);
        }
    }

    /// Sends what is left and the farewell, within `limit`, and says what stays behind.
    #[must_use]
    pub fn close(self, limit: Duration) -> Left {
        match self {
            Self::Mqtt(mqtt) => mqtt.close(limit),
            Self::Stdout => Left::default(),
        }
    }

    /// For the status line.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Mqtt(mqtt) => mqtt.describe(),
            Self::Stdout => "events to stdout".into(),
        }
    }
}
