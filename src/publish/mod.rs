//! Publishes decisions: the event and its format, the queue, MQTT, and stdout.

mod command;
mod event;
#[cfg(fuzzing)]
pub mod fuzz;
mod homeassistant;
mod mqtt;
mod queue;
mod sparkplug;
mod state_file;
mod tls;
mod topics;

pub use command::{Command, Request};
pub use event::{CameraState, Event, LatencyMs, rfc3339};
pub use mqtt::{BrokerError, DemoSubscriber, MAX_PICTURE_BYTES, MqttPublisher, Undelivered, probe};
pub use tls::TlsError;

use crate::config::{CommandName, QueueSettings, Settings};
use mqtt::Connector;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// Why something cannot be published.
#[derive(Debug, Error)]
pub enum PublishError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("cannot write the event to stdout: {0}")]
    Stdout(std::io::Error),
    #[error("cannot convert the event to JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Describes what a queue's folder holds, or says why the queue cannot be kept there. Changes nothing.
pub fn inspect_queue(folder: &Path, settings: &QueueSettings) -> Result<String, String> {
    queue::inspect(folder, settings.max_bytes(), settings.max_age())
}

/// The destination of events: a broker if one is configured, otherwise stdout.
pub enum Sink {
    Mqtt(MqttPublisher),
    Stdout,
}

/// A sink with checked settings that has not started. It has opened nothing yet, so an earlier sink may still be in use.
pub struct PreparedSink(Option<Connector>);

impl PreparedSink {
    /// Reads the password and certificates. Only settings that can never work are errors.
    pub fn new(settings: &Settings) -> Result<Self, PublishError> {
        let connector = settings
            .mqtt
            .broker
            .as_ref()
            .map(|_| Connector::new(settings))
            .transpose()?;
        Ok(Self(connector))
    }

    /// Notes which sink this one replaces: retained topics of the old one that the new one does not publish are deleted
    /// from the broker.
    #[must_use]
    pub fn replacing(mut self, old: &Sink) -> Self {
        if let (Some(connector), Sink::Mqtt(old)) = (&mut self.0, old) {
            let (broker, topics) = old.retained();
            connector.replace(&broker, topics);
        }
        self
    }

    /// Opens the queue and connects, both in the background.
    pub fn start(self, settings: &Settings) -> Result<Sink, PublishError> {
        Ok(match self.0 {
            Some(connector) => Sink::Mqtt(MqttPublisher::start(connector, settings)?),
            None => Sink::Stdout,
        })
    }
}

impl Sink {
    /// Prepares a sink and starts it.
    pub fn open(settings: &Settings) -> Result<Self, PublishError> {
        PreparedSink::new(settings)?.start(settings)
    }

    /// Queues an event for the broker, or prints it as one JSON line.
    pub fn event(&self, event: &Event<'_>) -> Result<(), PublishError> {
        match self {
            Self::Mqtt(mqtt) => mqtt.event(event.camera, serde_json::to_vec(event)?),
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

    /// Publishes a camera's present state as a retained message; without a broker, does nothing.
    pub fn state(&self, state: &CameraState<'_>) -> Result<(), PublishError> {
        if let Self::Mqtt(mqtt) = self {
            mqtt.state(state)?;
        }
        Ok(())
    }

    /// Commands received since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        match self {
            Self::Mqtt(mqtt) => mqtt.requests(),
            Self::Stdout => Vec::new(),
        }
    }

    /// Publishes the result of a command: what was done, or why nothing was.
    pub fn command_result(
        &self,
        camera: &str,
        command: CommandName,
        outcome: &Result<String, String>,
    ) {
        if let Self::Mqtt(mqtt) = self {
            mqtt.command_result(camera, command, outcome);
        }
    }

    /// The largest picture that can be published now.
    #[must_use]
    pub fn max_picture_bytes(&self) -> usize {
        match self {
            Self::Mqtt(mqtt) => mqtt.max_picture_bytes(),
            Self::Stdout => MAX_PICTURE_BYTES,
        }
    }

    /// Publishes a JPEG of at most [`Self::max_picture_bytes`].
    pub fn picture(&self, camera: &str, jpeg: Vec<u8>) {
        if let Self::Mqtt(mqtt) = self {
            mqtt.picture(camera, jpeg);
        }
    }

    /// Sends what waits and the last message, within `limit`; returns what could not be delivered.
    #[must_use]
    pub fn close(self, limit: Duration) -> Undelivered {
        match self {
            Self::Mqtt(mqtt) => mqtt.close(limit),
            Self::Stdout => Undelivered::default(),
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
