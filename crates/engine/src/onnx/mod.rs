//! ONNX files and graphs: read without copying the weights, looked through and edited before tract sees them.
//!
//! ONNX's operators are a stable vocabulary, so blocks are recognised here, by what exporters write, rather than in
//! an engine's own terms. [`file`] reads the file, [`write`] writes one, [`graph`] answers questions and edits.

mod file;
mod graph;
mod write;

pub(super) use file::{OnnxFile, Slice};
pub(super) use graph::{
    Constant, Element, Graph, Index, attribute_float, attribute_int, attribute_ints,
};
pub(super) use write::{MOST_BYTES, metadata};

/// The protobuf messages, as tract has them.
pub(super) use tract_onnx::pb;
