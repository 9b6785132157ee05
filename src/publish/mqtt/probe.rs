//! One connection attempt, for `constancy check`.

use super::connector::Connector;
use super::error::{BrokerError, explain};
use super::listener::Listener;
use crate::config::Settings;
use rumqttc::{Client, Event, MqttOptions};
use std::time::Duration;

/// What is wrong with a password on a connection without TLS.
pub(super) const EXPOSED_PASSWORD: &str = "the password crosses the network unencrypted, since this is mqtt:// and not mqtts://; use TLS outside of a network that you trust";

/// Connects once and disconnects again, waiting at most `limit`; publishes nothing. Returns the broker's address, and what is
/// unwise about the connection.
pub fn probe(settings: &Settings, limit: Duration) -> Result<String, BrokerError> {
    let connector = Connector::new(settings)?;
    let (configured, address) = (&connector.options, &connector.address);
    // Its own client id, so that a running daemon keeps its connection; and no will.
    let client_id = format!("{}-check", configured.client_id());
    let mut options = MqttOptions::new(client_id, address.host.clone(), address.port);
    options.set_transport(configured.transport());
    if let Some(login) = configured.credentials() {
        options.set_credentials(login.username, login.password);
    }
    let (client, mut connection) = Client::new(options, 8);
    connection
        .eventloop
        .network_options
        .set_connection_timeout(limit.as_secs().max(1));
    match connection.iter().next() {
        Some(Ok(_)) => {
            let _ = client.try_disconnect();
            for notification in connection.iter() {
                if !matches!(notification, Ok(Event::Incoming(_))) {
                    break;
                }
            }
            let broker = connector.broker;
            Ok(if connector.exposes_password {
                format!("{broker}; warning: {EXPOSED_PASSWORD}")
            } else {
                broker
            })
        }
        Some(Err(e)) => Err(BrokerError::Unavailable {
            reason: Listener::default()
                .mend(&e, &connector)
                .unwrap_or_else(|| explain(&e, &connector.options)),
            broker: connector.broker,
        }),
        None => Err(BrokerError::Unavailable {
            reason: "no answer".into(),
            broker: connector.broker,
        }),
    }
}
