//! The daemon as systemd and the operator see it: signals, readiness, status line, watchdog.

use constancy_engine::gpu_is_starting;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Iterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the status line is renewed at most.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often the service manager hears that a GPU is being prepared, where no watchdog wants it oftener.
const PREPARING_EVERY: Duration = Duration::from_secs(10);
/// What is asked for each time: the GPU's own test may take half a minute after it.
const PREPARING_MORE: Duration = Duration::from_secs(90);

/// What signals have asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Requests {
    /// Starts the thread that waits for signals: SIGTERM and SIGINT stop, the second one at once; SIGHUP reloads.
    pub(super) fn listen() -> std::io::Result<Self> {
        let requests = Self::default();
        let mut signals = Iterator::new([SIGTERM, SIGINT, SIGHUP])?;
        let shared = requests.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        shared.reload.store(true, Ordering::Relaxed);
                    } else if shared.stop.swap(true, Ordering::Relaxed) {
                        log::warn!("asked to stop a second time: leaving at once");
                        std::process::exit(128 + signal);
                    }
                }
            })?;
        Ok(requests)
    }

    pub(super) fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a reload was asked for; asks once.
    pub(super) fn reload_asked(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}

/// The line to systemd; does nothing where there is none.
pub(super) struct ServiceManager {
    /// How often the watchdog wants a sign.
    watchdog: Option<Duration>,
    last_fed: Option<Instant>,
    last_status: Option<Instant>,
}

impl ServiceManager {
    pub(super) fn new() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
            last_fed: None,
            last_status: None,
        }
    }

    fn tell(states: &[NotifyState<'_>]) {
        if let Err(e) = sd_notify::notify(states) {
            log::debug!("service manager: {e}");
        }
    }

    /// Loads by `work`. Where a GPU is prepared meanwhile, which takes minutes at its first start, neither the time for
    /// starting runs out nor the watchdog's; the GPU's start has a limit of its own.
    pub(super) fn while_loading<T>(&self, work: impl FnOnce() -> T) -> T {
        let every = self.watchdog.map_or(PREPARING_EVERY, |interval| {
            (interval / 4).min(PREPARING_EVERY)
        });
        let (loading, ended) = mpsc::channel::<()>();
        let tell = move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if gpu_is_starting() {
                    Self::tell(&[
                        preparing(),
                        NotifyState::Watchdog,
                        NotifyState::Status("preparing the GPU"),
                    ]);
                }
            }
        };
        if let Err(e) = thread::Builder::new().name("loading".into()).spawn(tell) {
            log::warn!(
                "the system refuses a thread, so the service manager may not wait for a GPU to be prepared: {e}"
            );
        }
        let loaded = work();
        drop(loading);
        loaded
    }

    pub(super) fn ready(&mut self, status: &str) {
        Self::tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        // The time that the first frame may take begins now.
        self.last_fed = None;
        self.feed();
    }

    pub(super) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => Self::tell(&[NotifyState::Reloading, now]),
            Err(_) => Self::tell(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping() {
        Self::tell(&[NotifyState::Stopping]);
    }

    /// Renews the status line if it is time.
    pub(super) fn status(&mut self, status: impl FnOnce() -> String) {
        if self
            .last_status
            .is_none_or(|at| at.elapsed() >= STATUS_EVERY)
        {
            self.last_status = Some(Instant::now());
            Self::tell(&[NotifyState::Status(&status())]);
        }
    }

    /// The interval that the watchdog was given, if there is one.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells the watchdog that a frame got through; four times per interval at most.
    pub(super) fn feed(&mut self) {
        let Some(interval) = self.watchdog else {
            return;
        };
        if self.last_fed.is_none_or(|at| at.elapsed() >= interval / 4) {
            self.last_fed = Some(Instant::now());
            Self::tell(&[NotifyState::Watchdog]);
        }
    }
}

fn preparing() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(PREPARING_MORE.as_micros()).unwrap_or(u32::MAX))
}
