//! Evidence from frame to frame, and a state that no single frame changes.

use std::time::Duration;

/// How much a new frame weighs in an exponentially weighted mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// `CLOCK_MONOTONIC` of the last frame.
    last_ns: Option<u64>,
}

/// Evidence decays with this time constant.
const MEMORY: Duration = Duration::from_millis(1500);
/// A frame weighs at most this much, however long none came: no single frame tells anything.
const MOST: f32 = 0.15;

impl Pace {
    pub(super) const START: Self = Self { last_ns: None };

    /// The weight of a frame captured at `monotonic_ns`.
    pub(super) fn weight(&mut self, monotonic_ns: u64) -> f32 {
        let last = self.last_ns.replace(monotonic_ns);
        last.map_or(MOST, |last| {
            let waited = Duration::from_nanos(monotonic_ns.saturating_sub(last));
            (1.0 - (-waited.as_secs_f32() / MEMORY.as_secs_f32()).exp()).min(MOST)
        })
    }
}

/// A fault that is there or not, with hysteresis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Latch {
    /// The share of recent frames that speak for the fault.
    level: f32,
    on: bool,
}

/// The share of recent frames that must speak for a fault to tell it, and the share below which it is over.
const TELL: f32 = 0.8;
const OVER: f32 = 0.2;

impl Latch {
    /// Takes a frame's evidence; `None` if it says nothing. Returns whether the fault is there.
    pub(super) fn update(&mut self, evidence: Option<bool>, weight: f32) -> bool {
        if let Some(evidence) = evidence {
            self.level += weight * (f32::from(u8::from(evidence)) - self.level);
        }
        self.on = self.level > if self.on { OVER } else { TELL };
        self.on
    }

    pub(super) fn is_on(self) -> bool {
        self.on
    }
}

/// The evidence of `value`: a fault below `bad`, none above `good`, nothing between.
pub(super) fn below(value: f32, bad: f32, good: f32) -> Option<bool> {
    if value < bad {
        Some(true)
    } else {
        (value > good).then_some(false)
    }
}

/// The evidence of `value`: a fault above `bad`, none below `good`, nothing between.
pub(super) fn above(value: f32, bad: f32, good: f32) -> Option<bool> {
    below(-value, -bad, -good)
}
