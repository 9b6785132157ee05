//! Products with constant matrices in all the forms that public models have, and what follows them.

use super::super::onnx::{Constant, Element, Graph, Index, attribute_float, attribute_int, pb};
use super::shapes::Shapes;
use super::{Fused, LinearSpec, Spec, Specs, WeightSpec, either_way, linear_of};
use constancy_kernels::Activation;
use std::sync::Arc;

/// A product with a constant matrix.
pub(super) fn products(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
) -> Option<Fused> {
    match node.op_type.as_str() {
        "MatMul" => {
            let weight = matrix(graph, index, node.input.get(1)?)?;
            Some(fused(
                dequantised_input(graph, index, &node.input[0]),
                weight,
            ))
        }
        "Gemm" => gemm(graph, index, node),
        "MatMulNBits" => n_bits(graph, index, node),
        "Mul" => dynamic(graph, index, node),
        _ => None,
    }
}

fn fused(input: String, weight: WeightSpec) -> Fused {
    Fused {
        inputs: vec![input],
        spec: Spec::Linear(LinearSpec::plain(weight)),
    }
}

/// A constant matrix: floats, or bytes through `DequantizeLinear`.
fn matrix(graph: &Graph, index: &Index, name: &str) -> Option<WeightSpec> {
    if let Some(data) = graph.constant(index, name) {
        let float = matches!(data.element, Element::F32 | Element::F16) && data.shape.len() == 2;
        return float.then(|| WeightSpec {
            data,
            transposed: false,
            scales: vec![],
            zeros: vec![],
            bias: vec![],
        });
    }
    let node = &graph.nodes[index.producer(name)?];
    match node.op_type.as_str() {
        "DequantizeLinear" => dequantised(graph, index, node),
        "Transpose" => {
            let mut weight = matrix(graph, index, node.input.first()?)?;
            weight.transposed = !weight.transposed;
            Some(weight)
        }
        _ => None,
    }
}

/// `DequantizeLinear` of a constant matrix with a scale for all or one per column.
fn dequantised(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<WeightSpec> {
    let data = graph.constant(index, node.input.first()?)?;
    if !is_byte_matrix(&data) {
        return None;
    }
    let scales = graph.constant(index, node.input.get(1)?)?.floats();
    let zeros = zero_points(graph, index, node.input.get(2))?;
    let axis = attribute_int(node, "axis").unwrap_or(1);
    // A scale per row of the stored matrix is one per column only where the matrix is transposed after it.
    let transposed_after = || {
        index
            .only_consumer(&node.output[0])
            .is_some_and(|i| graph.nodes[i].op_type == "Transpose")
    };
    match (scales.len(), axis) {
        (1, _) => {}
        (n, 1 | -1) if n == data.shape[1] && !transposed_after() => {}
        (n, 0 | -2) if n == data.shape[0] && transposed_after() => {}
        _ => return None,
    }
    Some(WeightSpec {
        data,
        transposed: false,
        scales,
        zeros,
        bias: vec![],
    })
}

fn is_byte_matrix(data: &Constant) -> bool {
    matches!(data.element, Element::I8 | Element::U8) && data.shape.len() == 2
}

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

/// The value behind a `QuantizeLinear` and `DequantizeLinear` pair: rows are quantised better one by one.
fn dequantised_input(graph: &Graph, index: &Index, name: &str) -> String {
    let behind = |name: &str, kind: &str| {
        let node = &graph.nodes[index.producer(name)?];
        (node.op_type == kind).then(|| node.input[0].clone())
    };
    behind(name, "DequantizeLinear")
        .and_then(|q| behind(&q, "QuantizeLinear"))
        .unwrap_or_else(|| name.to_owned())
}

/// `Gemm` without scaling: a product with its bias.
fn gemm(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Fused> {
    let plain = |name| attribute_float(node, name).is_none_or(|v| (v - 1.0).abs() < f32::EPSILON);
    if attribute_int(node, "transA").unwrap_or(0) != 0 || !plain("alpha") || !plain("beta") {
        return None;
    }
    let mut weight = matrix(graph, index, node.input.get(1)?)?;
    if attribute_int(node, "transB").unwrap_or(0) != 0 {
        weight.transposed = !weight.transposed;
    }
    let columns = weight.data.shape[usize::from(!weight.transposed)];
    if let Some(bias) = node.input.get(2).filter(|n| !n.is_empty()) {
        weight.bias = row_vector(&graph.constant(index, bias)?, columns)?;
    }
    Some(fused(
        dequantised_input(graph, index, &node.input[0]),
        weight,
    ))
}

/// What ONNX Runtime's dynamic quantisation writes:
/// `Mul(Cast(MatMulInteger(q, W, zero, weight zero)), Mul(scale, weight scale))` with q of `DynamicQuantizeLinear`.
fn dynamic(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Fused> {
    either_way(node).into_iter().find_map(|(sums, scale)| {
        let product = integer_product(graph, index, sums, "MatMulInteger")?;
        let data = graph.constant(index, product.input.get(1)?)?;
        if !is_byte_matrix(&data) {
            return None;
        }
        let (input, scales, zeros) = dynamic_parts(graph, index, product, scale)?;
        let columns = data.shape[1];
        ((scales.len() == 1 || scales.len() == columns)
            && (zeros.len() <= 1 || zeros.len() == columns))
            .then(|| {
                fused(
                    input,
                    WeightSpec {
                        data,
                        transposed: false,
                        scales,
                        zeros,
                        bias: vec![],
                    },
                )
            })
    })
}

/// The integer product behind a cast.
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
pub(super) fn dynamic_parts(
    graph: &Graph,
    index: &Index,
    product: &pb::NodeProto,
    scale: &str,
) -> Option<(String, Vec<f32>, Vec<i32>)> {
    let quantised = &graph.nodes[index.producer(&product.input[0])?];
    let of_input = |name: &str| quantised.output.get(1).is_some_and(|s| s == name);
    if quantised.op_type != "DynamicQuantizeLinear"
        || product.input.get(2) != quantised.output.get(2)
    {
        return None;
    }
    let scales = &graph.nodes[index.producer(scale)?];
    let weight_scale = either_way(scales)
        .into_iter()
        .find(|(a, _)| of_input(a))
        .map(|(_, b)| b)?;
    let scales = graph.constant(index, weight_scale)?.floats();
    Some((
        quantised.input[0].clone(),
        scales,
        zero_points(graph, index, product.input.get(3))?,
    ))
}

/// `com.microsoft.MatMulNBits`, 4 or 8 bits in blocks along the depth: unpacked to floats.
fn n_bits(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Fused> {
    let size = |name| attribute_int(node, name).and_then(|v| usize::try_from(v).ok());
    let (depth, columns, block) = (size("K")?, size("N")?, size("block_size")?);
    let bits = size("bits").unwrap_or(4);
    if !matches!(bits, 4 | 8) || block == 0 || node.input.get(4).is_some_and(|g| !g.is_empty()) {
        return None;
    }
    let blocks = depth.div_ceil(block);
    let packed = graph.constant(index, node.input.get(1)?)?;
    let scales = graph.constant(index, node.input.get(2)?)?.floats();
    let zeros = match node.input.get(3).filter(|n| !n.is_empty()) {
        Some(name) => Some(graph.constant(index, name)?),
        None => None,
    };
    let bytes = packed.data.bytes();
    let row_bytes = blocks * block * bits / 8;
    if bytes.len() != columns * row_bytes || scales.len() != columns * blocks {
        return None;
    }
    let nibble = |bytes: &[u8], i: usize| match bits {
        8 => bytes.get(i).copied(),
        _ => bytes
            .get(i / 2)
            .map(|b| if i.is_multiple_of(2) { b & 15 } else { b >> 4 }),
    };
    let zero_row = (blocks * bits).div_ceil(8);
    let middle = 1u8 << (bits - 1);
    let mut floats = Vec::with_capacity(columns * depth * 4);
    for c in 0..columns {
        let row = &bytes[c * row_bytes..(c + 1) * row_bytes];
        for d in 0..depth {
            let b = d / block;
            let zero = match &zeros {
                None => f32::from(middle),
                Some(z) if z.element == Element::U8 => {
                    f32::from(nibble(z.data.bytes().get(c * zero_row..)?, b)?)
                }
                Some(z) => *z.floats().get(c * blocks + b)?,
            };
            floats.extend(
                ((f32::from(nibble(row, d)?) - zero) * scales[c * blocks + b]).to_le_bytes(),
            );
        }
    }
    let data = Constant {
        shape: vec![columns, depth],
        element: Element::F32,
        data: super::super::onnx::Slice::Owned(Arc::new(floats)),
    };
    let mut weight = WeightSpec {
        data,
        transposed: true,
        scales: vec![],
        zeros: vec![],
        bias: vec![],
    };
    if let Some(bias) = node.input.get(5).filter(|n| !n.is_empty()) {
        weight.bias = row_vector(&graph.constant(index, bias)?, columns)?;
    }
    Some(fused(node.input[0].clone(), weight))
}

/// A constant that is one row of `columns` values.
fn row_vector(constant: &Constant, columns: usize) -> Option<Vec<f32>> {
    let last = constant.shape.last().copied().unwrap_or(1);
    (last == columns && constant.len() == columns).then(|| constant.floats())
}

/// `Add` of a constant row after a product.
pub(super) fn biases(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
) -> Option<Fused> {
    if node.op_type != "Add" {
        return None;
    }
    either_way(node).into_iter().find_map(|(product, bias)| {
        let mut spec = linear_of(specs, product)?.clone();
        let untouched =
            spec.activation == Activation::None && !spec.residual && spec.parts.len() == 1;
        if !untouched || !spec.parts[0].bias.is_empty() || index.only_consumer(product).is_none() {
            return None;
        }
        spec.parts[0].bias = row_vector(&graph.constant(index, bias)?, spec.columns)?;
        let inputs = graph.nodes[index.producer(product)?].input.clone();
        Some(Fused {
            inputs,
            spec: Spec::Linear(spec),
        })
    })
}

/// An activation after a product: QuickGELU, GELU by erf (one operator or five), ReLU.
pub(super) fn activations(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
) -> Option<Fused> {
    let (product, activation, uses) = match node.op_type.as_str() {
        "Relu" => (node.input[0].clone(), Activation::Relu, 1),
        "Gelu" => {
            let tanh = node
                .attribute
                .iter()
                .any(|a| a.name == "approximate" && a.s == b"tanh");
            (
                node.input[0].clone(),
                if tanh {
                    Activation::GeluTanh
                } else {
                    Activation::Gelu
                },
                1,
            )
        }
        "QuickGelu" if attribute_float(node, "alpha").is_none_or(is_quick) => {
            (node.input[0].clone(), Activation::QuickGelu, 1)
        }
        "Mul" => either_way(node).into_iter().find_map(|(a, b)| {
            quick_gelu(graph, index, a, b)
                .map(|x| (x, Activation::QuickGelu, 2))
                .or_else(|| erf_gelu(graph, index, a, b).map(|x| (x, Activation::Gelu, 2)))
        })?,
        _ => return None,
    };
    let mut spec = linear_of(specs, &product)?.clone();
    if spec.activation != Activation::None
        || spec.residual
        || index.consumers(&product).len() != uses
    {
        return None;
    }
    spec.activation = activation;
    Some(Fused {
        inputs: graph.nodes[index.producer(&product)?].input.clone(),
        spec: Spec::Linear(spec),
    })
}

fn is_quick(alpha: f32) -> bool {
    (alpha - 1.702).abs() < 1e-4
}

/// `x · Sigmoid(1.702 x)`.
fn quick_gelu(graph: &Graph, index: &Index, x: &str, gate: &str) -> Option<String> {
    let sigmoid = &graph.nodes[index.producer(gate)?];
    let scaled = &graph.nodes[index.producer(
        sigmoid
            .input
            .first()
            .filter(|_| sigmoid.op_type == "Sigmoid")?,
    )?];
    let is_scaled =
        |(a, alpha): (&str, &str)| a == x && graph.scalar(index, alpha).is_some_and(is_quick);
    (scaled.op_type == "Mul" && either_way(scaled).into_iter().any(is_scaled)).then(|| x.to_owned())
}

/// `½ · (x · (1 + Erf(x / √2)))`, or with the half on either factor.
fn erf_gelu(graph: &Graph, index: &Index, a: &str, b: &str) -> Option<String> {
    let near = |name: &str, value: f32| {
        graph
            .scalar(index, name)
            .is_some_and(|v| (v - value).abs() < 1e-4)
    };
    let producer = |name: &str, kind: &str| {
        let node = &graph.nodes[index.producer(name)?];
        (node.op_type == kind).then_some(node)
    };
    // 1 + erf(x / √2), giving x.
    let gate = |name: &str| {
        let add = producer(name, "Add")?;
        let erf = either_way(add)
            .into_iter()
            .find(|(_, one)| near(one, 1.0))
            .map(|(e, _)| e)?;
        let inner = producer(erf, "Erf")?.input.first()?;
        let scaled = &graph.nodes[index.producer(inner)?];
        match scaled.op_type.as_str() {
            "Div" => {
                near(&scaled.input[1], std::f32::consts::SQRT_2).then(|| scaled.input[0].clone())
            }
            "Mul" => either_way(scaled)
                .into_iter()
                .find(|(_, c)| near(c, std::f32::consts::FRAC_1_SQRT_2))
                .map(|(x, _)| x.to_owned()),
            _ => None,
        }
    };
    let halved = |name: &str| {
        let mul = producer(name, "Mul")?;
        either_way(mul)
            .into_iter()
            .find(|(_, half)| near(half, 0.5))
            .map(|(x, _)| x.to_owned())
    };
    if near(b, 0.5) {
        let inner = producer(a, "Mul")?;
        return either_way(inner)
            .into_iter()
            .find_map(|(x, g)| gate(g).filter(|found| found == x));
    }
    // (½ x) · (1 + erf) and x · (½ (1 + erf)).
    if let Some(x) = gate(b) {
        return (halved(a)? == x).then_some(x);
    }
    let x = gate(&halved(b)?)?;
    (x == a).then_some(x)
}

/// `Add` of a product and another value of the same shape.
pub(super) fn residuals(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Fused> {
    if node.op_type != "Add" {
        return None;
    }
    either_way(node).into_iter().find_map(|(product, other)| {
        let mut spec = linear_of(specs, product)?.clone();
        let same = shapes
            .get(product)
            .is_some_and(|s| shapes.get(other) == Some(s));
        if spec.residual
            || spec.patches.is_some()
            || !same
            || index.only_consumer(product).is_none()
        {
            return None;
        }
        spec.residual = true;
        let mut inputs = graph.nodes[index.producer(product)?].input.clone();
        inputs.push(other.to_owned());
        Some(Fused {
            inputs,
            spec: Spec::Linear(spec),
        })
    })
}
