//! Nodes that depend on their own results. ONNX allows none, and who follows a graph would never
//! arrive.

use super::index::Index;
use tract_onnx::pb::NodeProto;

/// A node that needs its own result, directly or through others, or what such a node computes.
pub(super) fn node_in_ring(nodes: &[NodeProto]) -> Option<&NodeProto> {
    let index = Index::new(nodes, &[]);
    // How many inputs of each node are not computed yet.
    let mut missing: Vec<usize> = nodes
        .iter()
        .map(|node| {
            let computed = |name: &&String| index.producer(name).is_some();
            node.input.iter().filter(computed).count()
        })
        .collect();
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&i| missing[i] == 0).collect();
    while let Some(i) = ready.pop() {
        let outputs = &nodes[i].output;
        for (slot, output) in outputs.iter().enumerate() {
            if index.producer(output) != Some(i) || outputs[..slot].contains(output) {
                continue;
            }
            for &reader in index.consumers(output) {
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    ready.push(reader);
                }
            }
        }
    }
    let waiting = nodes.iter().zip(missing).find(|(_, m)| *m > 0);
    waiting.map(|(node, _)| node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        NodeProto {
            input: owned(inputs),
            output: owned(outputs),
            name: outputs.concat(),
            ..NodeProto::default()
        }
    }

    #[test]
    fn rings_of_any_length_are_found() {
        let ring = |nodes: &[NodeProto]| node_in_ring(nodes).map(|n| n.name.clone());
        let fine = [
            node(&["x"], &["a", "a", ""]),
            node(&["a", "a", "", "w"], &["b"]),
            node(&["b", "a"], &["y"]),
        ];
        assert_eq!(ring(&fine), None);
        assert_eq!(ring(&[node(&["t"], &["t"])]).as_deref(), Some("t"));
        let long = [
            node(&["x", "c"], &["a"]),
            node(&["a"], &["b"]),
            node(&["b"], &["c"]),
        ];
        assert_eq!(ring(&long).as_deref(), Some("a"));
        // Order in the file does not matter.
        assert_eq!(ring(&[node(&["a"], &["y"]), node(&["x"], &["a"])]), None);
    }
}
