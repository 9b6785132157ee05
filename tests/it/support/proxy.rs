//! A TCP proxy in front of a broker: a network that can be cut.

use super::Broker;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Forwards connections from its own port to a broker's. It holds its port for the rest of the process, so no other
/// broker can take it.
pub struct Proxy {
    /// The broker's port; 0 if connections are not forwarded.
    to: Arc<AtomicU16>,
    /// Both ends of every connection.
    streams: Arc<Mutex<Vec<TcpStream>>>,
    held: Arc<Gate>,
}

/// Lets bytes pass, or holds them.
#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.changed.notify_all();
    }

    fn wait_open(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(held, |held| *held));
    }
}

impl Proxy {
    /// Listens on `port`, and closes every connection until [`connect_to`](Self::connect_to).
    pub fn without_broker(port: u16) -> Self {
        Self::start(port, 0)
    }

    /// Listens on `port` and forwards to the broker.
    pub fn to_broker(port: u16, broker: &Broker) -> Self {
        Self::start(port, broker.port)
    }

    fn start(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let proxy = Self {
            to: Arc::new(AtomicU16::new(to)),
            streams: Arc::default(),
            held: Arc::default(),
        };
        let (to, streams) = (Arc::clone(&proxy.to), Arc::clone(&proxy.streams));
        let gate = Arc::clone(&proxy.held);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst)));
                // Without a broker, `near` is closed here.
                if let Ok(far) = far {
                    let ends = forward(near, far, &gate).expect("handles of a connection");
                    let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
                    streams.extend(ends);
                }
            }
        });
        proxy
    }

    /// Breaks every connection and forwards no new ones.
    pub fn close(&self) {
        self.to.store(0, Ordering::SeqCst);
        self.drop_connections();
    }

    /// Holds every byte in both directions, on connections that stay open, or lets them pass again.
    pub fn hold(&self, held: bool) {
        self.held.set(held);
    }

    /// Forwards new connections to this broker.
    pub fn connect_to(&self, broker: &Broker) {
        self.to.store(broker.port, Ordering::SeqCst);
    }

    /// Breaks every connection with everything in flight. New ones are forwarded.
    pub fn drop_connections(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Copies in both directions until either end closes. Returns a handle of each end.
fn forward(near: TcpStream, far: TcpStream, gate: &Arc<Gate>) -> std::io::Result<[TcpStream; 2]> {
    let ends = [near.try_clone()?, far.try_clone()?];
    copy(near.try_clone()?, far.try_clone()?, Arc::clone(gate));
    copy(far, near, Arc::clone(gate));
    Ok(ends)
}

fn copy(mut from: TcpStream, mut to: TcpStream, gate: Arc<Gate>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            gate.wait_open();
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
