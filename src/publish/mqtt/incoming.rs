//! Messages from the broker, and the results of commands.

use super::shared::Shared;
use super::state::State;
use super::subscriptions::Received;
use crate::clock;
use crate::publish::command::CommandResult;
use crate::publish::event::rfc3339;
use std::time::Instant;

impl Shared {
    /// Handles a message of a topic that was subscribed to.
    pub(super) fn received(&self, topic: &str, payload: &[u8], retained: bool) {
        let mut state = self.lock();
        if let Some(node) = &mut state.node {
            node.edge.command(payload);
            return state.pump(Instant::now());
        }
        match state.subscriptions.receive(topic, payload, retained) {
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
                state.pump(Instant::now());
            }
        }
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
            let topic = format!("{}/{camera}/set/{command}/result", self.base_topic);
            state.send_transient(topic, payload, Instant::now());
        }
    }
}
