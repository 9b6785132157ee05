//! Windows of convolutions and pooling, as nodes describe them.

use super::super::shapes::Shapes;
use super::image_shape;
use crate::onnx::{attribute_ints, first_output, nth_input, pb};
use crate::spec::Window;

/// The windows of `size` that a node moves over an image; `None` where they cannot be computed here.
pub(super) fn window_of(
    node: &pb::NodeProto,
    shapes: &Shapes,
    size: (usize, usize),
) -> Option<Window> {
    let [_, channels, height, width] = image_shape(shapes, nth_input(node, 0))?;
    let [_, _, lines, across] = image_shape(shapes, first_output(node))?;
    let (stride, pad) = steps(node)?;
    let window = Window {
        size,
        stride,
        pad,
        out: (lines, across),
        ..Window::of_pixels(channels, height, width)
    };
    is_bounded(&window).then_some(window)
}

/// The windows of a node that says how large they are.
pub(super) fn pooled_window(node: &pb::NodeProto, shapes: &Shapes) -> Option<Window> {
    let &[lines, across] = attribute_ints(node, "kernel_shape")? else {
        return None;
    };
    let size = (usize::try_from(lines).ok()?, usize::try_from(across).ok()?);
    window_of(node, shapes, size)
}

/// Whether windows are about as large as their image. Others make no sense, and may need any amount of memory.
fn is_bounded(window: &Window) -> bool {
    let along = |pixels: usize, size: usize, pad: usize| {
        (1..=3 * pixels).contains(&size) && pad < size && pad <= pixels
    };
    let bounded = along(window.height, window.size.0, window.pad.0)
        && along(window.width, window.size.1, window.pad.1)
        && window.channels > 0;
    bounded && {
        let (height, width) = window.covered();
        height <= 3 * window.height + window.size.0 && width <= 3 * window.width + window.size.1
    }
}

/// Stride and the padding above and left of a window's operator that steps equally in both directions, without dilation.
pub(crate) fn steps(node: &pb::NodeProto) -> Option<(usize, (usize, usize))> {
    let all_one = |name| attribute_ints(node, name).is_none_or(|v| v.iter().all(|&x| x == 1));
    let padded = node
        .attribute
        .iter()
        .any(|a| a.name == "auto_pad" && a.s != b"NOTSET" && a.s != b"VALID");
    if padded || !all_one("dilations") {
        return None;
    }
    let stride = match attribute_ints(node, "strides") {
        None => 1,
        Some(&[a, b]) if a == b => usize::try_from(a).ok().filter(|&s| s > 0)?,
        Some(_) => return None,
    };
    let pad = match attribute_ints(node, "pads") {
        None => (0, 0),
        Some(&[top, left, _, _]) => (usize::try_from(top).ok()?, usize::try_from(left).ok()?),
        Some(_) => return None,
    };
    Some((stride, pad))
}
