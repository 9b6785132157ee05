//! Recognises the blocks of transformers and convolution towers in an ONNX graph and replaces each by one fused node.
//!
//! The passes run in the order of [`fuse`]. Each looks for one pattern, in every form that
//! exporters and quantisers write, and replaces the node that ends it; nodes that then feed nothing
//! are dropped. A graph without any known pattern comes out unchanged and runs on tract's own
//! operators.

mod attention;
mod convolution;
mod epilogue;
mod grid;
mod ignored;
mod integer_operators;
mod layout;
mod merge;
mod n_bits;
mod norm;
mod pass;
mod patches;
mod products;
mod quantised;
mod row;
mod shapes;
mod spell_out;
mod tables;
mod to_tract;
mod unsupported;

pub(crate) use convolution::{image_of, steps};
pub(crate) use ignored::ignored_attribute;
pub(crate) use pass::is_fused;
pub(crate) use quantised::prepare_quantised;
pub(crate) use shapes::Shapes;
pub(crate) use tables::table_clash;
pub(crate) use to_tract::to_tract;
pub(crate) use unsupported::{shape_from_content, unreadable_tensor};

use crate::onnx::Graph;
use crate::spec::{NormSpec, Spec, Specs};
use pass::run_pass;
use tract_onnx::prelude::TractError;
use tract_onnx::tract_hir::internal::InferenceFact;

/// Fuses the blocks of `graph`, whose inputs have the given names and shapes.
pub(crate) fn fuse(
    graph: &mut Graph,
    inputs: &[(&str, InferenceFact)],
) -> Result<Specs, TractError> {
    fuse_with_shapes(graph, inputs).map(|(specs, _)| specs)
}

/// Like [`fuse`], but leaves convolutions as they are, for a GPU that has its own.
#[cfg(feature = "gpu")]
pub(crate) fn fuse_blocks(
    graph: &mut Graph,
    inputs: &[(&str, InferenceFact)],
) -> Result<Specs, TractError> {
    fuse_all(graph, inputs, false).map(|(specs, _)| specs)
}

/// Like [`fuse`], and gives the shapes of the values.
pub(crate) fn fuse_with_shapes(
    graph: &mut Graph,
    inputs: &[(&str, InferenceFact)],
) -> Result<(Specs, Shapes), TractError> {
    fuse_all(graph, inputs, true)
}

fn fuse_all(
    graph: &mut Graph,
    inputs: &[(&str, InferenceFact)],
    convolutions: bool,
) -> Result<(Specs, Shapes), TractError> {
    let mut specs = Specs::new();
    if graph.is_ambiguous() {
        let shapes = Shapes::of(graph, &specs, inputs)?;
        return Ok((specs, shapes));
    }
    run_pass(graph, &mut specs, products::products);
    run_pass(graph, &mut specs, epilogue::biases);
    run_pass(graph, &mut specs, norm::norms);
    run_pass(graph, &mut specs, epilogue::activations);
    run_pass(graph, &mut specs, grid::grids);
    let mut shapes = Shapes::of(graph, &specs, inputs)?;
    shapes.fold_constants(graph);
    run_pass(graph, &mut specs, |g, i, s, n| {
        patches::patches(g, i, s, n, &shapes)
    });
    if convolutions {
        run_pass(graph, &mut specs, |g, i, s, n| {
            convolution::fold(g, i, s, n, &shapes)
        });
        convolution::channels_last(graph, &mut specs, &mut shapes);
    }
    run_pass(graph, &mut specs, epilogue::biases);
    run_pass(graph, &mut specs, epilogue::factors);
    run_pass(graph, &mut specs, |g, i, s, n| {
        attention::attention(g, i, s, n, &shapes)
    });
    run_pass(graph, &mut specs, |g, i, s, n| {
        epilogue::residuals(g, i, s, n, &shapes)
    });
    norm::move_into_products(graph, &mut specs);
    row::select_row_early(graph, &mut specs);
    merge::merge_siblings(graph, &mut specs);
    Ok((specs, shapes))
}

/// Fuses only products and normalisations: every value that a product reads stays in the graph.
pub(crate) fn fuse_products(graph: &mut Graph) -> Specs {
    let mut specs = Specs::new();
    run_pass(graph, &mut specs, products::products);
    run_pass(graph, &mut specs, epilogue::biases);
    run_pass(graph, &mut specs, norm::norms);
    specs
}

/// The layer normalisations of a graph, which is not changed.
pub(crate) fn norm_specs(graph: &Graph) -> Vec<NormSpec> {
    let (index, none) = (graph.index(), Specs::new());
    graph
        .nodes
        .iter()
        .filter_map(|node| norm::norms(graph, &index, &none, node))
        .filter_map(|replacement| match replacement.spec {
            Spec::Norm(norm) => Some(norm),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{fuse_products, norm_specs};
    use crate::onnx::{Graph, OnnxFile, pb};
    use prost::Message;

    /// A chain of all operators that are looked for, each with only `count` inputs.
    fn damaged(count: usize) -> pb::ModelProto {
        const KINDS: [&str; 17] = [
            "Add",
            "Cast",
            "DequantizeLinear",
            "Div",
            "DynamicQuantizeLinear",
            "Erf",
            "Gemm",
            "LayerNormalization",
            "MatMul",
            "MatMulInteger",
            "MatMulNBits",
            "Mul",
            "Pow",
            "QuantizeLinear",
            "ReduceMean",
            "Sqrt",
            "Sub",
        ];
        let mut nodes = Vec::new();
        for (i, first) in KINDS.iter().enumerate() {
            for (j, second) in KINDS.iter().enumerate() {
                let between = format!("v{i}.{j}");
                let node = |kind: &str, value: &str, output: String| pb::NodeProto {
                    op_type: kind.into(),
                    input: [value, "w", "w"].map(str::to_owned)[..count].to_vec(),
                    output: vec![output],
                    ..pb::NodeProto::default()
                };
                nodes.push(node(first, "x", between.clone()));
                nodes.push(node(second, &between, format!("y{i}.{j}")));
            }
        }
        let weight = pb::TensorProto {
            name: "w".into(),
            dims: vec![1],
            data_type: 1,
            float_data: vec![2.0],
            ..pb::TensorProto::default()
        };
        let output = nodes.iter().map(|n| pb::ValueInfoProto {
            name: n.output[0].clone(),
            ..pb::ValueInfoProto::default()
        });
        let graph = pb::GraphProto {
            output: output.collect(),
            node: nodes,
            initializer: vec![weight],
            ..pb::GraphProto::default()
        };
        pb::ModelProto {
            graph: Some(graph),
            ..pb::ModelProto::default()
        }
    }

    #[test]
    fn a_file_with_names_like_those_of_the_rewrite_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.onnx");
        for (name, ambiguous) in [
            ("x.factors", false),
            (&*Graph::derived("x", "factors"), true),
        ] {
            let mut model = damaged(3);
            model.graph.as_mut().unwrap().node[0].output[0] = name.into();
            std::fs::write(&path, model.encode_to_vec()).unwrap();
            let graph = Graph::new(OnnxFile::open(&path).unwrap());
            assert_eq!(graph.is_ambiguous(), ambiguous, "{name}");
        }
    }

    #[test]
    fn operators_without_their_inputs_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.onnx");
        for count in 0..=3 {
            std::fs::write(&path, damaged(count).encode_to_vec()).unwrap();
            let mut graph = Graph::new(OnnxFile::open(&path).unwrap());
            norm_specs(&graph);
            fuse_products(&mut graph);
        }
    }
}
