//! ONNX files and graphs: opened without copying the weights, and searched and edited before tract
//! reads them.
//!
//! ONNX's operators are a stable vocabulary, so blocks are recognised here, by what exporters
//! write, rather than in an engine's own terms. [`mod@file`] opens a file and [`mod@write`] writes one;
//! [`graph`] can be searched and edited.

mod attributes;
pub(crate) mod build;
mod constant;
mod external;
mod file;
mod graph;
mod index;
mod mapped;
mod ring;
mod write;

pub(crate) use attributes::{
    attribute_float, attribute_int, attribute_ints, first_output, nth_input,
};
pub(crate) use constant::{Constant, ElementType};
pub(crate) use file::{OnnxFile, Unreadable};
pub(crate) use graph::{DERIVED, Graph};
pub(crate) use index::Index;
pub(crate) use mapped::TensorData;
pub use mapped::hex;
pub(crate) use write::{MAX_MODEL_BYTES, metadata_fields};

/// ONNX's protobuf messages, as tract compiles them.
pub(crate) use tract_onnx::pb;
