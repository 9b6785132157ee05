//! Writes a tower in a smaller file: most weights in int8, the rest in fp16, as one ONNX file that
//! other engines can also run.
//!
//! [`check`] refuses what cannot be quantised. [`layers`] finds the layers that can be,
//! [`calibrate`] records their inputs on a few images, [`measure`] chooses how to store each layer,
//! and [`editor`] changes the graph, as [`convert`] directs. [`widen`] prepares towers that compute
//! in fp16. The [`quantiser`] then loads the result, compares it with the original on the same
//! images, and gives it its name only after that.

mod calibrate;
mod check;
mod convert;
mod editor;
mod error;
mod layers;
mod measure;
mod partial;
mod quantiser;
mod report;
mod weights;
mod widen;

pub use error::QuantiseError;
pub use quantiser::Quantiser;
pub use report::{
    DEFAULT_MAX_ERROR, LayerReport, Progress, QuantiseOptions, QuantiseReport, StorageFormat,
};
