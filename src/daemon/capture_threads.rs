//! One thread per camera: it opens the source, puts frames into the camera's slot, and reopens the source after a
//! failure.

use super::control_journal;
use super::freshness::Staleness;
use super::frozen::FrozenDetector;
use super::slot::FrameSlots;
use crate::capture::{self, CaptureError, Next, Source};
use crate::config::CameraSettings;
use crate::threads::wait_for_end;
use constancy_core::frame::Frame;
use constancy_engine::catch_panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a source may block before the thread checks whether it should stop.
const TICK: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// A camera that is plugged in again delivers frames within seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A source that ran at least this long resets the backoff.
const RAN_WELL: Duration = Duration::from_secs(2);

/// The capture threads of all cameras.
pub(super) struct CaptureThreads {
    pub(super) slots: Arc<FrameSlots>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl CaptureThreads {
    /// Starts one thread per camera; a camera's index in `settings` is its slot's index.
    /// `folder` outlives restarts.
    pub(super) fn start(
        settings: &[CameraSettings],
        folder: Option<&Path>,
    ) -> std::io::Result<Self> {
        let stall = |camera: &CameraSettings| Duration::from_secs_f64(camera.stall_s);
        let slots = Arc::new(FrameSlots::new(settings.iter().map(stall)));
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(index, settings): (usize, &CameraSettings)| {
            let thread = CaptureThread {
                index,
                settings: settings.clone(),
                folder: folder.map(Path::to_owned),
                slots: Arc::clone(&slots),
                stop: Arc::clone(&stop),
                stall: stall(settings),
                frozen: FrozenDetector::new(stall(settings)),
                outage: None,
                journal_told: None,
            };
            thread::Builder::new()
                .name(format!("camera {}", settings.name))
                .spawn(move || thread.run())
        };
        let threads = settings
            .iter()
            .enumerate()
            .map(start)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            slots,
            stop,
            threads,
        })
    }

    /// Stops the threads and waits up to `limit`: a thread may be blocked inside a driver.
    pub(super) fn stop(self, limit: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        wait_for_end(&self.threads, Instant::now() + limit);
    }
}

/// A fault since which no frame was decoded.
struct Outage {
    /// [`CaptureError::kind`].
    kind: String,
    message: String,
}

struct CaptureThread {
    index: usize,
    settings: CameraSettings,
    folder: Option<PathBuf>,
    slots: Arc<FrameSlots>,
    stop: Arc<AtomicBool>,
    /// How long no frame may be decoded.
    stall: Duration,
    frozen: FrozenDetector,
    outage: Option<Outage>,
    /// Why controls could not be put back, as last logged.
    journal_told: Option<String>,
}

impl CaptureThread {
    /// Runs the source until it ends, and reopens it after each failure. The retry policy lives only here.
    fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        while !self.stopping() {
            let start = Instant::now();
            // A dependency may panic on a driver's unexpected answer; that is a fault of this camera alone.
            let failed = |message| CaptureError::Internal(format!("the source failed: {message}"));
            let error = match catch_panic(|| self.run_once()) {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error,
                Err(message) => failed(message),
            };
            if self.stopping() {
                break;
            }
            if start.elapsed() > RAN_WELL {
                backoff = BACKOFF_MIN;
            }
            let message = self.note_fault(&error, backoff);
            self.slots.set_fault(self.index, message);
            self.pause(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.slots.set_ended(self.index);
    }

    /// Logs a new fault as a warning, and returns the outage's message. A repeated fault is logged at debug level and
    /// keeps its first message, whatever its figures say now: a camera that is away for days must not fill the journal,
    /// nor publish its state again and again.
    fn note_fault(&mut self, error: &CaptureError, backoff: Duration) -> String {
        let (kind, message) = (error.kind(), error.to_string());
        let known = self.outage.take().filter(|outage| outage.kind == kind);
        log::log!(
            if known.is_some() {
                log::Level::Debug
            } else {
                log::Level::Warn
            },
            "camera {}: {message}; trying again in {:.1} s",
            self.settings.name,
            backoff.as_secs_f64()
        );
        let outage = known.unwrap_or(Outage { kind, message });
        self.outage.insert(outage).message.clone()
    }

    /// After a fault this is logged at debug level only: the first decoded frame shows that the source works again.
    fn log_opened(&self, source: &dyn Source) {
        let level = if self.outage.is_none() {
            log::Level::Info
        } else {
            log::Level::Debug
        };
        log::log!(
            level,
            "camera {}: {}",
            self.settings.name,
            source.describe()
        );
    }

    /// Opens the source and reads it until it ends or fails.
    fn run_once(&mut self) -> Result<(), CaptureError> {
        if let Some(folder) = &self.folder {
            control_journal::recover_and_log(folder, &self.settings, &mut self.journal_told);
        }
        let mut source = capture::open(&self.settings)?;
        self.log_opened(source.as_ref());
        self.slots.opened(self.index);
        self.frozen.opened();
        while !self.stopping() {
            match source.next(TICK)? {
                Next::Frame(frame) => {
                    let lost = source.lost();
                    if lost > 0 {
                        self.slots.add_dropped(self.index, lost);
                    }
                    self.hand_over(frame, source.as_ref())?;
                }
                Next::Damaged => self.slots.add_damaged(self.index),
                Next::End => return Ok(()),
                Next::Nothing => self.slots.heartbeat(self.index),
            }
            self.check_fresh(source.as_ref())?;
        }
        Ok(())
    }

    fn hand_over(&mut self, frame: Frame, source: &dyn Source) -> Result<(), CaptureError> {
        if source.is_live() {
            self.frozen.check(&frame)?;
        }
        if source.waits_for_reader() {
            while !self.slots.wait_empty(self.index, TICK) {
                if self.stopping() {
                    return Ok(());
                }
            }
        }
        self.slots.put(self.index, frame);
        Ok(())
    }

    /// Fails when a live source has given no frame for too long that could be decoded. Ends an outage when one was.
    fn check_fresh(&mut self, source: &dyn Source) -> Result<(), CaptureError> {
        let Staleness {
            stale,
            reason,
            has_decoded,
        } = self.slots.staleness(self.index);
        if has_decoded && self.outage.take().is_some() {
            log::info!("camera {}: {}", self.settings.name, source.describe());
        }
        if stale <= self.stall || !source.is_live() {
            return Ok(());
        }
        let seconds = self.stall.as_secs_f64();
        Err(match reason {
            Some(reason) => CaptureError::Undecodable { seconds, reason },
            None => CaptureError::Stalled { seconds }.with_what_came(source.came_instead()),
        })
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        while !self.stopping() && Instant::now() < end {
            self.slots.heartbeat(self.index);
            thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
        }
    }
}
