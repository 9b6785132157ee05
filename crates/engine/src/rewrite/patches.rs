//! The patch embedding: a convolution of squares that do not overlap is a product of patches with a
//! matrix.

use super::grid::rounded;
use super::layout::Layout;
use super::pass::{Replacement, either_order};
use super::products::{dynamic_operands, integer_product};
use super::shapes::Shapes;
use crate::onnx::{
    Constant, ElementType, Graph, Index, attribute_int, attribute_ints, first_output, nth_input, pb,
};
use crate::spec::{LinearSpec, Patches, Spec, Specs, WeightSpec};
use constancy_kernels::Activation;

/// Replaces the node that transposes a patch embedding `[B, D, h, w]` to `[B, h·w, D]`.
pub(super) fn patches(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Replacement> {
    if node.op_type != "Transpose" {
        return None;
    }
    let layout = Layout::trace(graph, index, shapes, first_output(node))?;
    let source = &graph.nodes[index.producer(&layout.source)?];
    let (input, weight, convolution) = convolution(graph, index, shapes, source)?;
    let (input, grid) = match index
        .producer(&input)
        .and_then(|i| rounded(graph, index, &graph.nodes[i]))
    {
        Some((input, grid)) => (through_casts(graph, index, shapes, &input), Some(grid)),
        None => (input, None),
    };
    let &[batch, channels, height, width] = shapes.get(&input)?.as_slice() else {
        return None;
    };
    let &[columns, of_channels, size, across] = weight.data.shape.as_slice() else {
        return None;
    };
    let patches = Patches {
        channels,
        size,
        rows: height / size.max(1),
        columns: width / size.max(1),
    };
    if channels != of_channels || size != across || !is_patchwise(convolution, size) || size == 0 {
        return None;
    }
    let count = patches.rows * patches.columns;
    let transposed = (0..batch * count * columns).map(|i| {
        let (b, p, d) = (i / (count * columns), i / columns % count, i % columns);
        (b * columns + d) * count + p
    });
    if layout.shape != [batch, count, columns] || !layout.indices.iter().copied().eq(transposed) {
        return None;
    }
    let depth = channels * size * size;
    let data = Constant {
        shape: vec![columns, depth],
        ..weight.data
    };
    let spec = LinearSpec {
        parts: vec![WeightSpec {
            data,
            transposed: true,
            ..weight
        }],
        depth,
        columns,
        norm: None,
        grid,
        activation: Activation::None,
        residual: false,
        residual_first: false,
        window: None,
        patches: Some(patches),
    };
    Some(Replacement {
        inputs: vec![input],
        spec: Spec::Linear(spec),
    })
}

/// Whether the strides of a convolution equal its kernel of `size`, without padding, dilation or
/// groups.
fn is_patchwise(node: &pb::NodeProto, size: usize) -> bool {
    let all =
        |name, value: i64| attribute_ints(node, name).is_none_or(|v| v.iter().all(|&x| x == value));
    let steps = attribute_ints(node, "strides")
        .is_some_and(|s| s.iter().all(|&x| usize::try_from(x) == Ok(size)));
    let padded = node
        .attribute
        .iter()
        .any(|a| a.name == "auto_pad" && a.s != b"NOTSET" && a.s != b"VALID");
    steps
        && all("pads", 0)
        && all("dilations", 1)
        && attribute_int(node, "group").unwrap_or(1) == 1
        && !padded
}

/// Input, weights (with the bias) and node of a convolution, in floats or dynamically quantised.
fn convolution<'a>(
    graph: &'a Graph,
    index: &Index,
    shapes: &Shapes,
    node: &'a pb::NodeProto,
) -> Option<(String, WeightSpec, &'a pb::NodeProto)> {
    let constant = |name: &str| graph.constant(index, name).filter(|c| c.shape.len() == 4);
    match node.op_type.as_str() {
        "Conv" => {
            let data = constant(node.input.get(1)?)
                .filter(|c| matches!(c.element, ElementType::F32 | ElementType::F16))?;
            let bias = match node.input.get(2).filter(|n| !n.is_empty()) {
                Some(name) => graph.constant(index, name)?.floats(),
                None => vec![],
            };
            let weight = WeightSpec {
                data,
                transposed: true,
                scales: vec![],
                zeros: vec![],
                bias,
            };
            Some((
                through_casts(graph, index, shapes, nth_input(node, 0)),
                weight,
                node,
            ))
        }
        "Mul" => either_order(node).into_iter().find_map(|(sums, scale)| {
            let product = integer_product(graph, index, sums, "ConvInteger")?;
            let data = constant(product.input.get(1)?)?;
            let (input, scales, zeros) = dynamic_operands(graph, index, product, scale)?;
            let weight = WeightSpec {
                data,
                transposed: true,
                scales,
                zeros,
                bias: vec![],
            };
            Some((through_casts(graph, index, shapes, &input), weight, product))
        }),
        "Add" => either_order(node).into_iter().find_map(|(value, bias)| {
            let before = &graph.nodes[index.producer(value)?];
            let (input, mut weight, product) =
                (before.op_type != "Add").then(|| convolution(graph, index, shapes, before))??;
            let bias = graph.constant(index, bias)?;
            let per_channel = bias.len() == weight.data.shape[0] && weight.bias.is_empty();
            weight.bias = per_channel.then(|| bias.floats())?;
            Some((input, weight, product))
        }),
        _ => None,
    }
}

/// The value before any casts from f32 to f32.
fn through_casts(graph: &Graph, index: &Index, shapes: &Shapes, name: &str) -> String {
    let mut name = name;
    while let Some(cast) = index.producer(name).map(|i| &graph.nodes[i])
        && cast.op_type == "Cast"
        && attribute_int(cast, "to") == Some(1)
        && shapes.is_f32(nth_input(cast, 0))
    {
        name = nth_input(cast, 0);
    }
    name.to_owned()
}
