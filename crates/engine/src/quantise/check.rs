//! Whether a file can be quantised.

use super::error::QuantiseError;
use super::report::StorageFormat;
use super::widen::computes_in_fp16;
use crate::error::ModelError;
use crate::onnx::{Constant, Graph, OnnxFile};
use std::path::Path;

/// Operators of files that are quantised already.
const QUANTISED_OPS: [&str; 9] = [
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "MatMulNBits",
    "DynamicQuantizeMatMul",
];

/// The first version of ONNX's operators that has `DynamicQuantizeLinear`.
const MIN_OPSET: i64 = 11;

/// Refuses a file that cannot be quantised; returns whether it computes in fp16.
pub(super) fn check(path: &Path, format: StorageFormat) -> Result<bool, QuantiseError> {
    std::fs::metadata(path).map_err(|source| ModelError::Read {
        path: path.into(),
        source,
    })?;
    let file = OnnxFile::open(path).map_err(|reason| QuantiseError::parse(path, reason))?;
    let mut nodes = file.model.graph.iter().flat_map(|g| &g.node);
    if let Some(node) = nodes.find(|n| QUANTISED_OPS.contains(&n.op_type.as_str())) {
        return Err(QuantiseError::AlreadyQuantised {
            path: path.into(),
            operator: node.op_type.clone(),
        });
    }
    let opset = file
        .model
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let version = opset.map_or(0, |o| o.version);
    if format == StorageFormat::Int8 && version < MIN_OPSET {
        return Err(QuantiseError::Opset {
            path: path.into(),
            version,
        });
    }
    let graph = Graph::new(file);
    check_finite(path, &graph)?;
    Ok(computes_in_fp16(&graph))
}

/// Refuses weights that are infinite or NaN.
fn check_finite(path: &Path, graph: &Graph) -> Result<(), QuantiseError> {
    let index = graph.index();
    let is_finite = |c: Constant| {
        let finite = c.floats().iter().all(|v| v.is_finite());
        c.data.release();
        finite
    };
    for tensor in graph.initializer_names() {
        if graph
            .constant(&index, &tensor)
            .is_some_and(|c| !is_finite(c))
        {
            return Err(QuantiseError::NotFinite {
                path: path.into(),
                tensor,
            });
        }
    }
    Ok(())
}
