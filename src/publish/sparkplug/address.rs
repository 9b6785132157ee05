//! The node's name in Sparkplug's topics, and the message of its death.

use super::payload::{DataType, Metric, Payload, Value};
use prost::Message as _;

/// Group and node, which every topic contains.
#[derive(Debug, Clone)]
pub(in crate::publish) struct Address {
    pub(in crate::publish) group: String,
    pub(in crate::publish) node: String,
}

impl Address {
    /// `spBv1.0/<group>/<kind>/<node>`, with `/<camera>` for messages of a camera.
    pub(super) fn topic(&self, kind: &str, camera: Option<&str>) -> String {
        let Self { group, node } = self;
        let camera = camera.map_or_else(String::new, |camera| format!("/{camera}"));
        format!("spBv1.0/{group}/{kind}/{node}{camera}")
    }

    /// The topic that commands to the node are published on.
    pub(in crate::publish) fn command_topic(&self) -> String {
        self.topic("NCMD", None)
    }

    /// A topic that nobody subscribes to.
    pub(in crate::publish) fn fence_topic(&self) -> String {
        format!("{}/fence", self.command_topic())
    }

    /// Topic and payload of the node's death: the will of a connection, and its last message. It has no sequence number.
    pub(in crate::publish) fn death(&self, bd_seq: u8, now_ms: u64) -> (String, Vec<u8>) {
        let payload = Payload {
            timestamp: Some(now_ms),
            metrics: vec![bd_seq_metric(bd_seq, now_ms)],
            seq: None,
        };
        (self.topic("NDEATH", None), payload.encode_to_vec())
    }
}

pub(super) fn bd_seq_metric(bd_seq: u8, now_ms: u64) -> Metric {
    Metric::new(
        "bdSeq",
        DataType::Int64,
        Some(Value::Long(bd_seq.into())),
        now_ms,
    )
}
