//! What this device listens to: commands, and Home Assistant.

use super::outbox::UnderWay;
use super::state::{Shared, State};
use crate::clock;
use crate::publish::command::{Answer, Request, Rules};
use crate::publish::homeassistant::Discovery;
use crate::publish::rfc3339;
use rumqttc::{Client, QoS};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

/// How long nothing is listened to after a message that was too long: one that is retained would come again and again.
const DEAF: Duration = Duration::from_secs(300);

/// Subscriptions, and what is done with what they bring.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    discovery: Option<Discovery>,
    /// What may be commanded, and where good commands go.
    commands: Option<(Rules, SyncSender<Request>)>,
    /// Where Sparkplug's commands come from.
    node_commands: Option<String>,
    /// Filters whose subscription is not confirmed.
    asked: UnderWay<String>,
    deaf_until: Option<Instant>,
    /// A refusal was told on this connection.
    told: bool,
}

impl Subscriptions {
    pub(super) fn new(
        discovery: Option<Discovery>,
        rules: Option<Rules>,
        requests: SyncSender<Request>,
    ) -> Self {
        Self {
            discovery,
            commands: rules.map(|rules| (rules, requests)),
            ..Self::default()
        }
    }

    /// One that hears nothing but Sparkplug's commands.
    pub(super) fn of_node(commands: String) -> Self {
        Self {
            node_commands: Some(commands),
            ..Self::default()
        }
    }

    /// Topic and payload by which Home Assistant learns of this device.
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
            .chain(self.commands.iter().map(|(rules, _)| rules.filter()))
            .chain(self.node_commands.clone())
            .collect()
    }

    /// Asks for what is listened to, if anything is at present; whether it did.
    pub(super) fn connected(&mut self, client: &Client, now: Instant) -> bool {
        self.asked.clear();
        self.told = false;
        if self.deaf_until.is_none_or(|until| until <= now) {
            self.deaf_until = None;
            self.subscribe(client);
        }
        self.asked.len() > 0
    }

    fn subscribe(&mut self, client: &Client) {
        for filter in self.filters() {
            // A client that takes no subscription is about to lose its connection, and a new one is made.
            if client.try_subscribe(&filter, QoS::AtLeastOnce).is_ok() {
                self.asked.handed_over(filter);
            }
        }
    }

    /// The oldest subscription that was asked for left with this number.
    pub(super) fn sent(&mut self, packet: u16) {
        self.asked.sent(packet);
    }

    /// The broker has confirmed a subscription, or refused it.
    pub(super) fn subscribed(&mut self, packet: u16, refused: bool, broker: &str) {
        let answered = self.asked.acknowledged(packet);
        if let Some(filter) = answered.filter(|_| refused && !self.told) {
            self.told = true;
            log::warn!(
                "broker {broker}: refuses the subscription to {filter}; see its access rules for this device"
            );
        }
    }

    /// A message came that was too long to be taken in.
    pub(super) fn close(&mut self, now: Instant, broker: &str) {
        let (seconds, filters) = (DEAF.as_secs(), self.filters().join(" and "));
        log::warn!(
            "broker {broker}: a message of more than 1 MiB came to {filters}; nothing is listened to for {seconds} s. If it is retained, delete it"
        );
        self.deaf_until = Some(now + DEAF);
    }

    /// When to listen again.
    pub(super) fn listen_at(&self) -> Option<Instant> {
        self.deaf_until
    }

    /// Listens again if it is time.
    pub(super) fn listen_again(&mut self, client: &Client, now: Instant) {
        if self.deaf_until.is_some_and(|until| until <= now) {
            self.deaf_until = None;
            self.subscribe(client);
        }
    }
}

impl Shared {
    /// A message of a topic that was subscribed to.
    pub(super) fn heard(&self, topic: &str, payload: &[u8], retained: bool) {
        let mut state = self.lock();
        if let Some(node) = &mut state.node {
            node.sparkplug.heard(payload);
            return state.pump(Instant::now());
        }
        let passed = state
            .subscriptions
            .commands
            .as_ref()
            .and_then(|(rules, requests)| {
                let read = rules.read(topic, payload, retained)?;
                Some(read.map(|request| requests.try_send(request)))
            });
        match passed {
            None => state.heard_of_home_assistant(topic, payload),
            Some(Err(refusal)) => {
                log::warn!("command {topic}: {}", refusal.why);
                self.answer(
                    &mut state,
                    &refusal.camera,
                    &refusal.command,
                    &Err(refusal.why),
                );
            }
            Some(Ok(Err(TrySendError::Full(request) | TrySendError::Disconnected(request)))) => {
                let busy = Err("too many commands at once; send it again later".to_owned());
                self.answer(
                    &mut state,
                    &request.camera,
                    request.command.name().as_str(),
                    &busy,
                );
            }
            Some(Ok(Ok(()))) => {}
        }
    }

    /// Publishes what came of a command.
    pub(super) fn answer(
        &self,
        state: &mut State,
        camera: &str,
        command: &str,
        outcome: &Result<String, String>,
    ) {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        let ts = rfc3339(clock::now().unix_ns);
        let answer = Answer {
            schema: 1,
            device: &self.device,
            camera,
            command,
            ok,
            detail,
            ts,
        };
        if let Ok(payload) = serde_json::to_vec(&answer) {
            let topic = format!("{}/{camera}/set/{command}/result", self.base_topic);
            state.once(topic, payload, Instant::now());
        }
    }
}

impl State {
    fn heard_of_home_assistant(&mut self, topic: &str, payload: &[u8]) {
        let Some(discovery) = &self.subscriptions.discovery else {
            return;
        };
        let answer = if topic == discovery.birth_topic {
            (payload == b"online").then(|| discovery.payload())
        } else if topic == discovery.topic {
            discovery.after(payload)
        } else {
            None
        };
        if let Some(answer) = answer {
            self.retained.put(discovery.topic.clone(), answer);
            self.pump(Instant::now());
        }
    }
}
