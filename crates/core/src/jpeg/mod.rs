//! JPEG (ITU-T T.81): the pictures in what cameras and files send, repaired for the decoder, and the loss of compression.
//!
//! Every JPEG goes through [`repair()`], whichever way it came in; [`crate::preprocess`] decodes the result.

mod entropy;
mod error;
mod header;
mod huffman;
mod loss;
mod markers;
mod pictures;
mod repair;

pub use error::JpegError;
pub use loss::round_trip;
pub use markers::{Markers, Part, find_start};
pub use repair::{Plane, Repaired, is_complete, is_plain, repair};
