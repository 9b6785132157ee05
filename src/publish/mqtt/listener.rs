//! Hearing what is published, as any other program would: for the demonstration, which counts what arrived.

use super::{BrokerError, explain};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long the broker may take to confirm the subscription.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(10);

/// A subscription to one topic filter.
pub struct Listener {
    client: Client,
    payloads: Receiver<Result<Vec<u8>, String>>,
    broker: String,
}

impl Listener {
    /// Connects to a broker without TLS or credentials; subscribed when it returns.
    pub fn subscribe(host: &str, port: u16, filter: &str) -> Result<Self, BrokerError> {
        let broker = format!("mqtt://{host}:{port}");
        let unavailable = |reason: String| BrokerError::Unavailable {
            broker: broker.clone(),
            reason,
        };
        let id = format!("constancy-listener-{:08x}", fastrand::u32(..));
        let (client, mut connection) = Client::new(MqttOptions::new(id, host, port), 16);
        client
            .subscribe(filter, QoS::AtLeastOnce)
            .map_err(|e| unavailable(e.to_string()))?;
        let (sender, payloads) = channel();
        let (confirm, confirmed) = channel();
        thread::spawn(move || {
            for notification in connection.iter() {
                let heard = match notification {
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        let _ = confirm.send(());
                        continue;
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => Ok(publish.payload.to_vec()),
                    Ok(_) => continue,
                    Err(e) => Err(explain(&e)),
                };
                let failed = heard.is_err();
                if sender.send(heard).is_err() || failed {
                    return;
                }
            }
        });
        let subscribed = confirmed.recv_timeout(SUBSCRIBE_LIMIT);
        subscribed.map_err(|_| unavailable("does not confirm the subscription".into()))?;
        Ok(Self {
            client,
            payloads,
            broker,
        })
    }

    /// The next payload, waiting `limit` at most.
    pub fn next(&self, limit: Duration) -> Result<Option<Vec<u8>>, BrokerError> {
        let unavailable = |reason| BrokerError::Unavailable {
            broker: self.broker.clone(),
            reason,
        };
        match self.payloads.recv_timeout(limit) {
            Ok(heard) => heard.map(Some).map_err(unavailable),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(unavailable("the connection is lost".into()))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}
