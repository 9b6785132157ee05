//! Turns commanded labels into a class bank, on its own thread, which waits for a child process: the
//! text tower is slow, and frames must not wait for it.

use crate::recognizer::{RecognizerError, vetting};
use constancy_core::classify::ClassBank;
use constancy_engine::{EngineOptions, Manifest};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

/// Labels that are being embedded for a camera.
pub(super) struct Relabelling {
    /// The camera's index.
    pub(super) camera: usize,
    bank: Receiver<Result<ClassBank, RecognizerError>>,
}

impl Relabelling {
    /// Starts the thread. Fails at once if the model has no text tower.
    pub(super) fn start(
        camera: usize,
        labels: Vec<String>,
        prompts: Vec<String>,
        manifest: Manifest,
        engine: EngineOptions,
    ) -> Result<Self, String> {
        manifest.text().map_err(|e| e.to_string())?;
        let (sender, bank) = sync_channel(1);
        let make = move || {
            let made = vetting::bank_from_labels(&manifest, &engine, &labels, &prompts);
            // After a reload nobody receives the bank, and nobody needs it.
            let _ = sender.send(made);
        };
        let thread = thread::Builder::new().name("labels".into()).spawn(make);
        thread.map_err(|e| format!("the system refuses a thread: {e}"))?;
        Ok(Self { camera, bank })
    }

    /// The camera and its new bank, or why there is none; `None` while the thread works.
    pub(super) fn result(&self) -> Option<(usize, Result<ClassBank, String>)> {
        let made = match self.bank.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the text tower failed unexpectedly".to_owned()),
            Ok(made) => made.map_err(|e| e.to_string()),
        };
        Some((self.camera, made))
    }
}
