//! What listens at the broker's address, when it does not accept a connection: a broker that speaks TLS where the address
//! says `mqtt://`, one that does not where it says `mqtts://`, or no broker at all.
//!
//! Most brokers close such a connection without a word. So it is found out with connections of its own: one that begins
//! with MQTT's CONNECT, without credentials, and one that begins with TLS.

use super::connector::Connector;
use crate::config::BrokerAddress;
use crate::publish::tls;
use crate::text::one_line;
use rumqttc::{ConnectionError, StateError, mqttbytes};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// For the connection, and for the answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Enough of an answer to tell what it is.
const ANSWER_BYTES: usize = 256;
/// The most that is quoted of it.
const QUOTED_CHARS: usize = 60;

/// What listens there.
#[derive(Debug, PartialEq, Eq)]
enum Speaks {
    Mqtt,
    Tls,
    Http,
    /// Something else, which began with these words.
    Words(String),
}

/// What was found out about the broker's address since there was a connection.
#[derive(Debug, Default)]
pub(super) struct Listener {
    failures: u32,
    found: Option<Speaks>,
}

impl Listener {
    /// How to mend `error`, which an attempt to connect ended with, if the reason is what listens there. Asks it after the
    /// first failure, the second, the fourth and so on, until it has answered.
    pub(super) fn mend(
        &mut self,
        error: &ConnectionError,
        connector: &Connector,
    ) -> Option<String> {
        if !is_unclear(error) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.found.is_none() && self.failures.is_power_of_two() {
            self.found = ask(&connector.address, &connector.options.client_id());
        }
        mend(self.found.as_ref()?, &connector.address)
    }
}

/// Whether `error` may come from something that is no broker, or not one of this scheme.
fn is_unclear(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::Io(e) => matches!(
            e.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        ),
        ConnectionError::Tls(_) => tls::hint(error).is_none(),
        ConnectionError::MqttState(StateError::Deserialization(
            mqttbytes::Error::InvalidConnectReturnCode(_),
        )) => false,
        ConnectionError::MqttState(_)
        | ConnectionError::NetworkTimeout
        | ConnectionError::NotConnAck(_) => true,
        _ => false,
    }
}

fn mend(speaks: &Speaks, address: &BrokerAddress) -> Option<String> {
    let port = address.port;
    match (speaks, address.tls) {
        (Speaks::Mqtt, false) | (Speaks::Tls, true) => None,
        (Speaks::Tls, false) => Some(format!(
            "port {port} speaks TLS, and `mqtt.broker` begins with mqtt://: write mqtts://, or name the broker's port without TLS"
        )),
        (Speaks::Mqtt, true) => Some(format!(
            "port {port} speaks MQTT without TLS, and `mqtt.broker` begins with mqtts://: write mqtt://, or name the broker's port for TLS (mostly 8883)"
        )),
        (Speaks::Http, _) => Some(format!(
            "a web server answers on port {port}: name the broker's MQTT port in `mqtt.broker` (mostly 1883, with TLS 8883), not its port for WebSockets or administration"
        )),
        (Speaks::Words(words), _) => Some(format!(
            "what listens on port {port} is no MQTT broker, its answer is \"{words}\": see host and port in `mqtt.broker`"
        )),
    }
}

/// `None` if nothing answers.
fn ask(address: &BrokerAddress, client_id: &str) -> Option<Speaks> {
    // Its own client id, so that nobody's connection is taken over.
    let connect = connect_packet(&format!("{client_id}-probe"));
    let answered = |first: Option<Vec<u8>>| recognise(&answer(address, &first?)?);
    answered(connect).or_else(|| answered(tls::client_hello(&address.host)))
}

/// What comes back for `first`.
fn answer(address: &BrokerAddress, first: &[u8]) -> Option<Vec<u8>> {
    let to = (address.host.as_str(), address.port).to_socket_addrs();
    let mut stream = to
        .ok()?
        .find_map(|to| TcpStream::connect_timeout(&to, LIMIT).ok())?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    stream.write_all(first).ok()?;
    let mut answer = vec![0; ANSWER_BYTES];
    let length = stream.read(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

fn recognise(answer: &[u8]) -> Option<Speaks> {
    match answer {
        [] => None,
        // A record with a handshake or an alert, of any version (RFC 8446, 5.1).
        [0x15 | 0x16, 3, ..] => Some(Speaks::Tls),
        // CONNACK, accepting or refusing.
        [0x20, ..] => Some(Speaks::Mqtt),
        _ if answer.starts_with(b"HTTP/") || answer.starts_with(b"<") => Some(Speaks::Http),
        _ => {
            let text = String::from_utf8_lossy(answer);
            let line = text.lines().next().unwrap_or_default();
            let words: String = line.chars().take(QUOTED_CHARS).collect();
            Some(Speaks::Words(one_line(&words).into_owned()))
        }
    }
}

/// CONNECT of MQTT 3.1.1 (3.1) with a clean session, and without credentials or a will.
fn connect_packet(client_id: &str) -> Option<Vec<u8>> {
    let mut packet = b"\x10\x00\x00\x04MQTT\x04\x02\x00\x1e".to_vec();
    let id = client_id.as_bytes();
    packet.extend(u16::try_from(id.len()).ok()?.to_be_bytes());
    packet.extend(id);
    // One byte of length is enough for every id up to here; a longer one is no use for this.
    packet[1] = u8::try_from(packet.len() - 2).ok().filter(|n| *n < 128)?;
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// The mend for an address where `greeting` comes back, whatever is sent.
    fn mend_for(greeting: &'static [u8], tls: bool) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 16]);
                let _ = stream.write_all(greeting);
            }
        });
        let address = BrokerAddress {
            host: "127.0.0.1".into(),
            port,
            tls,
        };
        ask(&address, "line-3").and_then(|speaks| mend(&speaks, &address))
    }

    #[test]
    fn what_listens_is_recognised_from_what_comes_back() {
        let alert = b"\x15\x03\x03\x00\x02\x02\x46";
        let connack = b"\x20\x02\x00\x05";
        for (greeting, tls, expected) in [
            (
                &alert[..],
                false,
                Some("speaks TLS, and `mqtt.broker` begins with mqtt://: write mqtts://"),
            ),
            (alert, true, None),
            (connack, false, None),
            (
                connack,
                true,
                Some(
                    "speaks MQTT without TLS, and `mqtt.broker` begins with mqtts://: write mqtt://",
                ),
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n",
                false,
                Some("a web server answers on port"),
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n",
                true,
                Some("a web server answers on port"),
            ),
            (
                b"SSH-2.0-OpenSSH_9.2\x1b[2J\r\n",
                false,
                Some("is no MQTT broker, its answer is \"SSH-2.0-OpenSSH_9.2\\u{1b}[2J\""),
            ),
            (b"", false, None),
        ] {
            let mend = mend_for(greeting, tls);
            match expected {
                Some(expected) => assert!(
                    mend.as_ref().is_some_and(|m| m.contains(expected)),
                    "{mend:?}"
                ),
                None => assert_eq!(mend, None),
            }
        }
    }

    #[test]
    fn the_packet_that_asks_is_a_connect() {
        let packet = connect_packet("ab").expect("it is short");
        assert_eq!(packet, b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x02ab");
        assert_eq!(connect_packet(&"x".repeat(200)), None);
    }
}
