//! The shape of every value by tract's own analysis, and the integers that turn out to be constant.

use super::to_tract::to_tract;
use crate::onnx::{Graph, build, first_output, pb};
use crate::ops::FusedNode;
use crate::spec::Specs;
use std::collections::{HashMap, HashSet};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// Larger integer tensors are not shapes or indices.
const MAX_INTEGERS: usize = 4096;

/// Shapes and constant integers of a graph, by the name of the value.
pub(crate) struct Shapes {
    dims: HashMap<String, Vec<usize>>,
    /// Values that are f32.
    floats: HashSet<String>,
    /// Integers that do not depend on the image, such as the target shapes of reshapes: shape and
    /// elements.
    integers: HashMap<String, (Vec<usize>, Vec<i64>)>,
    /// Single f32 values that do not depend on the image, such as scales that are computed from a shape.
    scalars: HashMap<String, f32>,
}

impl Shapes {
    /// Analyses `graph` with its inputs fixed.
    pub(crate) fn of(
        graph: &Graph,
        specs: &Specs,
        inputs: &[(&str, InferenceFact)],
    ) -> TractResult<Self> {
        let mut model = to_tract(graph, &|name| specs.get(name).map(FusedNode::placeholder))?;
        let outlets = model.input_outlets()?.to_vec();
        for (slot, outlet) in outlets.iter().enumerate() {
            if let Some((_, fact)) = inputs
                .iter()
                .find(|(name, _)| *name == model.node(outlet.node).name)
            {
                model.set_input_fact(slot, fact.clone())?;
            }
        }
        model.analyse(true)?;
        let (mut shapes, mut integers) = (HashMap::new(), HashMap::new());
        let (mut floats, mut scalars) = (HashSet::new(), HashMap::new());
        for node in model.nodes() {
            for (slot, output) in node.outputs.iter().enumerate() {
                let label = model.outlet_label(OutletId::new(node.id, slot));
                let Some(name) = label.or((slot == 0).then_some(node.name.as_str())) else {
                    continue;
                };
                if output.fact.datum_type.concretize() == Some(DatumType::F32) {
                    floats.insert(name.to_owned());
                }
                if let Some(value) = output.fact.value.concretize()
                    && let Some(value) = as_scalar(&value)
                {
                    scalars.insert(name.to_owned(), value);
                }
                let Some(dims) = output.fact.shape.concretize() else {
                    continue;
                };
                let dims: Result<Vec<usize>, _> = dims.iter().map(DimLike::to_usize).collect();
                let Ok(dims) = dims else { continue };
                if let Some(value) = output.fact.value.concretize()
                    && let Some(values) = as_integers(&value)
                {
                    integers.insert(name.to_owned(), (dims.clone(), values));
                }
                shapes.insert(name.to_owned(), dims);
            }
        }
        Ok(Self {
            dims: shapes,
            floats,
            integers,
            scalars,
        })
    }

    /// Adds the shape of an f32 value that is not in the file.
    pub(super) fn insert(&mut self, name: &str, shape: Vec<usize>) {
        self.floats.insert(name.to_owned());
        self.dims.insert(name.to_owned(), shape);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Vec<usize>> {
        self.dims.get(name)
    }

    /// Whether a value is an integer that does not depend on the image.
    pub(crate) fn is_integer(&self, name: &str) -> bool {
        self.integers.contains_key(name)
    }

    /// The value of a single f32 that does not depend on the image.
    pub(super) fn scalar(&self, name: &str) -> Option<f32> {
        self.scalars.get(name).copied()
    }

    /// Whether a value is f32, which fused operators need.
    pub(super) fn is_f32(&self, name: &str) -> bool {
        self.floats.contains(name)
    }

    /// Replaces every integer that does not depend on the image by a constant.
    pub(crate) fn fold_constants(&self, graph: &mut Graph) {
        let is_folded = |node: &pb::NodeProto| {
            node.output.len() == 1 && self.integers.contains_key(first_output(node))
        };
        let folded: Vec<String> = graph
            .nodes
            .iter()
            .filter(|n| n.op_type != "Constant" && is_folded(n))
            .map(|n| first_output(n).to_owned())
            .collect();
        graph
            .nodes
            .retain(|n| !n.output.first().is_some_and(|o| folded.contains(o)));
        for name in folded {
            let (shape, values) = &self.integers[&name];
            graph.add_initializer(build::integers(&name, shape, values));
        }
        graph.drop_unused();
    }
}

/// The value of a tensor that has one f32 only.
fn as_scalar(value: &Tensor) -> Option<f32> {
    if value.datum_type() != DatumType::F32 || value.len() != 1 {
        return None;
    }
    value
        .try_as_plain_ram()
        .ok()?
        .as_slice::<f32>()
        .ok()?
        .first()
        .copied()
}

/// The elements of a small integer tensor, as shapes and indices are; `None` for any other.
fn as_integers(value: &Tensor) -> Option<Vec<i64>> {
    if !matches!(value.datum_type(), DatumType::I64 | DatumType::TDim) || value.len() > MAX_INTEGERS
    {
        return None;
    }
    let cast = value.cast_to::<i64>().ok()?;
    Some(
        cast.try_as_plain_ram()
            .ok()?
            .as_slice::<i64>()
            .ok()?
            .to_vec(),
    )
}
