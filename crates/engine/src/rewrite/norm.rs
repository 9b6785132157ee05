//! Layer normalisation, as one node or as the nine nodes that older exporters write.

use super::pass::{Replacement, either_order, prune};
use crate::onnx::{
    Graph, Index, attribute_float, attribute_int, attribute_ints, first_output, nth_input, pb,
};
use crate::spec::{NormSpec, Spec, Specs};

/// Replaces a layer normalisation over the last axis.
pub(super) fn norms(
    graph: &Graph,
    index: &Index,
    _: &Specs,
    node: &pb::NodeProto,
) -> Option<Replacement> {
    let (input, gain, shift, epsilon) = match node.op_type.as_str() {
        "LayerNormalization" => {
            let last = attribute_int(node, "axis").unwrap_or(-1) == -1;
            if !last
                || node
                    .output
                    .iter()
                    .skip(1)
                    .any(|o| !index.consumers(o).is_empty())
            {
                return None;
            }
            let gain = graph.constant(index, node.input.get(1)?)?.floats();
            let shift = match node.input.get(2).filter(|n| !n.is_empty()) {
                Some(name) => graph.constant(index, name)?.floats(),
                None => vec![0.0; gain.len()],
            };
            (
                nth_input(node, 0).to_owned(),
                gain,
                shift,
                attribute_float(node, "epsilon").unwrap_or(1e-5),
            )
        }
        "Add" => spelled_out(graph, index, node)?,
        _ => return None,
    };
    (gain.len() == shift.len() && gain.len() > 1).then(|| Replacement {
        inputs: vec![input],
        spec: Spec::Norm(NormSpec {
            name: first_output(node).to_owned(),
            gain,
            shift,
            epsilon,
        }),
    })
}

/// `Add(Mul(Div(d, Sqrt(Add(ReduceMean(Pow(d, 2)), ε))), gain), shift)` with `d = Sub(x,
/// ReduceMean(x))`.
fn spelled_out(
    graph: &Graph,
    index: &Index,
    add: &pb::NodeProto,
) -> Option<(String, Vec<f32>, Vec<f32>, f32)> {
    let producer = |name: &str, kind: &str| {
        let node = &graph.nodes[index.producer(name)?];
        (node.op_type == kind).then_some(node)
    };
    let with_constant = |node: &pb::NodeProto| {
        either_order(node)
            .into_iter()
            .find_map(|(value, c)| Some((value.to_owned(), graph.constant(index, c)?.floats())))
    };
    let (scaled, shift) = with_constant(add)?;
    let (unit, gain) = with_constant(producer(&scaled, "Mul")?)?;
    let div = producer(&unit, "Div")?;
    let centred = producer(nth_input(div, 0), "Sub")?;
    let (widened, epsilon) = with_constant(producer(
        nth_input(producer(nth_input(div, 1), "Sqrt")?, 0),
        "Add",
    )?)?;
    let mean_of = |name: &str| {
        let mean = producer(name, "ReduceMean")?;
        let axes = attribute_ints(mean, "axes").map(<[i64]>::to_vec);
        let axes = axes.or_else(|| Some(graph.constant(index, mean.input.get(1)?)?.integers()))?;
        (axes == [-1]).then(|| nth_input(mean, 0).to_owned())
    };
    let squared = &graph.nodes[index.producer(&mean_of(&widened)?)?];
    let centre = nth_input(div, 0);
    let is_square = match squared.op_type.as_str() {
        "Pow" => {
            nth_input(squared, 0) == centre
                && graph.scalar(index, nth_input(squared, 1)) == Some(2.0)
        }
        "Mul" => squared.input.iter().all(|i| i == centre),
        _ => false,
    };
    let x = nth_input(centred, 0);
    let whole =
        is_square && mean_of(nth_input(centred, 1)).as_deref() == Some(x) && epsilon.len() == 1;
    whole.then(|| (x.to_owned(), gain, shift, epsilon[0]))
}

/// Moves every normalisation into the products that read it, unless something else also reads it.
pub(super) fn move_into_products(graph: &mut Graph, specs: &mut Specs) {
    let index = graph.index();
    let norms: Vec<(String, NormSpec)> = specs
        .iter()
        .filter_map(|(name, spec)| match spec {
            Spec::Norm(norm) => Some((name.clone(), norm.clone())),
            _ => None,
        })
        .collect();
    for (name, norm) in norms {
        let consumers = index.consumers(&name).to_vec();
        let takes = |i: usize| {
            let node = &graph.nodes[i];
            let can_normalise = matches!(
                specs.get(&node.name),
                Some(Spec::Linear(l))
                    if l.norm.is_none() && l.patches.is_none() && l.window.is_none()
            );
            can_normalise
                && nth_input(node, 0) == name
                && node.input.iter().filter(|i| **i == name).count() == 1
        };
        if consumers.is_empty() || !consumers.iter().all(|&i| takes(i)) || index.is_output(&name) {
            continue;
        }
        let Some(input) = index
            .producer(&name)
            .map(|i| nth_input(&graph.nodes[i], 0).to_owned())
        else {
            continue;
        };
        for i in consumers {
            if let Some(Spec::Linear(linear)) = specs.get_mut(&graph.nodes[i].name) {
                linear.norm = Some(norm.clone());
                graph.nodes[i].input[0].clone_from(&input);
            }
        }
    }
    graph.drop_unused();
    prune(graph, specs);
}
