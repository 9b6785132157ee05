//! Why there is no connection to the broker, in the operator's words.

use crate::publish::tls::{self, TlsError};
use rumqttc::{ConnectReturnCode, ConnectionError};
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no connection to the broker.
#[derive(Debug, Error)]
pub enum BrokerError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("`mqtt.broker` {0}")]
    Address(String),
    #[error("`mqtt.password_file` {path}: {source}")]
    Password {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("broker {broker}: {reason}")]
    Unavailable { broker: String, reason: String },
}

/// Describes a connection error, with what to do about it if that is known.
pub(super) fn explain(error: &ConnectionError) -> String {
    let what = describe(error);
    tls::hint(error).map_or_else(|| what.clone(), |hint| format!("{what}; {hint}"))
}

fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "refuses user name or password; see `mqtt.username` and `mqtt.password_file`".into(),
        ConnectionError::ConnectionRefused(code) => format!("refuses the connection: {code:?}"),
        ConnectionError::Io(e) => match e.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "nothing listens there (connection refused); is the broker running, is the port right?".into()
            }
            std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::UnexpectedEof => "closed the connection".into(),
            _ => e.to_string(),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "does not answer in time".into(),
        ConnectionError::MqttState(
            rumqttc::StateError::Io(e)
            | rumqttc::StateError::Deserialization(rumqttc::mqttbytes::Error::Io(e)),
        ) => format!("the connection is lost ({e})"),
        ConnectionError::MqttState(rumqttc::StateError::ConnectionAborted) => "closed the connection".into(),
        ConnectionError::Tls(e) => format!("TLS failed: {}", with_causes(e)),
        other => other.to_string(),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
