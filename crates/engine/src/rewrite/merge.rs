//! Merges products that read the same rows, which are then normalised and quantised only once.

use super::pass::{fused_node, linear_of, prune};
use crate::onnx::{Graph, nth_input};
use crate::spec::{Grid, LinearSpec, Spec, Specs};
use constancy_kernels::Activation;
use std::collections::{HashMap, HashSet};

/// What products read: a value, the normalisation of it and the grid that it is rounded to.
type Rows = (String, Option<String>, Option<[u32; 3]>);

/// Merges the products that read the same rows and feed nothing but attention, as q, k and v do.
pub(super) fn merge_siblings(graph: &mut Graph, specs: &mut Specs) {
    let mut groups: HashMap<Rows, Vec<String>> = HashMap::new();
    let index = graph.index();
    for n in &graph.nodes {
        let Some(Spec::Linear(linear)) = specs.get(&n.name) else {
            continue;
        };
        let plain = linear.activation == Activation::None
            && !linear.residual
            && linear.patches.is_none()
            && linear.window.is_none();
        // Only attention can read its operands as columns of a larger matrix.
        let readers = index.consumers(&n.name);
        let for_attention = readers
            .iter()
            .all(|&i| matches!(specs.get(&graph.nodes[i].name), Some(Spec::Attention(_))));
        if plain && for_attention && !readers.is_empty() && !index.is_output(&n.name) {
            let norm = linear.norm.as_ref().map(|norm| norm.name.clone());
            groups
                .entry((nth_input(n, 0).to_owned(), norm, linear.grid.map(bits)))
                .or_default()
                .push(n.name.clone());
        }
    }
    for members in groups.into_values().filter(|m| m.len() > 1) {
        merge(graph, specs, &members);
    }
    graph.drop_unused();
    prune(graph, specs);
}

/// A grid as a key.
fn bits(grid: Grid) -> [u32; 3] {
    [grid.scale, grid.low, grid.high].map(f32::to_bits)
}

/// Merges the products `members` into one, and has attention read its columns.
fn merge(graph: &mut Graph, specs: &mut Specs, members: &[String]) {
    let linears: Vec<LinearSpec> = members
        .iter()
        .filter_map(|m| linear_of(specs, m).cloned())
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
    let output = Graph::derived(&members[0], "merged");
    let Some(at) = graph.index().producer(&members[0]) else {
        return;
    };
    let input = nth_input(&graph.nodes[at], 0).to_owned();
    let spec = Spec::Linear(merged);
    graph.nodes.push(fused_node(&spec, vec![input], &output));
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
