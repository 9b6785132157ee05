//! Attention: two products with a softmax between them, and the reshapes around them.

use super::layout::Layout;
use super::pass::Replacement;
use super::shapes::Shapes;
use crate::onnx::{Graph, Index, attribute_int, first_output, nth_input, pb};
use crate::spec::{AttentionSpec, Spec, Specs};

/// q, k or v of all heads: `[B·heads, S, depth]`, from a source `[B, S, width]` that has the heads
/// side by side from column `offset` on.
struct Operand {
    source: String,
    sequence: usize,
    offset: usize,
    scale: f32,
}

impl Operand {
    /// The operand, its heads and their depth; `transposed` if it is `[…, depth, S]`.
    fn new(layout: &Layout, shapes: &Shapes, transposed: bool) -> Option<(Self, usize, usize)> {
        let rank = layout.shape.len();
        let (a, b) = (layout.shape[rank - 2], layout.shape[rank - 1]);
        let (sequence, depth) = if transposed { (b, a) } else { (a, b) };
        let &[batch, rows, width] = shapes.get(&layout.source)?.as_slice() else {
            return None;
        };
        let lead: usize = layout.shape[..rank - 2].iter().product();
        if rows != sequence || batch == 0 || !lead.is_multiple_of(batch) {
            return None;
        }
        let heads = lead / batch;
        let offset = *layout.indices.first()?;
        let expected = (0..layout.indices.len()).map(|i| {
            let (lead, rest) = (i / (sequence * depth), i % (sequence * depth));
            let (s, d) = if transposed {
                (rest % sequence, rest / sequence)
            } else {
                (rest / depth, rest % depth)
            };
            (lead / heads * sequence + s) * width + offset + lead % heads * depth + d
        });
        let fits = offset + heads * depth <= width && layout.indices.iter().copied().eq(expected);
        let operand = Self {
            source: layout.source.clone(),
            sequence,
            offset,
            scale: layout.scale,
        };
        fits.then_some((operand, heads, depth))
    }
}

/// Replaces the node that puts the results of the heads side by side again.
pub(super) fn attention(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Replacement> {
    if node.op_type != "Reshape" && node.op_type != "Transpose" {
        return None;
    }
    let trace = |name: &str| Layout::trace(graph, index, shapes, name);
    let result = trace(first_output(node))?;
    let weighted = &graph.nodes[index.producer(&result.source)?];
    if weighted.op_type != "MatMul" || !is_one(result.scale) {
        return None;
    }
    let (v, heads, depth) = Operand::new(&trace(weighted.input.get(1)?)?, shapes, false)?;
    let softmax = &graph.nodes[index.producer(&trace(nth_input(weighted, 0))?.source)?];
    if !is_over_last_axis(softmax, shapes, graph.opset())? {
        return None;
    }
    let scores = trace(nth_input(softmax, 0))?;
    let product = &graph.nodes[index.producer(&scores.source)?];
    let in_order = scores.indices.iter().copied().eq(0..scores.indices.len());
    if product.op_type != "MatMul" || !in_order {
        return None;
    }
    let (q, q_heads, q_depth) = Operand::new(&trace(nth_input(product, 0))?, shapes, false)?;
    let (k, k_heads, k_depth) = Operand::new(&trace(product.input.get(1)?)?, shapes, true)?;
    if (q_heads, q_depth) != (heads, depth)
        || (k_heads, k_depth) != (heads, depth)
        || k.sequence != v.sequence
    {
        return None;
    }
    if !is_side_by_side(&result, heads, q.sequence, depth) || !is_one(v.scale) {
        return None;
    }
    let spec = AttentionSpec {
        heads,
        depth,
        scale: scores.scale * q.scale * k.scale,
        offsets: [q.offset, k.offset, v.offset],
    };
    Some(Replacement {
        inputs: vec![q.source, k.source, v.source],
        spec: Spec::Attention(spec),
    })
}

fn is_one(scale: f32) -> bool {
    (scale - 1.0).abs() <= f32::EPSILON
}

/// Whether a node is a softmax over the last axis.
fn is_over_last_axis(softmax: &pb::NodeProto, shapes: &Shapes, opset: i64) -> Option<bool> {
    let last = i64::try_from(shapes.get(softmax.input.first()?)?.len()).ok()? - 1;
    // Before opset 13, the default was everything from axis 1 on.
    let default = if opset < 13 { 1 } else { -1 };
    let axis = attribute_int(softmax, "axis").unwrap_or(default);
    Some(softmax.op_type == "Softmax" && (axis == -1 || axis == last))
}

/// Whether a value `[B, S, heads · depth]` is made from `[B·heads, S, depth]` by putting the heads
/// side by side.
fn is_side_by_side(result: &Layout, heads: usize, sequence: usize, depth: usize) -> bool {
    let width = heads * depth;
    let batch = result.indices.len() / (sequence * width).max(1);
    let expected = (0..result.indices.len()).map(|i| {
        let (row, column) = (i / width, i % width);
        let (b, s) = (row / sequence, row % sequence);
        ((b * heads + column / depth) * sequence + s) * depth + column % depth
    });
    result.shape == [batch, sequence, width] && result.indices.iter().copied().eq(expected)
}
