//! `com.microsoft.MatMulNBits`: weights of 4 or 8 bits, quantised in blocks.

use crate::onnx::{Constant, ElementType, Graph, Index, attribute_int, pb};
use crate::spec::WeightSpec;

/// The weights of a `MatMulNBits`, unpacked to floats.
pub(super) fn n_bits_weight(
    graph: &Graph,
    index: &Index,
    node: &pb::NodeProto,
) -> Option<WeightSpec> {
    let blocks = NBits::read(graph, index, node)?;
    let mut floats = Vec::with_capacity(blocks.columns * blocks.depth * 4);
    for c in 0..blocks.columns {
        for d in 0..blocks.depth {
            floats.extend(blocks.weight(c, d)?.to_le_bytes());
        }
    }
    let shape = vec![blocks.columns, blocks.depth];
    Some(WeightSpec {
        transposed: true,
        ..WeightSpec::new(Constant::owned(shape, ElementType::F32, floats))
    })
}

/// The weights of a `MatMulNBits`.
struct NBits {
    depth: usize,
    columns: usize,
    bits: usize,
    /// Values that share a scale, and how many such blocks a column has.
    block: usize,
    blocks: usize,
    packed: Constant,
    /// `[columns, blocks]`.
    scales: Vec<f32>,
    /// Packed like the weights, or floats `[columns, blocks]`.
    zeros: Option<Constant>,
}

impl NBits {
    fn read(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Self> {
        let size = |name| attribute_int(node, name).and_then(|v| usize::try_from(v).ok());
        let (depth, columns, block) = (size("K")?, size("N")?, size("block_size")?);
        let bits = size("bits").unwrap_or(4);
        let has_groups = node.input.get(4).is_some_and(|g| !g.is_empty());
        if !matches!(bits, 4 | 8) || block == 0 || has_groups {
            return None;
        }
        let zeros = match node.input.get(3).filter(|n| !n.is_empty()) {
            Some(name) => Some(graph.constant(index, name)?),
            None => None,
        };
        let new = Self {
            depth,
            columns,
            bits,
            block,
            blocks: depth.div_ceil(block),
            packed: graph.constant(index, node.input.get(1)?)?,
            scales: graph.constant(index, node.input.get(2)?)?.floats(),
            zeros,
        };
        let fits = new.packed.data.bytes().len() == columns * new.column_bytes()
            && new.scales.len() == columns * new.blocks;
        fits.then_some(new)
    }

    fn column_bytes(&self) -> usize {
        self.blocks * self.block * self.bits / 8
    }

    /// `(q − zero) · scale` at depth `d` of column `c`.
    fn weight(&self, c: usize, d: usize) -> Option<f32> {
        let block = d / self.block;
        let packed = self.packed.data.bytes().get(c * self.column_bytes()..)?;
        let zero = match &self.zeros {
            None => f32::from(1u8 << (self.bits - 1)),
            Some(z) if z.element == ElementType::U8 => {
                let column_bytes = (self.blocks * self.bits).div_ceil(8);
                let zeros = z.data.bytes().get(c * column_bytes..)?;
                f32::from(self.unpack(zeros, block)?)
            }
            Some(z) => *z.floats().get(c * self.blocks + block)?,
        };
        let scale = self.scales[c * self.blocks + block];
        Some((f32::from(self.unpack(packed, d)?) - zero) * scale)
    }

    /// The `i`-th value of packed ones; of two in a byte the lower bits are first.
    fn unpack(&self, packed: &[u8], i: usize) -> Option<u8> {
        if self.bits == 8 {
            return packed.get(i).copied();
        }
        let byte = packed.get(i / 2)?;
        Some(if i.is_multiple_of(2) {
            byte & 15
        } else {
            byte >> 4
        })
    }
}
