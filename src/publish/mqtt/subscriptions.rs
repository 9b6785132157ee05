//! The device's subscriptions: to commands, and to Home Assistant's topics.

use super::in_flight::InFlight;
use crate::publish::command::{CommandPolicy, Refusal, Request};
use crate::publish::homeassistant::Discovery;
use rumqttc::{Client, QoS};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

/// How long subscriptions are suspended after a message that was too long. A retained one would come again at once.
const SUSPENSION: Duration = Duration::from_secs(300);

/// What a received message asks for.
#[derive(Debug)]
pub(super) enum Received {
    /// Nothing more to do.
    Handled,
    /// An invalid command.
    Refused(Refusal),
    /// A command that came while too many others waited.
    Overload(Request),
    /// Home Assistant needs this discovery message.
    Discovery { topic: String, payload: Vec<u8> },
}

/// The topics that are subscribed to, and what their messages mean.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    discovery: Option<Discovery>,
    /// Checks commands, and the channel that takes the valid ones.
    commands: Option<(CommandPolicy, SyncSender<Request>)>,
    /// The topic of commands to the Sparkplug node.
    node_commands: Option<String>,
    /// Filters whose subscription is not confirmed yet.
    pending: InFlight<String>,
    suspended_until: Option<Instant>,
    /// A refused subscription was logged on this connection.
    refusal_logged: bool,
}

impl Subscriptions {
    pub(super) fn new(
        discovery: Option<Discovery>,
        policy: Option<CommandPolicy>,
        requests: SyncSender<Request>,
    ) -> Self {
        Self {
            discovery,
            commands: policy.map(|policy| (policy, requests)),
            ..Self::default()
        }
    }

    /// With Sparkplug: commands to the node, and nothing else.
    pub(super) fn of_node(command_topic: String) -> Self {
        Self {
            node_commands: Some(command_topic),
            ..Self::default()
        }
    }

    /// Topic and payload of Home Assistant's discovery message.
    pub(super) fn discovery(&self) -> Option<(String, Vec<u8>)> {
        self.discovery
            .as_ref()
            .map(|d| (d.topic.clone(), d.payload()))
    }

    fn filters(&self) -> Vec<String> {
        let discovery = self
            .discovery
            .iter()
            .flat_map(|d| [d.birth_topic.clone(), d.topic.clone()]);
        discovery
            .chain(self.commands.iter().map(|(policy, _)| policy.filter()))
            .chain(self.node_commands.clone())
            .collect()
    }

    /// Subscribes on a new connection, unless suspended; returns whether a confirmation will come.
    pub(super) fn connected(&mut self, client: &Client, now: Instant) -> bool {
        self.pending.clear();
        self.refusal_logged = false;
        if self.suspended_until.is_none_or(|until| until <= now) {
            self.suspended_until = None;
            self.subscribe(client);
        }
        self.pending.len() > 0
    }

    fn subscribe(&mut self, client: &Client) {
        for filter in self.filters() {
            // A client that takes no subscription is about to lose its connection, and a new one follows.
            if client.try_subscribe(&filter, QoS::AtLeastOnce).is_ok() {
                self.pending.handed_over(filter);
            }
        }
    }

    /// Notes that the oldest pending subscription was sent with this packet identifier.
    pub(super) fn sent(&mut self, packet: u16) {
        self.pending.sent(packet);
    }

    /// Notes that the broker has confirmed a subscription, or refused it.
    pub(super) fn subscribed(&mut self, packet: u16, refused: bool, broker: &str) {
        let answered = self.pending.acknowledged(packet);
        if let Some(filter) = answered.filter(|_| refused && !self.refusal_logged) {
            self.refusal_logged = true;
            log::warn!(
                "broker {broker}: refuses the subscription to {filter}; see its access rules for this device"
            );
        }
    }

    /// Suspends all subscriptions, after a message that was too long.
    pub(super) fn suspend(&mut self, now: Instant, broker: &str) {
        let (seconds, filters) = (SUSPENSION.as_secs(), self.filters().join(" and "));
        log::warn!(
            "broker {broker}: a message of more than 1 MiB came to {filters}; subscriptions are suspended for {seconds} s. If it is retained, delete it"
        );
        self.suspended_until = Some(now + SUSPENSION);
    }

    /// When to subscribe again.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.suspended_until
    }

    /// Subscribes again, if the suspension is over.
    pub(super) fn resume(&mut self, client: &Client, now: Instant) {
        if self.suspended_until.is_some_and(|until| until <= now) {
            self.suspended_until = None;
            self.subscribe(client);
        }
    }

    /// Handles a message of a topic that was subscribed to. Valid commands go to the channel.
    pub(super) fn receive(&self, topic: &str, payload: &[u8], retained: bool) -> Received {
        if let Some((policy, requests)) = &self.commands
            && let Some(parsed) = policy.parse(topic, payload, retained)
        {
            return match parsed.map(|request| requests.try_send(request)) {
                Ok(Ok(())) => Received::Handled,
                Ok(Err(TrySendError::Full(request) | TrySendError::Disconnected(request))) => {
                    Received::Overload(request)
                }
                Err(refusal) => Received::Refused(refusal),
            };
        }
        self.discovery_for(topic, payload)
            .unwrap_or(Received::Handled)
    }

    fn discovery_for(&self, topic: &str, payload: &[u8]) -> Option<Received> {
        let discovery = self.discovery.as_ref()?;
        let payload = if topic == discovery.birth_topic {
            (payload == b"online").then(|| discovery.payload())
        } else if topic == discovery.topic {
            discovery.replacement(payload)
        } else {
            None
        };
        payload.map(|payload| Received::Discovery {
            topic: discovery.topic.clone(),
            payload,
        })
    }
}
