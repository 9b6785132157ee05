//! The device's subscriptions: to commands, and to Home Assistant's topics.

use super::in_flight::InFlight;
use super::rate_limit::RateLimit;
use crate::publish::command::{CommandPolicy, Refusal, Request};
use crate::publish::homeassistant::Discovery;
use rumqttc::{Client, QoS};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

/// How long subscriptions are suspended after a message that was too long. A retained one comes again at once, so each
/// further suspension is twice as long.
const SUSPENSION: Duration = Duration::from_secs(300);
const MAX_SUSPENSION: Duration = Duration::from_secs(24 * 3600);
/// Commands that are carried out and answered: this many at once, then so many a second.
const COMMANDS_AT_ONCE: u32 = 20;
const COMMANDS_PER_S: f64 = 5.0;
/// Home Assistant's starts are answered at most this often; the last one always is.
const BIRTHS_EVERY: Duration = Duration::from_secs(5);

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
    /// Somebody else publishes this device's discovery message.
    OtherDevice,
}

/// A message of a topic that was subscribed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'m> {
    pub(super) topic: &'m str,
    pub(super) payload: &'m [u8],
    /// It was there before the subscription.
    pub(super) retained: bool,
}

/// The topics that are subscribed to, and what their messages mean.
#[derive(Debug)]
pub(super) struct Subscriptions {
    discovery: Option<Discovery>,
    /// When Home Assistant's last start was answered, and when the next answer is due.
    birth_answered: Option<Instant>,
    birth_due: Option<Instant>,
    /// The other device was told of.
    other_told: bool,
    /// Checks commands, and the channel that takes the valid ones.
    commands: Option<(CommandPolicy, SyncSender<Request>)>,
    rate: RateLimit,
    /// The topic of commands to the Sparkplug node.
    node_commands: Option<String>,
    /// Filters whose subscription is not confirmed yet.
    pending: InFlight<String>,
    suspended_until: Option<Instant>,
    /// How often subscriptions were suspended.
    suspensions: u32,
    /// A refused subscription was logged on this connection.
    refusal_logged: bool,
    /// The broker has left a subscription unanswered, and has answered none since.
    unanswered: Option<Unanswered>,
}

/// What was done about a subscription that the broker did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    /// A new connection was made.
    Reconnected,
    /// It was told that there are none.
    Told,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            discovery: None,
            birth_answered: None,
            birth_due: None,
            other_told: false,
            commands: None,
            rate: RateLimit::new(COMMANDS_AT_ONCE, COMMANDS_PER_S),
            node_commands: None,
            pending: InFlight::default(),
            suspended_until: None,
            suspensions: 0,
            refusal_logged: false,
            unanswered: None,
        }
    }
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
        self.discovery.as_ref().map(|d| (d.topic(), d.payload()))
    }

    fn filters(&self) -> Vec<String> {
        let discovery = self
            .discovery
            .iter()
            .flat_map(|d| [d.birth_topic(), d.topic()]);
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
            self.subscribe(client, now);
        }
        self.pending.len() > 0
    }

    fn subscribe(&mut self, client: &Client, now: Instant) {
        for filter in self.filters() {
            // A client that takes no subscription is about to lose its connection, and a new one follows.
            if client.try_subscribe(&filter, QoS::AtLeastOnce).is_ok() {
                self.pending.handed_over(filter, now);
            }
        }
    }

    /// Notes that the oldest pending subscription was sent with this packet identifier.
    pub(super) fn sent(&mut self, packet: u16) {
        self.pending.sent(packet);
    }

    /// Notes that the broker has confirmed a subscription, or refused it.
    pub(super) fn subscribed(&mut self, packet: u16, refused: bool, broker: &str, now: Instant) {
        let answered = self.pending.acknowledged(packet, now);
        if answered.is_some() {
            self.unanswered = None;
        }
        if let Some(filter) = answered.filter(|_| refused && !self.refusal_logged) {
            self.refusal_logged = true;
            log::warn!(
                "broker {broker}: refuses the subscription to {filter}; see its access rules for this device"
            );
        }
    }

    /// A subscription that has waited for its confirmation for longer than `patience`, if a new connection is to be made
    /// for it. A broker that answers none on that one either takes the events at least, so it is kept; a Sparkplug node
    /// cannot work without its commands.
    pub(super) fn unanswered(
        &mut self,
        now: Instant,
        patience: Duration,
        broker: &str,
    ) -> Option<(String, Duration)> {
        let since = self.pending.stuck_for(now).filter(|s| *s > patience)?;
        let filter = self.pending.iter().next()?.clone();
        if self.node_commands.is_some() || self.unanswered.is_none() {
            self.unanswered = Some(Unanswered::Reconnected);
            return Some((filter, since));
        }
        self.pending.clear();
        if self.unanswered.replace(Unanswered::Told) != Some(Unanswered::Told) {
            log::warn!(
                "broker {broker}: has not answered the subscription to {filter} on a second connection either: events are published, but nothing sent to this device arrives. See the broker's log, and what stands between it and the device"
            );
        }
        None
    }

    /// Suspends all subscriptions, after a message that was too long.
    pub(super) fn suspend(&mut self, now: Instant, broker: &str) {
        let suspension = (SUSPENSION * (1 << self.suspensions.min(10))).min(MAX_SUSPENSION);
        self.suspensions += 1;
        let (seconds, filters) = (suspension.as_secs(), self.filters().join(" and "));
        log::warn!(
            "broker {broker}: a message of more than 1 MiB came to {filters}; subscriptions are suspended for {seconds} s. If it is retained, delete it"
        );
        self.suspended_until = Some(now + suspension);
    }

    /// When there is something to do: subscribe again, answer Home Assistant, or report commands that were not answered.
    pub(super) fn due_at(&self) -> Option<Instant> {
        [self.suspended_until, self.birth_due, self.rate.report_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The answer to Home Assistant's start that is due.
    pub(super) fn birth_answer(&mut self, now: Instant) -> Option<(String, Vec<u8>)> {
        self.birth_due.take_if(|at| *at <= now)?;
        self.birth_answered = Some(now);
        self.discovery()
    }

    /// Reports commands that were not answered.
    pub(super) fn report_flood(&mut self, broker: &str, now: Instant) {
        if let Some(refused) = self.rate.report(now) {
            log::warn!(
                "broker {broker}: {refused} commands came too fast, and were neither carried out nor answered; {COMMANDS_AT_ONCE} at once and {COMMANDS_PER_S} a second are"
            );
        }
    }

    /// Subscribes again, if the suspension is over.
    pub(super) fn resume(&mut self, client: &Client, now: Instant) {
        if self.suspended_until.is_some_and(|until| until <= now) {
            self.suspended_until = None;
            self.subscribe(client, now);
        }
    }

    /// Whether a command to the Sparkplug node may be carried out now. It is counted if not.
    pub(super) fn allows_node_command(&mut self, now: Instant) -> bool {
        self.rate.allows(now)
    }

    /// Handles a message of a topic that was subscribed to. Valid commands go to the channel.
    pub(super) fn receive(&mut self, message: Message<'_>, now: Instant) -> Received {
        let Message {
            topic,
            payload,
            retained,
        } = message;
        if let Some((policy, requests)) = &self.commands
            && policy.is_command(topic)
        {
            if !self.rate.allows(now) {
                return Received::Handled;
            }
            let parsed = policy.parse(topic, payload, retained);
            return match parsed.map(|parsed| parsed.map(|request| requests.try_send(request))) {
                None | Some(Ok(Ok(()))) => Received::Handled,
                Some(Ok(Err(
                    TrySendError::Full(request) | TrySendError::Disconnected(request),
                ))) => Received::Overload(request),
                Some(Err(refusal)) => Received::Refused(refusal),
            };
        }
        self.receive_discovery(message, now)
    }

    fn receive_discovery(&mut self, message: Message<'_>, now: Instant) -> Received {
        let Some(discovery) = &mut self.discovery else {
            return Received::Handled;
        };
        let (topic, payload) = (message.topic, message.payload);
        if topic == discovery.birth_topic() && payload == b"online" {
            let earliest = self.birth_answered.map_or(now, |at| at + BIRTHS_EVERY);
            self.birth_due.get_or_insert(earliest.max(now));
        } else if topic == discovery.topic() && !payload.is_empty() && !discovery.is_own(payload) {
            if message.retained {
                // What an earlier configuration of this device has left, or another device.
                let removal = discovery.removal(payload);
                return removal.map_or(Received::Handled, |payload| Received::Discovery {
                    topic: topic.to_owned(),
                    payload,
                });
            }
            // It is not answered: two devices would answer each other for ever.
            if !std::mem::replace(&mut self.other_told, true) {
                return Received::OtherDevice;
            }
        }
        Received::Handled
    }

    /// The message that must follow a retained one that the broker now has.
    pub(super) fn after_delivery(&mut self, topic: &str, payload: &[u8]) -> Option<Vec<u8>> {
        let discovery = self.discovery.as_mut().filter(|d| d.topic() == topic)?;
        discovery.after_removal(payload)
    }
}
