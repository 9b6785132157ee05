//! Compares every kind of fused block with the part of the file that it replaces, as a tower is
//! loaded: a rewrite that mistakes an exporter's meaning would give other embeddings in silence.
//!
//! Blocks of one kind are compared once, so a tower costs as much as one of its layers.

use crate::agreement::cosine;
use crate::onnx::{Graph, pb};
use crate::ops::Operators;
use crate::rewrite::{Shapes, image_of, is_fused};
use crate::spec::{Spec, Specs};
use std::collections::{BTreeSet, HashMap, HashSet};
use tract_onnx::prelude::*;

/// Least cosine of a block's output to that of the file's own operators. Products in int8 round
/// their input; all else differs by f32's rounding only.
const LEAST_INT8: f64 = 0.99;
const LEAST_F32: f64 = 0.9999;

/// Seed of the noise that blocks are run on.
const SEED: u64 = 19;

/// A block that does not compute what the file says.
pub(crate) struct Disagreement {
    /// Name of its output in the file.
    pub(crate) output: String,
    pub(crate) cosine: f64,
}

/// A fused graph and the graph of the file that it was made from.
pub(crate) struct Rewritten<'a> {
    pub(crate) original: &'a Graph,
    pub(crate) fused: &'a Graph,
    pub(crate) specs: &'a Specs,
    pub(crate) operators: &'a Operators,
    pub(crate) shapes: &'a Shapes,
}

/// A fused node with the values of the file that it is computed from.
struct Block {
    inputs: Vec<String>,
    output: String,
    /// The same for blocks that compute the same from other weights.
    kind: String,
    /// Least cosine to the file's operators.
    least: f64,
}

impl Rewritten<'_> {
    /// The first block that disagrees, if any.
    pub(crate) fn disagreement(
        &self,
        build: &dyn Fn(&Graph, &Specs, &Operators) -> TractResult<InferenceModel>,
    ) -> Option<Disagreement> {
        let mut seen = HashSet::new();
        for block in self.blocks() {
            if !seen.insert(block.kind.clone()) {
                continue;
            }
            match self.compare(&block, build) {
                Ok(cosine) if cosine >= block.least => {}
                Ok(cosine) => {
                    return Some(Disagreement {
                        output: block.output,
                        cosine,
                    });
                }
                Err(e) => log::debug!("`{}` cannot be compared: {e:#}", block.output),
            }
        }
        None
    }

    /// The fused nodes whose output the file has, in order.
    fn blocks(&self) -> Vec<Block> {
        let index = self.original.index();
        let in_file = |name: &str| {
            let name = in_original(name);
            index.producer(name).is_some() || self.original.inputs().any(|i| i.name == name)
        };
        let fused = self.fused.index();
        let nodes = self.fused.nodes.iter().filter(|n| is_fused(n));
        nodes
            .filter(|n| in_file(&n.name))
            .filter_map(|node| {
                let (mut inputs, mut kinds) = (BTreeSet::new(), Vec::new());
                let mut stack = vec![node];
                let mut least = LEAST_F32;
                while let Some(node) = stack.pop() {
                    kinds.push(self.kind(node));
                    if self.operators.get(&node.name).is_some_and(|o| o.is_int8()) {
                        least = LEAST_INT8;
                    }
                    for input in &node.input {
                        if self.fused.constant(&fused, input).is_some() {
                            continue;
                        }
                        if in_file(input) {
                            inputs.insert(input.clone());
                        } else {
                            stack.push(&self.fused.nodes[fused.producer(input)?]);
                        }
                    }
                }
                let shapes: Option<Vec<_>> = inputs.iter().map(|i| self.shapes.get(i)).collect();
                kinds.push(format!("{:?}", shapes?));
                let inputs: Vec<String> = inputs.into_iter().collect();
                let of_file: Vec<&str> = inputs.iter().map(|i| in_original(i)).collect();
                kinds.push(self.replaced(&of_file, in_original(&node.name)));
                Some(Block {
                    inputs,
                    output: node.name.clone(),
                    kind: kinds.join("\n"),
                    least,
                })
            })
            .collect()
    }

    /// What a node computes, apart from its weights.
    fn kind(&self, node: &pb::NodeProto) -> String {
        match self.specs.get(&node.name) {
            Some(Spec::Linear(l)) => format!(
                "linear {} {} {} {} {} {:?} {} {:?} {:?} {:?}",
                l.depth,
                l.columns,
                l.norm.is_some(),
                l.residual,
                l.residual_first,
                l.activation,
                l.grid.is_some(),
                l.patches,
                l.window,
                l.parts
                    .iter()
                    .map(|p| (p.data.element, p.transposed, p.zeros.len(), p.bias.len()))
                    .collect::<Vec<_>>(),
            ),
            Some(Spec::Attention(a)) => format!("{a:?}"),
            Some(Spec::Norm(n)) => format!("norm {}", n.gain.len()),
            Some(Spec::Round(grid)) => format!("round {}", grid.is_8_bit()),
            Some(Spec::Depthwise(d)) => format!(
                "depthwise {} {:?} {:?} {} {}",
                d.filters, d.window, d.activation, d.residual, d.residual_first
            ),
            Some(Spec::Pool(pool)) => format!("{pool:?}"),
            Some(Spec::Finish(finish)) => format!("{finish:?}"),
            Some(Spec::Convolution(_)) | None => node.op_type.clone(),
        }
    }

    /// The operators of the file between `inputs` and `output`.
    fn replaced(&self, inputs: &[&str], output: &str) -> String {
        let index = self.original.index();
        let (mut kinds, mut seen) = (Vec::new(), HashSet::new());
        let mut stack = vec![output];
        while let Some(name) = stack.pop() {
            if inputs.contains(&name) || !seen.insert(name) {
                continue;
            }
            let Some(i) = index.producer(name) else {
                continue;
            };
            let node = &self.original.nodes[i];
            // Shapes and other integers are not part of what a block computes.
            if self.shapes.is_integer(name) {
                continue;
            }
            kinds.push(node.op_type.as_str());
            kinds.extend(node.attribute.iter().map(|a| a.name.as_str()));
            stack.extend(node.input.iter().map(String::as_str));
        }
        kinds.join(" ")
    }

    /// Cosine of the block's output to the file's, on noise.
    fn compare(
        &self,
        block: &Block,
        build: &dyn Fn(&Graph, &Specs, &Operators) -> TractResult<InferenceModel>,
    ) -> TractResult<f64> {
        let mut noise: HashMap<&str, Vec<f32>> = HashMap::new();
        let mut rng = fastrand::Rng::with_seed(SEED);
        for name in block.inputs.iter().map(|name| in_original(name)) {
            let len = self.shapes.get(name).map_or(0, |s| s.iter().product());
            noise
                .entry(name)
                .or_insert_with(|| (0..len).map(|_| rng.f32() * 4.0 - 2.0).collect());
        }
        let run = |graph: &Graph, specs: &Specs, inputs: &[String], output: &str| {
            let mut part = graph.clone();
            self.shapes.fold_constants(&mut part);
            part.cut(inputs, output);
            let mut model = build(&part, specs, self.operators)?;
            let outlets = model.input_outlets()?.to_vec();
            let mut values: TVec<TValue> = tvec!();
            for (slot, outlet) in outlets.iter().enumerate() {
                let name = model.node(outlet.node).name.clone();
                let Some(value) = self.noise_as(&name, &noise) else {
                    return Err(TractError::msg(format!("`{name}` is needed besides")));
                };
                let value = value?;
                model.set_input_fact(slot, f32::fact(value.shape()).into())?;
                values.push(value.into());
            }
            let model = model.with_outputs_by_name([output])?;
            let plan = model.into_typed()?.into_optimized()?.into_runnable()?;
            plan.run(values)?[0]
                .clone()
                .into_tensor()
                .cast_to::<f32>()
                .map(std::borrow::Cow::into_owned)
        };
        let of_file: BTreeSet<String> = noise.keys().map(|&name| name.to_owned()).collect();
        let of_file: Vec<String> = of_file.into_iter().collect();
        let output = in_original(&block.output);
        let mut original = run(self.original, &Specs::new(), &of_file, output)?;
        if output != block.output && original.rank() == 4 {
            original = original.permute_axes(&CHANNELS_LAST)?;
        }
        let fused = run(self.fused, self.specs, &block.inputs, &block.output)?;
        let values = |tensor: &Tensor| -> TractResult<Vec<f32>> {
            Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        Ok(agreement(&values(&original)?, &values(&fused)?))
    }

    /// The noise for the input `name`, in its layout.
    fn noise_as(&self, name: &str, noise: &HashMap<&str, Vec<f32>>) -> Option<TractResult<Tensor>> {
        let image = in_original(name);
        let (shape, values) = (self.shapes.get(image)?, noise.get(image)?);
        let tensor = Tensor::from_shape(shape, values);
        Some(if image == name {
            tensor
        } else {
            tensor.and_then(|t| t.permute_axes(&CHANNELS_LAST))
        })
    }
}

/// From an image of the file to one with its channels last.
const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// The value of the file that a value of the fused graph stands for.
fn in_original(name: &str) -> &str {
    image_of(name).unwrap_or(name)
}

/// The cosine of two outputs; 1 where both are the same, zeros for example.
fn agreement(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let same = a.iter().zip(b).all(|(a, b)| (a - b).abs() <= f32::EPSILON);
    if same { 1.0 } else { cosine(a, b) }
}

#[cfg(test)]
mod tests {
    use super::{Rewritten, agreement};
    use crate::input::ImageFormat;
    use crate::load::{Loader, TowerInput, with_operators};
    use crate::manifest::Manifest;
    use crate::onnx::OnnxFile;
    use crate::ops::pack;
    use crate::precision::Precision;
    use crate::rewrite::fuse_with_shapes;
    use crate::rewrite::image_of;
    use crate::runtime::Runtime;
    use crate::spec::{LinearSpec, PoolSpec, Spec};
    use constancy_kernels::{Activation, Kernels, Pool};
    use std::path::Path;
    use std::sync::Arc;

    /// The block that disagrees after `change` to the specs of a tower, and its cosine.
    fn disagreement(model: &str, change: impl Fn(&str, &mut Spec)) -> Option<(String, f64)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoder");
        let manifest = Manifest::read(&folder.join(format!("{model}.toml"))).expect("manifest");
        let path = manifest.encoder_file();
        let file = OnnxFile::open(&path).expect("file");
        let loader = Loader {
            file: &file,
            path: &path,
            manifest: &manifest.path,
        };
        let original = loader.graph(&manifest.output.name).expect("graph");
        let mut fused = original.clone();
        let input = TowerInput::image(&manifest, ImageFormat::F32, 1);
        let (mut specs, shapes) =
            fuse_with_shapes(&mut fused, &[(input.name, input.fact.clone())]).expect("fused");
        for (name, spec) in &mut specs {
            change(name, spec);
        }
        let runtime = Arc::new(Runtime {
            kernels: Kernels::best(),
            pool: Pool::new(1).expect("a thread"),
        });
        let rewritten = Rewritten {
            original: &original,
            fused: &fused,
            specs: &specs,
            operators: &pack(&specs, &runtime, Precision::File).expect("operators"),
            shapes: &shapes,
        };
        let found = rewritten.disagreement(&with_operators);
        found.map(|d| (d.output, d.cosine))
    }

    #[test]
    fn zeros_agree_with_zeros_alone() {
        assert!(agreement(&[0.0, 0.0], &[0.0, 0.0]) > 0.9999);
        assert!(agreement(&[0.0, 0.0], &[0.0, 1.0]) < 0.1);
        assert!(agreement(&[1.0, 0.0], &[1.0]) < 0.1);
    }

    const TOWERS: [&str; 6] = [
        "vision-fp32",
        "vision-dynamo",
        "vision-int8-tensor",
        "vision-int8-channel",
        "vision-static-qdq",
        "vision-static-qlinear",
    ];

    const CONVOLUTIONS: [&str; 4] = [
        "conv-fastvit",
        "conv-resnet",
        "conv-convnext",
        "conv-mobilenet",
    ];

    /// Blocks of images are compared one by one, in the layout that they are computed in.
    #[test]
    fn a_convolution_that_computes_something_else_is_found() {
        for model in CONVOLUTIONS {
            let found = disagreement(model, |_, spec| match spec {
                Spec::Linear(linear) if linear.window.is_some() => {
                    linear.parts[0].bias = vec![2.0; linear.columns];
                }
                _ => {}
            });
            let (output, cosine) = found.expect(model);
            assert!(image_of(&output).is_some() && cosine < 0.9999, "{model}");
        }
        for model in ["conv-fastvit", "conv-mobilenet"] {
            let changes: [&dyn Fn(&mut Spec); 3] = [
                &|spec| {
                    if let Spec::Depthwise(depthwise) = spec {
                        depthwise.weights.reverse();
                    }
                },
                &|spec| {
                    if let Spec::Finish(finish) = spec {
                        finish.activation = Activation::Relu;
                    }
                },
                &|spec| {
                    if let Spec::Pool(PoolSpec::Mean(window)) = spec {
                        *spec = Spec::Pool(PoolSpec::Max(*window));
                    }
                },
            ];
            for (i, change) in changes.iter().enumerate() {
                let found = disagreement(model, |_, spec| change(spec));
                assert!(found.is_some(), "{model}, {i}");
            }
        }
    }

    #[test]
    fn right_blocks_agree() {
        for model in TOWERS.into_iter().chain(CONVOLUTIONS) {
            assert_eq!(disagreement(model, |_, _| ()), None, "{model}");
        }
    }

    /// Each kind of block with one thing wrong.
    #[test]
    fn a_block_that_computes_something_else_is_found() {
        // A static quantisation is rounded elsewhere, and its blocks are smaller.
        let linear = |spec: &mut Spec, change: &dyn Fn(&mut LinearSpec)| {
            if let Spec::Linear(linear) = spec {
                change(linear);
            }
        };
        for model in &TOWERS[4..] {
            let found = disagreement(model, |_, spec| {
                if let Spec::Round(grid) = spec {
                    grid.scale *= 1.5;
                }
            });
            assert!(found.is_some(), "{model}");
        }
        for model in &TOWERS[..4] {
            let found = disagreement(model, |_, spec| {
                if let Spec::Attention(attention) = spec {
                    attention.scale *= 3.0;
                }
            });
            assert!(found.is_some_and(|(_, cosine)| cosine < 0.9999), "{model}");
            let wrong: [&dyn Fn(&mut LinearSpec); 3] = [
                &|l| {
                    if l.activation != Activation::None {
                        l.activation = Activation::Relu;
                    }
                },
                &|l| l.norm.iter_mut().for_each(|n| n.shift.fill(0.5)),
                &|l| {
                    if l.patches.is_some() {
                        l.parts[0].transposed = true;
                        l.parts[0].bias = vec![2.0; l.columns];
                    }
                },
            ];
            // What int8 rounds away in both hides the difference of two activations.
            let tried = wrong.iter().enumerate();
            for (i, wrong) in tried.skip(usize::from(model.contains("int8"))) {
                let found = disagreement(model, |_, spec| linear(spec, *wrong));
                assert!(found.is_some(), "{model}, {i}");
            }
        }
    }
}
