//! An event without a daemon. The benches also use it.

use constancy::publish::{Event, LatencyMs, Sight, rfc3339};
use constancy_core::classify::Decision;
use constancy_core::frame::Timestamp;

const BOOT_ID: &str = "6f6d3c36-0d5c-4a34-9a43-6c8b5f0f1c11";

/// The event number `seq` of the device's camera `belt`, as the daemon makes it from a decision.
pub fn event<'a>(
    device: &'a str,
    decision: &'a Decision,
    captured_at: Timestamp,
    seq: u64,
) -> Event<'a> {
    Event {
        schema: 1,
        device,
        camera: "belt",
        boot_id: BOOT_ID,
        seq,
        id: format!("{device}/{BOOT_ID}/belt/{seq}"),
        ts: rfc3339(captured_at.unix_ns),
        monotonic_ns: captured_at.monotonic_ns,
        clock_synced: captured_at.clock_synced,
        class: &decision.top[0].class,
        score: decision.top[0].score,
        confidence: decision.confidence,
        margin: decision.margin,
        known: decision.known,
        reason: decision.reason,
        in_support: decision.in_support,
        shift: decision.shift,
        sight: Sight::default(),
        condition: None,
        top: &decision.top,
        reused: false,
        age_ms: None,
        latency_ms: LatencyMs {
            capture: 1.0,
            preprocess: 2.0,
            embed: 3.0,
            classify: 4.0,
        },
        model: "0123456789ab",
        projection: "identity",
        dropped_frames: 0,
        damaged_frames: 0,
        file: None,
        truth: None,
    }
}
