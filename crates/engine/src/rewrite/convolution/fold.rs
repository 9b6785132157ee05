//! Convolutions with what surrounds them: normalisation by constants, factors, other linear branches of the same input,
//! activation and residual.

use super::super::epilogue::activation;
use super::super::pass::{Replacement, either_order};
use super::super::shapes::Shapes;
use super::merge::{identity, mean, merged};
use super::pooling::{finish_of, gate, pool};
use super::windows::{pooled_window, window_of};
use super::{image_shape, is_image_spec, per_channel};
use crate::onnx::{
    Constant, ElementType, Graph, Index, attribute_float, attribute_int, first_output, nth_input,
    pb,
};
use crate::spec::{ConvolutionSpec, FinishSpec, Spec, Specs, Window};
use constancy_kernels::Activation;

/// Replaces a node that ends a pattern. Nodes are tried in order, so that what precedes one is already replaced.
pub(in super::super) fn fold(
    graph: &Graph,
    index: &Index,
    specs: &Specs,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Replacement> {
    let context = Context {
        graph,
        index,
        specs,
        shapes,
    };
    match node.op_type.as_str() {
        "Conv" => context.convolution(node),
        "BatchNormalization" => context.normalisation(node),
        "AveragePool" => context.average(node),
        "MaxPool" | "GlobalAveragePool" | "ReduceMean" => pool(graph, index, node, shapes),
        "Add" | "Sub" => context
            .factor(node)
            .or_else(|| context.sum(node))
            .or_else(|| context.residual(node)),
        "Mul" | "Div" => context
            .activated(node)
            .or_else(|| context.factor(node))
            .or_else(|| gate(node, specs, shapes)),
        _ => context.activated(node),
    }
}

struct Context<'a> {
    graph: &'a Graph,
    index: &'a Index,
    specs: &'a Specs,
    shapes: &'a Shapes,
}

impl Context<'_> {
    /// The convolution that makes `name`.
    fn made_by(&self, name: &str) -> Option<&ConvolutionSpec> {
        match self.specs.get(name)? {
            Spec::Convolution(spec) => Some(spec),
            _ => None,
        }
    }

    /// The linear convolution that makes `name`, if only one node reads it.
    fn linear(&self, name: &str) -> Option<&ConvolutionSpec> {
        self.index.only_consumer(name)?;
        self.made_by(name).filter(|spec| spec.is_linear())
    }

    /// What the fused node that makes `name` reads.
    fn inputs_of(&self, name: &str) -> Option<Vec<String>> {
        Some(self.graph.nodes[self.index.producer(name)?].input.clone())
    }

    fn replacement(&self, name: &str, spec: ConvolutionSpec) -> Option<Replacement> {
        Some(Replacement {
            inputs: self.inputs_of(name)?,
            spec: Spec::Convolution(spec),
        })
    }

    fn constant(&self, name: &str) -> Option<Constant> {
        self.graph.constant(self.index, name)
    }

    /// A convolution over all channels, or over each by itself; other groups are left to tract.
    fn convolution(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let input = nth_input(node, 0);
        let [_, channels, ..] = image_shape(self.shapes, input)?;
        let [_, columns, ..] = image_shape(self.shapes, first_output(node))?;
        let (weights, scales) = self.weights(nth_input(node, 1))?;
        let groups = usize::try_from(attribute_int(node, "group").unwrap_or(1)).ok()?;
        let &[of_columns, of_channels, kernel_lines, kernel_columns] = weights.shape.as_slice()
        else {
            return None;
        };
        let fits = of_columns == columns
            && (groups == 1 || groups == channels && channels > 0)
            && of_channels * groups == channels
            && (scales.is_empty() || scales.len() == columns)
            && columns.is_multiple_of(groups);
        let bias = match nth_input(node, 2) {
            "" => vec![0.0; columns],
            name => self.constant(name)?.floats(),
        };
        if !fits || bias.len() != columns {
            return None;
        }
        let window = window_of(node, self.shapes, (kernel_lines, kernel_columns))?;
        Some(Replacement {
            inputs: vec![input.to_owned()],
            spec: Spec::Convolution(ConvolutionSpec {
                weights,
                scales,
                bias,
                groups,
                window,
                activation: Activation::None,
                residual: false,
                residual_first: false,
            }),
        })
    }

    /// The mean of windows that lie within the image is a convolution of each channel by itself.
    fn average(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let window = pooled_window(node, self.shapes)?;
        (window.channels > 1 && window.is_inside()).then(|| Replacement {
            inputs: vec![nth_input(node, 0).to_owned()],
            spec: Spec::Convolution(mean(&window)),
        })
    }

    /// Constant weights and a factor for each of their columns: floats without factors, or int8 behind `DequantizeLinear`.
    fn weights(&self, name: &str) -> Option<(Constant, Vec<f32>)> {
        if let Some(weights) = self.constant(name) {
            let floats = matches!(weights.element, ElementType::F32 | ElementType::F16);
            return floats.then_some((weights, vec![]));
        }
        let node = &self.graph.nodes[self.index.producer(name)?];
        let weights = self.constant(nth_input(node, 0))?;
        let scales = self.constant(nth_input(node, 1))?.floats();
        let zeros = match nth_input(node, 2) {
            "" => vec![],
            name => self.constant(name)?.integers(),
        };
        let columns = *weights.shape.first()?;
        let scales = match (scales.as_slice(), attribute_int(node, "axis")) {
            (&[one], _) => vec![one; columns],
            (_, Some(0)) => scales,
            _ => return None,
        };
        let signed = node.op_type == "DequantizeLinear"
            && weights.element == ElementType::I8
            && zeros.iter().all(|&z| z == 0);
        signed.then_some((weights, scales))
    }

    /// `BatchNormalization` with the statistics of the training, which is a factor and an addend per channel: folded into the
    /// convolution before it, or a convolution of its own.
    fn normalisation(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let input = nth_input(node, 0);
        let [_, channels, height, width] = image_shape(self.shapes, input)?;
        if attribute_int(node, "training_mode").unwrap_or(0) != 0 {
            return None;
        }
        let epsilon = attribute_float(node, "epsilon").unwrap_or(1e-5);
        let values = |slot: usize| {
            let values = self.constant(nth_input(node, slot))?.floats();
            (values.len() == channels).then_some(values)
        };
        let (gain, shift, mean, variance) = (values(1)?, values(2)?, values(3)?, values(4)?);
        let factor = |c: usize| gain[c] / (variance[c] + epsilon).sqrt();
        let factors: Vec<f32> = (0..channels).map(factor).collect();
        let addend = |c: usize| shift[c] - mean[c] * factors[c];
        let addends: Vec<f32> = (0..channels).map(addend).collect();
        if let Some(spec) = self.linear(input) {
            return self.replacement(input, scaled(spec, &factors, &addends));
        }
        let mut spec = identity(&Window::of_pixels(channels, height, width));
        spec.scales = factors;
        spec.bias = addends;
        Some(Replacement {
            inputs: vec![input.to_owned()],
            spec: Spec::Convolution(spec),
        })
    }

    /// A convolution times, or plus, a constant per channel.
    fn factor(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let ordered = matches!(node.op_type.as_str(), "Sub" | "Div");
        let pairs = either_order(node);
        pairs
            .into_iter()
            .take(if ordered { 1 } else { 2 })
            .find_map(|(value, constant)| {
                let spec = self.linear(value)?;
                let constant = per_channel(&self.constant(constant)?, spec.columns())?;
                let same = |v: f32| vec![v; spec.columns()];
                let mapped = |f: fn(f32) -> f32| constant.iter().map(|&v| f(v)).collect();
                let (factors, addends) = match node.op_type.as_str() {
                    "Add" => (same(1.0), constant),
                    "Sub" => (same(1.0), mapped(|v| -v)),
                    "Mul" => (constant, same(0.0)),
                    _ => (mapped(|v| 1.0 / v), same(0.0)),
                };
                self.replacement(value, scaled(spec, &factors, &addends))
            })
    }

    /// The sum or difference of two linear convolutions of one input, or of one and its input: one convolution.
    fn sum(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let (a, b) = (nth_input(node, 0), nth_input(node, 1));
        let sign = if node.op_type == "Sub" { -1.0 } else { 1.0 };
        if a == b || self.shapes.get(a) != self.shapes.get(b) {
            return None;
        }
        let input_of = |name: &str| Some(self.inputs_of(name)?.first()?.clone());
        match (self.linear(a), self.linear(b)) {
            (Some(left), Some(right)) if input_of(a) == input_of(b) => {
                self.replacement(a, merged(left, right, (1.0, sign))?)
            }
            (Some(left), _) if input_of(a).as_deref() == Some(b) => {
                self.replacement(a, merged(left, &identity(&left.window), (1.0, sign))?)
            }
            (_, Some(right)) if input_of(b).as_deref() == Some(a) => {
                self.replacement(b, merged(right, &identity(&right.window), (sign, 1.0))?)
            }
            _ => None,
        }
    }

    /// An `Add` of an image: the residual of a convolution, or of another operator on images.
    fn residual(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let shape =
            image_shape(self.shapes, first_output(node)).filter(|_| node.op_type == "Add")?;
        let fits = |name: &str| {
            image_shape(self.shapes, name) == Some(shape) && self.constant(name).is_none()
        };
        if !node.input.iter().all(|name| fits(name)) {
            return None;
        }
        let into_other = either_order(node).into_iter().find_map(|(value, other)| {
            self.index.only_consumer(value)?;
            let mut spec = self.specs.get(value)?.clone();
            match &mut spec {
                Spec::Convolution(spec) if !spec.residual => spec.residual = true,
                Spec::Finish(spec) if !spec.residual => spec.residual = true,
                _ => return None,
            }
            let mut inputs = self.inputs_of(value)?;
            inputs.push(other.to_owned());
            Some(Replacement { inputs, spec })
        });
        let known = |name: &String| self.specs.get(name).is_some_and(is_image_spec);
        into_other.or_else(|| {
            node.input.iter().any(known).then(|| Replacement {
                inputs: node.input.clone(),
                spec: Spec::Finish(FinishSpec {
                    residual: true,
                    ..FinishSpec::NOTHING
                }),
            })
        })
    }

    /// An activation after an operator on images.
    fn activated(&self, node: &pb::NodeProto) -> Option<Replacement> {
        let (value, activation, uses) = activation(self.graph, self.index, node)?;
        let spec = self.specs.get(&value).filter(|spec| is_image_spec(spec))?;
        // A mean may come without its last two axes: a vector, which is left to tract.
        image_shape(self.shapes, &value)?;
        let only = self.index.consumers(&value).len() == uses && !self.index.is_output(&value);
        let mut spec = spec.clone();
        match &mut spec {
            Spec::Convolution(spec) if only && spec.activation == Activation::None => {
                spec.activation = activation;
                spec.residual_first = spec.residual;
            }
            Spec::Finish(spec) if only && spec.activation == Activation::None => {
                spec.activation = activation;
                spec.residual_first = spec.residual;
            }
            // The gate of SiLU, which is found with the product after it.
            _ if activation == Activation::Sigmoid => return None,
            _ => return Some(finish_of(&value, activation)),
        }
        Some(Replacement {
            inputs: self.inputs_of(&value)?,
            spec,
        })
    }
}

/// `factors · convolution + addends`.
fn scaled(spec: &ConvolutionSpec, factors: &[f32], addends: &[f32]) -> ConvolutionSpec {
    let mut spec = spec.clone();
    if spec.scales.is_empty() {
        spec.scales = vec![1.0; spec.columns()];
    }
    for (scale, factor) in spec.scales.iter_mut().zip(factors) {
        *scale *= factor;
    }
    for ((bias, factor), addend) in spec.bias.iter_mut().zip(factors).zip(addends) {
        *bias = *bias * factor + addend;
    }
    spec
}
