//! Tables that fit one size of image or text alone, such as position embeddings.
//!
//! tract takes two lengths that do not fit for symbols that may, and carries the question on from
//! layer to layer, in time that doubles with each. So it is asked about the first layer only.

use super::pass::either_order;
use super::shapes::Shapes;
use crate::onnx::{Graph, Index, first_output, pb};
use crate::spec::Specs;
use tract_onnx::tract_hir::internal::InferenceFact;

/// How many nodes with a table are looked at: those at the beginning.
const TABLES: usize = 3;

/// The shapes of a value and of the table that is added to it, if they do not fit.
pub(crate) fn table_clash(graph: &Graph, inputs: &[(&str, InferenceFact)]) -> Option<String> {
    let index = graph.index();
    let mut tables = 0;
    for node in &graph.nodes {
        if !matches!(node.op_type.as_str(), "Add" | "Mul" | "Sub") {
            continue;
        }
        let Some((value, table)) = either_order(node)
            .into_iter()
            .find(|(_, other)| is_table(graph, &index, other, 8))
        else {
            continue;
        };
        tables += 1;
        if tables > TABLES {
            return None;
        }
        let mut beginning = graph.clone();
        beginning.keep_only(first_output(node));
        let Ok(shapes) = Shapes::of(&beginning, &Specs::new(), inputs) else {
            continue;
        };
        if let (Some(a), Some(b)) = (shapes.get(value), shapes.get(table))
            && !fits(a, b)
        {
            return Some(format!(
                "a value of shape {a:?} meets the table `{table}` of shape {b:?}"
            ));
        }
    }
    None
}

/// Whether a value is a constant of two or more axes, or rows of one.
fn is_table(graph: &Graph, index: &Index, name: &str, depth: usize) -> bool {
    if let Some(constant) = graph.constant(index, name) {
        return constant.shape.iter().filter(|&&d| d > 1).count() > 1;
    }
    let Some(node) = index.producer(name).map(|i| &graph.nodes[i]) else {
        return false;
    };
    depth > 0
        && moves_rows(node)
        && node
            .input
            .first()
            .is_some_and(|i| is_table(graph, index, i, depth - 1))
}

fn moves_rows(node: &pb::NodeProto) -> bool {
    matches!(
        node.op_type.as_str(),
        "Cast"
            | "DequantizeLinear"
            | "Gather"
            | "Identity"
            | "Reshape"
            | "Slice"
            | "Squeeze"
            | "Transpose"
            | "Unsqueeze"
    )
}

/// Whether two shapes broadcast.
fn fits(a: &[usize], b: &[usize]) -> bool {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.into_iter().all(|(&a, &b)| a == b || a == 1 || b == 1)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn shapes_broadcast_from_their_last_axis() {
        assert!(fits(&[1, 50, 768], &[50, 768]) && fits(&[1, 50, 768], &[1, 1, 768]));
        assert!(!fits(&[1, 65, 768], &[1, 50, 768]) && !fits(&[65, 768], &[1, 50, 768]));
    }
}
