//! A broker that misbehaves: it takes what a client publishes, and acknowledges it or not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;

#[derive(Default)]
struct Shared {
    /// The return code of CONNACK.
    code: u8,
    ignores_subscriptions: bool,
    acknowledges: AtomicBool,
    connections: AtomicUsize,
    published: Mutex<Vec<(String, Vec<u8>)>>,
}

/// A broker of MQTT 3.1.1 for clients that only publish. It answers CONNECT, SUBSCRIBE and PINGREQ.
pub struct FakeBroker {
    pub port: u16,
    shared: Arc<Shared>,
}

impl FakeBroker {
    /// Listens on a free port, and acknowledges nothing that is published.
    pub fn start() -> Self {
        Self::start_with(Shared::default())
    }

    /// Answers CONNECT with this return code.
    pub fn with_code(code: u8) -> Self {
        Self::start_with(Shared {
            code,
            ..Shared::default()
        })
    }

    /// Acknowledges what is published, and answers no SUBSCRIBE.
    pub fn without_subscriptions() -> Self {
        let broker = Self::start_with(Shared {
            ignores_subscriptions: true,
            ..Shared::default()
        });
        broker.acknowledge();
        broker
    }

    fn start_with(shared: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(shared);
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&for_thread);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, shared }
    }

    /// Acknowledges what is published from now on.
    pub fn acknowledge(&self) {
        self.shared.acknowledges.store(true, Ordering::SeqCst);
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Topic and payload of every message so far.
    pub fn published(&self) -> Vec<(String, Vec<u8>)> {
        let published = self.shared.published.lock();
        published.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers one client until its connection ends.
fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let (header, body) = read_packet(&mut stream)?;
        let answer = match header >> 4 {
            CONNECT => vec![0x20, 2, 0, shared.code],
            SUBSCRIBE if shared.ignores_subscriptions => Vec::new(),
            SUBSCRIBE => vec![0x90, 3, body[0], body[1], 1],
            PINGREQ => vec![0xd0, 0],
            PUBLISH => take(header, &body, shared),
            _ => Vec::new(),
        };
        stream.write_all(&answer)?;
    }
}

/// Records a message; returns its acknowledgement, if it gets one.
fn take(header: u8, body: &[u8], shared: &Shared) -> Vec<u8> {
    let (topic, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
    let has_id = header & 0b110 != 0;
    let payload = &rest[if has_id { 2 } else { 0 }..];
    let message = (
        String::from_utf8_lossy(topic).into_owned(),
        payload.to_vec(),
    );
    let published = shared.published.lock();
    published
        .unwrap_or_else(PoisonError::into_inner)
        .push(message);
    if has_id && shared.acknowledges.load(Ordering::SeqCst) {
        vec![0x40, 2, rest[0], rest[1]]
    } else {
        Vec::new()
    }
}

/// First byte and body of a packet.
fn read_packet(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let header = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((header, body))
}
