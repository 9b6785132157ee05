//! Publishes decisions: the event and its format, the queue, MQTT, and stdout.

mod command;
mod event;
#[cfg(fuzzing)]
pub mod fuzz;
mod homeassistant;
mod mqtt;
mod proposal;
mod queue;
mod sparkplug;
pub(crate) mod state_file;
mod stdout;
mod tls;
mod topics;

pub use command::{CALIBRATE_FRAMES, CalibrateCommand, Command, Request};
pub use event::{CameraReference, CameraState, Drift, Event, LatencyMs, Sight, rfc3339};
pub use mqtt::{
    BrokerError, DemoSubscriber, MAX_PICTURE_BYTES, MqttPublisher, Undelivered, probe, send_command,
};
pub use proposal::Proposal;
pub use stdout::StdoutPrinter;
pub use tls::TlsError;

use crate::config::{CommandName, QueueSettings, Settings};
use mqtt::Connector;
use queue::Record;
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
    Stdout(StdoutPrinter),
}

/// The events of a closed sink that were not delivered and that no disk keeps, oldest first.
#[derive(Default)]
pub struct Leftover(Vec<Record>);

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
            None => Sink::Stdout(StdoutPrinter::default()),
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
            Self::Stdout(printer) => printer
                .print(serde_json::to_vec(event)?)
                .map_err(PublishError::Stdout)?,
        }
        Ok(())
    }

    /// Waits up to `limit` until the sink can take events; returns whether it can. A queue always can: it drops its oldest
    /// events. Fails if it can never again.
    pub fn wait_for_room(&self, limit: Duration) -> Result<bool, PublishError> {
        match self {
            Self::Mqtt(_) => Ok(true),
            Self::Stdout(printer) => {
                let has_room = printer.wait_for_room(limit);
                printer.check().map_err(PublishError::Stdout)?;
                Ok(has_room)
            }
        }
    }

    /// Waits up to `limit` until the reader of stdout has every event; returns whether it has. A broker's events are sent
    /// when the sink is closed.
    pub fn wait_printed(&self, limit: Duration) -> Result<bool, PublishError> {
        match self {
            Self::Mqtt(_) => Ok(true),
            Self::Stdout(printer) => {
                let printed = printer.wait_written(limit);
                printer.check().map_err(PublishError::Stdout)?;
                Ok(printed)
            }
        }
    }

    /// Takes over the undelivered events of an earlier sink, before any of its own.
    pub fn adopt(&self, leftover: Leftover) -> Result<(), PublishError> {
        match self {
            Self::Mqtt(mqtt) => mqtt.adopt(leftover.0),
            Self::Stdout(printer) => {
                for record in leftover.0 {
                    printer
                        .print(record.payload)
                        .map_err(PublishError::Stdout)?;
                }
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
            Self::Stdout(_) => Vec::new(),
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
            Self::Stdout(_) => MAX_PICTURE_BYTES,
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
            Self::Stdout(printer) => Undelivered {
                messages: printer.close(limit),
                on_disk: false,
            },
        }
    }

    /// Closes the sink so that another takes its place: what it cannot deliver within `limit`, and what no disk keeps, is
    /// returned for the other to [`adopt`](Self::adopt).
    pub fn replace(self, limit: Duration) -> Leftover {
        match self {
            Self::Mqtt(mqtt) => Leftover(mqtt.replace(limit)),
            Self::Stdout(printer) => {
                let lost = printer.close(limit);
                if lost > 0 {
                    log::warn!(
                        "{lost} events could not be written to stdout and are lost: nobody reads it"
                    );
                }
                Leftover::default()
            }
        }
    }

    /// For the status line.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Mqtt(mqtt) => mqtt.describe(),
            Self::Stdout(printer) if printer.wait_for_room(Duration::ZERO) => {
                "events to stdout".into()
            }
            Self::Stdout(_) => "events wait: nobody reads stdout".into(),
        }
    }
}
