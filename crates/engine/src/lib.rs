//! The neural towers: ONNX files run by tract, described by a manifest next to them.
//!
//! An [`Encoder`] turns one preprocessed image into one embedding, a [`TextEncoder`] one tokenised
//! prompt. Nothing outside this crate depends on tract.
//!
//! Reading order, from the file to the embedding:
//!
//! 1. `manifest` is the TOML file next to a model; `describe` makes one up for a bare ONNX file.
//! 2. `input` says what a tower takes by its own declaration, and makes the tensors.
//! 3. `onnx` maps the file and gives a graph to search and edit. Weights stay in the file.
//! 4. `rewrite` finds the blocks of a transformer in the graph and replaces each by a fused node,
//!    whose `spec` says what it computes.
//! 5. `ops` packs the weights of each spec for the kernels of this machine and runs it as an
//!    operator of tract.
//! 6. `load` puts these together into a plan that runs. Symbolic axes and intermediate shapes that
//!    exporters leave in files are dropped and derived again from the one input shape that is used.
//! 7. `encoder` and `text` run the plans.
//!
//! `regular_file` opens every file that somebody named, here and in the program.
//!
//! Apart from this path, `gpu` runs the image tower in a worker process on an NVIDIA GPU (`cuda`,
//! with the feature `gpu`), and `quantise` writes a tower as a smaller file.

mod agreement;
mod cores;
#[cfg(feature = "gpu")]
mod cuda;
mod describe;
mod digest;
mod encoder;
mod error;
#[cfg(fuzzing)]
mod fuzz;
mod gpu;
mod guard;
mod input;
mod load;
mod manifest;
mod onnx;
mod ops;
mod options;
mod output;
mod precision;
mod quantise;
pub mod regular_file;
mod rewrite;
mod runtime;
mod spec;
mod text;
mod tokens;
mod toml_error;
mod verify;

pub use agreement::Agreement;
pub use constancy_kernels::Isa;
pub use cores::performance_cores;
#[cfg(feature = "gpu")]
pub use cuda::serve_gpu;
pub use describe::{ModelDescription, describe};
pub use digest::{model_bytes, sha256_of};
pub use encoder::{Encoder, EngineInfo};
pub use error::ModelError;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use fuzz::onnx as fuzz_onnx;
pub use gpu::{CudaVersion, Device, Driver, GpuDevice, GpuError, gpu_is_starting};
pub use guard::{catch_panic, note_panic};
pub use manifest::{
    EncoderManifest, InputLayout, InputType, Manifest, ManifestError, TextManifest,
};
pub use onnx::hex;
pub use options::EngineOptions;
pub use precision::Precision;
pub use quantise::{
    DEFAULT_MAX_ERROR, LayerReport, Progress, QuantiseError, QuantiseOptions, QuantiseReport,
    Quantiser, StorageFormat,
};
pub use text::TextEncoder;
pub use tokens::TokenUse;
pub use toml_error::describe_toml_error;
