//! Entries for the fuzz targets: the parts that read a model before tract does.

use crate::describe::describe;
use crate::onnx::{Graph, OnnxFile};
use crate::rewrite::{fuse_products, norm_specs};
use std::path::Path;

/// Reads the ONNX file at `path`, describes it, and looks for blocks that need no shapes.
pub fn onnx(path: &Path) {
    let _ = describe(path);
    let Ok(file) = OnnxFile::open(path) else {
        return;
    };
    let output = file
        .model
        .graph
        .as_ref()
        .and_then(|graph| graph.output.first())
        .map(|output| output.name.clone());
    let mut graph = Graph::new(file);
    graph.keep_only(&output.unwrap_or_default());
    norm_specs(&graph);
    fuse_products(&mut graph);
}
