//! Drops the computation of rows that nobody reads.

use super::pass::{fused_node, prune};
use crate::onnx::{Graph, Index, attribute_int, first_output, nth_input, pb};
use crate::spec::{Spec, Specs};

/// Selects one row of a sequence as early as possible. After the last attention of a CLIP tower
/// only the class token is read, so the products after it, and the queries, need one row instead of
/// all.
pub(super) fn select_row_early(graph: &mut Graph, specs: &mut Specs) {
    let mut waiting: Vec<usize> = (0..graph.nodes.len())
        .filter(|&i| graph.nodes[i].op_type == "Gather")
        .collect();
    while let Some(at) = waiting.pop() {
        let index = graph.index();
        let gather = graph.nodes[at].clone();
        let Some((producer, spec)) = movable_producer(graph, &index, specs, &gather) else {
            continue;
        };
        // Attention still reads all keys and values; only its queries are rows.
        let row_inputs = match spec {
            Spec::Attention(_) => 1,
            _ => producer.input.len(),
        };
        let mut inputs = producer.input.clone();
        for input in inputs.iter_mut().take(row_inputs) {
            let name = Graph::derived(input, &format!("row {}", nth_input(&gather, 1)));
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
        // Every `Gather` of this row becomes the same fused node.
        let readers: Vec<String> = index
            .consumers(&producer.name)
            .iter()
            .map(|&i| first_output(&graph.nodes[i]).to_owned())
            .collect();
        for reader in readers {
            if let Some(i) = graph.index().producer(&reader) {
                graph.replace(i, fused_node(&spec, inputs.clone(), &reader));
                specs.insert(reader, spec.clone());
            }
        }
    }
    graph.drop_unused();
    prune(graph, specs);
}

/// The fused node before `gather`, and its spec, if it can compute only the row that `gather`
/// selects: it must compute every row by itself, and all its consumers must select that row.
fn movable_producer(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    gather: &pb::NodeProto,
) -> Option<(pb::NodeProto, Spec)> {
    if !selects_row(graph, index, gather) {
        return None;
    }
    let producer = &graph.nodes[index.producer(nth_input(gather, 0))?];
    let by_row = match specs.get(&producer.name)? {
        Spec::Linear(linear) => linear.patches.is_none() && linear.window.is_none(),
        Spec::Attention(_) => true,
        _ => false,
    };
    let all_select_it = index
        .consumers(&producer.name)
        .iter()
        .all(|&i| is_same_row(&graph.nodes[i], gather));
    (by_row && all_select_it && !index.is_output(&producer.name))
        .then(|| (producer.clone(), specs[&producer.name].clone()))
}

/// Whether a node is a `Gather` of one element of axis 1.
fn selects_row(graph: &Graph, index: &Index, gather: &pb::NodeProto) -> bool {
    let one = || {
        graph
            .constant(index, gather.input.get(1)?)
            .filter(|c| c.len() == 1 && c.shape.is_empty())
    };
    gather.op_type == "Gather" && attribute_int(gather, "axis") == Some(1) && one().is_some()
}

/// Whether a node selects the same row of the same value as `gather`.
fn is_same_row(node: &pb::NodeProto, gather: &pb::NodeProto) -> bool {
    node.op_type == "Gather" && node.input == gather.input && node.attribute == gather.attribute
}
