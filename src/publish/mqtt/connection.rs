//! The thread that connects, and reconnects.

use super::backoff::{Backoff, spread};
use super::bd_seq::BdSeq;
use super::connector::Connector;
use super::error::explain;
use super::in_flight::MAX_IN_FLIGHT;
use super::listener::Listener;
use super::memory::Memory;
use super::probe::EXPOSED_PASSWORD;
use super::shared::{Guard, Shared};
use super::state::{Ending, Owed, State};
use super::takeovers::{End, Takeovers};
use rumqttc::{
    Client, Connection, ConnectionError, Event, Outgoing, Packet, StateError, SubscribeReasonCode,
};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT_S: u64 = 10;

/// Why a connection ended.
enum Failure {
    Client(ConnectionError),
    /// The broker has owed something for too long.
    Owed(Owed),
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    fn explain(&self, connector: &Connector) -> String {
        match self {
            Self::Client(e) => explain(e, &connector.options),
            Self::Owed(Owed::Acknowledgement(since)) => format!(
                "has acknowledged nothing for {} s, and messages are sent again",
                since.as_secs()
            ),
            Self::Owed(Owed::Subscription(filter, since)) => format!(
                "has not answered the subscription to {filter} for {} s, and it is sent again on a new connection",
                since.as_secs()
            ),
        }
    }

    fn ending(&self) -> Ending {
        match self {
            Self::Client(e) if is_closed_by_broker(e) => Ending::Closed,
            _ => Ending::Other,
        }
    }

    /// Whether a message was longer than the limit. A broker sends such messages without asking.
    fn is_oversized(&self) -> bool {
        matches!(
            self,
            Self::Client(ConnectionError::MqttState(StateError::Deserialization(
                rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_)
            )))
        )
    }
}

/// Connects again and again until the publisher is closed. The retry policy lives only here.
pub(super) fn run(mut connector: Connector, shared: &Shared) {
    if connector.exposes_password {
        log::warn!("broker {}: {EXPOSED_PASSWORD}", shared.broker);
    }
    let mut memory = start_memory(&mut connector, shared);
    let (mut backoff, mut takeovers) = (Backoff::new(connector.backoff_max), Takeovers::default());
    let mut bd_seq = BdSeq::open(connector.bd_seq_file());
    let mut listener = Listener::default();
    loop {
        let mut connected_at = None;
        let result = run_once(
            &connector,
            shared,
            &mut memory,
            &mut bd_seq,
            &mut connected_at,
        );
        let failure = result.err();
        let reason = failure
            .as_ref()
            .map(|f| reason(f, connected_at.is_some(), &connector, &mut listener, shared));
        let mut state = shared.lock();
        let now = Instant::now();
        if connected_at.is_some() && failure.as_ref().is_some_and(Failure::is_oversized) {
            state.subscriptions.suspend(now, &shared.broker);
        }
        let ending = failure.as_ref().map_or(Ending::Other, Failure::ending);
        let taken_over = state.disconnected(ending, now);
        shared.changed.notify_all();
        if state.is_over() {
            return;
        }
        let lasted = connected_at.map(|at: Instant| now.saturating_duration_since(at));
        let end = if taken_over { End::Closed } else { End::Other };
        if takeovers.ended(end, lasted) {
            log_takeover(&connector);
        }
        let wait = if state.is_closing() {
            backoff.while_closing()
        } else {
            spread(backoff.after(lasted), fastrand::f64())
        };
        if wait_to_reconnect(shared, state, wait, reason) {
            return;
        }
    }
}

/// Why there is no connection. If the broker has not even accepted one, what listens there may be no broker, or one that
/// speaks TLS when the address says otherwise, or the reverse.
fn reason(
    failure: &Failure,
    was_connected: bool,
    connector: &Connector,
    listener: &mut Listener,
    shared: &Shared,
) -> String {
    if was_connected {
        *listener = Listener::default();
    } else if let Failure::Client(error) = failure
        && !shared.lock().is_closing()
        && let Some(mend) = listener.mend(error, connector)
    {
        return mend;
    }
    failure.explain(connector)
}

/// Opens what is remembered over restarts, and makes deletions of the topics that are published no longer due.
fn start_memory(connector: &mut Connector, shared: &Shared) -> Memory {
    let (memory, gone) = connector.remember();
    let mut state = shared.lock();
    for topic in gone {
        log::info!(
            "broker {}: {topic} is published no longer, and its retained message is deleted",
            shared.broker
        );
        state.retained.delete(topic);
    }
    memory
}

fn log_takeover(connector: &Connector) {
    log::warn!(
        "broker {}: has closed the connection again and again soon after it was made: another client seems to use the same client id, {}. Give each device its own `mqtt.client_id`, or leave the key out. If no other client has it, the broker's log says why it closes connections",
        connector.broker,
        connector.options.client_id()
    );
}

/// Whether the broker, or something on the way, closed the connection.
fn is_closed_by_broker(error: &ConnectionError) -> bool {
    let closed = |e: &std::io::Error| {
        matches!(
            e.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        )
    };
    match error {
        ConnectionError::Io(e)
        | ConnectionError::MqttState(
            StateError::Io(e) | StateError::Deserialization(rumqttc::mqttbytes::Error::Io(e)),
        ) => closed(e),
        ConnectionError::MqttState(StateError::ConnectionAborted) => true,
        _ => false,
    }
}

/// Logs the reason and waits; returns whether the publisher is closed.
fn wait_to_reconnect(
    shared: &Shared,
    state: Guard<'_>,
    wait: Duration,
    reason: Option<String>,
) -> bool {
    let closing = state.is_closing();
    // While the publisher is being closed, the error was logged before.
    if let Some(reason) = reason.filter(|_| !closing) {
        let (broker, waiting) = (&shared.broker, state.queue.len());
        let seconds = wait.as_secs_f64();
        log::warn!(
            "broker {broker}: {reason}; {waiting} events wait, next attempt in {seconds:.1} s"
        );
    }
    let unchanged = |s: &mut State| s.is_closing() == closing && !s.is_over();
    let state = shared.changed.wait_timeout_while(state, wait, unchanged);
    state.is_ok_and(|(state, _)| state.is_over())
}

/// One connection from start to end; notes when the broker accepted it.
fn run_once(
    connector: &Connector,
    shared: &Shared,
    memory: &mut Memory,
    bd_seq: &mut BdSeq,
    connected_at: &mut Option<Instant>,
) -> Result<(), Failure> {
    // The client asks for a sign of life at this interval, so something happens in this loop at least as often.
    let patience = connector.keep_alive * 2;
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
                let mut state = shared.lock();
                if state.is_over() {
                    // A reload has replaced this publisher while it was connecting.
                    return Ok(());
                }
                state.connected(client.clone(), number, now);
                drop(state);
                shared.work.notify_one();
            }
            Event::Incoming(packet) => incoming(shared, &packet),
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            Event::Outgoing(packet) => outgoing(shared, &packet),
        }
        let mut state = shared.lock();
        let deleted = state.take_deleted();
        let owed = state.owed(Instant::now(), patience);
        drop(state);
        if !deleted.is_empty() {
            memory.deleted(&connector.remembered_as(), &deleted);
        }
        if let Some(owed) = owed {
            return Err(Failure::Owed(owed));
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
