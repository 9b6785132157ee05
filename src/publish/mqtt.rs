//! MQTT 3.1.1 through rumqttc. One thread connects, publishes what the queue holds, and reconnects; another carries out
//! the queue's disk operations and paces the backlog.
//!
//! Each connection gets a new client. rumqttc could keep unacknowledged messages itself, but it forgets them when the
//! broker does not know the session any more, for example after a restart. The queue does not.

mod backoff;
mod bd_seq;
mod commander;
mod connection;
mod connector;
mod demo_subscriber;
mod error;
mod hardware;
mod in_flight;
mod incoming;
mod listener;
mod memory;
mod node;
mod packet_size;
mod probe;
mod publisher;
mod queue_report;
mod queue_thread;
mod rate_limit;
mod retained;
mod shared;
mod state;
mod subscriptions;
mod takeovers;

pub use commander::send_command;
pub(super) use connector::Connector;
pub use demo_subscriber::DemoSubscriber;
pub use error::BrokerError;
pub use packet_size::MAX_PICTURE_BYTES;
pub use probe::probe;
pub use publisher::MqttPublisher;
pub use state::Undelivered;
