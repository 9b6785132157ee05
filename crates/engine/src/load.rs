//! From an ONNX file to a plan that runs: read, rewritten into fused operators, typed and optimised by tract.

use super::onnx::{Graph, OnnxFile};
use super::ops::{FusedNode, Operators, Precision, Runtime, pack};
use super::rewrite::{Specs, fuse, parse};
use super::{ModelError, Plan, chain};
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::InferenceFact;

/// One of a tower's inputs: its name in the file and the shape that will be fed.
pub(super) struct TowerInput<'a> {
    pub(super) name: &'a str,
    pub(super) fact: InferenceFact,
    /// Where the manifest names it.
    pub(super) key: &'static str,
}

/// Loads one tower; keeps the two paths that its messages name.
pub(super) struct Loader<'a> {
    pub(super) path: &'a Path,
    pub(super) manifest: &'a Path,
}

/// How a tower's blocks are fused: in which numbers, and what then runs them.
#[derive(Clone, Copy)]
pub(super) struct Fusing<'a> {
    pub(super) precision: Precision,
    pub(super) runtime: &'a Arc<Runtime>,
}

/// A tower that runs.
pub(super) struct Loaded {
    pub(super) plan: Plan,
    /// Empty where it runs on tract's operators alone.
    pub(super) operators: Operators,
}

/// Weights outside fused operators, up to which a tower is planned again for several images: each plan has them all.
const MAX_REPEATED_BYTES: usize = 16 << 20;

impl Loader<'_> {
    /// The tower with the operators that are known fused; a graph that holds none, and any graph where `fusing` is
    /// `None`, runs on tract's operators alone.
    pub(super) fn load(
        &self,
        inputs: &[TowerInput<'_>],
        output: &str,
        output_key: &'static str,
        modality: &'static str,
        fusing: Option<Fusing<'_>>,
    ) -> Result<Loaded, ModelError> {
        let mut unfused = None;
        if let Some(fusing) = fusing {
            match self.fused(inputs, output, fusing) {
                Ok(Some((model, operators))) => {
                    match self.plan(model, inputs, output, output_key, modality) {
                        Ok(plan) => return Ok(Loaded { plan, operators }),
                        Err(e) => unfused = Some(e.to_string()),
                    }
                }
                Ok(None) => {}
                Err(Unfused::Failed(e)) => return Err(e),
                Err(Unfused::Unknown(e)) => unfused = Some(chain(&e)),
            }
        }
        let model = parse(&self.open(output)?, &|_| None).map_err(|e| self.parse_error(&e))?;
        let plan = self.plan(model, inputs, output, output_key, modality)?;
        if let Some(reason) = unfused {
            // The numbers will be right, but slow: nobody should have to find that out with a clock.
            let path = self.path.display();
            log::warn!(
                "model {path}: its graph is not one that could be made faster, tract runs it as it is: {reason}"
            );
        }
        Ok(Loaded {
            plan,
            operators: Operators::new(),
        })
    }

    /// A plan with the operators of a tower that is loaded, for other shapes; `None` where the file is bound to one
    /// image, or holds too much that operators do not share.
    pub(super) fn plan_again(
        &self,
        operators: &Operators,
        inputs: &[TowerInput<'_>],
        output: &str,
    ) -> Option<Plan> {
        let mut graph = self.open(output).ok()?;
        let facts: Vec<_> = inputs.iter().map(|i| (i.name, i.fact.clone())).collect();
        let specs = fuse(&mut graph, &facts).ok()?;
        if graph.initializer_bytes() > MAX_REPEATED_BYTES
            || specs.keys().any(|name| !operators.contains_key(name))
        {
            return None;
        }
        let model = with_operators(&graph, &specs, operators).ok()?;
        self.plan(model, inputs, output, "", "vision").ok()
    }

    pub(super) fn open(&self, output: &str) -> Result<Graph, ModelError> {
        if let Err(source) = std::fs::metadata(self.path) {
            return Err(ModelError::Read {
                path: self.path.into(),
                source,
            });
        }
        let file = OnnxFile::open(self.path).map_err(|reason| ModelError::Parse {
            path: self.path.into(),
            reason,
        })?;
        let mut graph = Graph::new(file);
        graph.keep_only(output);
        Ok(graph)
    }

    /// The model with its blocks fused and their weights packed; `None` where there is none.
    fn fused(
        &self,
        inputs: &[TowerInput<'_>],
        output: &str,
        fusing: Fusing<'_>,
    ) -> Result<Option<(InferenceModel, Operators)>, Unfused> {
        let mut graph = self.open(output)?;
        let facts: Vec<_> = inputs.iter().map(|i| (i.name, i.fact.clone())).collect();
        let specs: Specs = fuse(&mut graph, &facts)?;
        if specs.is_empty() {
            return Ok(None);
        }
        let operators =
            pack(&specs, fusing.runtime, fusing.precision).map_err(|e| ModelError::Run {
                path: self.path.into(),
                reason: e.to_string(),
            })?;
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
    pub(super) fn typed(
        &self,
        mut model: InferenceModel,
        inputs: &[TowerInput<'_>],
        output: &str,
        output_key: &'static str,
        modality: &'static str,
    ) -> Result<TypedModel, ModelError> {
        self.set_inputs(&mut model, inputs, modality)?;
        if !model.nodes().iter().any(|n| {
            n.outputs
                .iter()
                .enumerate()
                .any(|(slot, _)| model.outlet_label(OutletId::new(n.id, slot)) == Some(output))
        }) && model.node_by_name(output).is_err()
        {
            let available = labels(&model, model.output_outlets().unwrap_or_default());
            return Err(self.no_such("output", output_key, output, available));
        }
        model = model
            .with_outputs_by_name([output])
            .map_err(|e| self.parse_error(&e))?;
        let shape = |e: &TractError| ModelError::InputSize {
            path: self.path.into(),
            manifest: self.manifest.into(),
            name: inputs[0].name.into(),
            shape: format!("{:?}", inputs[0].fact.shape),
            reason: chain(e),
        };
        model.into_typed().map_err(|e| shape(&e))
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
                return Err(self.no_such("input", input.key, input.name, names.join(", ")));
            };
            let declared = model
                .input_fact(slot)
                .map_err(|e| self.parse_error(&e))?
                .clone();
            if modality == "vision" {
                self.check_image_input(input.name, &declared)?;
            }
            // The file's own axes may be symbols or a fixed batch; what is fed decides.
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

    /// An image tower's input has four axes of which the second is the three colours.
    fn check_image_input(&self, name: &str, fact: &InferenceFact) -> Result<(), ModelError> {
        let dims: Vec<Option<TDim>> = fact.shape.dims().map(Factoid::concretize).collect();
        let rank_known = !fact.shape.is_open();
        let channels = dims.get(1).cloned().flatten();
        let wrong_channels = channels.is_some_and(|c| c.to_i64().is_ok_and(|c| c != 3));
        if rank_known && (dims.len() != 4 || wrong_channels) {
            return Err(ModelError::InputShape {
                path: self.path.into(),
                name: name.into(),
                found: format!("{:?}", fact.shape),
            });
        }
        Ok(())
    }

    fn no_such(
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
            reason: chain(error),
        }
    }
}

fn with_operators(
    graph: &Graph,
    specs: &Specs,
    operators: &Operators,
) -> TractResult<InferenceModel> {
    parse(graph, &|name| {
        Some(FusedNode::packed(
            specs.get(name)?,
            Arc::clone(operators.get(name)?),
        ))
    })
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
enum Unfused {
    /// The file itself is at fault.
    Failed(ModelError),
    /// The graph could not be analysed; what is wrong, if anything, tract says when it runs it whole.
    Unknown(TractError),
}

impl From<ModelError> for Unfused {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

impl From<TractError> for Unfused {
    fn from(error: TractError) -> Self {
        Self::Unknown(error)
    }
}
