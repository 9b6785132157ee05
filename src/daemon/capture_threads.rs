//! One thread per camera: it opens the source, puts frames into the camera's slot, and reopens the source after a
//! failure.

use super::slot::FrameSlots;
use crate::capture::{self, CaptureError, Next, Source};
use crate::config::CameraSettings;
use crate::threads::wait_for_end;
use constancy_core::frame::Frame;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
/// The picture may stay bit-identical for this many times `stall_s` before the stream counts as frozen.
const FROZEN_STALLS: f64 = 6.0;

/// The capture threads of all cameras.
pub(super) struct CaptureThreads {
    pub(super) slots: Arc<FrameSlots>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl CaptureThreads {
    /// Starts one thread per camera; a camera's index in `settings` is its slot's index.
    pub(super) fn start(settings: &[CameraSettings]) -> std::io::Result<Self> {
        let slots = Arc::new(FrameSlots::new(settings.len()));
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(index, settings): (usize, &CameraSettings)| {
            let thread = CaptureThread {
                index,
                settings: settings.clone(),
                slots: Arc::clone(&slots),
                stop: Arc::clone(&stop),
                stalls: StallDetector::new(settings.stall_s),
                logged_fault: String::new(),
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

struct CaptureThread {
    index: usize,
    settings: CameraSettings,
    slots: Arc<FrameSlots>,
    stop: Arc<AtomicBool>,
    stalls: StallDetector,
    /// The fault logged since the last frame; empty if there is none.
    logged_fault: String,
}

impl CaptureThread {
    /// Runs the source until it ends, and reopens it after each failure. The retry policy lives only here.
    fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        while !self.stopping() {
            let start = Instant::now();
            // A dependency may panic on a driver's unexpected answer; that is a fault of this camera alone.
            let result = catch_unwind(AssertUnwindSafe(|| self.run_once()));
            let message = match result {
                Ok(Ok(())) => break,
                Ok(Err(e)) => e.to_string(),
                Err(_) => "the source failed unexpectedly".to_owned(),
            };
            if self.stopping() {
                break;
            }
            if start.elapsed() > RAN_WELL {
                backoff = BACKOFF_MIN;
            }
            self.log_fault(&message, backoff);
            self.slots.set_fault(self.index, message);
            self.pause(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.slots.set_ended(self.index);
    }

    /// Logs a new fault as a warning. A repeated one is logged at debug level: a camera that is away for days must not
    /// fill the journal.
    fn log_fault(&mut self, message: &str, backoff: Duration) {
        let level = if message == self.logged_fault {
            log::Level::Debug
        } else {
            log::Level::Warn
        };
        log::log!(
            level,
            "camera {}: {message}; trying again in {:.1} s",
            self.settings.name,
            backoff.as_secs_f64()
        );
        message.clone_into(&mut self.logged_fault);
    }

    /// After a fault this is logged at debug level only: the first frame shows that the source works again.
    fn log_opened(&self, source: &dyn Source) {
        let level = if self.logged_fault.is_empty() {
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
        let mut source = capture::open(&self.settings)?;
        self.log_opened(source.as_ref());
        self.stalls.reset();
        while !self.stopping() {
            match source.next(TICK)? {
                Next::Frame(frame) => {
                    if !std::mem::take(&mut self.logged_fault).is_empty() {
                        log::info!("camera {}: {}", self.settings.name, source.describe());
                    }
                    let lost = source.lost();
                    if lost > 0 {
                        self.slots.add_dropped(self.index, lost);
                    }
                    self.hand_over(frame, source.as_ref())?;
                }
                Next::Damaged => {
                    self.slots.add_damaged(self.index);
                    // One damaged frame is skipped; a stream of nothing else counts as silence.
                    if source.is_live() {
                        self.stalls.check_silence()?;
                    }
                }
                Next::End => return Ok(()),
                Next::Nothing => {
                    self.slots.heartbeat(self.index);
                    if source.is_live() {
                        self.stalls.check_silence()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, frame: Frame, source: &dyn Source) -> Result<(), CaptureError> {
        if source.is_live() {
            self.stalls.check_frame(&frame)?;
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

/// Detects that a live stream is silent or frozen.
struct StallDetector {
    stall: Duration,
    last_frame: Instant,
    last_hash: u64,
    /// When the present picture was first seen.
    same_since: Instant,
    /// A picture that came again after the source was reopened: the scene itself does not change, as in full darkness.
    accepted: Option<u64>,
    /// The picture that was last reported as frozen.
    suspected: Option<u64>,
}

impl StallDetector {
    fn new(stall_s: f64) -> Self {
        let now = Instant::now();
        Self {
            stall: Duration::from_secs_f64(stall_s),
            last_frame: now,
            last_hash: 0,
            same_since: now,
            accepted: None,
            suspected: None,
        }
    }

    /// Restarts the time limits when the source was opened.
    fn reset(&mut self) {
        self.last_frame = Instant::now();
        self.same_since = Instant::now();
    }

    /// Fails when the last frame is older than `stall_s`.
    fn check_silence(&self) -> Result<(), CaptureError> {
        if self.last_frame.elapsed() > self.stall {
            return Err(CaptureError::Stalled {
                seconds: self.stall.as_secs_f64(),
            });
        }
        Ok(())
    }

    /// Records a frame; fails when the picture has stayed the same for too long.
    fn check_frame(&mut self, frame: &Frame) -> Result<(), CaptureError> {
        let hash = content_hash(&frame.data);
        self.last_frame = Instant::now();
        if self.suspected.take() == Some(hash) {
            log::info!(
                "the picture is the same after reopening the source: nothing moves, or it is dark"
            );
            self.accepted = Some(hash);
        }
        if hash != self.last_hash {
            (self.last_hash, self.same_since) = (hash, Instant::now());
            return Ok(());
        }
        let same = self.same_since.elapsed();
        if self.accepted != Some(hash) && same > self.stall.mul_f64(FROZEN_STALLS) {
            self.suspected = Some(hash);
            return Err(CaptureError::Frozen {
                seconds: same.as_secs_f64(),
            });
        }
        Ok(())
    }
}

/// A hash of a sample of the frame's bytes: sensor noise changes all of them, so 64 bytes of every 1024 are enough.
fn content_hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.len().hash(&mut hasher);
    for block in data.chunks(1024) {
        block[..block.len().min(64)].hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use constancy_core::frame::{PixelFormat, Timestamp};

    fn frame(byte: u8) -> Frame {
        let captured_at = Timestamp {
            monotonic_ns: 0,
            unix_ns: 0,
            clock_synced: false,
        };
        Frame::compressed(PixelFormat::Jpeg, vec![byte; 5000], captured_at)
    }

    #[test]
    fn a_frozen_picture_is_a_fault_once_and_then_accepted() {
        let mut stalls = StallDetector::new(0.0);
        stalls.reset();
        assert!(
            stalls.check_frame(&frame(1)).is_ok(),
            "a new picture is fresh"
        );
        assert!(matches!(
            stalls.check_frame(&frame(1)),
            Err(CaptureError::Frozen { .. })
        ));
        stalls.reset();
        assert!(
            stalls.check_frame(&frame(1)).is_ok(),
            "the same after reopening is the scene"
        );
        assert!(stalls.check_frame(&frame(1)).is_ok());
        assert!(stalls.check_frame(&frame(2)).is_ok());
        assert!(
            matches!(
                stalls.check_frame(&frame(2)),
                Err(CaptureError::Frozen { .. })
            ),
            "another picture may freeze again"
        );
    }

    #[test]
    fn silence_is_a_fault() {
        let stalls = StallDetector::new(0.0);
        assert!(matches!(
            stalls.check_silence(),
            Err(CaptureError::Stalled { .. })
        ));
        assert!(StallDetector::new(60.0).check_silence().is_ok());
    }
}
