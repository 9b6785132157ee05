//! An MQTT client that records what it receives.

use super::{Broker, LIMIT, wait_for};
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, Publish, QoS};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A received message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    /// The broker had stored it before the subscription.
    pub retained: bool,
    /// When this process received it.
    pub at: SystemTime,
}

impl Message {
    fn new(publish: Publish) -> Self {
        Self {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retained: publish.retain,
            at: SystemTime::now(),
        }
    }

    /// The payload; panics if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("the payload is JSON")
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub fn is_event(&self) -> bool {
        self.topic.ends_with("/event")
    }
}

/// The messages so far, shared with the thread that receives them.
#[derive(Default)]
struct Log {
    messages: Mutex<Vec<Message>>,
    more: Condvar,
    /// The connection has ended.
    closed: AtomicBool,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records messages until the connection ends; sends on `subscribed` when the broker confirms the subscription.
    fn record(&self, mut connection: Connection, subscribed: &Sender<()>) {
        for notification in connection.iter() {
            match notification {
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(())),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    self.lock().push(Message::new(publish));
                    self.more.notify_all();
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.closed.store(true, Ordering::Release);
    }
}

fn options(broker: &Broker) -> MqttOptions {
    MqttOptions::new(
        format!("subscriber-{}", fastrand::u32(..)),
        "127.0.0.1",
        broker.port,
    )
}

/// Publishes one message as a user. Returns when the broker has acknowledged it or closed the connection.
pub fn publish_as(broker: &Broker, user: &str, password: &str, topic: &str, payload: &str) {
    let mut options = options(broker);
    options.set_credentials(user, password);
    let (client, mut connection) = Client::new(options, 4);
    client
        .publish(topic, QoS::AtLeastOnce, false, payload)
        .expect("publish");
    let over = |n: &Result<Event, _>| matches!(n, Err(_) | Ok(Event::Incoming(Packet::PubAck(_))));
    let _ = connection.iter().find(over);
}

/// A client that records every message on its topics, in the order of arrival.
pub struct Subscriber {
    log: Arc<Log>,
    client: Client,
}

impl Subscriber {
    /// Subscribes to `constancy/#`; the broker has confirmed it on return.
    pub fn new(broker: &Broker) -> Self {
        Self::with_filter(broker, "constancy/#")
    }

    /// Subscribes to the topics that match `filter`.
    pub fn with_filter(broker: &Broker, filter: &str) -> Self {
        Self::with_options(options(broker), filter)
    }

    /// Subscribes as a user.
    pub fn with_login(broker: &Broker, filter: &str, user: &str, password: &str) -> Self {
        let mut options = options(broker);
        options.set_credentials(user, password);
        Self::with_options(options, filter)
    }

    fn with_options(mut options: MqttOptions, filter: &str) -> Self {
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(8 << 20, 8 << 20);
        let (client, connection) = Client::new(options, 16);
        client
            .subscribe(filter, QoS::AtLeastOnce)
            .expect("subscription is sent");
        let log = Arc::new(Log::default());
        let (subscribed, confirmed) = std::sync::mpsc::channel();
        let for_thread = Arc::clone(&log);
        std::thread::spawn(move || for_thread.record(connection, &subscribed));
        confirmed
            .recv_timeout(LIMIT)
            .expect("the broker confirms the subscription");
        Self { log, client }
    }

    /// Waits until `ready` returns something of the messages so far; panics with `what` after [`LIMIT`].
    pub fn wait<T>(&self, what: &str, ready: impl FnMut(&[Message]) -> Option<T>) -> T {
        self.wait_up_to(LIMIT, what, ready)
    }

    /// [`wait`](Self::wait) with another limit.
    pub fn wait_up_to<T>(
        &self,
        limit: Duration,
        what: &str,
        mut ready: impl FnMut(&[Message]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        let mut messages = self.log.lock();
        loop {
            if let Some(found) = ready(&messages) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {} s for {what}; {} messages, the last: {:?}",
                limit.as_secs(),
                messages.len(),
                last_three(&messages)
            );
            let woken = self.log.more.wait_timeout(messages, left);
            messages = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a message that satisfies `fits`, on a topic that ends with `topic`; returns the first one.
    pub fn wait_message(&self, topic: &str, fits: impl Fn(&Message) -> bool) -> Message {
        self.wait(&format!("a message on …{topic}"), |messages| {
            let mut on_topic = messages.iter().filter(|m| m.topic.ends_with(topic));
            on_topic.find(|m| fits(m)).cloned()
        })
    }

    /// Waits until there are `count` events; returns all events so far.
    pub fn wait_events(&self, count: usize) -> Vec<Value> {
        self.wait(&format!("{count} events"), |messages| {
            (messages.iter().filter(|m| m.is_event()).count() >= count).then_some(())
        });
        self.events()
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.log.lock().clone()
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        let messages = self.log.lock();
        let events = messages.iter().filter(|m| m.is_event());
        events.map(Message::json).collect()
    }

    /// Waits until every message that the broker has accepted so far has arrived. The filter must match `constancy/#`.
    pub fn catch_up(&self) {
        let topic = format!("constancy/catch-up-{}", fastrand::u64(..));
        self.publish(&topic, b"", false);
        self.wait_message(&topic, |_| true);
    }

    /// Waits until the connection to a broker that was killed has ended, after the last message that it sent.
    pub fn wait_closed(&self) {
        wait_for("the end of the connection", || {
            self.log.closed.load(Ordering::Acquire).then_some(())
        });
    }

    /// Publishes a message with QoS 1.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        self.client
            .publish(topic, QoS::AtLeastOnce, retain, payload)
            .expect("publish");
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}

fn last_three(messages: &[Message]) -> Vec<String> {
    let last = messages.iter().rev().take(3);
    last.map(|m| format!("{} {}", m.topic, m.text())).collect()
}
