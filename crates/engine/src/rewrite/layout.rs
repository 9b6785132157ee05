//! Where the elements of a value come from.
//!
//! Exporters write the reshapes around attention and patches in many ways. Rather than listing them
//! all, this module follows a chain of such nodes back to its start and applies it to the numbers
//! 0, 1, 2 …: the result says which element ends up where.

use super::pass::either_order;
use super::shapes::Shapes;
use crate::onnx::{Graph, Index, attribute_int, attribute_ints, nth_input, pb};

/// A value as a rearrangement of the elements of another one.
pub(super) struct Layout {
    /// The value that the chain starts from.
    pub(super) source: String,
    pub(super) shape: Vec<usize>,
    /// For every element, its position in the source.
    pub(super) indices: Vec<usize>,
    /// Factor that the elements were multiplied by on the way.
    pub(super) scale: f32,
}

/// Nodes that [`Layout::trace`] follows; exporters write a handful, a damaged file thousands.
const MAX_MOVES: usize = 32;

impl Layout {
    /// Follows `name` back through nodes that only move or scale elements, [`MAX_MOVES`] at most.
    pub(super) fn trace(graph: &Graph, index: &Index, shapes: &Shapes, name: &str) -> Option<Self> {
        Self::trace_behind(graph, index, shapes, name, MAX_MOVES)
    }

    /// Follows `name` back through at most `depth` nodes.
    fn trace_behind(
        graph: &Graph,
        index: &Index,
        shapes: &Shapes,
        name: &str,
        depth: usize,
    ) -> Option<Self> {
        let shape = shapes.get(name)?.clone();
        let start = || Self {
            source: name.to_owned(),
            indices: (0..shape.iter().product()).collect(),
            shape: shape.clone(),
            scale: 1.0,
        };
        let producer = index.producer(name).filter(|_| depth > 0);
        let Some(node) = producer.map(|i| &graph.nodes[i]) else {
            return Some(start());
        };
        let from = |input: &str| Self::trace_behind(graph, index, shapes, input, depth - 1);
        let factor = |name: &str| graph.scalar(index, name).or_else(|| shapes.scalar(name));
        let layout = match node.op_type.as_str() {
            "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" => {
                from(nth_input(node, 0))
            }
            "Cast" if attribute_int(node, "to") == Some(1) => from(nth_input(node, 0)),
            "Transpose" => {
                from(nth_input(node, 0)).and_then(|l| l.transposed(attribute_ints(node, "perm")?))
            }
            "Mul" => either_order(node)
                .into_iter()
                .find_map(|(value, c)| Some(from(value)?.scaled(factor(c)?))),
            "Div" => factor(nth_input(node, 1))
                .and_then(|c| Some(from(nth_input(node, 0))?.scaled(1.0 / c))),
            "Split" => from(nth_input(node, 0)).and_then(|l| l.split(node, name, &shape)),
            "Slice" => from(nth_input(node, 0)).and_then(|l| l.sliced(graph, index, node)),
            "Gather" => from(nth_input(node, 0)).and_then(|l| l.gathered(graph, index, node)),
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
        if perm.len() != self.shape.len() || perm.iter().any(|&p| p >= self.shape.len()) {
            return None;
        }
        let strides = strides(&self.shape);
        let shape: Vec<usize> = perm.iter().map(|&p| self.shape[p]).collect();
        let strides: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
        let indices = positions(&shape, &strides, 0)
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
        if first.checked_add(count)? > *shape.get(axis)? {
            return None;
        }
        shape[axis] = count;
        let indices = positions(&shape, &strides, first * strides[axis])
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
        // Only equal parts, as when a joint q, k and v is split.
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
        let bound = |v: i64| usize::try_from(if v < 0 { v + len } else { v.min(len) }).ok();
        let (first, end) = (bound(one(1)?)?, bound(one(2)?)?);
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

/// Positions in memory of the elements of `shape`, in order.
fn positions<'a>(
    shape: &'a [usize],
    strides: &'a [usize],
    first: usize,
) -> impl Iterator<Item = usize> + 'a {
    (0..shape.iter().product()).map(move |mut i: usize| {
        let mut position = first;
        for (&len, &stride) in shape.iter().zip(strides).rev() {
            position += i % len * stride;
            i /= len;
        }
        position
    })
}
