//! Detects a live stream that repeats one picture: a camera whose firmware hangs may send its last frame for ever.

use crate::capture::CaptureError;
use constancy_core::frame::Frame;
use std::time::{Duration, Instant};

/// The picture may stay bit-identical for this many times `stall_s` before the stream counts as frozen.
const FROZEN_STALLS: f64 = 6.0;

/// Compares each frame with the one before.
pub(super) struct FrozenDetector {
    limit: Duration,
    last: Option<Fingerprint>,
    /// When the present picture was first seen.
    same_since: Instant,
    /// A picture that came again after the source was reopened: the scene itself does not change, as in full darkness.
    accepted: Option<Fingerprint>,
    /// The picture that was last reported as frozen.
    suspected: Option<Fingerprint>,
}

impl FrozenDetector {
    /// For a camera with this `stall_s`.
    pub(super) fn new(stall: Duration) -> Self {
        Self {
            limit: stall.mul_f64(FROZEN_STALLS),
            last: None,
            same_since: Instant::now(),
            accepted: None,
            suspected: None,
        }
    }

    /// Restarts the time limit when the source was opened.
    pub(super) fn opened(&mut self) {
        self.same_since = Instant::now();
    }

    /// Fails when the picture has stayed the same for too long.
    pub(super) fn check(&mut self, frame: &Frame) -> Result<(), CaptureError> {
        let picture = Fingerprint::of(&frame.data);
        if self.suspected.take() == Some(picture) {
            log::info!(
                "the picture is the same after reopening the source: nothing moves, or it is dark"
            );
            self.accepted = Some(picture);
        }
        if self.last.replace(picture) != Some(picture) {
            self.same_since = Instant::now();
            return Ok(());
        }
        let same = self.same_since.elapsed();
        if self.accepted != Some(picture) && same > self.limit {
            self.suspected = Some(picture);
            return Err(CaptureError::Frozen {
                seconds: same.as_secs_f64(),
            });
        }
        Ok(())
    }
}

/// Length and CRC-32 of all bytes: any change within 32 bits in a row is seen. Another change goes unseen once in 2³²
/// frames, and would have to in every frame for `limit` to matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    bytes: usize,
    crc: u32,
}

impl Fingerprint {
    fn of(data: &[u8]) -> Self {
        Self {
            bytes: data.len(),
            crc: crc32fast::hash(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use constancy_core::frame::{PixelFormat, Timestamp};

    fn frame(data: Vec<u8>) -> Frame {
        let captured_at = Timestamp {
            monotonic_ns: 0,
            unix_ns: 0,
            clock_synced: false,
        };
        Frame::compressed(PixelFormat::Jpeg, data, captured_at)
    }

    fn plain(byte: u8) -> Frame {
        frame(vec![byte; 5000])
    }

    fn is_frozen(result: &Result<(), CaptureError>) -> bool {
        matches!(result, Err(CaptureError::Frozen { .. }))
    }

    #[test]
    fn a_frozen_picture_is_a_fault_once_and_then_accepted() {
        let mut detector = FrozenDetector::new(Duration::ZERO);
        assert!(detector.check(&plain(1)).is_ok(), "a new picture is fresh");
        assert!(is_frozen(&detector.check(&plain(1))));
        detector.opened();
        assert!(
            detector.check(&plain(1)).is_ok(),
            "the same after reopening is the scene"
        );
        assert!(detector.check(&plain(1)).is_ok());
        assert!(detector.check(&plain(2)).is_ok());
        assert!(
            is_frozen(&detector.check(&plain(2))),
            "another picture may freeze again"
        );
    }

    #[test]
    fn a_single_byte_anywhere_makes_another_picture() {
        let mut detector = FrozenDetector::new(Duration::ZERO);
        for at in 0..3000 {
            let mut data = vec![7; 3000];
            data[at] = 8;
            assert!(detector.check(&frame(data)).is_ok(), "byte {at}");
        }
    }
}
