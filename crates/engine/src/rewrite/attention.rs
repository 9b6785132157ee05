//! Attention: two products with a softmax between them, and the reshapes around.
//!
//! Exporters spell the reshapes in many ways. Rather than know them all, a chain is followed back to where it starts
//! and then applied to the numbers 0, 1, 2 …: the result says exactly which element lands where.

use super::super::onnx::{Graph, Index, attribute_int, attribute_ints, pb};
use super::shapes::Shapes;
use super::{AttentionSpec, Fused, Spec, Specs, either_way};

/// Where the elements of a value come from.
pub(super) struct Layout {
    /// The value that the chain starts from.
    pub(super) source: String,
    pub(super) shape: Vec<usize>,
    /// For every element, its place in the source.
    pub(super) indices: Vec<usize>,
    /// What the elements were multiplied with on the way.
    scale: f32,
}

impl Layout {
    /// Follows `name` back through operators that only move or scale elements.
    pub(super) fn trace(graph: &Graph, index: &Index, shapes: &Shapes, name: &str) -> Option<Self> {
        let shape = shapes.get(name)?.clone();
        let start = || Self {
            source: name.to_owned(),
            indices: (0..shape.iter().product()).collect(),
            shape: shape.clone(),
            scale: 1.0,
        };
        let Some(node) = index.producer(name).map(|i| &graph.nodes[i]) else {
            return Some(start());
        };
        let from = |input: &str| Self::trace(graph, index, shapes, input);
        let factor = |name: &str| graph.scalar(index, name);
        let layout = match node.op_type.as_str() {
            "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" => from(&node.input[0]),
            "Cast" if attribute_int(node, "to") == Some(1) => from(&node.input[0]),
            "Transpose" => {
                from(&node.input[0]).and_then(|l| l.transposed(attribute_ints(node, "perm")?))
            }
            "Mul" => either_way(node)
                .into_iter()
                .find_map(|(value, c)| Some(from(value)?.scaled(factor(c)?))),
            "Div" => {
                factor(&node.input[1]).and_then(|c| Some(from(&node.input[0])?.scaled(1.0 / c)))
            }
            "Split" => from(&node.input[0]).and_then(|l| l.split(node, name, &shape)),
            "Slice" => from(&node.input[0]).and_then(|l| l.sliced(graph, index, node)),
            "Gather" => from(&node.input[0]).and_then(|l| l.gathered(graph, index, node)),
            _ => None,
        };
        let Some(layout) = layout else {
            return Some(start());
        };
        (layout.indices.len() == shape.iter().product::<usize>())
            .then_some(Self { shape, ..layout })
    }

    fn scaled(self, factor: f32) -> Self {
        Self {
            scale: self.scale * factor,
            ..self
        }
    }

    fn transposed(self, perm: &[i64]) -> Option<Self> {
        let perm: Vec<usize> = perm
            .iter()
            .map(|&p| usize::try_from(p))
            .collect::<Result<_, _>>()
            .ok()?;
        if perm.len() != self.shape.len() {
            return None;
        }
        let strides = strides(&self.shape);
        let shape: Vec<usize> = perm.iter().map(|&p| self.shape[p]).collect();
        let strides: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
        let indices = places(&shape, &strides, 0)
            .map(|i| self.indices[i])
            .collect();
        Some(Self {
            shape,
            indices,
            ..self
        })
    }

    /// `count` elements of an axis, from `first`.
    fn narrowed(self, axis: usize, first: usize, count: usize) -> Option<Self> {
        let strides = strides(&self.shape);
        let mut shape = self.shape.clone();
        if first + count > *shape.get(axis)? {
            return None;
        }
        shape[axis] = count;
        let indices = places(&shape, &strides, first * strides[axis])
            .map(|i| self.indices[i])
            .collect();
        Some(Self {
            shape,
            indices,
            ..self
        })
    }

    fn split(self, node: &pb::NodeProto, name: &str, shape: &[usize]) -> Option<Self> {
        let axis = axis_of(attribute_int(node, "axis").unwrap_or(0), self.shape.len())?;
        let slot = node.output.iter().position(|o| o == name)?;
        // Only equal parts: what fused q, k and v are cut into.
        let count = shape[axis];
        (count * node.output.len() == self.shape[axis]).then_some(())?;
        self.narrowed(axis, slot * count, count)
    }

    fn sliced(self, graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Self> {
        let one = |slot: usize| match graph
            .constant(index, node.input.get(slot)?)?
            .integers()
            .as_slice()
        {
            &[value] => Some(value),
            _ => None,
        };
        if node.input.get(4).is_some() && one(4)? != 1 {
            return None;
        }
        let axis = axis_of(one(3)?, self.shape.len())?;
        let len = i64::try_from(self.shape[axis]).ok()?;
        let place = |v: i64| usize::try_from(if v < 0 { v + len } else { v.min(len) }).ok();
        let (first, end) = (place(one(1)?)?, place(one(2)?)?);
        self.narrowed(axis, first, end.checked_sub(first)?)
    }

    fn gathered(self, graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Self> {
        let axis = axis_of(attribute_int(node, "axis").unwrap_or(0), self.shape.len())?;
        let indices = graph.constant(index, node.input.get(1)?)?.integers();
        let &[at] = indices.as_slice() else {
            return None;
        };
        let len = i64::try_from(self.shape[axis]).ok()?;
        self.narrowed(
            axis,
            usize::try_from(if at < 0 { at + len } else { at }).ok()?,
            1,
        )
    }
}

fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank_i = i64::try_from(rank).ok()?;
    usize::try_from(if axis < 0 { axis + rank_i } else { axis })
        .ok()
        .filter(|&a| a < rank)
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Places in memory of the elements of `shape`, in order.
fn places<'a>(
    shape: &'a [usize],
    strides: &'a [usize],
    first: usize,
) -> impl Iterator<Item = usize> + 'a {
    (0..shape.iter().product()).map(move |mut i: usize| {
        let mut place = first;
        for (&len, &stride) in shape.iter().zip(strides).rev() {
            place += i % len * stride;
            i /= len;
        }
        place
    })
}

/// q, k or v of all heads: `[B·heads, S, depth]` out of a source `[B, S, width]` from a column on.
struct Operand {
    source: String,
    sequence: usize,
    offset: usize,
    scale: f32,
}

impl Operand {
    /// `turned` where the operand is `[…, depth, S]`.
    fn new(layout: &Layout, shapes: &Shapes, turned: bool) -> Option<(Self, usize, usize)> {
        let rank = layout.shape.len();
        let (a, b) = (layout.shape[rank - 2], layout.shape[rank - 1]);
        let (sequence, depth) = if turned { (b, a) } else { (a, b) };
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
            let (s, d) = if turned {
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

/// The node that brings the heads' results back side by side.
pub(super) fn attention(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Fused> {
    if node.op_type != "Reshape" && node.op_type != "Transpose" {
        return None;
    }
    let result = Layout::trace(graph, index, shapes, &node.output[0])?;
    let weighted = &graph.nodes[index.producer(&result.source)?];
    if weighted.op_type != "MatMul" || (result.scale - 1.0).abs() > f32::EPSILON {
        return None;
    }
    let trace = |name: &str| Layout::trace(graph, index, shapes, name);
    let (v, heads, depth) = Operand::new(&trace(weighted.input.get(1)?)?, shapes, false)?;
    let softmax = &graph.nodes[index.producer(&trace(&weighted.input[0])?.source)?];
    let last = i64::try_from(shapes.get(&softmax.input[0])?.len()).ok()? - 1;
    let axis = attribute_int(softmax, "axis").unwrap_or(-1);
    if softmax.op_type != "Softmax" || (axis != -1 && axis != last) {
        return None;
    }
    let scores = trace(&softmax.input[0])?;
    let product = &graph.nodes[index.producer(&scores.source)?];
    let in_order = scores.indices.iter().copied().eq(0..scores.indices.len());
    if product.op_type != "MatMul" || !in_order {
        return None;
    }
    let (q, q_heads, q_depth) = Operand::new(&trace(&product.input[0])?, shapes, false)?;
    let (k, k_heads, k_depth) = Operand::new(&trace(product.input.get(1)?)?, shapes, true)?;
    if (q_heads, q_depth) != (heads, depth)
        || (k_heads, k_depth) != (heads, depth)
        || k.sequence != v.sequence
    {
        return None;
    }
    if !is_side_by_side(&result, heads, q.sequence, depth) || (v.scale - 1.0).abs() > f32::EPSILON {
        return None;
    }
    let scale = scores.scale * q.scale * k.scale;
    let spec = AttentionSpec {
        heads,
        depth,
        scale,
        offsets: [q.offset, k.offset, v.offset],
    };
    Some(Fused {
        inputs: vec![q.source, k.source, v.source],
        spec: Spec::Attention(spec),
    })
}

/// Whether a value is `[B, S, heads · depth]` of `[B·heads, S, depth]`.
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
