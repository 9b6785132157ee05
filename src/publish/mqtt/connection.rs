//! The thread that connects, and connects again.

use super::WINDOW;
use super::backoff::{Backoff, spread};
use super::connect::{Connector, explain};
use super::node::Sessions;
use super::state::Shared;
use rumqttc::{
    Client, Connection, ConnectionError, Event, Outgoing, Packet, StateError, SubscribeReasonCode,
};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT_S: u64 = 10;
/// Between attempts while the last messages wait to be sent.
const CLOSING_WAIT: Duration = Duration::from_millis(100);

/// Connects again and again until the publisher is closed: the one home of the retry policy.
pub(super) fn run(connector: &Connector, shared: &Shared) {
    let mut backoff = Backoff::new(connector.backoff_max);
    let mut sessions = Sessions::open(connector.bd_seq_file());
    loop {
        let mut connected_at = None;
        let result = run_once(connector, shared, &mut sessions, &mut connected_at);
        let mut state = shared.lock();
        if matches!(&result, Err(ConnectionError::MqttState(e)) if is_too_loud(e)) {
            state.subscriptions.close(Instant::now(), &shared.broker);
        }
        state.disconnected(Instant::now());
        shared.changed.notify_all();
        if state.is_over() {
            return;
        }
        let wait = spread(
            backoff.after(connected_at.map(|at: Instant| at.elapsed())),
            fastrand::f64(),
        );
        // While being closed there is no time for the full wait, and the reason has been told.
        let closing = state.is_closing();
        let wait = if closing {
            wait.min(CLOSING_WAIT)
        } else {
            wait
        };
        if let Err(e) = result
            && !closing
        {
            let (broker, waiting) = (&shared.broker, state.queue.len());
            let seconds = wait.as_secs_f64();
            log::warn!(
                "broker {broker}: {}; {waiting} events wait, next attempt in {seconds:.1} s",
                explain(&e)
            );
        }
        let as_before = |s: &mut super::State| s.is_closing() == closing && !s.is_over();
        let state = shared.changed.wait_timeout_while(state, wait, as_before);
        if state.is_ok_and(|(state, _)| state.is_over()) {
            return;
        }
    }
}

/// Whether a message came that is longer than any that is expected. The broker does not ask before it sends one.
fn is_too_loud(error: &StateError) -> bool {
    matches!(
        error,
        StateError::Deserialization(rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_))
    )
}

/// One connection from start to end; notes when the broker let it in.
fn run_once(
    connector: &Connector,
    shared: &Shared,
    sessions: &mut Sessions,
    connected_at: &mut Option<Instant>,
) -> Result<(), ConnectionError> {
    let bd_seq = sessions.number();
    // Room for everything that may be under way, and for the farewell.
    let (client, mut connection): (Client, Connection) =
        Client::new(connector.options(bd_seq), WINDOW + 8);
    connection
        .eventloop
        .network_options
        .set_connection_timeout(CONNECT_TIMEOUT_S);
    for notification in connection.iter() {
        if let Err(e) = &notification
            && connected_at.is_none()
            && may_have_connected(e)
        {
            sessions.used();
        }
        match notification? {
            Event::Incoming(Packet::ConnAck(_)) => {
                log::info!("broker {}: connected", shared.broker);
                let now = Instant::now();
                *connected_at = Some(now);
                sessions.used();
                shared.lock().connected(client.clone(), bd_seq, now);
                shared.work.notify_one();
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                shared.lock().acknowledged(ack.pkid, Instant::now());
                shared.wake_all();
            }
            Event::Incoming(Packet::Publish(p)) => shared.heard(&p.topic, &p.payload, p.retain),
            Event::Incoming(Packet::SubAck(ack)) => {
                let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
                shared
                    .lock()
                    .subscribed(ack.pkid, refused, &shared.broker, Instant::now());
                shared.wake_all();
            }
            Event::Incoming(Packet::UnsubAck(ack)) => {
                shared.lock().answered(ack.pkid, Instant::now());
                shared.wake_all();
            }
            Event::Outgoing(Outgoing::Publish(packet)) => shared.lock().sent(packet),
            Event::Outgoing(Outgoing::Subscribe(packet)) => {
                shared.lock().subscriptions.sent(packet)
            }
            Event::Outgoing(Outgoing::Unsubscribe(packet)) => {
                shared.lock().under_way.fenced(packet)
            }
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the broker may have seen an attempt that failed before it answered.
fn may_have_connected(error: &ConnectionError) -> bool {
    !matches!(error, ConnectionError::Io(_) | ConnectionError::Tls(_))
}
