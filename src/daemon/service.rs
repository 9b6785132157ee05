//! The daemon's side of the service manager: signals, readiness, status line, watchdog.

use crate::recognizer::vetting;
use crate::text::one_line;
use constancy_engine::gpu_is_starting;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// The status line is renewed at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often the service manager is notified while a GPU is being prepared or a model is tried; more often if the watchdog needs it.
const PREPARING_EVERY: Duration = Duration::from_secs(10);
/// The time that each of these notifications asks for, in microseconds: the GPU's self-test may take another half
/// minute.
const PREPARING_EXTENSION_US: u32 = 90_000_000;

/// What is left of the two seconds for closing, of which the end of the process takes the rest.
const CLOSE_WITHIN: Duration = Duration::from_millis(1800);
/// The process ends this long after the signal, whatever it is doing: a slow tower, a driver or a terminal may hold it.
const LEAVE_AFTER: Duration = Duration::from_millis(1950);
/// The time for a last log line. stderr may be what blocks.
const LAST_LINE: Duration = Duration::from_millis(20);

/// Requests that came as signals.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    stop: Arc<AtomicBool>,
    stop_at: Arc<OnceLock<Instant>>,
    reload: Arc<AtomicBool>,
}

impl Requests {
    /// Starts the thread that waits for signals: SIGTERM and SIGINT stop the daemon, a second one at once; SIGHUP
    /// reloads.
    pub(super) fn listen() -> std::io::Result<Self> {
        let requests = Self::default();
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let shared = requests.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        shared.reload.store(true, Ordering::Relaxed);
                    } else if shared.stop.swap(true, Ordering::Relaxed) {
                        leave("asked to stop a second time: leaving at once", 128 + signal);
                    } else {
                        let _ = shared.stop_at.set(Instant::now());
                        vetting::stop();
                        leave_in_time();
                    }
                }
            })?;
        Ok(requests)
    }

    /// When everything must be closed; `None` unless the daemon was asked to stop.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stop_at.get().map(|&at| at + CLOSE_WITHIN)
    }

    pub(super) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a reload was requested since the last call.
    pub(super) fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}

/// Ends the process after [`LEAVE_AFTER`] if it has not ended by then.
fn leave_in_time() {
    let guard = || {
        thread::sleep(LEAVE_AFTER);
        let message = "asked to stop 2 s ago and still busy: leaving. What was not on disk is lost";
        leave(message, 0);
    };
    if let Err(e) = thread::Builder::new().name("leaving".into()).spawn(guard) {
        log::warn!("the system refuses a thread, so leaving may take longer than 2 s: {e}");
    }
}

fn leave(message: &'static str, code: i32) {
    let _ = thread::Builder::new().spawn(move || log::warn!("{message}"));
    thread::sleep(LAST_LINE);
    std::process::exit(code);
}

/// The connection to systemd; without systemd it does nothing.
pub(super) struct ServiceManager {
    /// The watchdog's interval.
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

    fn notify(states: &[NotifyState<'_>]) {
        if let Err(e) = sd_notify::notify(states) {
            log::debug!("service manager: {e}");
        }
    }

    /// How often the service manager is to be notified while a GPU is being prepared or a model is tried.
    pub(super) fn preparing_every(&self) -> Duration {
        self.watchdog.map_or(PREPARING_EVERY, |interval| {
            (interval / 4).min(PREPARING_EVERY)
        })
    }

    /// Runs `work`, which loads models. While a GPU is being prepared, which takes minutes at its first start, it
    /// extends the start timeout and feeds the watchdog, `every` so often; the GPU's start has a time limit of its own.
    pub(super) fn while_loading<T>(every: Duration, work: impl FnOnce() -> T) -> T {
        let (loading, ended) = mpsc::channel::<()>();
        let notify = move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let what = if gpu_is_starting() {
                    "preparing the GPU"
                } else if vetting::is_running() {
                    "trying the model"
                } else {
                    continue;
                };
                Self::notify(&[
                    preparing(),
                    NotifyState::Watchdog,
                    NotifyState::Status(what),
                ]);
            }
        };
        if let Err(e) = thread::Builder::new().name("loading".into()).spawn(notify) {
            log::warn!(
                "the system refuses a thread, so the service manager may not wait for a GPU to be prepared: {e}"
            );
        }
        let loaded = work();
        drop(loading);
        loaded
    }

    pub(super) fn ready(&mut self, status: &str) {
        Self::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
        // The watchdog's interval for the first frame begins now.
        self.last_fed = None;
        self.feed();
    }

    pub(super) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => Self::notify(&[NotifyState::Reloading, now]),
            Err(_) => Self::notify(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping() {
        Self::notify(&[NotifyState::Stopping]);
    }

    /// Renews the status line, in which labels and faults must not look like notifications of their own, if it is older than [`STATUS_EVERY`].
    pub(super) fn status(&mut self, status: impl FnOnce() -> String) {
        if self
            .last_status
            .is_none_or(|at| at.elapsed() >= STATUS_EVERY)
        {
            self.last_status = Some(Instant::now());
            Self::notify(&[NotifyState::Status(&one_line(&status()))]);
        }
    }

    /// The watchdog's interval, if there is a watchdog.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Feeds the watchdog, at most four times per interval.
    pub(super) fn feed(&mut self) {
        let Some(interval) = self.watchdog else {
            return;
        };
        if self.last_fed.is_none_or(|at| at.elapsed() >= interval / 4) {
            self.last_fed = Some(Instant::now());
            Self::notify(&[NotifyState::Watchdog]);
        }
    }
}

fn preparing() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(PREPARING_EXTENSION_US)
}
