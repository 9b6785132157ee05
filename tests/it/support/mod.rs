//! What the tests share.
//!
//! A test of the daemon starts a [`Broker`], a [`Subscriber`] on it, and the daemon itself, a [`Setup`] with its
//! configuration turned into a [`Daemon`]:
//!
//! ```ignore
//! let broker = Broker::start();
//! let subscriber = Subscriber::new(&broker);
//! let setup = Setup::new(&format!(
//!     "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n[mqtt]\nbroker = \"{}\"\n",
//!     broker.url()
//! ));
//! write_images(&setup.path("images"), 3);
//! let daemon = setup.start();
//! let events = subscriber.wait_events(3);
//! ```
//!
//! Without `[mqtt]` the daemon prints its events, and [`Daemon::wait_events`] returns them. Everything ends when it is
//! dropped. Tests of the other commands run [`constancy`]. Nothing sleeps: `wait_…` functions wait for a condition, up
//! to [`LIMIT`].

mod broker;
pub mod clock;
mod daemon;
mod event;
mod fake_broker;
pub mod golden;
mod images;
mod models;
pub mod process;
mod proxy;
pub mod queue;
pub mod skip;
mod subscriber;
mod tmpfs;
mod unprivileged;

pub use broker::{Broker, free_port};
pub use daemon::{Daemon, Setup};
pub use event::event;
pub use fake_broker::FakeBroker;
pub use images::{jpeg, picture, write_environments, write_images};
pub use models::{
    FATAL_BRIGHTNESS, copy_tiny_model, edit_onnx, fixture, full_size_model, node, pocket_model,
    replace_in, tiny_model, write_overflowing_model, write_panicking_model,
};
pub use proxy::Proxy;
pub use skip::{judges_python, test_data};
pub use subscriber::{Message, Subscriber, publish_as};
pub use tmpfs::Tmpfs;
pub use unprivileged::{set_mode, unprivileged};

use serde_json::Value;
use std::process::Output;
use std::time::{Duration, Instant};

/// How long a test waits for a condition. A busy machine keeps it.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The binary under test.
pub fn constancy() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_constancy"));
    command.env_remove("RUST_LOG");
    command
}

/// A program's stderr as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program's stdout as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of a program's stdout, each a JSON value.
pub fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect()
}

/// The `seq` of each event.
pub fn seqs(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .map(|e| e["seq"].as_u64().expect("seq"))
        .collect()
}

/// Asserts that the events are numbered from 0, in order, without gaps or repetitions.
pub fn assert_numbered_from_zero(events: &[Value]) {
    let seqs = seqs(events);
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
}

/// Waits until `ready` returns something; panics with `what` after [`LIMIT`].
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
