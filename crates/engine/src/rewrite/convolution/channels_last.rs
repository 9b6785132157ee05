//! Turns operators on images from the file's layout `[B, C, H, W]` to `[B, H, W, C]`.
//!
//! Every image gets a second value with its channels last, and a `Transpose` from one to the other where only one of them is
//! computed. Whatever then feeds nothing is dropped: transposes remain only where a tower enters or leaves the layout.

use super::super::layout::Layout;
use super::super::pass::{either_order, fused_node, prune};
use super::super::shapes::Shapes;
use super::{image_shape, is_image_spec, per_channel};
use crate::onnx::{DERIVED, Graph, Index, attribute_ints, build, first_output, nth_input, pb};
use crate::ops::SHALLOW;
use crate::spec::{ConvolutionSpec, DepthwiseSpec, FinishSpec, LinearSpec, PoolSpec, Spec, Specs};
use constancy_kernels::Activation;
use std::collections::HashMap;

/// What the value is beside an image of the file.
const LAST: &str = "channels last";

/// The image of the file whose channels are last in `name`, if that is such a value.
pub(crate) fn image_of(name: &str) -> Option<&str> {
    name.strip_suffix(LAST)?.strip_suffix(DERIVED)
}

/// From the file's layout, and back to it.
const TO_LAST: [i64; 4] = [0, 2, 3, 1];
const TO_FIRST: [i64; 4] = [0, 3, 1, 2];

/// Gives every operator on images its final form.
pub(in super::super) fn channels_last(graph: &mut Graph, specs: &mut Specs, shapes: &mut Shapes) {
    if !specs.values().any(is_image_spec) {
        return;
    }
    let old = graph.clone();
    let index = old.index();
    let mut rewriter = Rewriter {
        old: &old,
        index: &index,
        graph,
        specs,
        shapes,
        last: HashMap::new(),
        renamed: HashMap::new(),
        nodes: Vec::new(),
    };
    for node in &old.nodes {
        rewriter.rewrite(node);
    }
    let nodes = rewriter.nodes;
    graph.nodes = nodes;
    graph.drop_unused();
    prune(graph, specs);
}

struct Rewriter<'a> {
    old: &'a Graph,
    index: &'a Index,
    graph: &'a mut Graph,
    specs: &'a mut Specs,
    shapes: &'a mut Shapes,
    /// The value with channels last of each image.
    last: HashMap<String, String>,
    /// Values of the file that are the same as another one.
    renamed: HashMap<String, String>,
    nodes: Vec<pb::NodeProto>,
}

impl Rewriter<'_> {
    fn rewrite(&mut self, node: &pb::NodeProto) {
        let output = first_output(node).to_owned();
        if let Some(spec) = self
            .specs
            .get(&output)
            .filter(|s| is_image_spec(s))
            .cloned()
        {
            self.specs.remove(&output);
            self.operator(node, spec);
        } else if !self.moved(node) && !self.factor(node) && !self.sum(node) {
            let mut node = node.clone();
            for input in &mut node.input {
                if let Some(name) = self.renamed.get(input) {
                    input.clone_from(name);
                }
            }
            self.nodes.push(node);
        }
    }

    /// An operator on images, as one on images with channels last.
    fn operator(&mut self, node: &pb::NodeProto, spec: Spec) {
        let output = first_output(node);
        let mut spec = spec;
        let planar = self.make_planar(node, &mut spec);
        let mut inputs: Vec<String> = Vec::new();
        for (i, name) in node.input.iter().enumerate() {
            inputs.push(if planar && i == 0 {
                name.clone()
            } else {
                self.last_of(name)
            });
        }
        let name = Graph::derived(output, LAST);
        let batch = self.shapes.get(output).and_then(|s| s.first()).copied();
        if let Spec::Pool(PoolSpec::Mean(window)) = &spec {
            let shape = vec![batch.unwrap_or(1), 1, 1, window.channels];
            self.shapes.insert(&name, shape);
        } else {
            self.insert_shape(output, &name);
        }
        match spec {
            Spec::Finish(FinishSpec {
                scaled: false,
                activation: Activation::None,
                ..
            }) => self.plain("Add", inputs, &name, None),
            spec => {
                let spec = final_form(spec);
                self.nodes.push(fused_node(&spec, inputs, &name));
                self.specs.insert(name.clone(), spec);
            }
        }
        self.leave(&name, output);
    }

    /// Whether an operator reads the tower's input as it is: a convolution of few channels, which copies them anyway.
    fn make_planar(&self, node: &pb::NodeProto, spec: &mut Spec) -> bool {
        let Spec::Convolution(convolution) = spec else {
            return false;
        };
        let planar = convolution.groups == 1
            && convolution.window.channels < SHALLOW
            && self.index.producer(nth_input(node, 0)).is_none()
            && !self.last.contains_key(nth_input(node, 0));
        convolution.window.planar = planar;
        planar
    }

    /// The shape of `name`, which is the image `of` with its channels last.
    fn insert_shape(&mut self, of: &str, name: &str) {
        if let Some(&[batch, channels, height, width]) = self.shapes.get(of).map(Vec::as_slice) {
            self.shapes
                .insert(name, vec![batch, height, width, channels]);
        }
    }

    /// Makes `output` in the file's layout from the value `name` with channels last.
    fn leave(&mut self, name: &str, output: &str) {
        let shape = self.shapes.get(output).cloned().unwrap_or_default();
        if matches!(*shape, [_, _, 1, 1] | [_, _]) {
            self.reshape(name, output, &shape);
        } else {
            self.plain("Transpose", vec![name.to_owned()], output, Some(TO_FIRST));
        }
        if shape.len() == 4 {
            self.last.insert(output.to_owned(), name.to_owned());
        }
    }

    /// The value of `image` with channels last.
    fn last_of(&mut self, image: &str) -> String {
        if let Some(name) = self.last.get(image) {
            return name.clone();
        }
        let name = Graph::derived(image, LAST);
        self.insert_shape(image, &name);
        let source = self
            .renamed
            .get(image)
            .map_or(image, String::as_str)
            .to_owned();
        self.plain("Transpose", vec![source], &name, Some(TO_LAST));
        self.last.insert(image.to_owned(), name.clone());
        name
    }

    fn plain(&mut self, kind: &str, input: Vec<String>, output: &str, perm: Option<[i64; 4]>) {
        let perm = perm.map(|perm| pb::AttributeProto {
            name: "perm".into(),
            r#type: pb::attribute_proto::AttributeType::Ints as i32,
            ints: perm.to_vec(),
            ..pb::AttributeProto::default()
        });
        self.nodes.push(build::node(kind, input, output, perm));
    }

    fn reshape(&mut self, from: &str, to: &str, shape: &[usize]) {
        let dims = shape.iter().filter_map(|&d| i64::try_from(d).ok());
        let dims: Vec<i64> = dims.collect();
        let name = Graph::derived(to, "shape");
        let tensor = build::integers(&name, &[dims.len()], &dims);
        self.graph.add_initializer(tensor);
        self.plain("Reshape", vec![from.to_owned(), name], to, None);
    }

    /// A node that only moves elements between the two layouts: computes nothing any more.
    fn moved(&mut self, node: &pb::NodeProto) -> bool {
        let (input, output) = (nth_input(node, 0), first_output(node));
        if !matches!(node.op_type.as_str(), "Transpose" | "Reshape") {
            return false;
        }
        let perm = attribute_ints(node, "perm");
        if perm == Some(&TO_FIRST) && image_shape(self.shapes, output).is_some() {
            let input = self.renamed.get(input).map_or(input, String::as_str);
            self.last.insert(output.to_owned(), input.to_owned());
            self.plain("Transpose", vec![input.to_owned()], output, Some(TO_FIRST));
            return true;
        }
        if perm == Some(&TO_LAST)
            && let Some(name) = self.last.get(input)
            && !self.index.is_output(output)
        {
            self.renamed.insert(output.to_owned(), name.clone());
            return true;
        }
        self.moved_in_steps(output).is_some()
    }

    /// The same for a chain of nodes that ends with `output`.
    fn moved_in_steps(&mut self, output: &str) -> Option<()> {
        let shape = self.shapes.get(output)?.clone();
        if shape.len() < 3 || !self.shapes.is_f32(output) {
            return None;
        }
        let layout = Layout::trace(self.old, self.index, self.shapes, output)?;
        if layout.source == output || (layout.scale - 1.0).abs() > f32::EPSILON {
            return None;
        }
        if let Some(name) = self.last.get(&layout.source).cloned()
            && let Some([_, channels, height, width]) = image_shape(self.shapes, &layout.source)
        {
            // Channels last, in the order of an image with channels first.
            let pixels = height * width;
            let want = (0..layout.indices.len()).map(|i| {
                let (b, p, c) = (i / channels / pixels, i / channels % pixels, i % channels);
                (b * channels + c) * pixels + p
            });
            if layout.indices.iter().copied().eq(want) {
                self.reshape(&name, output, &shape);
                return Some(());
            }
        }
        let &[batch, channels, height, width] = shape.as_slice() else {
            return None;
        };
        let pixels = height * width;
        let want = (0..layout.indices.len()).map(|i| {
            let (b, c, p) = (i / pixels / channels, i / pixels % channels, i % pixels);
            (b * pixels + p) * channels + c
        });
        if !layout.indices.iter().copied().eq(want) {
            return None;
        }
        let name = Graph::derived(output, LAST);
        self.shapes
            .insert(&name, vec![batch, height, width, channels]);
        self.product_of_pixels(&layout.source, &name, &[batch, height, width, channels]);
        self.plain("Transpose", vec![name.clone()], output, Some(TO_FIRST));
        self.last.insert(output.to_owned(), name);
        Some(())
    }

    /// Makes `name`, the rows of `source` in another shape: by a product of its own where a product makes `source`, so that
    /// what follows it can be fused.
    fn product_of_pixels(&mut self, source: &str, name: &str, shape: &[usize]) {
        let alone = self.index.only_consumer(source).is_some();
        let linear = self.specs.get(source).and_then(Spec::linear);
        let linear = linear
            .filter(|l| alone && !l.residual && l.patches.is_none() && l.window.is_none())
            .cloned();
        let producer = self.index.producer(source).map(|i| &self.old.nodes[i]);
        let (Some(linear), Some(producer)) = (linear, producer) else {
            let source = self
                .renamed
                .get(source)
                .map_or(source, String::as_str)
                .to_owned();
            return self.reshape(&source, name, shape);
        };
        let rows = Graph::derived(name, "rows");
        let mut of_rows = shape.to_vec();
        of_rows[3] = linear.depth;
        self.shapes.insert(&rows, of_rows.clone());
        let input = nth_input(producer, 0);
        let input = self
            .renamed
            .get(input)
            .map_or(input, String::as_str)
            .to_owned();
        self.reshape(&input, &rows, &of_rows);
        let spec = Spec::Linear(linear);
        self.nodes.push(fused_node(&spec, vec![rows], name));
        self.specs.insert(name.to_owned(), spec);
    }

    /// The sum of two images, of which one is known with channels last.
    fn sum(&mut self, node: &pb::NodeProto) -> bool {
        let output = first_output(node);
        let Some(shape) = image_shape(self.shapes, output).filter(|_| node.op_type == "Add") else {
            return false;
        };
        let fits = node.input.iter().all(|name| {
            image_shape(self.shapes, name) == Some(shape)
                && self.old.constant(self.index, name).is_none()
        });
        if !fits || !node.input.iter().any(|name| self.last.contains_key(name)) {
            return false;
        }
        let inputs = node.input.iter().map(|name| self.last_of(name)).collect();
        let name = Graph::derived(output, LAST);
        self.insert_shape(output, &name);
        self.plain("Add", inputs, &name, None);
        self.leave(&name, output);
        true
    }

    /// An image times a constant per channel.
    fn factor(&mut self, node: &pb::NodeProto) -> bool {
        let output = first_output(node);
        let Some([_, channels, ..]) =
            image_shape(self.shapes, output).filter(|_| node.op_type == "Mul")
        else {
            return false;
        };
        let found = either_order(node)
            .into_iter()
            .find_map(|(image, constant)| {
                let constant = self.old.constant(self.index, constant)?;
                Some((
                    self.last.get(image)?.clone(),
                    per_channel(&constant, channels)?,
                ))
            });
        let Some((image, factors)) = found else {
            return false;
        };
        let (name, constant) = (
            Graph::derived(output, LAST),
            Graph::derived(output, "factors"),
        );
        let tensor = build::floats(&constant, &[channels], &factors);
        self.graph.add_initializer(tensor);
        self.insert_shape(output, &name);
        self.plain("Mul", vec![image, constant], &name, None);
        self.leave(&name, output);
        true
    }
}

/// A spec of the file's layout as one for channels last.
fn final_form(spec: Spec) -> Spec {
    match spec {
        Spec::Convolution(spec) if spec.groups == 1 => Spec::Linear(product(&spec)),
        Spec::Convolution(spec) => Spec::Depthwise(DepthwiseSpec {
            weights: spec.scaled_weights(),
            filters: spec.columns() / spec.groups,
            bias: spec.bias,
            window: spec.window,
            activation: spec.activation,
            residual: spec.residual,
            residual_first: spec.residual_first,
        }),
        spec => spec,
    }
}

/// A convolution over all channels as a product of windows, or of pixels where these are the windows.
fn product(spec: &ConvolutionSpec) -> LinearSpec {
    let window = spec.window;
    let by_pixel = !window.planar
        && window.size == (1, 1)
        && window.stride == 1
        && window.pad == (0, 0)
        && window.out == (window.height, window.width);
    LinearSpec {
        activation: spec.activation,
        residual: spec.residual,
        residual_first: spec.residual_first,
        window: (!by_pixel).then_some(window),
        ..LinearSpec::plain(spec.matrix())
    }
}
