//! What the graph of a text tower says about token ids: how many it knows, and which of them it looks
//! for to read the embedding of the text.

use crate::onnx::{Graph, Index, attribute_int};
use std::collections::HashSet;

/// How a text tower uses token ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// Rows of the table of token embeddings; `None` if no table is found.
    pub vocabulary: Option<i64>,
    /// Rows of the table of position embeddings, which are the longest text that the tower takes; `None` if no table is
    /// found.
    pub positions: Option<i64>,
    /// The tower reads the embedding where the id is highest, as OpenAI's CLIP does.
    pub reads_at_highest: bool,
    /// Ids that the tower compares every token with: its end token, and maybe the padding.
    pub looks_for: Vec<i64>,
}

/// Operators that only rearrange token ids or convert them.
const REARRANGING: [&str; 6] = [
    "Cast",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

impl TokenUse {
    /// Reads how `graph` uses the ids of its input `ids`.
    pub(crate) fn of(graph: &Graph, ids: &str) -> Self {
        let index = graph.index();
        let mut values = HashSet::from([ids]);
        // What the ids become in the table of token embeddings, until positions are added.
        let mut embedded: HashSet<&str> = HashSet::new();
        let mut found = Self::default();
        // Nodes precede their readers.
        for node in &graph.nodes {
            let input = |i: usize| node.input.get(i).map_or("", String::as_str);
            let takes = |i: usize| values.contains(input(i));
            match node.op_type.as_str() {
                op if REARRANGING.contains(&op) && takes(0) => {
                    values.extend(node.output.iter().map(String::as_str));
                }
                "Gather" if takes(1) && attribute_int(node, "axis").unwrap_or(0) == 0 => {
                    found.vocabulary = rows(graph, &index, input(0)).or(found.vocabulary);
                    embedded.extend(node.output.iter().map(String::as_str));
                }
                "Add" if found.positions.is_none() => {
                    let other = [(0, 1), (1, 0)]
                        .into_iter()
                        .find(|&(i, _)| embedded.contains(input(i)));
                    found.positions = other.and_then(|(_, table)| {
                        position_rows(graph, &index, input(table), MAX_BEHIND)
                    });
                }
                op if REARRANGING.contains(&op) && embedded.contains(input(0)) => {
                    embedded.extend(node.output.iter().map(String::as_str));
                }
                "ArgMax" if takes(0) => found.reads_at_highest = true,
                "Equal" if takes(0) => found.looks_for.extend(integer(graph, &index, input(1))),
                "Equal" if takes(1) => found.looks_for.extend(integer(graph, &index, input(0))),
                _ => {}
            }
        }
        found
    }
}

/// Nodes that may stand between a table and the sum; exporters write one to three.
const MAX_BEHIND: usize = 8;

/// Rows of the constant table `[P, D]` or `[1, P, D]` whose first rows `name` has.
fn position_rows(graph: &Graph, index: &Index, name: &str, depth: usize) -> Option<i64> {
    if let Some(table) = graph.constant(index, name) {
        let (_, others) = table.shape.split_last()?;
        let (&rows, others) = others.split_last()?;
        let is_table = others.iter().all(|&n| n == 1);
        return is_table.then(|| i64::try_from(rows).ok()).flatten();
    }
    let node = &graph.nodes[index.producer(name)?];
    let moves = matches!(
        node.op_type.as_str(),
        "Cast" | "DequantizeLinear" | "Gather" | "Identity" | "Slice" | "Squeeze" | "Unsqueeze"
    );
    let depth = depth.checked_sub(1).filter(|_| moves)?;
    position_rows(graph, index, node.input.first()?, depth)
}

/// Rows of a constant table, which may be stored in fewer bits.
fn rows(graph: &Graph, index: &Index, name: &str) -> Option<i64> {
    let stored = index
        .producer(name)
        .map(|i| &graph.nodes[i])
        .filter(|n| n.op_type == "DequantizeLinear")
        .and_then(|n| n.input.first())
        .map_or(name, String::as_str);
    let table = graph.constant(index, stored)?;
    i64::try_from(*table.shape.first()?).ok()
}

/// The value of a constant with one element.
fn integer(graph: &Graph, index: &Index, name: &str) -> Option<i64> {
    let constant = graph.constant(index, name)?;
    match constant.integers().as_slice() {
        &[value] => Some(value),
        _ => None,
    }
}
