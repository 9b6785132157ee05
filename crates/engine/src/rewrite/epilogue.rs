//! What follows a product and is fused into it: bias, activation and residual.

use super::pass::{Replacement, either_order, linear_of};
use super::products::row_vector;
use super::shapes::Shapes;
use crate::onnx::{Graph, Index, attribute_float, nth_input, pb};
use crate::spec::{Spec, Specs};
use constancy_kernels::Activation;

/// Replaces an `Add` of a constant row after a product.
pub(super) fn biases(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
) -> Option<Replacement> {
    if node.op_type != "Add" {
        return None;
    }
    either_order(node).into_iter().find_map(|(product, bias)| {
        let mut spec = linear_of(specs, product)?.clone();
        let untouched =
            spec.activation == Activation::None && !spec.residual && spec.parts.len() == 1;
        if !untouched || !spec.parts[0].bias.is_empty() || index.only_consumer(product).is_none() {
            return None;
        }
        spec.parts[0].bias = row_vector(&graph.constant(index, bias)?, spec.columns)?;
        let inputs = graph.nodes[index.producer(product)?].input.clone();
        Some(Replacement {
            inputs,
            spec: Spec::Linear(spec),
        })
    })
}

/// Replaces a `Mul` of a product by a constant row (layer scale).
pub(super) fn factors(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
) -> Option<Replacement> {
    if node.op_type != "Mul" {
        return None;
    }
    either_order(node)
        .into_iter()
        .find_map(|(product, factors)| {
            let mut spec = linear_of(specs, product)?.clone();
            let plain =
                spec.activation == Activation::None && !spec.residual && spec.parts.len() == 1;
            if !plain || index.only_consumer(product).is_none() {
                return None;
            }
            let factors = row_vector(&graph.constant(index, factors)?, spec.columns)?;
            let part = &mut spec.parts[0];
            for (bias, factor) in part.bias.iter_mut().zip(&factors) {
                *bias *= factor;
            }
            let scale = |c: usize| match part.scales.as_slice() {
                [] => 1.0,
                [one] => *one,
                all => all[c],
            };
            part.scales = (0..spec.columns).map(|c| scale(c) * factors[c]).collect();
            Some(Replacement {
                inputs: graph.nodes[index.producer(product)?].input.clone(),
                spec: Spec::Linear(spec),
            })
        })
}

/// Replaces an activation after a product: ReLU, GELU (one node, or five with `Erf`), QuickGELU
/// (one node, or three with `Sigmoid`).
pub(super) fn activations(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
) -> Option<Replacement> {
    let (product, activation, uses) = activation(graph, index, node)?;
    let mut spec = linear_of(specs, &product)?.clone();
    if spec.activation != Activation::None
        || spec.residual
        || index.consumers(&product).len() != uses
    {
        return None;
    }
    spec.activation = activation;
    Some(Replacement {
        inputs: graph.nodes[index.producer(&product)?].input.clone(),
        spec: Spec::Linear(spec),
    })
}

/// Input and kind of the activation that ends with `node`, and how often it reads the input.
pub(super) fn activation(
    graph: &Graph,
    index: &Index,
    node: &pb::NodeProto,
) -> Option<(String, Activation, usize)> {
    let one_node = |kind| Some((node.input.first()?.clone(), kind, 1));
    match node.op_type.as_str() {
        "Relu" => one_node(Activation::Relu),
        "Sigmoid" => one_node(Activation::Sigmoid),
        "HardSwish" => one_node(Activation::HardSwish),
        "Clip" if is_relu6(graph, index, node) => one_node(Activation::Relu6),
        "Gelu" => {
            let is_tanh = |a: &pb::AttributeProto| a.name == "approximate" && a.s == b"tanh";
            one_node(if node.attribute.iter().any(is_tanh) {
                Activation::GeluTanh
            } else {
                Activation::Gelu
            })
        }
        "QuickGelu" if attribute_float(node, "alpha").is_none_or(is_quick_alpha) => {
            one_node(Activation::QuickGelu)
        }
        "Mul" => either_order(node).into_iter().find_map(|(a, b)| {
            quick_gelu(graph, index, a, b)
                .map(|x| (x, Activation::QuickGelu, 2))
                .or_else(|| erf_gelu(graph, index, a, b).map(|x| (x, Activation::Gelu, 2)))
                .or_else(|| {
                    gated(graph, index, a, b).map(|activation| (a.to_owned(), activation, 2))
                })
        }),
        _ => None,
    }
}

fn is_quick_alpha(alpha: f32) -> bool {
    (alpha - 1.702).abs() < 1e-4
}

/// Whether a `Clip` is to 0..=6.
fn is_relu6(graph: &Graph, index: &Index, node: &pb::NodeProto) -> bool {
    let bound = |slot: usize, name: &str| match nth_input(node, slot) {
        "" => attribute_float(node, name),
        input => graph.scalar(index, input),
    };
    let is = |found: Option<f32>, bound: f32| found.is_some_and(|v| (v - bound).abs() < 1e-6);
    is(bound(1, "min"), 0.0) && is(bound(2, "max"), 6.0)
}

/// The activation `x · gate` whose gate is computed from x by one node.
fn gated(graph: &Graph, index: &Index, x: &str, gate: &str) -> Option<Activation> {
    let gate = &graph.nodes[index.producer(gate)?];
    if nth_input(gate, 0) != x {
        return None;
    }
    match gate.op_type.as_str() {
        "Sigmoid" => Some(Activation::Silu),
        "HardSigmoid" => {
            let is = |name: &str, default: f32, value: f32| {
                (attribute_float(gate, name).unwrap_or(default) - value).abs() < 1e-4
            };
            (is("alpha", 0.2, 1.0 / 6.0) && is("beta", 0.5, 0.5)).then_some(Activation::HardSwish)
        }
        _ => None,
    }
}

/// The `x` of `x · Sigmoid(1.702 x)`.
fn quick_gelu(graph: &Graph, index: &Index, x: &str, gate: &str) -> Option<String> {
    let sigmoid = &graph.nodes[index.producer(gate)?];
    let scaled = &graph.nodes[index.producer(
        sigmoid
            .input
            .first()
            .filter(|_| sigmoid.op_type == "Sigmoid")?,
    )?];
    let is_scaled =
        |(a, alpha): (&str, &str)| a == x && graph.scalar(index, alpha).is_some_and(is_quick_alpha);
    (scaled.op_type == "Mul" && either_order(scaled).into_iter().any(is_scaled))
        .then(|| x.to_owned())
}

/// The `x` of `½ · (x · (1 + Erf(x / √2)))`, or with the ½ on either factor.
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
        let erf = either_order(add)
            .into_iter()
            .find(|(_, one)| near(one, 1.0))
            .map(|(e, _)| e)?;
        let inner = producer(erf, "Erf")?.input.first()?;
        let scaled = &graph.nodes[index.producer(inner)?];
        match scaled.op_type.as_str() {
            "Div" => near(nth_input(scaled, 1), std::f32::consts::SQRT_2)
                .then(|| nth_input(scaled, 0).to_owned()),
            "Mul" => either_order(scaled)
                .into_iter()
                .find(|(_, c)| near(c, std::f32::consts::FRAC_1_SQRT_2))
                .map(|(x, _)| x.to_owned()),
            _ => None,
        }
    };
    let halved = |name: &str| {
        let mul = producer(name, "Mul")?;
        either_order(mul)
            .into_iter()
            .find(|(_, half)| near(half, 0.5))
            .map(|(x, _)| x.to_owned())
    };
    if near(b, 0.5) {
        let inner = producer(a, "Mul")?;
        return either_order(inner)
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

/// Replaces an `Add` of a product and another value of the same shape.
pub(super) fn residuals(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Replacement> {
    if node.op_type != "Add" {
        return None;
    }
    either_order(node).into_iter().find_map(|(product, other)| {
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
        Some(Replacement {
            inputs,
            spec: Spec::Linear(spec),
        })
    })
}
