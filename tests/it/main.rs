//! What runs the library and the real binary: one test program, so that everything links once.

#![allow(unreachable_pub, reason = "a test program has no outside")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "test pictures and counts are small"
)]
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test says so by panicking"
)]

mod architecture;
mod broker_faults;
mod cli;
mod clock;
mod commands;
mod config_files;
mod encoder;
mod eval;
mod fit;
mod gpu;
mod homeassistant;
mod input_faults;
mod overhead;
mod package;
mod pocket;
mod projection;
mod publish_policy;
mod quantise;
mod queue;
mod queue_disk;
mod queue_fleet;
mod real_images;
mod reload;
mod service;
mod snapshots;
mod sparkplug;
mod support;
mod sustained;
mod tls;
mod unit_file;
mod workshop;
