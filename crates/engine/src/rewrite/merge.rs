//! Work that need not be done: rows that nobody reads, and inputs that would be quantised three times.

use super::super::onnx::{Graph, Index, attribute_int, pb};
use super::{LinearSpec, Spec, Specs, node};
use constancy_kernels::Activation;
use std::collections::{HashMap, HashSet};

/// Takes one row of a sequence as early as can be: what follows the last attention of a CLIP tower is read for
/// the class token alone, so its products, and the queries, need one row instead of all.
pub(super) fn select_row_early(graph: &mut Graph, specs: &mut Specs) {
    let mut waiting: Vec<usize> = (0..graph.nodes.len())
        .filter(|&i| graph.nodes[i].op_type == "Gather")
        .collect();
    while let Some(at) = waiting.pop() {
        let index = graph.index();
        let gather = graph.nodes[at].clone();
        if !is_row(graph, &index, &gather) {
            continue;
        }
        let Some(made) = index
            .producer(&gather.input[0])
            .map(|i| graph.nodes[i].clone())
        else {
            continue;
        };
        // Only where every reader wants this row.
        let all = index
            .consumers(&made.name)
            .iter()
            .all(|&i| same_row(&graph.nodes[i], &gather));
        let Some(spec) = specs
            .get(&made.name)
            .filter(|_| all && !index.is_output(&made.name))
            .cloned()
        else {
            continue;
        };
        let rows = match &spec {
            Spec::Linear(linear) if linear.patches.is_none() => made.input.len(),
            Spec::Attention(_) => 1,
            _ => continue,
        };
        let mut inputs = made.input.clone();
        for input in inputs.iter_mut().take(rows) {
            let name = format!("{input}.row.{}", gather.input[1]);
            if index.producer(&name).is_none() && !graph.nodes.iter().any(|n| n.name == name) {
                waiting.push(graph.nodes.len());
                let mut earlier = gather.clone();
                earlier.name.clone_from(&name);
                earlier.output = vec![name.clone()];
                earlier.input[0].clone_from(input);
                graph.nodes.push(earlier);
            }
            *input = name;
        }
        // Every reader of the row gets it from one node.
        let readers: Vec<String> = index
            .consumers(&made.name)
            .iter()
            .map(|&i| graph.nodes[i].output[0].clone())
            .collect();
        for reader in readers {
            if let Some(i) = graph.index().producer(&reader) {
                graph.replace(i, node(&spec, inputs.clone(), reader.clone()));
                specs.insert(reader, spec.clone());
            }
        }
    }
    graph.drop_unused();
    super::prune(graph, specs);
}

/// `Gather` of one element of axis 1.
fn is_row(graph: &Graph, index: &Index, gather: &pb::NodeProto) -> bool {
    let one = || {
        graph
            .constant(index, gather.input.get(1)?)
            .filter(|c| c.len() == 1 && c.shape.is_empty())
    };
    gather.op_type == "Gather" && attribute_int(gather, "axis") == Some(1) && one().is_some()
}

fn same_row(node: &pb::NodeProto, gather: &pb::NodeProto) -> bool {
    node.op_type == "Gather" && node.input == gather.input && node.attribute == gather.attribute
}

/// Puts the products that read the same rows side by side: the rows are normalised and quantised once.
pub(super) fn siblings(graph: &mut Graph, specs: &mut Specs) {
    let mut groups: HashMap<(String, Option<String>), Vec<String>> = HashMap::new();
    let index = graph.index();
    for n in &graph.nodes {
        let Some(Spec::Linear(linear)) = specs.get(&n.name) else {
            continue;
        };
        let plain =
            linear.activation == Activation::None && !linear.residual && linear.patches.is_none();
        // Only for attention, which can read its operands where they lie.
        let readers = index.consumers(&n.name);
        let for_attention = readers
            .iter()
            .all(|&i| matches!(specs.get(&graph.nodes[i].name), Some(Spec::Attention(_))));
        if plain && for_attention && !readers.is_empty() && !index.is_output(&n.name) {
            let norm = linear.norm.as_ref().map(|norm| norm.name.clone());
            groups
                .entry((n.input[0].clone(), norm))
                .or_default()
                .push(n.name.clone());
        }
    }
    for members in groups.into_values().filter(|m| m.len() > 1) {
        merge(graph, specs, &members);
    }
    graph.drop_unused();
    super::prune(graph, specs);
}

fn merge(graph: &mut Graph, specs: &mut Specs, members: &[String]) {
    let linears: Vec<LinearSpec> = members
        .iter()
        .filter_map(|m| super::linear_of(specs, m).cloned())
        .collect();
    let mut columns = 0;
    let starts: HashMap<&str, usize> = members
        .iter()
        .zip(&linears)
        .map(|(name, linear)| {
            columns += linear.columns;
            (name.as_str(), columns - linear.columns)
        })
        .collect();
    let mut merged = linears[0].clone();
    merged.columns = columns;
    merged.parts = linears.iter().flat_map(|l| l.parts.clone()).collect();
    let output = format!("{}.merged", members[0]);
    let Some(at) = graph.index().producer(&members[0]) else {
        return;
    };
    let input = graph.nodes[at].input[0].clone();
    let spec = Spec::Linear(merged);
    graph.nodes.push(node(&spec, vec![input], output.clone()));
    specs.insert(output.clone(), spec);
    let names: HashSet<&str> = members.iter().map(String::as_str).collect();
    for n in &mut graph.nodes {
        let Some(Spec::Attention(attention)) = specs.get_mut(&n.name) else {
            continue;
        };
        for (input, offset) in n.input.iter_mut().zip(&mut attention.offsets) {
            if names.contains(input.as_str()) {
                *offset += starts[input.as_str()];
                input.clone_from(&output);
            }
        }
    }
}
