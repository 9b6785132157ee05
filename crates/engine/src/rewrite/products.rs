//! Products with constant matrices, in all the forms that public models have.

use super::grid::rounded;
use super::n_bits::n_bits_weight;
use super::pass::{Replacement, either_order};
use crate::onnx::{
    Constant, ElementType, Graph, Index, attribute_float, attribute_int, first_output, nth_input,
    pb,
};
use crate::spec::{Grid, LinearSpec, Spec, Specs, WeightSpec};

/// Replaces a product with a constant matrix.
pub(super) fn products(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
) -> Option<Replacement> {
    match node.op_type.as_str() {
        "MatMul" => {
            let weight = matrix(graph, index, node.input.get(1)?)?;
            Some(product(
                float_input(graph, index, nth_input(node, 0)),
                weight,
            ))
        }
        "Gemm" => gemm(graph, index, node),
        "MatMulNBits" => n_bits(graph, index, node),
        "Mul" => dynamic(graph, index, node),
        _ => None,
    }
}

fn product((input, grid): (String, Option<Grid>), weight: WeightSpec) -> Replacement {
    Replacement {
        inputs: vec![input],
        spec: Spec::Linear(LinearSpec {
            grid,
            ..LinearSpec::plain(weight)
        }),
    }
}

/// A constant matrix: floats, or int8 behind `DequantizeLinear`.
fn matrix(graph: &Graph, index: &Index, name: &str) -> Option<WeightSpec> {
    if let Some(data) = graph.constant(index, name) {
        let float =
            matches!(data.element, ElementType::F32 | ElementType::F16) && data.shape.len() == 2;
        return float.then(|| WeightSpec::new(data));
    }
    let node = &graph.nodes[index.producer(name)?];
    match node.op_type.as_str() {
        "DequantizeLinear" => dequantised(graph, index, node),
        "Transpose" => {
            let before = &graph.nodes[index.producer(nth_input(node, 0))?];
            let mut weight = (before.op_type == "DequantizeLinear")
                .then(|| dequantised(graph, index, before))??;
            weight.transposed = !weight.transposed;
            Some(weight)
        }
        _ => None,
    }
}

/// `DequantizeLinear` of a constant matrix, with one scale or one per column.
fn dequantised(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<WeightSpec> {
    let data = graph.constant(index, node.input.first()?)?;
    if !is_int8_matrix(&data) {
        return None;
    }
    let scales = graph.constant(index, node.input.get(1)?)?.floats();
    let zeros = zero_points(graph, index, node.input.get(2))?;
    let axis = attribute_int(node, "axis").unwrap_or(1);
    // A scale per row of the stored matrix is one per column if the matrix is transposed
    // afterwards.
    let transposed_after = || {
        index
            .only_consumer(first_output(node))
            .is_some_and(|i| graph.nodes[i].op_type == "Transpose")
    };
    match (scales.len(), axis) {
        (1, _) => {}
        (n, 1 | -1) if n == data.shape[1] && !transposed_after() => {}
        (n, 0 | -2) if n == data.shape[0] && transposed_after() => {}
        _ => return None,
    }
    Some(WeightSpec {
        scales,
        zeros,
        ..WeightSpec::new(data)
    })
}

fn is_int8_matrix(data: &Constant) -> bool {
    matches!(data.element, ElementType::I8 | ElementType::U8) && data.shape.len() == 2
}

/// Zero points by the name of their input; empty if there is none, or all are 0.
fn zero_points(graph: &Graph, index: &Index, name: Option<&String>) -> Option<Vec<i32>> {
    let Some(name) = name.filter(|n| !n.is_empty()) else {
        return Some(vec![]);
    };
    let values = graph.constant(index, name)?.integers();
    let zeros: Vec<i32> = values
        .iter()
        .map(|&v| i32::try_from(v))
        .collect::<Result<_, _>>()
        .ok()?;
    Some(if zeros.iter().all(|&z| z == 0) {
        vec![]
    } else {
        zeros
    })
}

/// The input `name` of a product. Where a static quantisation makes it, this is the value before it
/// and the grid that the product then rounds to itself.
fn float_input(graph: &Graph, index: &Index, name: &str) -> (String, Option<Grid>) {
    index
        .producer(name)
        .and_then(|i| rounded(graph, index, &graph.nodes[i]))
        .map_or_else(
            || (name.to_owned(), None),
            |(input, grid)| (input, Some(grid)),
        )
}

/// `Gemm` without scaling: a product with its bias.
fn gemm(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Replacement> {
    let plain = |name| attribute_float(node, name).is_none_or(|v| (v - 1.0).abs() < f32::EPSILON);
    if attribute_int(node, "transA").unwrap_or(0) != 0 || !plain("alpha") || !plain("beta") {
        return None;
    }
    let mut weight = matrix(graph, index, node.input.get(1)?)?;
    if attribute_int(node, "transB").unwrap_or(0) != 0 {
        weight.transposed = !weight.transposed;
    }
    let columns = weight.columns();
    if let Some(bias) = node.input.get(2).filter(|n| !n.is_empty()) {
        weight.bias = row_vector(&graph.constant(index, bias)?, columns)?;
    }
    Some(product(
        float_input(graph, index, nth_input(node, 0)),
        weight,
    ))
}

/// What ONNX Runtime's dynamic quantisation writes: `Mul(Cast(MatMulInteger(q, W, zero, weight
/// zero)), Mul(scale, weight scale))`, with q, scale and zero from `DynamicQuantizeLinear`.
fn dynamic(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Replacement> {
    either_order(node).into_iter().find_map(|(sums, scale)| {
        let integer = integer_product(graph, index, sums, "MatMulInteger")?;
        let data = graph.constant(index, integer.input.get(1)?)?;
        if !is_int8_matrix(&data) {
            return None;
        }
        let (input, scales, zeros) = dynamic_operands(graph, index, integer, scale)?;
        let columns = data.shape[1];
        let fits = (scales.len() == 1 || scales.len() == columns)
            && (zeros.len() <= 1 || zeros.len() == columns);
        let weight = WeightSpec {
            scales,
            zeros,
            ..WeightSpec::new(data)
        };
        fits.then(|| product((input, None), weight))
    })
}

/// The integer product before the cast that makes `sums`.
pub(super) fn integer_product<'a>(
    graph: &'a Graph,
    index: &Index,
    sums: &str,
    kind: &str,
) -> Option<&'a pb::NodeProto> {
    let cast = &graph.nodes[index.producer(sums)?];
    let product =
        &graph.nodes[index.producer(cast.input.first().filter(|_| cast.op_type == "Cast")?)?];
    (product.op_type == kind).then_some(product)
}

/// Input, weight scales and weight zero points of a dynamically quantised product.
pub(super) fn dynamic_operands(
    graph: &Graph,
    index: &Index,
    product: &pb::NodeProto,
    scale: &str,
) -> Option<(String, Vec<f32>, Vec<i32>)> {
    let quantised = &graph.nodes[index.producer(product.input.first()?)?];
    let of_input = |name: &str| quantised.output.get(1).is_some_and(|s| s == name);
    if quantised.op_type != "DynamicQuantizeLinear"
        || product.input.get(2) != quantised.output.get(2)
    {
        return None;
    }
    let scales = &graph.nodes[index.producer(scale)?];
    let weight_scale = either_order(scales)
        .into_iter()
        .find(|(a, _)| of_input(a))
        .map(|(_, b)| b)?;
    let scales = graph.constant(index, weight_scale)?.floats();
    Some((
        quantised.input.first()?.clone(),
        scales,
        zero_points(graph, index, product.input.get(3))?,
    ))
}

/// `MatMulNBits`, possibly with a bias.
fn n_bits(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Replacement> {
    let mut weight = n_bits_weight(graph, index, node)?;
    if let Some(bias) = node.input.get(5).filter(|n| !n.is_empty()) {
        weight.bias = row_vector(&graph.constant(index, bias)?, weight.columns())?;
    }
    Some(product((nth_input(node, 0).to_owned(), None), weight))
}

/// The values of a constant that is one row of `columns` values.
pub(super) fn row_vector(constant: &Constant, columns: usize) -> Option<Vec<f32>> {
    let last = constant.shape.last().copied().unwrap_or(1);
    (last == columns && constant.len() == columns).then(|| constant.floats())
}
