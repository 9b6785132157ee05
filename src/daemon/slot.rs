//! One place per camera for the newest frame, between the capture threads and the one that looks.
//!
//! A frame that is still there when the next one comes is replaced and counted: what is
//! published is always as young as it can be, and a slow model never builds up a backlog.

use constancy_core::frame::Frame;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A camera's frame that waited to be looked at.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) camera: usize,
    pub(super) frame: Frame,
    /// Frames that were replaced before this one was taken, or that never came, since the last one that was.
    pub(super) dropped: u64,
    /// Frames that the camera itself gave up, since the last one taken.
    pub(super) damaged: u64,
}

/// Something that the camera threads have for the one that looks.
#[derive(Debug)]
pub(super) enum Taken {
    /// At least one, each of another camera.
    Frames(Vec<Waiting>),
    /// The camera does not work, and why.
    Fault { camera: usize, message: String },
    /// Nothing within the time given.
    Nothing,
    /// Every camera has come to its end.
    Ended,
}

#[derive(Debug)]
struct Slot {
    frame: Option<Frame>,
    fault: Option<String>,
    /// The frame that waits was taken after the fault: a fault that is over before anybody looked is told all the same.
    fault_first: bool,
    dropped: u64,
    damaged: u64,
    ended: bool,
    last_sign: Instant,
}

#[derive(Debug)]
struct Slots {
    slots: Vec<Slot>,
    /// Whose turn it is, so that no camera starves another.
    turn: usize,
}

impl Slots {
    /// A camera's fault, if it has one and no frame from before it waits.
    fn take_fault(&mut self, camera: usize) -> Option<Taken> {
        let slot = &mut self.slots[camera];
        if slot.frame.is_some() && !slot.fault_first {
            return None;
        }
        let message = slot.fault.take()?;
        self.turn = camera + 1;
        Some(Taken::Fault { camera, message })
    }
}

/// The slots of all cameras.
#[derive(Debug)]
pub(super) struct Exchange {
    slots: Mutex<Slots>,
    filled: Condvar,
    emptied: Condvar,
}

impl Exchange {
    #[must_use]
    pub(super) fn new(cameras: usize) -> Self {
        let slot = || Slot {
            frame: None,
            fault: None,
            fault_first: false,
            dropped: 0,
            damaged: 0,
            ended: false,
            last_sign: Instant::now(),
        };
        let slots = Slots {
            slots: std::iter::repeat_with(slot).take(cameras).collect(),
            turn: 0,
        };
        Self {
            slots: Mutex::new(slots),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, camera: usize, change: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.lock();
        let slot = &mut slots.slots[camera];
        slot.last_sign = Instant::now();
        let result = change(slot);
        drop(slots);
        self.filled.notify_one();
        result
    }

    /// Puts a frame in; one that is still there is dropped.
    pub(super) fn put(&self, camera: usize, frame: Frame) {
        self.with(camera, |slot| {
            slot.dropped += u64::from(slot.frame.replace(frame).is_some());
            slot.fault_first = slot.fault.is_some();
        });
    }

    /// Waits until the slot is empty, `wait` at most; whether it is.
    pub(super) fn wait_empty(&self, camera: usize, wait: Duration) -> bool {
        let occupied = |s: &mut Slots| {
            s.slots[camera].last_sign = Instant::now();
            s.slots[camera].frame.is_some()
        };
        let waited = self.emptied.wait_timeout_while(self.lock(), wait, occupied);
        let (_guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// Counts frames that never came here.
    pub(super) fn lost(&self, camera: usize, frames: u64) {
        self.with(camera, |slot| slot.dropped += frames);
    }

    /// Counts a frame that the camera gave damaged.
    pub(super) fn damaged(&self, camera: usize) {
        self.with(camera, |slot| slot.damaged += 1);
    }

    /// Tells that the camera does not work. A frame that still waits is looked at first.
    pub(super) fn fault(&self, camera: usize, message: String) {
        self.with(camera, |slot| {
            slot.fault = Some(message);
            slot.fault_first = false;
        });
    }

    /// Tells that the camera thread is well though there is no frame.
    pub(super) fn alive(&self, camera: usize) {
        self.lock().slots[camera].last_sign = Instant::now();
    }

    /// Tells that this camera gives nothing more.
    pub(super) fn end(&self, camera: usize) {
        self.with(camera, |slot| slot.ended = true);
    }

    /// Whether every camera thread has given a sign of life within `limit`.
    pub(super) fn all_alive(&self, limit: Duration) -> bool {
        self.lock()
            .slots
            .iter()
            .all(|s| s.ended || s.last_sign.elapsed() < limit)
    }

    /// The frames that wait, `most` of them at most, or the next fault; camera by camera in turn.
    pub(super) fn take(&self, wait: Duration, most: usize) -> Taken {
        let idle = |s: &mut Slots| {
            let slots = &s.slots;
            slots.iter().all(|s| s.frame.is_none() && s.fault.is_none())
                && !slots.iter().all(|s| s.ended)
        };
        let (mut slots, _) = self
            .filled
            .wait_timeout_while(self.lock(), wait, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let (count, turn) = (slots.slots.len(), slots.turn);
        let order = || (0..count).map(|i| (turn + i) % count);
        if let Some(fault) = order().find_map(|camera| slots.take_fault(camera)) {
            return fault;
        }
        let mut frames = Vec::new();
        for camera in order() {
            let slot = &mut slots.slots[camera];
            if frames.len() < most
                && let Some(frame) = slot.frame.take()
            {
                let (dropped, damaged) = (
                    std::mem::take(&mut slot.dropped),
                    std::mem::take(&mut slot.damaged),
                );
                frames.push(Waiting {
                    camera,
                    frame,
                    dropped,
                    damaged,
                });
                slots.turn = camera + 1;
            }
        }
        if !frames.is_empty() {
            self.emptied.notify_all();
            return Taken::Frames(frames);
        }
        if slots.slots.iter().all(|s| s.ended) {
            Taken::Ended
        } else {
            Taken::Nothing
        }
    }
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
        Frame::compressed(PixelFormat::Jpeg, vec![byte], taken)
    }

    fn taken(exchange: &Exchange, most: usize) -> Vec<(usize, u8, u64)> {
        match exchange.take(Duration::ZERO, most) {
            Taken::Frames(frames) => frames
                .iter()
                .map(|w| (w.camera, w.frame.data[0], w.dropped))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_newest_frame_wins_and_the_others_are_counted() {
        let exchange = Exchange::new(1);
        (1..=3).for_each(|byte| exchange.put(0, frame(byte)));
        assert_eq!(taken(&exchange, 1), [(0, 3, 2)]);
        assert!(taken(&exchange, 1).is_empty());
        exchange.lost(0, 5);
        exchange.put(0, frame(4));
        assert_eq!(
            taken(&exchange, 1),
            [(0, 4, 5)],
            "those that the driver lost, too"
        );
    }

    #[test]
    fn cameras_take_turns() {
        let exchange = Exchange::new(2);
        let order: Vec<usize> = (0..4)
            .flat_map(|_| {
                exchange.put(0, frame(0));
                exchange.put(1, frame(1));
                taken(&exchange, 1).into_iter().map(|t| t.0)
            })
            .collect();
        assert_eq!(order, [0, 1, 0, 1]);
    }

    #[test]
    fn cameras_that_wait_are_taken_together() {
        let exchange = Exchange::new(3);
        (0..3).for_each(|camera| exchange.put(camera, frame(7)));
        let cameras = |most| {
            taken(&exchange, most)
                .iter()
                .map(|t| t.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(cameras(2), [0, 1]);
        exchange.put(0, frame(8));
        // The one that had to wait comes first.
        assert_eq!(cameras(8), [2, 0]);
        assert!(cameras(8).is_empty());
    }

    #[test]
    fn a_fault_is_told_between_the_frames_that_it_lies_between() {
        let exchange = Exchange::new(2);
        let next = || match exchange.take(Duration::ZERO, 1) {
            Taken::Frames(frames) => format!("frame {}", frames[0].frame.data[0]),
            Taken::Fault { camera, message } => format!("{message} of {camera}"),
            other => format!("{other:?}"),
        };
        exchange.put(0, frame(1));
        exchange.fault(0, "gone".into());
        assert_eq!(next(), "frame 1", "it was taken before");
        // The next one comes before anybody has looked at the fault.
        exchange.put(0, frame(2));
        assert_eq!(next(), "gone of 0");
        assert_eq!(next(), "frame 2");
        exchange.fault(1, "silent".into());
        assert_eq!(next(), "silent of 1");
        assert_eq!(next(), "Nothing");
    }

    #[test]
    fn a_fault_does_not_wait_for_the_frames_of_others() {
        let exchange = Exchange::new(2);
        exchange.put(0, frame(1));
        exchange.fault(0, "gone".into());
        assert_eq!(taken(&exchange, 2), [(0, 1, 0)]);
        // Another camera always has one.
        exchange.put(1, frame(2));
        assert!(matches!(
            exchange.take(Duration::ZERO, 2),
            Taken::Fault { camera: 0, .. }
        ));
        assert_eq!(taken(&exchange, 2), [(1, 2, 0)]);
    }

    #[test]
    fn the_end_comes_after_the_last_frame() {
        let exchange = Exchange::new(1);
        exchange.put(0, frame(7));
        exchange.end(0);
        assert_eq!(taken(&exchange, 1), [(0, 7, 0)]);
        assert!(matches!(exchange.take(Duration::ZERO, 1), Taken::Ended));
    }
}
