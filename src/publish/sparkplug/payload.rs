//! Sparkplug B's payload: the fields of `sparkplug_b.proto` (package `org.eclipse.tahu.protobuf`) that are used here.

use prost::{Message, Oneof};

/// The payload of one message.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    /// When the message is published, milliseconds since the Unix epoch, UTC.
    #[prost(uint64, optional, tag = "1")]
    pub(super) timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
    /// 0 to 255, then 0 again.
    #[prost(uint64, optional, tag = "3")]
    pub(super) seq: Option<u64>,
}

/// One value, or null.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    /// When it had this value, milliseconds since the Unix epoch, UTC.
    #[prost(uint64, optional, tag = "3")]
    pub(super) timestamp: Option<u64>,
    /// Present in births only.
    #[prost(uint32, optional, tag = "4")]
    pub(super) datatype: Option<u32>,
    /// The value is not the present one.
    #[prost(bool, optional, tag = "5")]
    pub(super) is_historical: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) is_null: Option<bool>,
    #[prost(oneof = "Value", tags = "11, 12, 14, 15")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Value {
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
}

/// Sparkplug's data type codes, those that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataType {
    Int64 = 4,
    UInt64 = 8,
    Float = 9,
    Boolean = 11,
    String = 12,
}

impl Metric {
    /// A metric for a birth; without a value it is null.
    pub(super) fn new(
        name: impl Into<String>,
        datatype: DataType,
        value: Option<Value>,
        timestamp: u64,
    ) -> Self {
        Self {
            name: Some(name.into()),
            timestamp: Some(timestamp),
            datatype: Some(datatype as u32),
            is_historical: None,
            is_null: value.is_none().then_some(true),
            value,
        }
    }

    /// The metric for a data message, which leaves the type to the birth.
    pub(super) fn into_data(mut self, historical: bool) -> Self {
        self.datatype = None;
        self.is_historical = historical.then_some(true);
        self
    }
}
