//! Pooling, and factors that are computed per image (squeeze and excite).

use super::super::pass::{Replacement, either_order};
use super::super::shapes::Shapes;
use super::windows::pooled_window;
use super::{image_shape, is_image_spec};
use crate::onnx::{Graph, Index, attribute_ints, nth_input, pb};
use crate::spec::{FinishSpec, PoolSpec, Spec, Specs, Window};
use constancy_kernels::Activation;

/// A maximum over windows, or the mean of all pixels.
pub(super) fn pool(
    graph: &Graph,
    index: &Index,
    node: &pb::NodeProto,
    shapes: &Shapes,
) -> Option<Replacement> {
    let input = nth_input(node, 0);
    let [_, channels, height, width] = image_shape(shapes, input)?;
    if channels * height * width == 0 {
        return None;
    }
    let spec = if node.op_type == "MaxPool" {
        let window = pooled_window(node, shapes)?;
        // Indices of the largest values are not computed.
        (node.output.len() == 1).then_some(PoolSpec::Max(window))?
    } else {
        let over_pixels = node.op_type == "GlobalAveragePool" || {
            let axes = match attribute_ints(node, "axes") {
                Some(axes) => axes.to_vec(),
                None => graph.constant(index, nth_input(node, 1))?.integers(),
            };
            matches!(*axes, [2, 3] | [-2, -1])
        };
        over_pixels.then(|| {
            PoolSpec::Mean(Window {
                size: (height, width),
                out: (1, 1),
                ..Window::of_pixels(channels, height, width)
            })
        })?
    };
    Some(Replacement {
        inputs: vec![input.to_owned()],
        spec: Spec::Pool(spec),
    })
}

/// An image times a factor per image and channel.
pub(super) fn gate(node: &pb::NodeProto, specs: &Specs, shapes: &Shapes) -> Option<Replacement> {
    if node.op_type != "Mul" {
        return None;
    }
    either_order(node).into_iter().find_map(|(image, factors)| {
        let [batch, channels, height, width] = image_shape(shapes, image)?;
        let known = |name: &str| specs.get(name).is_some_and(is_image_spec);
        let fits = image_shape(shapes, factors) == Some([batch, channels, 1, 1])
            && height * width > 1
            && (known(image) || known(factors));
        fits.then(|| Replacement {
            inputs: vec![image.to_owned(), factors.to_owned()],
            spec: Spec::Finish(FinishSpec {
                scaled: true,
                ..FinishSpec::NOTHING
            }),
        })
    })
}

/// An activation by itself.
pub(super) fn finish_of(image: &str, activation: Activation) -> Replacement {
    Replacement {
        inputs: vec![image.to_owned()],
        spec: Spec::Finish(FinishSpec {
            activation,
            ..FinishSpec::NOTHING
        }),
    }
}
