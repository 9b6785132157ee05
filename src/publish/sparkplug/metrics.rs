//! Converts events to metrics of their cameras.

use super::payload::{DataType, Metric, Value};
use serde_json::Value as Json;

/// The metrics: each one's JSON pointer in the event, which without the first `/` is its name, and its type.
const METRICS: [(&str, DataType); 28] = [
    ("/class", DataType::String),
    ("/known", DataType::Boolean),
    ("/reason", DataType::String),
    ("/score", DataType::Float),
    ("/confidence", DataType::Float),
    ("/margin", DataType::Float),
    ("/in_support", DataType::Boolean),
    ("/shift", DataType::Float),
    ("/light", DataType::String),
    ("/drift/level", DataType::Float),
    ("/drift/quantile", DataType::Float),
    ("/camera_health", DataType::String),
    ("/condition", DataType::String),
    ("/image/brightness", DataType::Float),
    ("/image/clipped", DataType::Float),
    ("/image/sharpness", DataType::Float),
    ("/image/noise", DataType::Float),
    ("/top", DataType::String),
    ("/id", DataType::String),
    ("/monotonic_ns", DataType::UInt64),
    ("/clock_synced", DataType::Boolean),
    ("/model", DataType::String),
    ("/projection", DataType::String),
    ("/dropped_frames", DataType::UInt64),
    ("/damaged_frames", DataType::UInt64),
    ("/latency_ms/capture", DataType::Float),
    ("/latency_ms/preprocess", DataType::Float),
    ("/latency_ms/embed", DataType::Float),
];

/// The camera and the metrics of an event in JSON. `None` if `json` is no event.
pub(super) fn of_event(json: &[u8]) -> Option<(String, Vec<Metric>)> {
    let event: Json = serde_json::from_slice(json).ok()?;
    let camera = event.get("camera")?.as_str()?.to_owned();
    let captured: jiff::Timestamp = event.get("ts")?.as_str()?.parse().ok()?;
    let timestamp = u64::try_from(captured.as_millisecond()).ok()?;
    let metric = |(pointer, datatype): &(&str, DataType)| {
        let found = event.pointer(pointer).filter(|v| !v.is_null());
        Metric::new(
            &pointer[1..],
            *datatype,
            found.and_then(|v| value(v, *datatype)),
            timestamp,
        )
    };
    Some((camera, METRICS.iter().map(metric).collect()))
}

/// The metrics of a camera without any event yet: all of them null.
pub(super) fn unknown(timestamp: u64) -> Vec<Metric> {
    METRICS
        .iter()
        .map(|(pointer, datatype)| Metric::new(&pointer[1..], *datatype, None, timestamp))
        .collect()
}

fn value(json: &Json, datatype: DataType) -> Option<Value> {
    match datatype {
        DataType::String => Some(Value::Text(
            json.as_str()
                .map_or_else(|| json.to_string(), str::to_owned),
        )),
        DataType::Boolean => json.as_bool().map(Value::Boolean),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the event's numbers are f32, or milliseconds"
        )]
        DataType::Float => json.as_f64().map(|f| Value::Float(f as f32)),
        DataType::Int64 | DataType::UInt64 => json.as_u64().map(Value::Long),
    }
}
