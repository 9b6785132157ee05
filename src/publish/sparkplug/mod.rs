//! Sparkplug B 3.0: this device as an edge node, its cameras as the node's devices.
//!
//! What is said, and in which order, is decided here; [`super::mqtt`] says it. Events wait in the queue as they do
//! for plain JSON, and become metrics when they are sent: a sequence number belongs to the connection, not to the
//! event. Sparkplug prescribes QoS 0, which nobody acknowledges; how events are known to have arrived all the same,
//! see [`super::mqtt`].

mod metrics;
mod payload;

use payload::{DataType, Metric, Payload, Value};
use prost::Message as _;
use std::collections::BTreeMap;

const REBIRTH: &str = "Node Control/Rebirth";

/// Group and node, of which every topic is made.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) group: String,
    pub(super) node: String,
}

impl Address {
    fn topic(&self, kind: &str, camera: Option<&str>) -> String {
        let Self { group, node } = self;
        let camera = camera.map_or_else(String::new, |camera| format!("/{camera}"));
        format!("spBv1.0/{group}/{kind}/{node}{camera}")
    }

    /// Where commands come from.
    pub(super) fn commands(&self) -> String {
        self.topic("NCMD", None)
    }

    /// The node's death: the will of a connection, and its end. It has no sequence number.
    pub(super) fn death(&self, bd_seq: u8, now_ms: u64) -> (String, Vec<u8>) {
        let payload = Payload {
            timestamp: Some(now_ms),
            metrics: vec![bd_seq_metric(bd_seq, now_ms)],
            seq: None,
        };
        (self.topic("NDEATH", None), payload.encode_to_vec())
    }
}

fn bd_seq_metric(bd_seq: u8, now_ms: u64) -> Metric {
    Metric::new(
        "bdSeq",
        DataType::Int64,
        Some(Value::Long(bd_seq.into())),
        now_ms,
    )
}

/// A message to be published, and what is so once it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// QoS 1, as only a death may be.
    pub(super) acknowledged: bool,
    then: Then,
}

impl Message {
    /// Whether it is an event's own, and no birth before it.
    pub(super) fn is_event(&self) -> bool {
        matches!(self.then, Then::Data(_))
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Then {
    NodeBorn,
    Born(String),
    Dead(String),
    Told,
    /// With what is so now, if it is.
    Data(Option<(String, Vec<Metric>)>),
    Farewell,
}

#[derive(Debug, Default)]
struct Camera {
    /// It works.
    is_up: bool,
    /// The host has been told that it is there, on this connection.
    is_born: bool,
    /// What was last said of it.
    last: Option<Vec<Metric>>,
    fault: Option<String>,
}

/// What the node says of itself besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Report {
    pub(super) storage: &'static str,
    pub(super) waiting: u64,
    pub(super) dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Commands are not subscribed to yet.
    Deaf,
    /// Births are due.
    Unborn,
    Born,
    /// The last word is said.
    Gone,
}

/// The conversation on one connection after the other.
#[derive(Debug)]
pub(super) struct Sparkplug {
    pub(super) address: Address,
    bd_seq: u8,
    seq: u8,
    phase: Phase,
    cameras: BTreeMap<String, Camera>,
    report: Report,
    /// Node metrics that have changed since they were last said.
    changed: bool,
}

impl Sparkplug {
    pub(super) fn new(address: Address, cameras: impl IntoIterator<Item = String>) -> Self {
        let cameras = cameras
            .into_iter()
            .map(|name| (name, Camera::default()))
            .collect();
        Self {
            address,
            bd_seq: 0,
            seq: 0,
            phase: Phase::Deaf,
            cameras,
            report: Report::default(),
            changed: false,
        }
    }

    /// A connection is made whose will has this number.
    pub(super) fn connected(&mut self, bd_seq: u8) {
        (self.bd_seq, self.phase) = (bd_seq, Phase::Deaf);
    }

    /// Commands will be heard from now on: births may be said.
    pub(super) fn subscribed(&mut self) {
        if self.phase == Phase::Deaf {
            self.begin();
        }
    }

    /// A command, of which there is one: say all births again.
    pub(super) fn heard(&mut self, payload: &[u8]) {
        let Ok(payload) = Payload::decode(payload) else {
            return;
        };
        let asks = |m: &Metric| {
            m.name.as_deref() == Some(REBIRTH) && m.value == Some(Value::Boolean(true))
        };
        if payload.metrics.iter().any(asks) && self.phase == Phase::Born {
            self.begin();
        }
    }

    /// The node's birth is due, which has the first number.
    fn begin(&mut self) {
        (self.phase, self.seq) = (Phase::Unborn, 0);
    }

    /// Whether a camera works, and else why not.
    pub(super) fn camera(&mut self, name: &str, fault: Option<&str>) {
        let camera = self.cameras.entry(name.to_owned()).or_default();
        camera.is_up = fault.is_none();
        if camera.fault.as_deref() != fault {
            camera.fault = fault.map(str::to_owned);
            self.changed = true;
        }
    }

    /// How the queue is.
    pub(super) fn report(&mut self, report: Report) {
        if self.report != report {
            self.report = report;
            self.changed = true;
        }
    }

    /// Whether events may be said.
    pub(super) fn is_born(&self) -> bool {
        self.phase == Phase::Born
    }

    /// What is to be said before any event. With `backlog` a camera that is away stays born: its events come yet.
    pub(super) fn due(&self, backlog: bool, now_ms: u64) -> Option<Message> {
        match self.phase {
            Phase::Deaf | Phase::Gone => return None,
            Phase::Unborn => return Some(self.node_birth(now_ms)),
            Phase::Born => {}
        }
        if let Some((name, camera)) = self.cameras.iter().find(|(_, c)| c.is_up && !c.is_born) {
            return Some(self.birth(name, camera.last.clone(), now_ms));
        }
        if self.changed {
            let metrics = self
                .node_metrics(now_ms)
                .into_iter()
                .map(|m| m.into_data(false))
                .collect();
            return Some(self.message("NDATA", None, metrics, now_ms, Then::Told));
        }
        let gone = self
            .cameras
            .iter()
            .find(|(_, c)| c.is_born && !c.is_up && !backlog);
        gone.map(|(name, _)| {
            self.message(
                "DDEATH",
                Some(name),
                Vec::new(),
                now_ms,
                Then::Dead(name.clone()),
            )
        })
    }

    /// An event's message, or the birth that must come first. `None` if it is no event.
    pub(super) fn event(&self, json: &[u8], historical: bool, now_ms: u64) -> Option<Message> {
        let (camera, metrics) = metrics::of_event(json)?;
        let known = self.cameras.get(&camera);
        if !known.is_some_and(|c| c.is_born) {
            return Some(self.birth(&camera, known.and_then(|c| c.last.clone()), now_ms));
        }
        let data = metrics
            .iter()
            .cloned()
            .map(|m| m.into_data(historical))
            .collect();
        // What is past is not what a later birth is to say.
        let then = Then::Data((!historical).then(|| (camera.clone(), metrics)));
        Some(self.message("DDATA", Some(&camera), data, now_ms, then))
    }

    /// The last word on this connection.
    pub(super) fn farewell(&self, now_ms: u64) -> Option<Message> {
        let (topic, payload) = self.address.death(self.bd_seq, now_ms);
        self.is_born().then_some(Message {
            topic,
            payload,
            acknowledged: true,
            then: Then::Farewell,
        })
    }

    /// Notes that the client took a message.
    pub(super) fn said(&mut self, message: Message) {
        self.seq = self.seq.wrapping_add(1);
        match message.then {
            Then::NodeBorn => {
                (self.phase, self.changed) = (Phase::Born, false);
                self.cameras.values_mut().for_each(|c| c.is_born = false);
            }
            Then::Born(name) => self.cameras.entry(name).or_default().is_born = true,
            Then::Dead(name) => self.cameras.entry(name).or_default().is_born = false,
            Then::Told => self.changed = false,
            Then::Data(Some((name, metrics))) => {
                self.cameras.entry(name).or_default().last = Some(metrics)
            }
            Then::Data(None) => {}
            Then::Farewell => self.phase = Phase::Gone,
        }
    }

    fn node_birth(&self, now_ms: u64) -> Message {
        let mut metrics = vec![
            bd_seq_metric(self.bd_seq, now_ms),
            Metric::new(
                REBIRTH,
                DataType::Boolean,
                Some(Value::Boolean(false)),
                now_ms,
            ),
            Metric::new(
                "Properties/Software",
                DataType::String,
                Some(Value::Text("constancy".into())),
                now_ms,
            ),
            Metric::new(
                "Properties/Version",
                DataType::String,
                Some(Value::Text(env!("CARGO_PKG_VERSION").into())),
                now_ms,
            ),
        ];
        metrics.extend(self.node_metrics(now_ms));
        self.message("NBIRTH", None, metrics, now_ms, Then::NodeBorn)
    }

    /// The node's metrics that may change.
    fn node_metrics(&self, now_ms: u64) -> Vec<Metric> {
        let Report {
            storage,
            waiting,
            dropped,
        } = &self.report;
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let mut metrics = vec![
            Metric::new(
                "Queue/storage",
                DataType::String,
                text(storage).filter(|_| !storage.is_empty()),
                now_ms,
            ),
            Metric::new(
                "Queue/waiting",
                DataType::UInt64,
                Some(Value::Long(*waiting)),
                now_ms,
            ),
            Metric::new(
                "Queue/dropped",
                DataType::UInt64,
                Some(Value::Long(*dropped)),
                now_ms,
            ),
        ];
        metrics.extend(self.cameras.iter().map(|(name, camera)| {
            let fault = camera.fault.as_deref().and_then(text);
            Metric::new(
                format!("Cameras/{name}/fault"),
                DataType::String,
                fault,
                now_ms,
            )
        }));
        metrics
    }

    /// A camera's birth, with what was last known of it.
    fn birth(&self, camera: &str, last: Option<Vec<Metric>>, now_ms: u64) -> Message {
        let metrics = last.unwrap_or_else(|| metrics::unknown(now_ms));
        self.message(
            "DBIRTH",
            Some(camera),
            metrics,
            now_ms,
            Then::Born(camera.to_owned()),
        )
    }

    fn message(
        &self,
        kind: &str,
        camera: Option<&str>,
        metrics: Vec<Metric>,
        now_ms: u64,
        then: Then,
    ) -> Message {
        let payload = Payload {
            timestamp: Some(now_ms),
            metrics,
            seq: Some(self.seq.into()),
        };
        let topic = self.address.topic(kind, camera);
        Message {
            topic,
            payload: payload.encode_to_vec(),
            acknowledged: false,
            then,
        }
    }
}

#[cfg(test)]
mod tests;
