//! Which node produces a value of a graph, and which nodes consume it.

use std::collections::{HashMap, HashSet};
use tract_onnx::pb;

/// Producer and consumers of every value of a graph, as positions in its nodes.
pub(crate) struct Index {
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
    outputs: HashSet<String>,
}

impl Index {
    pub(crate) fn new(nodes: &[pb::NodeProto], outputs: &[String]) -> Self {
        let mut producers = HashMap::new();
        let mut consumers: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, node) in nodes.iter().enumerate() {
            producers.extend(
                node.output
                    .iter()
                    .filter(|o| !o.is_empty())
                    .map(|o| (o.clone(), i)),
            );
            for input in node.input.iter().filter(|o| !o.is_empty()) {
                consumers.entry(input.clone()).or_default().push(i);
            }
        }
        Self {
            producers,
            consumers,
            outputs: outputs.iter().cloned().collect(),
        }
    }

    pub(crate) fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// Once for each input, so a node that takes a value twice is listed twice.
    pub(crate) fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a value is an output of the graph.
    pub(crate) fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// The consumer of a value that has exactly one and is not an output of the graph.
    pub(crate) fn only_consumer(&self, name: &str) -> Option<usize> {
        match self.consumers(name) {
            [one] if !self.outputs.contains(name) => Some(*one),
            _ => None,
        }
    }
}
