//! A real mosquitto on a port of its own, and a client that remembers what it hears.

use super::{LIMIT, wait_for};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}

pub struct Broker {
    pub port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// One that lets everybody in.
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    pub fn start_on(port: u16) -> Self {
        Self::with_config(port, "allow_anonymous true\n", |_| ())
    }

    /// One with `lines` in its configuration, in which `FOLDER` stands for its own folder; `prepare` may put files there.
    pub fn with_config(port: u16, lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("the broker's folder");
        prepare(folder.path());
        let lines = lines.replace("FOLDER", &folder.path().to_string_lossy());
        // As root, mosquitto would change to a user who may not read the folder. It hands on what it acknowledges before it
        // acknowledges it, so that killing it loses nothing of that.
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\nmax_queued_messages 0\nmax_inflight_messages 0\n{lines}"
        );
        let path = folder.path().join("mosquitto.conf");
        std::fs::write(&path, config).expect("the broker's configuration");
        let program = if Path::new("/usr/sbin/mosquitto").exists() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let mut child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto: run tools/setup.sh");
        wait_for("mosquitto to listen", || {
            assert!(
                child.try_wait().ok().flatten().is_none(),
                "mosquitto ended at once"
            );
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            port,
            child,
            _folder: folder,
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Pulls its plug.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// A way to a broker by another port, which can be cut.
pub struct Link {
    /// The broker's port; 0 leads nowhere.
    to: Arc<AtomicU16>,
    under_way: Arc<Mutex<Vec<TcpStream>>>,
}

impl Link {
    /// `port` leads nowhere yet, and no other broker can get it.
    pub fn nowhere(port: u16) -> Self {
        Self::to(port, 0)
    }

    /// From now on `port` leads to the broker.
    pub fn open(port: u16, to: &Broker) -> Self {
        Self::to(port, to.port)
    }

    fn to(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let to = Arc::new(AtomicU16::new(to));
        let to_port = Arc::clone(&to);
        let under_way = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&under_way);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to_port.load(Ordering::SeqCst)))
                else {
                    continue;
                };
                let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else {
                    return;
                };
                if let Ok(both) = near.try_clone().and_then(|n| Ok([n, far.try_clone()?])) {
                    shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(both);
                }
                Self::copy(near, far);
                Self::copy(far_again, near_again);
            }
        });
        Self { to, under_way }
    }

    fn copy(mut from: TcpStream, mut to: TcpStream) {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    /// Breaks every connection, and lets none through.
    pub fn shut(&self) {
        self.to.store(0, Ordering::SeqCst);
        self.cut();
    }

    /// From now on the way leads to this broker.
    pub fn lead_to(&self, to: &Broker) {
        self.to.store(to.port, Ordering::SeqCst);
    }

    /// Breaks every connection, with whatever is on the way; new ones are possible.
    pub fn cut(&self) {
        for stream in self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    /// The broker had kept it.
    pub retained: bool,
    pub at: SystemTime,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("the payload is JSON")
    }

    pub fn is_event(&self) -> bool {
        self.topic.ends_with("/event")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

#[derive(Default)]
struct Log {
    heard: Mutex<Vec<Heard>>,
    more: Condvar,
}

fn options(broker: &Broker) -> MqttOptions {
    MqttOptions::new(
        format!("subscriber-{}", fastrand::u32(..)),
        "127.0.0.1",
        broker.port,
    )
}

/// Publishes one message as a user, and returns when the broker has taken it, dropped it, or hung up.
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

/// Hears everything under `constancy/`.
pub struct Subscriber {
    log: Arc<Log>,
    client: Client,
}

impl Subscriber {
    /// Connected and subscribed when it returns.
    pub fn new(broker: &Broker) -> Self {
        Self::of(broker, "constancy/#")
    }

    /// Of what fits a filter.
    pub fn of(broker: &Broker, filter: &str) -> Self {
        Self::with(options(broker), filter)
    }

    /// With user and password.
    pub fn login(broker: &Broker, filter: &str, user: &str, password: &str) -> Self {
        let mut options = options(broker);
        options.set_credentials(user, password);
        Self::with(options, filter)
    }

    fn with(mut options: MqttOptions, filter: &str) -> Self {
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(8 << 20, 8 << 20);
        let (client, mut connection) = Client::new(options, 16);
        client
            .subscribe(filter, QoS::AtLeastOnce)
            .expect("subscription is sent");
        let log = Arc::new(Log::default());
        let (subscribed, ready) = std::sync::mpsc::channel();
        let for_thread = Arc::clone(&log);
        std::thread::spawn(move || {
            for notification in connection.iter() {
                match notification {
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(())),
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        let heard = Heard {
                            topic: p.topic,
                            payload: p.payload.to_vec(),
                            qos: p.qos as u8,
                            retained: p.retain,
                            at: SystemTime::now(),
                        };
                        for_thread
                            .heard
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(heard);
                        for_thread.more.notify_all();
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        ready
            .recv_timeout(LIMIT)
            .expect("the broker confirms the subscription");
        Self { log, client }
    }

    /// Waits until what was heard gives something; panics with `what` after [`LIMIT`].
    pub fn wait<T>(&self, what: &str, ready: impl FnMut(&[Heard]) -> Option<T>) -> T {
        self.wait_long(what, LIMIT, ready)
    }

    pub fn wait_long<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&[Heard]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        let mut heard = self
            .log
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = ready(&heard) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let tail: Vec<String> = heard
                .iter()
                .rev()
                .take(3)
                .map(|h| format!("{} {}", h.topic, h.text()))
                .collect();
            assert!(
                !left.is_zero(),
                "waited {} s for {what}; heard {}, last {tail:?}",
                limit.as_secs(),
                heard.len()
            );
            heard = self
                .log
                .more
                .wait_timeout(heard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for a message on a topic that ends so, and which `fits`.
    pub fn message(&self, topic: &str, fits: impl Fn(&Heard) -> bool) -> Heard {
        let what = format!("a message on …{topic}");
        self.wait(&what, |heard| {
            heard
                .iter()
                .find(|h| h.topic.ends_with(topic) && fits(h))
                .cloned()
        })
    }

    /// Publishes something, as any other program would.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        self.client
            .publish(topic, QoS::AtLeastOnce, retain, payload)
            .expect("publish");
    }

    /// Everything that was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.log
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The events that were heard so far.
    pub fn events(&self) -> Vec<Value> {
        let heard = self
            .log
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        heard
            .iter()
            .filter(|h| h.is_event())
            .map(Heard::json)
            .collect()
    }

    /// Waits for `count` events.
    pub fn wait_events(&self, count: usize) -> Vec<Value> {
        self.wait(&format!("{count} events"), |heard| {
            (heard.iter().filter(|h| h.is_event()).count() >= count).then_some(())
        });
        self.events()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}
