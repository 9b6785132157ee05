//! Loads a configuration on a thread of its own, so that the daemon can always be stopped, and goes on working with the old
//! configuration while a new one loads. Models may take minutes, and a damaged one may take for ever.

use super::error::DaemonError;
use super::service::ServiceManager;
use crate::config::{CameraSettings, Settings, Warning};
use crate::publish::PreparedSink;
use crate::recognizer::Recognizer;
use constancy_engine::catch_panic;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// As much as the main thread has: models are nested, and recursion goes as deep.
const STACK_BYTES: usize = 8 << 20;

/// Everything that a configuration needs to come into force.
pub(super) struct Loaded {
    pub(super) settings: Settings,
    pub(super) recognizer: Recognizer,
    /// `None` where the sink does not change. It is not started yet: the old one still holds the queue's file.
    pub(super) sink: Option<PreparedSink>,
}

/// A configuration that is being loaded. Dropping it abandons the thread.
pub(super) struct Loading(Receiver<Result<Loaded, DaemonError>>);

impl Loading {
    /// Starts loading the configuration at `config`; `old` is the one in force.
    pub(super) fn start(
        config: &Path,
        old: Option<&Settings>,
        manager: &ServiceManager,
    ) -> std::io::Result<Self> {
        let (sender, loaded) = sync_channel(1);
        let (config, old, every) = (config.to_owned(), old.cloned(), manager.preparing_every());
        let load = move || {
            let result = catch_panic(|| load(&config, old.as_ref(), every))
                .unwrap_or_else(|message| Err(DaemonError::LoadPanic { message }));
            // Nobody waits for it if the daemon was asked to stop meanwhile.
            let _ = sender.send(result);
        };
        thread::Builder::new()
            .name("loading".into())
            .stack_size(STACK_BYTES)
            .spawn(load)?;
        Ok(Self(loaded))
    }

    /// The loaded configuration, or why it cannot be loaded; `None` if it takes longer than `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Option<Result<Loaded, DaemonError>> {
        match self.0.recv_timeout(limit) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(DaemonError::LoadPanic {
                message: "its thread has ended".into(),
            })),
        }
    }
}

/// Loads everything, and touches nothing that is in use.
fn load(config: &Path, old: Option<&Settings>, every: Duration) -> Result<Loaded, DaemonError> {
    let settings = read_settings(config)?;
    let recognizer = ServiceManager::while_loading(every, || Recognizer::load(&settings))?;
    let sink = old
        .is_none_or(|old| needs_new_sink(old, &settings))
        .then(|| PreparedSink::new(&settings))
        .transpose()?;
    Ok(Loaded {
        settings,
        recognizer,
        sink,
    })
}

/// Reads the configuration, and logs what it should not have.
fn read_settings(config: &Path) -> Result<Settings, DaemonError> {
    let settings = Settings::read(config)?;
    for Warning { key, text } in settings.warnings() {
        log::warn!("`{key}`: {text}");
    }
    Ok(settings)
}

/// Whether the sink's settings differ, including the cameras' names: the broker holds a state of each.
fn needs_new_sink(old: &Settings, new: &Settings) -> bool {
    let names = |s: &Settings| {
        let name = |camera: &CameraSettings| camera.name.clone();
        let published = s.mqtt.broker.is_some();
        published.then(|| s.cameras.iter().map(name).collect::<Vec<_>>())
    };
    old.mqtt != new.mqtt
        || old.queue != new.queue
        || old.device != new.device
        || old.homeassistant != new.homeassistant
        || names(old) != names(new)
}
