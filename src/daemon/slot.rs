//! The newest frame of each camera, between the capture threads and the daemon's loop.
//!
//! Each camera has one slot. A new frame replaces one that still waits there, and the replaced frame is counted as
//! dropped: the loop always gets the newest frame, and a slow model never builds up a backlog.

use super::freshness::{Freshness, Staleness};
use constancy_core::frame::Frame;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A frame taken from its camera's slot.
#[derive(Debug)]
pub(super) struct CameraFrame {
    /// The camera's index.
    pub(super) camera: usize,
    pub(super) frame: Frame,
    /// Frames lost since the camera's last `CameraFrame`: replaced in the slot, or reported lost by the source.
    pub(super) dropped: u64,
    /// Damaged frames that the source skipped since the camera's last `CameraFrame`.
    pub(super) damaged: u64,
}

/// What the capture threads have for the daemon's loop.
#[derive(Debug)]
pub(super) enum CaptureUpdate {
    /// One frame or more, at most one per camera.
    Frames(Vec<CameraFrame>),
    /// The camera does not work; `message` says why.
    Fault { camera: usize, message: String },
    /// Nothing came within the timeout.
    Timeout,
    /// Every source has ended.
    Ended,
}

#[derive(Debug)]
struct Slot {
    frame: Option<Frame>,
    fault: Option<String>,
    /// The waiting frame was captured after the fault, so the fault is reported before it.
    fault_precedes_frame: bool,
    dropped: u64,
    damaged: u64,
    ended: bool,
    freshness: Freshness,
    /// When the capture thread last called.
    last_heartbeat: Instant,
    /// How long the source may block: a driver waits for the first frame for as long as `stall_s` says.
    stall: Duration,
}

impl Slot {
    fn new(stall: Duration) -> Self {
        Self {
            frame: None,
            fault: None,
            fault_precedes_frame: false,
            dropped: 0,
            damaged: 0,
            ended: false,
            freshness: Freshness::new(Instant::now()),
            last_heartbeat: Instant::now(),
            stall,
        }
    }
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    /// The camera that is served first next time, so that no camera starves another.
    first: usize,
}

impl State {
    /// Takes the camera's fault, unless a frame captured before it still waits.
    fn take_fault(&mut self, camera: usize) -> Option<CaptureUpdate> {
        let slot = &mut self.slots[camera];
        if slot.frame.is_some() && !slot.fault_precedes_frame {
            return None;
        }
        let message = slot.fault.take()?;
        self.first = camera + 1;
        Some(CaptureUpdate::Fault { camera, message })
    }

    /// Takes the waiting frames of up to `max_frames` of the cameras in `order`.
    fn take_frames(
        &mut self,
        order: impl Iterator<Item = usize>,
        max_frames: usize,
    ) -> Vec<CameraFrame> {
        let mut frames = Vec::new();
        for camera in order {
            let slot = &mut self.slots[camera];
            if frames.len() < max_frames
                && let Some(frame) = slot.frame.take()
            {
                frames.push(CameraFrame {
                    camera,
                    frame,
                    dropped: std::mem::take(&mut slot.dropped),
                    damaged: std::mem::take(&mut slot.damaged),
                });
                self.first = camera + 1;
            }
        }
        frames
    }

    fn all_ended(&self) -> bool {
        self.slots.iter().all(|slot| slot.ended)
    }
}

/// The slots of all cameras, by the camera's index.
#[derive(Debug)]
pub(super) struct FrameSlots {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

impl FrameSlots {
    /// One slot per camera, with the `stall_s` of each.
    pub(super) fn new(stalls: impl IntoIterator<Item = Duration>) -> Self {
        let state = State {
            slots: stalls.into_iter().map(Slot::new).collect(),
            first: 0,
        };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a slot on behalf of its capture thread, and wakes the loop.
    fn update(&self, camera: usize, change: impl FnOnce(&mut Slot)) {
        let mut state = self.lock();
        let slot = &mut state.slots[camera];
        slot.last_heartbeat = Instant::now();
        change(slot);
        drop(state);
        self.filled.notify_one();
    }

    /// Stores a frame; a frame that still waits is replaced and counted as dropped.
    pub(super) fn put(&self, camera: usize, frame: Frame) {
        self.update(camera, |slot| {
            slot.freshness.arrived(Instant::now());
            slot.dropped += u64::from(slot.frame.replace(frame).is_some());
            slot.fault_precedes_frame = slot.fault.is_some();
        });
    }

    /// Waits up to `timeout` for the slot to be empty, and returns whether it is.
    pub(super) fn wait_empty(&self, camera: usize, timeout: Duration) -> bool {
        let occupied = |state: &mut State| {
            state.slots[camera].last_heartbeat = Instant::now();
            state.slots[camera].frame.is_some()
        };
        let waited = self
            .emptied
            .wait_timeout_while(self.lock(), timeout, occupied);
        let (_guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    /// Counts frames that were lost before they reached the slot.
    pub(super) fn add_dropped(&self, camera: usize, frames: u64) {
        self.update(camera, |slot| slot.dropped += frames);
    }

    /// Counts a damaged frame that the source skipped.
    pub(super) fn add_damaged(&self, camera: usize) {
        self.update(camera, |slot| {
            slot.damaged += 1;
            slot.freshness.skipped("it is incomplete");
        });
    }

    /// Notes that the source was opened: its frames have `stall_s` from now on.
    pub(super) fn opened(&self, camera: usize) {
        self.update(camera, |slot| {
            slot.freshness = Freshness::new(Instant::now());
        });
    }

    /// Notes whether a frame that was taken could be decoded.
    pub(super) fn settle(&self, camera: usize, captured_ns: u64, result: Result<(), String>) {
        let mut state = self.lock();
        let slot = &mut state.slots[camera];
        let waits = slot.frame.is_some();
        slot.freshness
            .settled(captured_ns, result, waits, Instant::now());
    }

    /// How long no frame of the camera could be decoded, and why.
    pub(super) fn staleness(&self, camera: usize) -> Staleness {
        self.lock().slots[camera].freshness.take(Instant::now())
    }

    /// Reports that the camera does not work. A frame that still waits is processed first.
    pub(super) fn set_fault(&self, camera: usize, message: String) {
        self.update(camera, |slot| {
            slot.fault = Some(message);
            slot.fault_precedes_frame = false;
        });
    }

    /// Reports that the capture thread is running although it has no frame.
    pub(super) fn heartbeat(&self, camera: usize) {
        self.lock().slots[camera].last_heartbeat = Instant::now();
    }

    /// Reports that this camera will send nothing more.
    pub(super) fn set_ended(&self, camera: usize) {
        self.update(camera, |slot| slot.ended = true);
    }

    /// Whether every capture thread that has not ended called within the last `limit`, or within its camera's `stall_s`
    /// where that is longer.
    pub(super) fn all_alive(&self, limit: Duration) -> bool {
        self.lock()
            .slots
            .iter()
            .all(|slot| slot.ended || slot.last_heartbeat.elapsed() < limit.max(slot.stall))
    }

    /// Waits up to `timeout` and takes the next fault, or else up to `max_frames` waiting frames. Cameras take turns.
    pub(super) fn take(&self, timeout: Duration, max_frames: usize) -> CaptureUpdate {
        let idle = |state: &mut State| {
            let empty = |slot: &Slot| slot.frame.is_none() && slot.fault.is_none();
            state.slots.iter().all(empty) && !state.all_ended()
        };
        let (mut state, _) = self
            .filled
            .wait_timeout_while(self.lock(), timeout, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let (count, first) = (state.slots.len(), state.first);
        let order = || (0..count).map(|i| (first + i) % count);
        if let Some(fault) = order().find_map(|camera| state.take_fault(camera)) {
            return fault;
        }
        let frames = state.take_frames(order(), max_frames);
        if !frames.is_empty() {
            self.emptied.notify_all();
            return CaptureUpdate::Frames(frames);
        }
        if state.all_ended() {
            CaptureUpdate::Ended
        } else {
            CaptureUpdate::Timeout
        }
    }
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
        Frame::compressed(PixelFormat::Jpeg, vec![byte], captured_at)
    }

    fn slots(cameras: usize) -> FrameSlots {
        FrameSlots::new(vec![Duration::from_secs(5); cameras])
    }

    fn taken(slots: &FrameSlots, max_frames: usize) -> Vec<(usize, u8, u64)> {
        match slots.take(Duration::ZERO, max_frames) {
            CaptureUpdate::Frames(frames) => frames
                .iter()
                .map(|w| (w.camera, w.frame.data[0], w.dropped))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_newest_frame_wins_and_replaced_frames_are_counted() {
        let slots = slots(1);
        (1..=3).for_each(|byte| slots.put(0, frame(byte)));
        assert_eq!(taken(&slots, 1), [(0, 3, 2)]);
        assert!(taken(&slots, 1).is_empty());
        slots.add_dropped(0, 5);
        slots.put(0, frame(4));
        assert_eq!(
            taken(&slots, 1),
            [(0, 4, 5)],
            "frames that the driver lost count as well"
        );
    }

    #[test]
    fn cameras_take_turns() {
        let slots = slots(2);
        let order: Vec<usize> = (0..4)
            .flat_map(|_| {
                slots.put(0, frame(0));
                slots.put(1, frame(1));
                taken(&slots, 1).into_iter().map(|t| t.0)
            })
            .collect();
        assert_eq!(order, [0, 1, 0, 1]);
    }

    #[test]
    fn waiting_frames_are_taken_together() {
        let slots = slots(3);
        (0..3).for_each(|camera| slots.put(camera, frame(7)));
        let cameras = |max_frames| {
            taken(&slots, max_frames)
                .iter()
                .map(|t| t.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(cameras(2), [0, 1]);
        slots.put(0, frame(8));
        // The camera that had to wait comes first.
        assert_eq!(cameras(8), [2, 0]);
        assert!(cameras(8).is_empty());
    }

    #[test]
    fn a_fault_is_reported_between_the_frames_before_and_after_it() {
        let slots = slots(2);
        let next = || match slots.take(Duration::ZERO, 1) {
            CaptureUpdate::Frames(frames) => format!("frame {}", frames[0].frame.data[0]),
            CaptureUpdate::Fault { camera, message } => format!("{message} of {camera}"),
            other => format!("{other:?}"),
        };
        slots.put(0, frame(1));
        slots.set_fault(0, "gone".into());
        assert_eq!(next(), "frame 1", "it was captured before the fault");
        // The next frame comes before the fault is taken.
        slots.put(0, frame(2));
        assert_eq!(next(), "gone of 0");
        assert_eq!(next(), "frame 2");
        slots.set_fault(1, "silent".into());
        assert_eq!(next(), "silent of 1");
        assert_eq!(next(), "Timeout");
    }

    #[test]
    fn a_fault_does_not_wait_for_the_frames_of_other_cameras() {
        let slots = slots(2);
        slots.put(0, frame(1));
        slots.set_fault(0, "gone".into());
        assert_eq!(taken(&slots, 2), [(0, 1, 0)]);
        // Another camera always has a frame waiting.
        slots.put(1, frame(2));
        assert!(matches!(
            slots.take(Duration::ZERO, 2),
            CaptureUpdate::Fault { camera: 0, .. }
        ));
        assert_eq!(taken(&slots, 2), [(1, 2, 0)]);
    }

    #[test]
    fn a_driver_may_block_for_as_long_as_its_camera_may_be_silent() {
        let slots = FrameSlots::new([Duration::from_secs(3600), Duration::ZERO]);
        assert!(!slots.all_alive(Duration::ZERO), "the second one hangs");
        slots.set_ended(1);
        assert!(slots.all_alive(Duration::ZERO), "the first one may wait");
    }

    #[test]
    fn the_end_comes_after_the_last_frame() {
        let slots = slots(1);
        slots.put(0, frame(7));
        slots.set_ended(0);
        assert_eq!(taken(&slots, 1), [(0, 7, 0)]);
        assert!(matches!(
            slots.take(Duration::ZERO, 1),
            CaptureUpdate::Ended
        ));
    }
}
