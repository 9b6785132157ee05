//! Tests of the library and of the real binary, in one program, so that everything links once. `support` has what they
//! share.

#![allow(unreachable_pub, reason = "a test program exports nothing")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "test images and counts are small"
)]
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failing test panics, and tests print their figures"
)]

mod architecture;
mod broker_faults;
mod cameras;
mod cli;
mod clock;
mod commands;
mod conditions;
mod config_files;
mod docs;
mod encoder;
mod eval;
mod external_data;
mod files;
mod fit;
mod frame_faults;
mod gpu;
mod homeassistant;
mod hostile_names;
mod input_faults;
mod intervene;
mod model_faults;
mod mqtt_limits;
mod mqtt_others;
mod mqtt_retained;
mod package;
mod pipe;
mod pocket;
mod projection;
mod publish_policy;
mod quantise;
mod queue;
mod queue_disk;
mod queue_file;
mod queue_fleet;
mod real_images;
mod reload;
mod service;
mod sight;
mod skips;
mod snapshots;
mod soak;
mod sparkplug;
mod still;
mod support;
mod sustained;
mod tls;
mod tokenizers;
mod tower_inputs;
mod unit_file;
mod v4l;
mod vetting;
mod workshop;
