//! From an ONNX file to a plan that runs: read, rewritten into fused operators, typed and optimised
//! by tract.

use crate::error::{ModelError, error_chain};
use crate::input::{DeclaredInput, ImageFormat};
use crate::manifest::Manifest;
use crate::onnx::{Graph, OnnxFile};
use crate::ops::{FusedNode, Operators, pack};
use crate::precision::Precision;
use crate::rewrite::{
    fuse, fuse_with_shapes, ignored_attribute, prepare_quantised, shape_from_content, table_clash,
    to_tract, unreadable_tensor,
};
use crate::runtime::Runtime;
use crate::spec::Specs;
use crate::verify::{Disagreement, Rewritten};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{InferenceFact, InferenceOp, Node};

/// A tower that is ready to run.
pub(crate) type Plan = Arc<TypedRunnableModel>;

/// One of a tower's inputs: its name in the file and the shape that will be fed.
pub(crate) struct TowerInput<'a> {
    pub(crate) name: &'a str,
    pub(crate) fact: InferenceFact,
    /// The key of the manifest that names it.
    pub(crate) key: &'static str,
}

impl<'a> TowerInput<'a> {
    /// The input of an image tower, for `batch` images.
    pub(crate) fn image(manifest: &'a Manifest, format: ImageFormat, batch: usize) -> Self {
        Self {
            name: &manifest.input.name,
            fact: format.fact(manifest, batch).into(),
            key: "input.name",
        }
    }
}

/// Loads one tower from its open file; holds the two paths that its error messages name.
pub(crate) struct Loader<'a> {
    pub(crate) file: &'a OnnxFile,
    pub(crate) path: &'a Path,
    pub(crate) manifest: &'a Path,
}

/// How a tower's blocks are fused: the number format of products, and what runs them.
#[derive(Clone, Copy)]
pub(crate) struct FusionOptions<'a> {
    pub(crate) precision: Precision,
    pub(crate) runtime: &'a Arc<Runtime>,
}

/// A loaded tower.
pub(crate) struct LoadedTower {
    pub(crate) plan: Plan,
    /// Empty where the tower runs on tract's operators alone.
    pub(crate) operators: Operators,
}

/// A tower gets more plans for batches only up to this size of weights outside fused operators:
/// every plan holds a copy of these, whereas fused operators are shared.
const MAX_COPIED_BYTES: usize = 16 << 20;

impl Loader<'_> {
    /// Loads the tower with its known blocks fused. A graph without known blocks, and any graph
    /// where `fusion` is `None`, runs on tract's operators alone.
    pub(crate) fn load(
        &self,
        inputs: &[TowerInput<'_>],
        output: &str,
        output_key: &'static str,
        modality: &'static str,
        fusion: Option<FusionOptions<'_>>,
    ) -> Result<LoadedTower, ModelError> {
        let graph = self.graph(output)?;
        self.check_tables(&graph, inputs, modality)?;
        let mut not_fused = None;
        if let Some(fusion) = fusion {
            match self.fused(&graph, inputs, fusion) {
                Ok(Some((model, operators))) => {
                    match self.plan(model, inputs, output, output_key, modality) {
                        Ok(plan) => return Ok(LoadedTower { plan, operators }),
                        Err(e) => not_fused = Some(e.to_string()),
                    }
                }
                Ok(None) => {}
                Err(FusionError::File(e)) => return Err(e),
                Err(FusionError::Graph(e)) => not_fused = Some(error_chain(&e)),
            }
        }
        let model = to_tract(&graph, &|_| None).map_err(|e| self.parse_error(&e))?;
        let plan = self.plan(model, inputs, output, output_key, modality)?;
        if let Some(reason) = not_fused {
            // The embeddings are right but slow: the log says so, so that nobody has to measure it.
            let path = self.path.display();
            log::warn!(
                "model {path}: its blocks cannot be fused, so it runs slower, on tract's operators alone: {reason}"
            );
        }
        Ok(LoadedTower {
            plan,
            operators: Operators::new(),
        })
    }

    /// A plan for other input shapes that shares the operators of a loaded tower; `None` where the
    /// file takes one image only, or holds too many weights outside fused operators.
    pub(crate) fn plan_for_batch(
        &self,
        operators: &Operators,
        inputs: &[TowerInput<'_>],
        output: &str,
    ) -> Option<Plan> {
        let mut graph = self.graph(output).ok()?;
        let facts: Vec<_> = inputs.iter().map(|i| (i.name, i.fact.clone())).collect();
        let specs = fuse(&mut graph, &facts).ok()?;
        if graph.initializer_bytes() > MAX_COPIED_BYTES
            || specs.keys().any(|name| !operators.contains_key(name))
        {
            return None;
        }
        let model = with_operators(&graph, &specs, operators).ok()?;
        self.plan(model, inputs, output, "", "vision").ok()
    }

    /// The input `name`, which the manifest's `key` names, as the file declares it.
    pub(crate) fn declared_input(
        &self,
        name: &str,
        key: &'static str,
    ) -> Result<DeclaredInput, ModelError> {
        let graph = Graph::new(self.file.clone());
        let inputs: Vec<_> = graph.inputs().map(DeclaredInput::of).collect();
        let names: Vec<String> = inputs.iter().map(|i| i.name.clone()).collect();
        let found = inputs.into_iter().find(|i| i.name == name);
        found.ok_or_else(|| self.no_such_value("input", key, name, names.join(", ")))
    }

    /// The graph of the file, without what `output` does not need.
    pub(crate) fn graph(&self, output: &str) -> Result<Graph, ModelError> {
        let mut graph = Graph::new(self.file.clone());
        graph.keep_only(output);
        prepare_quantised(&mut graph).map_err(|reason| ModelError::Quantised {
            path: self.path.into(),
            reason,
        })?;
        Ok(graph)
    }

    /// The model with its blocks fused and their weights packed; `None` if it has no known blocks.
    fn fused(
        &self,
        original: &Graph,
        inputs: &[TowerInput<'_>],
        fusion: FusionOptions<'_>,
    ) -> Result<Option<(InferenceModel, Operators)>, FusionError> {
        let mut graph = original.clone();
        let facts: Vec<_> = inputs.iter().map(|i| (i.name, i.fact.clone())).collect();
        let (specs, shapes) = fuse_with_shapes(&mut graph, &facts)?;
        if specs.is_empty() {
            return Ok(None);
        }
        let operators =
            pack(&specs, fusion.runtime, fusion.precision).map_err(|e| ModelError::Run {
                path: self.path.into(),
                reason: e.to_string(),
            })?;
        let rewritten = Rewritten {
            original,
            fused: &graph,
            specs: &specs,
            operators: &operators,
            shapes: &shapes,
        };
        if let Some(Disagreement { output, cosine }) = rewritten.disagreement(&with_operators) {
            return Err(FusionError::Graph(TractError::msg(format!(
                "`{output}` would not be what the file says (cosine {cosine:.4})"
            ))));
        }
        Ok(Some((
            with_operators(&graph, &specs, &operators)?,
            operators,
        )))
    }

    fn plan(
        &self,
        model: InferenceModel,
        inputs: &[TowerInput<'_>],
        output: &str,
        output_key: &'static str,
        modality: &'static str,
    ) -> Result<Plan, ModelError> {
        let typed = self.typed(model, inputs, output, output_key, modality)?;
        let optimized = typed.into_optimized().map_err(|e| self.parse_error(&e))?;
        optimized.into_runnable().map_err(|e| self.parse_error(&e))
    }

    /// The typed graph from `inputs` to `output`.
    pub(crate) fn typed(
        &self,
        mut model: InferenceModel,
        inputs: &[TowerInput<'_>],
        output: &str,
        output_key: &'static str,
        modality: &'static str,
    ) -> Result<TypedModel, ModelError> {
        self.set_inputs(&mut model, inputs, modality)?;
        if !has_value(&model, output) {
            let available = labels(&model, model.output_outlets().unwrap_or_default());
            return Err(self.no_such_value("output", output_key, output, available));
        }
        model = model
            .with_outputs_by_name([output])
            .map_err(|e| self.parse_error(&e))?;
        let missing = missing_operators(&model);
        if !missing.is_empty() {
            let (path, opset) = (self.path.into(), self.opset());
            return Err(ModelError::Operators {
                path,
                operators: missing,
                opset,
            });
        }
        model.into_typed().map_err(|e| ModelError::Untyped {
            path: self.path.into(),
            reason: error_chain(&e),
            opset: self.opset(),
        })
    }

    /// An error where the file has what is not supported, or a table of it, such as its position embeddings, fits another
    /// size.
    fn check_tables(
        &self,
        graph: &Graph,
        inputs: &[TowerInput<'_>],
        modality: &'static str,
    ) -> Result<(), ModelError> {
        if let Some(reason) = unreadable_tensor(graph).or_else(|| ignored_attribute(graph)) {
            return Err(ModelError::Run {
                path: self.path.into(),
                reason,
            });
        }
        let facts: Vec<_> = inputs.iter().map(|i| (i.name, i.fact.clone())).collect();
        let Some(reason) = table_clash(graph, &facts) else {
            return Ok(());
        };
        let vision = modality == "vision";
        Err(ModelError::InputSize {
            path: self.path.into(),
            key: if vision {
                "input.size"
            } else {
                "text.context_length"
            },
            manifest: self.manifest.into(),
            name: inputs[0].name.into(),
            shape: format!("[{:?}]", inputs[0].fact.shape),
            reason,
        })
    }

    fn opset(&self) -> i64 {
        Graph::new(self.file.clone()).opset()
    }

    fn set_inputs(
        &self,
        model: &mut InferenceModel,
        inputs: &[TowerInput<'_>],
        modality: &'static str,
    ) -> Result<(), ModelError> {
        let outlets = model
            .input_outlets()
            .map_err(|e| self.parse_error(&e))?
            .to_vec();
        let names: Vec<String> = outlets
            .iter()
            .map(|o| model.node(o.node).name.clone())
            .collect();
        for input in inputs {
            let Some(slot) = names.iter().position(|n| n == input.name) else {
                return Err(self.no_such_value("input", input.key, input.name, names.join(", ")));
            };
            // The file's own axes may be symbols or a fixed batch; the shape that is fed replaces
            // them. The type is the declared one.
            model
                .set_input_fact(slot, input.fact.clone())
                .map_err(|e| self.parse_error(&e))?;
        }
        if names.len() > inputs.len() {
            let inputs = names.join(", ");
            return Err(ModelError::Inputs {
                path: self.path.into(),
                inputs,
                modality,
            });
        }
        let order = inputs
            .iter()
            .filter_map(|i| names.iter().position(|n| n == i.name));
        let ordered: Vec<OutletId> = order.map(|slot| outlets[slot]).collect();
        model
            .set_input_outlets(&ordered)
            .map_err(|e| self.parse_error(&e))
    }

    fn no_such_value(
        &self,
        direction: &'static str,
        key: &'static str,
        name: &str,
        available: String,
    ) -> ModelError {
        ModelError::NoSuch {
            path: self.path.into(),
            manifest: self.manifest.into(),
            direction,
            key,
            name: name.into(),
            available,
        }
    }

    fn parse_error(&self, error: &TractError) -> ModelError {
        ModelError::Parse {
            path: self.path.into(),
            reason: error_chain(error),
        }
    }
}

/// What is wrong with the model at `path`, of which loading `output` or its first run ended with `error`: an operator that
/// makes such errors by name, if the graph has one.
pub(crate) fn explained(error: ModelError, path: &Path, output: &str) -> ModelError {
    let is_unclear = matches!(
        error,
        ModelError::InputSize { .. }
            | ModelError::Panicked { .. }
            | ModelError::Parse { .. }
            | ModelError::Run { .. }
            | ModelError::Untyped { .. }
    );
    let Some(file) = is_unclear.then(|| OnnxFile::open(path).ok()).flatten() else {
        return error;
    };
    let mut graph = Graph::new(file);
    graph.keep_only(output);
    shape_from_content(&graph).map_or(error, |reason| ModelError::Run {
        path: path.into(),
        reason,
    })
}

/// The graph as tract's, its fused nodes computed by `operators`.
pub(crate) fn with_operators(
    graph: &Graph,
    specs: &Specs,
    operators: &Operators,
) -> TractResult<InferenceModel> {
    to_tract(graph, &|name| {
        Some(FusedNode::packed(
            specs.get(name)?,
            Arc::clone(operators.get(name)?),
        ))
    })
}

/// The operators of a graph that tract does not have, for people.
fn missing_operators(model: &InferenceModel) -> String {
    let names = model.nodes().iter().filter_map(|n| {
        let name = n.op.name();
        Some(format!(
            "`{}`",
            name.strip_prefix("Unimplemented(")?.trim_end_matches(')')
        ))
    });
    let names: BTreeSet<String> = names.collect();
    let listed = names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len() {
        0 => listed,
        1 => format!("the operator {listed} is"),
        _ => format!("the operators {listed} are"),
    }
}

/// Whether a node, or one of its outputs, has this name.
fn has_value(model: &InferenceModel, name: &str) -> bool {
    let makes = |node: &Node<InferenceFact, Box<dyn InferenceOp>>| {
        (0..node.outputs.len())
            .any(|slot| model.outlet_label(OutletId::new(node.id, slot)) == Some(name))
    };
    model.nodes().iter().any(makes) || model.node_by_name(name).is_ok()
}

fn labels(model: &InferenceModel, outlets: &[OutletId]) -> String {
    let label = |&o: &OutletId| {
        model
            .outlet_label(o)
            .unwrap_or(&model.node(o.node).name)
            .to_owned()
    };
    outlets.iter().map(label).collect::<Vec<_>>().join(", ")
}

/// Why nothing was fused.
enum FusionError {
    /// The file cannot be used at all.
    File(ModelError),
    /// The graph could not be analysed. The file may still be good: tract reports what is wrong
    /// with it, if anything, when it loads the unfused graph.
    Graph(TractError),
}

impl From<ModelError> for FusionError {
    fn from(error: ModelError) -> Self {
        Self::File(error)
    }
}

impl From<TractError> for FusionError {
    fn from(error: TractError) -> Self {
        Self::Graph(error)
    }
}
