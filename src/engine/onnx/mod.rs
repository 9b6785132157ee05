//! ONNX files and graphs: read without copying the weights, looked through and edited before tract sees them.
//!
//! ONNX's operators are a stable vocabulary, so blocks are recognised here, by what exporters write, rather than in
//! an engine's own terms. [`file`] reads and writes the file, [`graph`] answers questions and edits.

mod file;
mod graph;

pub(super) use file::{OnnxFile, Slice};
pub(super) use graph::{Constant, Element, Graph, Index, attribute_float, attribute_int, attribute_ints};

/// The protobuf messages, as tract has them.
pub(super) use tract_onnx::pb;
