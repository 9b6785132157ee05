//! The signals that end an intervention early.

use crate::cli::CliError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A signal to stop: Ctrl-C, or one from the system.
pub(super) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// From here on such a signal only sets a mark, so that what was moved is put back.
    pub(super) fn listen() -> Result<Self, CliError> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            let value = usize::try_from(number).unwrap_or(usize::MAX);
            signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
        }
        Ok(Self(signal))
    }

    /// An error once a signal has come.
    pub(super) fn check(&self) -> Result<(), CliError> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(CliError::Stopped { signal }),
        }
    }
}
