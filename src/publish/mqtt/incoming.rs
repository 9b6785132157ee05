//! Messages from the broker, and the results of commands.

use super::shared::Shared;
use super::state::State;
use super::subscriptions::{Message, Received};
use crate::clock;
use crate::publish::command::CommandResult;
use crate::publish::event::rfc3339;
use std::time::Instant;

impl Shared {
    /// Handles a message of a topic that was subscribed to.
    pub(super) fn received(&self, topic: &str, payload: &[u8], retained: bool) {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.node.is_some() {
            return state.node_command(payload, now);
        }
        let message = Message {
            topic,
            payload,
            retained,
        };
        match state.subscriptions.receive(message, now) {
            Received::Handled => {}
            Received::Refused(refusal) => {
                log::warn!("command {topic}: {}", refusal.reason);
                let refused = Err(refusal.reason);
                self.command_result(&mut state, &refusal.camera, &refusal.command, &refused);
            }
            Received::Overload(request) => {
                let refused = Err("too many commands at once; send it again later".to_owned());
                let command = request.command.name().as_str();
                self.command_result(&mut state, &request.camera, command, &refused);
            }
            Received::Discovery { topic, payload } => {
                state.retained.put(topic, payload);
                state.pump(now);
            }
            Received::OtherDevice => log::warn!(
                "broker {}: another device publishes on {topic}, this device's topic: Home Assistant shows whichever came last. Give each device its own name (`device`)",
                self.broker
            ),
        }
        // Something may be due later.
        self.work.notify_one();
    }

    /// Publishes the result of a command.
    pub(super) fn command_result(
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
        let result = CommandResult {
            schema: 1,
            device: &self.device,
            camera,
            command,
            ok,
            detail,
            ts,
        };
        if let Ok(payload) = serde_json::to_vec(&result) {
            let topic = self.topics.result(camera, command);
            state.send_transient(topic, payload, Instant::now());
        }
    }
}
