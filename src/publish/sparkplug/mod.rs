//! Sparkplug B 3.0: this device as an edge node, its cameras as the node's devices.
//!
//! This module decides which messages are sent, and in which order; [`super::mqtt`] sends them. Events wait in the queue
//! as JSON and become metrics when they are sent, since a sequence number belongs to the connection, not to the event.
//! Sparkplug prescribes QoS 0, which the broker does not acknowledge; [`super::mqtt`] finds out another way which events
//! have arrived.

mod address;
mod metrics;
mod payload;
#[cfg(test)]
mod tests;

pub(super) use address::Address;

use address::bd_seq_metric;
use payload::{DataType, Metric, Payload, Value};
use prost::Message as _;
use std::collections::BTreeMap;

/// The metric that a host application writes to request all births again.
const REBIRTH: &str = "Node Control/Rebirth";

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// QoS 1, which Sparkplug prescribes for the node's death alone.
    pub(super) acknowledged: bool,
    kind: Kind,
}

impl Message {
    /// Whether this is an event, rather than a birth or death that must come before it.
    pub(super) fn is_event(&self) -> bool {
        matches!(self.kind, Kind::DeviceData { .. })
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    NodeBirth,
    NodeData,
    NodeDeath,
    DeviceBirth(String),
    DeviceData {
        camera: String,
        /// The camera's metrics, unless they are historical: a later birth repeats them.
        latest: Option<Vec<Metric>>,
    },
    DeviceDeath(String),
}

impl Kind {
    /// The message type in the topic, and the camera.
    fn in_topic(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::NodeBirth => ("NBIRTH", None),
            Self::NodeData => ("NDATA", None),
            Self::NodeDeath => ("NDEATH", None),
            Self::DeviceBirth(camera) => ("DBIRTH", Some(camera)),
            Self::DeviceData { camera, .. } => ("DDATA", Some(camera)),
            Self::DeviceDeath(camera) => ("DDEATH", Some(camera)),
        }
    }
}

#[derive(Debug, Default)]
struct Camera {
    works: bool,
    /// Its birth has been sent on this connection, and no death since.
    is_born: bool,
    /// The metrics of its latest event.
    latest: Option<Vec<Metric>>,
    fault: Option<String>,
}

/// The state of the queue, as the node's metrics have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct QueueReport {
    /// `memory` or `disk`; empty until the first report.
    pub(super) storage: &'static str,
    pub(super) waiting: u64,
    pub(super) dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The subscription to commands is not confirmed yet; births must wait for it.
    Subscribing,
    /// The node's birth is due.
    BirthDue,
    Born,
    /// The node's death was sent.
    Dead,
}

/// The edge node, over all its connections.
#[derive(Debug)]
pub(super) struct EdgeNode {
    pub(super) address: Address,
    bd_seq: u8,
    seq: u8,
    phase: Phase,
    cameras: BTreeMap<String, Camera>,
    queue: QueueReport,
    /// Some of the node's metrics have changed since they were last sent.
    node_changed: bool,
}

impl EdgeNode {
    pub(super) fn new(address: Address, cameras: impl IntoIterator<Item = String>) -> Self {
        let cameras = cameras
            .into_iter()
            .map(|name| (name, Camera::default()))
            .collect();
        Self {
            address,
            bd_seq: 0,
            seq: 0,
            phase: Phase::Subscribing,
            cameras,
            queue: QueueReport::default(),
            node_changed: false,
        }
    }

    /// Notes that a connection is made whose will has this `bdSeq`.
    pub(super) fn connected(&mut self, bd_seq: u8) {
        (self.bd_seq, self.phase) = (bd_seq, Phase::Subscribing);
    }

    /// Notes that commands will be received from now on, so births may be sent.
    pub(super) fn subscribed(&mut self) {
        if self.phase == Phase::Subscribing {
            self.restart();
        }
    }

    /// Handles a command. There is one: send all births again.
    pub(super) fn command(&mut self, payload: &[u8]) {
        let Ok(payload) = Payload::decode(payload) else {
            return;
        };
        let is_rebirth = |m: &Metric| {
            m.name.as_deref() == Some(REBIRTH) && m.value == Some(Value::Boolean(true))
        };
        if payload.metrics.iter().any(is_rebirth) && self.phase == Phase::Born {
            self.restart();
        }
    }

    /// Makes the node's birth due, whose sequence number is 0.
    fn restart(&mut self) {
        (self.phase, self.seq) = (Phase::BirthDue, 0);
    }

    /// Notes whether a camera works, or its fault.
    pub(super) fn set_camera(&mut self, name: &str, fault: Option<&str>) {
        let camera = self.cameras.entry(name.to_owned()).or_default();
        camera.works = fault.is_none();
        if camera.fault.as_deref() != fault {
            camera.fault = fault.map(str::to_owned);
            self.node_changed = true;
        }
    }

    /// Notes the state of the queue.
    pub(super) fn set_queue(&mut self, report: QueueReport) {
        if self.queue != report {
            self.queue = report;
            self.node_changed = true;
        }
    }

    /// Whether the node's birth was sent, so that events may follow.
    pub(super) fn is_born(&self) -> bool {
        self.phase == Phase::Born
    }

    /// The birth, data or death message that must be sent before any event. With `backlog`, a camera that has failed
    /// stays born, since its events are still to come.
    pub(super) fn due(&self, backlog: bool, now_ms: u64) -> Option<Message> {
        match self.phase {
            Phase::Subscribing | Phase::Dead => return None,
            Phase::BirthDue => return Some(self.node_birth(now_ms)),
            Phase::Born => {}
        }
        if let Some((name, camera)) = self.cameras.iter().find(|(_, c)| c.works && !c.is_born) {
            return Some(self.device_birth(name, camera.latest.clone(), now_ms));
        }
        if self.node_changed {
            let metrics = self
                .node_metrics(now_ms)
                .into_iter()
                .map(|m| m.into_data(false))
                .collect();
            return Some(self.message(Kind::NodeData, metrics, now_ms));
        }
        let gone = self
            .cameras
            .iter()
            .find(|(_, c)| c.is_born && !c.works && !backlog);
        gone.map(|(name, _)| self.message(Kind::DeviceDeath(name.clone()), Vec::new(), now_ms))
    }

    /// The message of an event, or the camera's birth if that must come first. `None` if `json` is no event.
    pub(super) fn event(&self, json: &[u8], historical: bool, now_ms: u64) -> Option<Message> {
        let (name, metrics) = metrics::of_event(json)?;
        let camera = self.cameras.get(&name);
        if !camera.is_some_and(|c| c.is_born) {
            return Some(self.device_birth(&name, camera.and_then(|c| c.latest.clone()), now_ms));
        }
        let data = metrics
            .iter()
            .cloned()
            .map(|m| m.into_data(historical))
            .collect();
        let kind = Kind::DeviceData {
            camera: name,
            latest: (!historical).then_some(metrics),
        };
        Some(self.message(kind, data, now_ms))
    }

    /// The node's death, once it is born.
    pub(super) fn death(&self, now_ms: u64) -> Option<Message> {
        let (topic, payload) = self.address.death(self.bd_seq, now_ms);
        self.is_born().then_some(Message {
            topic,
            payload,
            acknowledged: true,
            kind: Kind::NodeDeath,
        })
    }

    /// Notes that the MQTT client has taken a message.
    pub(super) fn sent(&mut self, message: Message) {
        self.seq = self.seq.wrapping_add(1);
        match message.kind {
            Kind::NodeBirth => {
                (self.phase, self.node_changed) = (Phase::Born, false);
                self.cameras.values_mut().for_each(|c| c.is_born = false);
            }
            Kind::NodeData => self.node_changed = false,
            Kind::NodeDeath => self.phase = Phase::Dead,
            Kind::DeviceBirth(name) => self.cameras.entry(name).or_default().is_born = true,
            Kind::DeviceDeath(name) => self.cameras.entry(name).or_default().is_born = false,
            Kind::DeviceData {
                camera,
                latest: Some(metrics),
            } => self.cameras.entry(camera).or_default().latest = Some(metrics),
            Kind::DeviceData { latest: None, .. } => {}
        }
    }

    fn node_birth(&self, now_ms: u64) -> Message {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let fixed = |name, datatype, value| Metric::new(name, datatype, value, now_ms);
        let no_rebirth = Some(Value::Boolean(false));
        let version = text(env!("CARGO_PKG_VERSION"));
        let mut metrics = vec![
            bd_seq_metric(self.bd_seq, now_ms),
            fixed(REBIRTH, DataType::Boolean, no_rebirth),
            fixed("Properties/Software", DataType::String, text("constancy")),
            fixed("Properties/Version", DataType::String, version),
        ];
        metrics.extend(self.node_metrics(now_ms));
        self.message(Kind::NodeBirth, metrics, now_ms)
    }

    /// The node's metrics that may change.
    fn node_metrics(&self, now_ms: u64) -> Vec<Metric> {
        let QueueReport {
            storage,
            waiting,
            dropped,
        } = self.queue;
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let storage = text(storage).filter(|_| !storage.is_empty());
        let count =
            |name, count| Metric::new(name, DataType::UInt64, Some(Value::Long(count)), now_ms);
        let mut metrics = vec![
            Metric::new("Queue/storage", DataType::String, storage, now_ms),
            count("Queue/waiting", waiting),
            count("Queue/dropped", dropped),
        ];
        metrics.extend(self.cameras.iter().map(|(name, camera)| {
            let fault = camera.fault.as_deref().and_then(text);
            let name = format!("Cameras/{name}/fault");
            Metric::new(name, DataType::String, fault, now_ms)
        }));
        metrics
    }

    /// A camera's birth, with its latest metrics.
    fn device_birth(&self, camera: &str, latest: Option<Vec<Metric>>, now_ms: u64) -> Message {
        let metrics = latest.unwrap_or_else(|| metrics::unknown(now_ms));
        self.message(Kind::DeviceBirth(camera.to_owned()), metrics, now_ms)
    }

    fn message(&self, kind: Kind, metrics: Vec<Metric>, now_ms: u64) -> Message {
        let payload = Payload {
            timestamp: Some(now_ms),
            metrics,
            seq: Some(self.seq.into()),
        };
        let (name, camera) = kind.in_topic();
        Message {
            topic: self.address.topic(name, camera),
            payload: payload.encode_to_vec(),
            acknowledged: false,
            kind,
        }
    }
}
