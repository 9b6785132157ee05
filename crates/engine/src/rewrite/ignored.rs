//! Attributes that tract reads over, with another result than ONNX defines: such a file is refused by name.

use crate::onnx::{Graph, attribute_float};
use tract_onnx::pb::NodeProto;

/// The first operator of the graph whose attributes tract 0.23 does not follow, and which; `None` if there is none.
pub(crate) fn ignored_attribute(graph: &Graph) -> Option<String> {
    graph.nodes.iter().find_map(|node| {
        let attribute = ignored(node)?;
        let (operator, name) = (&node.op_type, &node.name);
        Some(format!(
            "operator `{operator}` (`{name}`) has {attribute}, which is not supported; export the tower without it"
        ))
    })
}

fn ignored(node: &NodeProto) -> Option<&'static str> {
    let has = |name: &str| node.attribute.iter().any(|a| a.name == name);
    let scaled = || attribute_float(node, "alpha").is_some_and(|alpha| (alpha - 1.0).abs() > 1e-6);
    let reverse = || {
        let direction = node.attribute.iter().find(|a| a.name == "direction");
        direction.is_some_and(|a| a.s != b"forward")
    };
    match node.op_type.as_str() {
        "Celu" | "Swish" if scaled() => Some("an `alpha` other than 1"),
        "ConvTranspose" if has("output_shape") => Some("an `output_shape`"),
        "LSTM" | "GRU" | "RNN" if has("activations") && reverse() => {
            Some("`activations` in another direction than forward")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::ignored;
    use tract_onnx::pb::{AttributeProto, NodeProto};

    #[test]
    fn what_tract_reads_over_is_found() {
        let node = |kind: &str, name: &str, f: f32, s: &[u8]| NodeProto {
            op_type: kind.into(),
            attribute: vec![AttributeProto {
                name: name.into(),
                f,
                s: s.to_vec(),
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        };
        assert!(ignored(&node("Celu", "alpha", 0.5, b"")).is_some());
        assert!(ignored(&node("Celu", "alpha", 1.0, b"")).is_none());
        assert!(ignored(&node("Elu", "alpha", 0.5, b"")).is_none());
        assert!(ignored(&node("ConvTranspose", "output_shape", 0.0, b"")).is_some());
        assert!(ignored(&node("LSTM", "activations", 0.0, b"")).is_none());
        let mut lstm = node("LSTM", "direction", 0.0, b"reverse");
        assert!(ignored(&lstm).is_none());
        lstm.attribute
            .extend(node("LSTM", "activations", 0.0, b"").attribute);
        assert!(ignored(&lstm).is_some());
    }
}
