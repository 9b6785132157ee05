//! Sends one command to a daemon over its broker, as any other program may, and waits for the answer.

use super::connector::Connector;
use super::error::{BrokerError, explain};
use super::listener::Listener;
use crate::config::{CommandName, Settings};
use crate::publish::topics::Topics;
use rumqttc::{
    Client, Connection, Event, MqttOptions, Packet, Publish, QoS, RecvTimeoutError, SubscribeFilter,
};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// How long the broker may take for each step.
const BROKER_LIMIT: Duration = Duration::from_secs(10);

/// What a daemon answered.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    detail: String,
}

/// Sends a command to the daemon of these settings. Returns what it did, or why not; fails if there is no answer within
/// `limit`.
pub fn send_command(
    settings: &Settings,
    camera: &str,
    command: CommandName,
    payload: &str,
    limit: Duration,
) -> Result<Result<String, String>, BrokerError> {
    let connector = Connector::new(settings)?;
    let (client, connection) = connect(&connector);
    let topics = Topics::new(settings);
    let exchange = Exchange {
        connector,
        client,
        device: settings.device.clone(),
        status: topics.status(),
        result: topics.result(camera, command.as_str()),
        topic: topics.command(camera, command.as_str()),
        payload: payload.to_owned(),
    };
    exchange.run(connection, limit)
}

/// A connection with an id of its own, so that the daemon keeps its connection, and without a will.
fn connect(connector: &Connector) -> (Client, Connection) {
    let (configured, address) = (&connector.options, &connector.address);
    let id = format!("constancy-command-{:08x}", fastrand::u32(..));
    let mut options = MqttOptions::new(id, address.host.clone(), address.port);
    options.set_transport(configured.transport());
    if let Some(login) = configured.credentials() {
        options.set_credentials(login.username, login.password);
    }
    let (client, mut connection) = Client::new(options, 8);
    let limit = BROKER_LIMIT.as_secs();
    connection
        .eventloop
        .network_options
        .set_connection_timeout(limit);
    (client, connection)
}

struct Exchange {
    connector: Connector,
    client: Client,
    device: String,
    status: String,
    result: String,
    topic: String,
    payload: String,
}

impl Exchange {
    fn run(
        &self,
        mut connection: Connection,
        limit: Duration,
    ) -> Result<Result<String, String>, BrokerError> {
        let filter = |topic: &String| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce);
        let filters = [filter(&self.status), filter(&self.result)];
        let refused = |e: rumqttc::ClientError| self.unavailable(e.to_string());
        self.client.subscribe_many(filters).map_err(refused)?;
        let (mut deadline, mut sent) = (Instant::now() + BROKER_LIMIT, false);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match connection.recv_timeout(left) {
                Ok(Ok(event)) => event,
                Ok(Err(e)) => {
                    let mended = Listener::default().mend(&e, &self.connector);
                    let reason = mended.unwrap_or_else(|| explain(&e, &self.connector.options));
                    return Err(self.unavailable(reason));
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.unavailable(self.silence(sent))),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.unavailable("the connection is lost".into()));
                }
            };
            match event {
                Event::Incoming(Packet::SubAck(_)) if !sent => {
                    let publish = &self.client;
                    publish
                        .publish(
                            &self.topic,
                            QoS::AtLeastOnce,
                            false,
                            self.payload.as_bytes(),
                        )
                        .map_err(refused)?;
                    (deadline, sent) = (Instant::now() + limit, true);
                }
                Event::Incoming(Packet::Publish(message)) => {
                    if let Some(answer) = self.answer(&message)? {
                        let _ = self.client.try_disconnect();
                        return Ok(answer);
                    }
                }
                _ => {}
            }
        }
    }

    /// The answer to the command, if this is one; fails if the daemon is away.
    fn answer(&self, message: &Publish) -> Result<Option<Result<String, String>>, BrokerError> {
        if message.topic == self.status {
            let status = String::from_utf8_lossy(&message.payload).into_owned();
            if status == "offline" || status == "stopped" {
                return Err(self.unavailable(format!(
                    "the daemon of device `{}` is {status}; start it",
                    self.device
                )));
            }
            return Ok(None);
        }
        let answer: Option<Answer> = serde_json::from_slice(&message.payload).ok();
        let outcome = |a: Answer| if a.ok { Ok(a.detail) } else { Err(a.detail) };
        Ok(answer.map(outcome))
    }

    fn silence(&self, sent: bool) -> String {
        if sent {
            return format!(
                "the daemon of device `{}` does not answer; is it running with this configuration?",
                self.device
            );
        }
        "it does not confirm the subscription to the answer; may this user read it?".into()
    }

    fn unavailable(&self, reason: String) -> BrokerError {
        BrokerError::Unavailable {
            broker: self.connector.broker.clone(),
            reason,
        }
    }
}
