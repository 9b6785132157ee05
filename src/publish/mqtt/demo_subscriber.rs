//! A subscriber for the demonstration, which counts the events that arrive as any other program would.

use super::error::{BrokerError, explain};
use super::packet_size::MAX_PACKET_BYTES;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long the broker may take to confirm the subscription.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(10);

/// A payload, or why the connection ended.
type Received = Result<Vec<u8>, String>;

/// A subscription to one topic filter, on a connection of its own.
pub struct DemoSubscriber {
    client: Client,
    payloads: Receiver<Received>,
    broker: String,
}

impl DemoSubscriber {
    /// Connects to a broker without TLS or credentials. Returns when the broker has confirmed the subscription.
    pub fn subscribe(host: &str, port: u16, filter: &str) -> Result<Self, BrokerError> {
        let broker = format!("mqtt://{host}:{port}");
        let unavailable = |reason: String| BrokerError::Unavailable {
            broker: broker.clone(),
            reason,
        };
        let id = format!("constancy-listener-{:08x}", fastrand::u32(..));
        let mut options = MqttOptions::new(id, host, port);
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let (client, connection) = Client::new(options, 16);
        client
            .subscribe(filter, QoS::AtLeastOnce)
            .map_err(|e| unavailable(e.to_string()))?;
        let (sender, payloads) = channel();
        let (confirm, confirmed) = channel();
        thread::spawn(move || receive(connection, &confirm, &sender));
        let subscribed = confirmed.recv_timeout(SUBSCRIBE_LIMIT);
        subscribed.map_err(|_| unavailable("does not confirm the subscription".into()))?;
        Ok(Self {
            client,
            payloads,
            broker,
        })
    }

    /// The next payload; `None` if none arrives within `limit`.
    pub fn next(&self, limit: Duration) -> Result<Option<Vec<u8>>, BrokerError> {
        let unavailable = |reason| BrokerError::Unavailable {
            broker: self.broker.clone(),
            reason,
        };
        match self.payloads.recv_timeout(limit) {
            Ok(received) => received.map(Some).map_err(unavailable),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(unavailable("the connection is lost".into()))
            }
        }
    }
}

/// Forwards payloads until the connection ends, or nobody takes them.
fn receive(mut connection: Connection, confirm: &Sender<()>, payloads: &Sender<Received>) {
    let options = connection.eventloop.mqtt_options.clone();
    for notification in connection.iter() {
        let received = match notification {
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                let _ = confirm.send(());
                continue;
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => Ok(publish.payload.to_vec()),
            Ok(_) => continue,
            Err(e) => Err(explain(&e, &options)),
        };
        let failed = received.is_err();
        if payloads.send(received).is_err() || failed {
            return;
        }
    }
}

impl Drop for DemoSubscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}
