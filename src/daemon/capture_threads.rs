//! One thread per camera: it opens the source, hands over frames, and opens it again when it fails.

use super::slot::Exchange;
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

/// How long a source may wait before the thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// A camera that is plugged in again is there within seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A source that ran for this long is given a new start.
const RAN_WELL: Duration = Duration::from_secs(2);
/// A picture may stay the same, bit for bit, for this many times `stall_s` before the stream counts as frozen.
const FROZEN_STALLS: f64 = 6.0;

/// The threads of all cameras.
pub(super) struct Cameras {
    pub(super) exchange: Arc<Exchange>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Cameras {
    pub(super) fn start(settings: &[CameraSettings]) -> std::io::Result<Self> {
        let exchange = Arc::new(Exchange::new(settings.len()));
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(index, settings): (usize, &CameraSettings)| {
            let camera = Camera {
                index,
                settings: settings.clone(),
                exchange: Arc::clone(&exchange),
                stop: Arc::clone(&stop),
                freshness: Freshness::new(settings.stall_s),
                told: String::new(),
            };
            thread::Builder::new()
                .name(format!("camera {}", settings.name))
                .spawn(move || camera.run())
        };
        let threads = settings
            .iter()
            .enumerate()
            .map(start)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            exchange,
            stop,
            threads,
        })
    }

    /// Stops the threads, waiting `limit` at most: one may be inside the driver.
    pub(super) fn stop(self, limit: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        wait_for_end(&self.threads, Instant::now() + limit);
    }
}

struct Camera {
    index: usize,
    settings: CameraSettings,
    exchange: Arc<Exchange>,
    stop: Arc<AtomicBool>,
    freshness: Freshness,
    /// The fault that was logged last, since the last frame.
    told: String,
}

impl Camera {
    /// Runs the source again and again: the one home of the retry policy.
    fn run(mut self) {
        let name = self.settings.name.clone();
        let mut backoff = BACKOFF_MIN;
        while !self.stopping() {
            let start = Instant::now();
            // A driver's odd answer makes a dependency panic; that is this camera's fault, not the daemon's end.
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
            // A camera that is away for days must not fill the journal.
            let level = if message == self.told {
                log::Level::Debug
            } else {
                log::Level::Warn
            };
            log::log!(
                level,
                "camera {name}: {message}; trying again in {:.1} s",
                backoff.as_secs_f64()
            );
            self.told.clone_from(&message);
            self.exchange.fault(self.index, message);
            self.pause(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.exchange.end(self.index);
    }

    /// The source from opening to its end or failure.
    fn run_once(&mut self) -> Result<(), CaptureError> {
        let mut source = capture::open(&self.settings)?;
        // After a fault it is told when it is there again, not with every attempt.
        let level = if self.told.is_empty() {
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
        self.freshness.opened();
        while !self.stopping() {
            match source.next(TICK)? {
                Next::Frame(frame) => {
                    if !std::mem::take(&mut self.told).is_empty() {
                        log::info!("camera {}: {}", self.settings.name, source.describe());
                    }
                    let lost = source.lost();
                    if lost > 0 {
                        self.exchange.lost(self.index, lost);
                    }
                    self.hand_over(frame, source.as_ref())?;
                }
                Next::Damaged => {
                    self.exchange.damaged(self.index);
                    // One is skipped; nothing else for long is silence, too.
                    if source.is_live() {
                        self.freshness.silence()?;
                    }
                }
                Next::End => return Ok(()),
                Next::Nothing => {
                    self.exchange.alive(self.index);
                    if source.is_live() {
                        self.freshness.silence()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, frame: Frame, source: &dyn Source) -> Result<(), CaptureError> {
        if source.is_live() {
            self.freshness.frame(&frame)?;
        }
        if source.waits_for_reader() {
            while !self.exchange.wait_empty(self.index, TICK) {
                if self.stopping() {
                    return Ok(());
                }
            }
        }
        self.exchange.put(self.index, frame);
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        while !self.stopping() && Instant::now() < end {
            self.exchange.alive(self.index);
            thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
        }
    }
}

/// Tells a live stream from one that is silent or frozen.
struct Freshness {
    stall: Duration,
    last_frame: Instant,
    last_hash: u64,
    /// Since when the picture is the same.
    same_since: Instant,
    /// A picture that was there again after reopening: then it is the scene that does not change, as in full darkness.
    accepted: Option<u64>,
    suspected: Option<u64>,
}

impl Freshness {
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

    fn opened(&mut self) {
        self.last_frame = Instant::now();
        self.same_since = Instant::now();
    }

    fn silence(&self) -> Result<(), CaptureError> {
        if self.last_frame.elapsed() > self.stall {
            return Err(CaptureError::Stalled {
                seconds: self.stall.as_secs_f64(),
            });
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), CaptureError> {
        let hash = content_hash(&frame.data);
        self.last_frame = Instant::now();
        if self.suspected.take() == Some(hash) {
            log::info!(
                "the picture is the same after opening the source again: nothing moves, or it is dark"
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

/// A hash of a sample of the bytes: sensor noise changes them all, so one in 16 lines of cache is enough.
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
        let taken = Timestamp {
            monotonic_ns: 0,
            unix_ns: 0,
            clock_synced: false,
        };
        Frame::compressed(PixelFormat::Jpeg, vec![byte; 5000], taken)
    }

    #[test]
    fn a_frozen_picture_is_a_fault_once_and_then_the_scene() {
        let mut freshness = Freshness::new(0.0);
        freshness.opened();
        assert!(freshness.frame(&frame(1)).is_ok(), "a new picture is fresh");
        assert!(matches!(
            freshness.frame(&frame(1)),
            Err(CaptureError::Frozen { .. })
        ));
        freshness.opened();
        assert!(
            freshness.frame(&frame(1)).is_ok(),
            "the same after reopening is the scene"
        );
        assert!(freshness.frame(&frame(1)).is_ok());
        assert!(freshness.frame(&frame(2)).is_ok());
        assert!(
            matches!(freshness.frame(&frame(2)), Err(CaptureError::Frozen { .. })),
            "another may freeze again"
        );
    }

    #[test]
    fn silence_is_a_fault() {
        let freshness = Freshness::new(0.0);
        assert!(matches!(
            freshness.silence(),
            Err(CaptureError::Stalled { .. })
        ));
        assert!(Freshness::new(60.0).silence().is_ok());
    }
}
