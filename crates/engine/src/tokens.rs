//! What the graph of a text tower says about token ids: how many it knows, and which of them it looks
//! for to read the embedding of the text.

use crate::onnx::{Graph, Index, attribute_int};
use std::collections::HashSet;

/// How a text tower uses token ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// Rows of the table of token embeddings; `None` if no table is found.
    pub vocabulary: Option<i64>,
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
