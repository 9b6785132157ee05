//! Static quantisation: where the pair of `QuantizeLinear` and `DequantizeLinear` leaves a value in
//! floats, only the rounding to a [`Grid`] is left of it.

use super::pass::Replacement;
use crate::onnx::{Graph, Index, attribute_int, nth_input, pb};
use crate::spec::{Grid, Spec, Specs};

/// Replaces a `DequantizeLinear` of what a `QuantizeLinear` with the same scale and zero point
/// makes.
pub(super) fn grids(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
) -> Option<Replacement> {
    let (input, grid) = rounded(graph, index, node)?;
    Some(Replacement {
        inputs: vec![input],
        spec: Spec::Round(grid),
    })
}

/// The value before a pair of quantisation and dequantisation that ends in `node`, and the grid
/// that the pair rounds it to.
pub(super) fn rounded(
    graph: &Graph,
    index: &Index,
    node: &pb::NodeProto,
) -> Option<(String, Grid)> {
    if node.op_type != "DequantizeLinear" {
        return None;
    }
    let quantise = &graph.nodes[index.producer(node.input.first()?)?];
    if quantise.op_type != "QuantizeLinear" {
        return None;
    }
    let (from, to) = (
        Parameters::of(graph, index, quantise)?,
        Parameters::of(graph, index, node)?,
    );
    let grid = from.grid()?;
    // A missing zero point of the second is 0 of the first's type.
    (to.scales == from.scales && to.zeros == from.zeros)
        .then(|| (nth_input(quantise, 0).to_owned(), grid))
}

/// Scales, zero points and axis of a `QuantizeLinear` or `DequantizeLinear`, if they are constant.
pub(super) struct Parameters {
    /// One, or one for each place of the axis.
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<i64>,
    pub(super) axis: i64,
    /// Bounds of the integer type of a `QuantizeLinear`.
    pub(super) bounds: (i64, i64),
}

impl Parameters {
    pub(super) fn of(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Self> {
        let scales = graph.constant(index, node.input.get(1)?)?.floats();
        let (zeros, bounds) = match node.input.get(2).filter(|n| !n.is_empty()) {
            Some(name) => {
                let zeros = graph.constant(index, name)?;
                (zeros.integers(), zeros.element.bounds()?)
            }
            None => (
                vec![0; scales.len()],
                // ONNX's numbers of uint16, int8 and int16; unsigned bytes are the default.
                match attribute_int(node, "output_dtype").unwrap_or(0) {
                    0 | 2 => (0, 255),
                    3 => (-128, 127),
                    4 => (0, 65535),
                    5 => (-32768, 32767),
                    _ => return None,
                },
            ),
        };
        let usable = !scales.is_empty()
            && zeros.len() == scales.len()
            && scales.iter().all(|s| s.is_finite() && *s > 0.0)
            && attribute_int(node, "block_size").unwrap_or(0) == 0;
        usable.then(|| Self {
            scales,
            zeros,
            axis: attribute_int(node, "axis").unwrap_or(1),
            bounds,
        })
    }

    /// The grid of a quantisation with one scale.
    fn grid(&self) -> Option<Grid> {
        let (&[scale], &[zero]) = (self.scales.as_slice(), self.zeros.as_slice()) else {
            return None;
        };
        Some(Grid {
            scale,
            low: (self.bounds.0 - zero) as f32,
            high: (self.bounds.1 - zero) as f32,
        })
    }
}
