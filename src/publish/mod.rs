//! Where decisions go: the event and its schema, the queue before the network, MQTT, and stdout.

mod event;
mod mqtt;
mod queue;
mod tls;

pub use event::{CameraState, Event, LatencyMs, rfc3339};
pub use mqtt::{BrokerError, Listener, MqttPublisher, probe};
pub use queue::{Entry, Message, Queue};
pub use tls::TlsError;

use crate::config::Settings;
use std::io::Write as _;
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

/// Takes events for good: a broker if one is configured, else stdout.
pub enum Sink {
    Mqtt(MqttPublisher),
    Stdout,
}

impl Sink {
    /// Starts connecting in the background; only settings that can never work are errors.
    pub fn open(settings: &Settings) -> Result<Self, PublishError> {
        Ok(match &settings.mqtt.broker {
            Some(_) => Self::Mqtt(MqttPublisher::start(settings)?),
            None => Self::Stdout,
        })
    }

    /// Hands over one event.
    pub fn event(&self, event: &Event<'_>) -> Result<(), PublishError> {
        match self {
            Self::Mqtt(mqtt) => mqtt.publish(Message {
                topic: mqtt.camera_topic(event.camera, "event"),
                payload: serde_json::to_vec(event)?,
                retain: false,
            }),
            Self::Stdout => {
                let mut line = serde_json::to_vec(event)?;
                line.push(b'\n');
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&line).and_then(|()| stdout.flush()).map_err(PublishError::Stdout)?;
            }
        }
        Ok(())
    }

    /// Hands over a camera's present state, which the broker keeps for whoever asks later.
    pub fn state(&self, state: &CameraState<'_>) -> Result<(), PublishError> {
        if let Self::Mqtt(mqtt) = self {
            mqtt.publish(Message {
                topic: mqtt.camera_topic(state.camera, "state"),
                payload: serde_json::to_vec(state)?,
                retain: true,
            });
        }
        Ok(())
    }

    /// Sends what is left and the farewell, within `limit`; how many messages stay behind.
    #[must_use]
    pub fn close(self, limit: Duration) -> usize {
        match self {
            Self::Mqtt(mqtt) => mqtt.close(limit),
            Self::Stdout => 0,
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
