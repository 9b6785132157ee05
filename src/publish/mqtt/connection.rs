//! The thread that connects, and reconnects.

use super::backoff::{Backoff, spread};
use super::bd_seq::BdSeq;
use super::connector::Connector;
use super::error::explain;
use super::in_flight::MAX_IN_FLIGHT;
use super::shared::{Guard, Shared};
use super::state::State;
use rumqttc::{
    Client, Connection, ConnectionError, Event, Outgoing, Packet, StateError, SubscribeReasonCode,
};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT_S: u64 = 10;
/// Maximum wait between attempts while the publisher is being closed.
const MAX_WAIT_CLOSING: Duration = Duration::from_millis(100);

/// Connects again and again until the publisher is closed. The retry policy lives only here.
pub(super) fn run(connector: &Connector, shared: &Shared) {
    let mut backoff = Backoff::new(connector.backoff_max);
    let mut bd_seq = BdSeq::open(connector.bd_seq_file());
    loop {
        let mut connected_at = None;
        let result = run_once(connector, shared, &mut bd_seq, &mut connected_at);
        let mut state = shared.lock();
        if matches!(&result, Err(ConnectionError::MqttState(e)) if is_oversized(e)) {
            state.subscriptions.suspend(Instant::now(), &shared.broker);
        }
        state.disconnected(Instant::now());
        shared.changed.notify_all();
        if state.is_over() {
            return;
        }
        let lasted = connected_at.map(|at: Instant| at.elapsed());
        let wait = spread(backoff.after(lasted), fastrand::f64());
        if wait_to_reconnect(shared, state, wait, result.err().as_ref()) {
            return;
        }
    }
}

/// Logs the error and waits, for less time while the publisher is being closed; returns whether the
/// publisher is closed.
fn wait_to_reconnect(
    shared: &Shared,
    state: Guard<'_>,
    wait: Duration,
    error: Option<&ConnectionError>,
) -> bool {
    // While the publisher is being closed there is no time for the full wait, and the error was logged before.
    let closing = state.is_closing();
    let wait = if closing {
        wait.min(MAX_WAIT_CLOSING)
    } else {
        wait
    };
    if let Some(e) = error
        && !closing
    {
        let (broker, waiting) = (&shared.broker, state.queue.len());
        let seconds = wait.as_secs_f64();
        log::warn!(
            "broker {broker}: {}; {waiting} events wait, next attempt in {seconds:.1} s",
            explain(e)
        );
    }
    let unchanged = |s: &mut State| s.is_closing() == closing && !s.is_over();
    let state = shared.changed.wait_timeout_while(state, wait, unchanged);
    state.is_ok_and(|(state, _)| state.is_over())
}

/// Whether a message was longer than the limit. A broker sends such messages without asking.
fn is_oversized(error: &StateError) -> bool {
    matches!(
        error,
        StateError::Deserialization(rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_))
    )
}

/// One connection from start to end; notes when the broker accepted it.
fn run_once(
    connector: &Connector,
    shared: &Shared,
    bd_seq: &mut BdSeq,
    connected_at: &mut Option<Instant>,
) -> Result<(), ConnectionError> {
    let number = bd_seq.number();
    // Room for everything in flight, subscriptions, barriers and DISCONNECT.
    let (client, mut connection): (Client, Connection) =
        Client::new(connector.options(number), MAX_IN_FLIGHT + 8);
    connection
        .eventloop
        .network_options
        .set_connection_timeout(CONNECT_TIMEOUT_S);
    for notification in connection.iter() {
        if let Err(e) = &notification
            && connected_at.is_none()
            && may_have_connected(e)
        {
            bd_seq.used();
        }
        match notification? {
            Event::Incoming(Packet::ConnAck(_)) => {
                log::info!("broker {}: connected", shared.broker);
                let now = Instant::now();
                *connected_at = Some(now);
                bd_seq.used();
                shared.lock().connected(client.clone(), number, now);
                shared.work.notify_one();
            }
            Event::Incoming(packet) => incoming(shared, &packet),
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            Event::Outgoing(packet) => outgoing(shared, &packet),
        }
    }
    Ok(())
}

fn incoming(shared: &Shared, packet: &Packet) {
    match packet {
        Packet::PubAck(ack) => {
            shared.lock().acknowledged(ack.pkid, Instant::now());
            shared.wake_all();
        }
        Packet::Publish(p) => shared.received(&p.topic, &p.payload, p.retain),
        Packet::SubAck(ack) => {
            let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
            shared
                .lock()
                .subscribed(ack.pkid, refused, &shared.broker, Instant::now());
            shared.wake_all();
        }
        Packet::UnsubAck(ack) => {
            shared.lock().barrier_answered(ack.pkid, Instant::now());
            shared.wake_all();
        }
        _ => {}
    }
}

fn outgoing(shared: &Shared, packet: &Outgoing) {
    match *packet {
        Outgoing::Publish(id) => shared.lock().sent(id),
        Outgoing::Subscribe(id) => shared.lock().subscriptions.sent(id),
        Outgoing::Unsubscribe(id) => shared.lock().in_flight.barrier_sent(id),
        _ => {}
    }
}

/// Whether the broker may have accepted an attempt that failed before its answer arrived.
fn may_have_connected(error: &ConnectionError) -> bool {
    !matches!(error, ConnectionError::Io(_) | ConnectionError::Tls(_))
}
