//! Why there is no connection to the broker, in the operator's words.

use crate::publish::tls::{self, TlsError};
use rumqttc::{ConnectionError, MqttOptions, StateError, mqttbytes};
use std::io::ErrorKind;
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

/// What to do about a port where no broker of MQTT 3.1.1 answers.
const NO_MQTT: &str = "does a broker of MQTT 3.1.1 listen there, and on this port?";

/// Describes the error of a connection made with `options`, with what to do about it if that is known.
pub(super) fn explain(error: &ConnectionError, options: &MqttOptions) -> String {
    let what = describe(error, options);
    tls::hint(error).map_or_else(|| what.clone(), |hint| format!("{what}; {hint}"))
}

fn describe(error: &ConnectionError, options: &MqttOptions) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code as u8, options),
        ConnectionError::Io(e) => match e.kind() {
            ErrorKind::ConnectionRefused => {
                "nothing listens there (connection refused); is the broker running, is the port right?".into()
            }
            ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::UnexpectedEof => "closed the connection".into(),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                format!("cannot be reached ({e}); is this device's network up, is the host in `mqtt.broker` right?")
            }
            _ if is_unknown_name(e) => {
                format!("the host's name is not known ({e}); correct `mqtt.broker`, or see this device's DNS and network")
            }
            _ => e.to_string(),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "does not answer in time".into(),
        ConnectionError::MqttState(e) => describe_state(e, options),
        ConnectionError::NotConnAck(_) => {
            format!("answers CONNECT with another packet than CONNACK; {NO_MQTT}")
        }
        ConnectionError::Tls(e) => format!("TLS failed: {}", with_causes(e)),
        ConnectionError::RequestsDone => error.to_string(),
    }
}

/// Whether a name look-up failed, which has no kind of its own.
fn is_unknown_name(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

fn describe_state(error: &StateError, options: &MqttOptions) -> String {
    match error {
        StateError::Io(e) | StateError::Deserialization(mqttbytes::Error::Io(e)) => {
            format!("the connection is lost ({e})")
        }
        StateError::ConnectionAborted => "closed the connection".into(),
        StateError::AwaitPingResp => {
            let seconds = options.keep_alive().as_secs();
            format!(
                "has not answered a PINGREQ within {seconds} s: it hangs, or the network loses packets"
            )
        }
        StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code)) => {
            refused(*code, options)
        }
        StateError::Deserialization(e) => {
            format!("sends what is not MQTT 3.1.1 ({e}); {NO_MQTT}")
        }
        StateError::Unsolicited(packet) => {
            format!("acknowledges packet {packet}, which was not sent: a fault of the broker")
        }
        StateError::WrongPacket | StateError::InvalidState => format!(
            "sends a packet that a broker of MQTT 3.1.1 does not send at this point; {NO_MQTT}"
        ),
        other => other.to_string(),
    }
}

/// Describes a return code of CONNACK: those of MQTT 3.1.1 (3.2.2.3) and, from brokers that answer so whatever the
/// client speaks, the reason codes of MQTT 5 (3.2.2.2).
fn refused(code: u8, options: &MqttOptions) -> String {
    let id = options.client_id();
    match code {
        1 | 0x84 => {
            "does not take MQTT 3.1.1 (unacceptable protocol version); allow it there, or name another port or broker in `mqtt.broker`".into()
        }
        2 | 0x85 => format!(
            "refuses the client id {id}; set `mqtt.client_id` to one that the broker expects of this device"
        ),
        3 | 0x88 | 0x89 => {
            "says that it is unavailable (server unavailable or busy); it may be starting or full: see its log".into()
        }
        4 | 0x86 | 0x8c => login_refused("refuses user name or password", options),
        5 | 0x87 => login_refused(
            "refuses user name or password, or does not allow this client (not authorised)",
            options,
        ),
        0x8a => format!(
            "has banned this client (banned); lift the ban of {id}, its user name or its address at the broker"
        ),
        0x95 => "refuses CONNECT as too large (packet too large); raise the broker's limit, or shorten `mqtt.client_id`, `mqtt.prefix` and the password".into(),
        0x97 | 0x9f => {
            "has too many clients or connections (quota exceeded); raise the broker's limit, or let fewer devices connect".into()
        }
        0x9c | 0x9d => {
            "sends its clients to another server (server moved); name that one in `mqtt.broker`".into()
        }
        code => format!(
            "refuses the connection with code {code}, which MQTT 3.1.1 does not have; the broker's log says why"
        ),
    }
}

fn login_refused(what: &str, options: &MqttOptions) -> String {
    match options.credentials() {
        Some(_) => format!(
            "{what}; see `mqtt.username`, `mqtt.password_file`, and the broker's access rules for {}",
            options.client_id()
        ),
        None => format!(
            "{what}; none are configured: set `mqtt.username` and `mqtt.password_file`, or `mqtt.client_cert_file` if it wants a certificate"
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_words_and_a_remedy() {
        let mut options = MqttOptions::new("line-3", "broker.example", 1883);
        let words = |code, options: &MqttOptions| {
            let error =
                StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code));
            explain(&ConnectionError::MqttState(error), options)
        };
        for (code, expected) in [
            (1, "does not take MQTT 3.1.1"),
            (2, "refuses the client id line-3; set `mqtt.client_id`"),
            (3, "says that it is unavailable"),
            (4, "none are configured: set `mqtt.username`"),
            (
                5,
                "does not allow this client (not authorised); none are configured",
            ),
            (9, "refuses the connection with code 9"),
            (0x84, "does not take MQTT 3.1.1"),
            (
                0x8a,
                "has banned this client (banned); lift the ban of line-3",
            ),
        ] {
            let said = words(code, &options);
            assert!(said.contains(expected), "{code}: {said}");
        }
        options.set_credentials("station", "secret");
        let said = words(5, &options);
        assert!(
            said.contains("see `mqtt.username`, `mqtt.password_file`, and the broker's access rules for line-3"),
            "{said}"
        );
        assert!(!said.contains("secret"));
        let code =
            ConnectionError::ConnectionRefused(rumqttc::ConnectReturnCode::ServiceUnavailable);
        assert_eq!(explain(&code, &options), words(3, &options));
    }
}
