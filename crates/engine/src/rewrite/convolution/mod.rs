//! Convolution towers, in two steps: [`mod@fold`] finds convolutions with all that follows them, still in the file's layout
//! `[B, C, H, W]`; [`mod@channels_last`] turns them into operators on `[B, H, W, C]`, where a 1 × 1 convolution is a product of
//! rows.

mod channels_last;
mod fold;
mod merge;
mod pooling;
mod windows;

pub(super) use channels_last::channels_last;
pub(crate) use channels_last::image_of;
pub(super) use fold::fold;
pub(crate) use windows::steps;

use super::shapes::Shapes;
use crate::onnx::{Constant, ElementType};
use crate::spec::Spec;

/// Batch, channels, lines and columns of an f32 image.
fn image_shape(shapes: &Shapes, name: &str) -> Option<[usize; 4]> {
    let shape = shapes.get(name).filter(|_| shapes.is_f32(name))?;
    let &[batch, channels, height, width] = shape.as_slice() else {
        return None;
    };
    Some([batch, channels, height, width])
}

/// Whether a spec computes an image in the file's layout.
fn is_image_spec(spec: &Spec) -> bool {
    matches!(spec, Spec::Convolution(_) | Spec::Pool(_) | Spec::Finish(_))
}

/// A constant that has one value per channel of `[B, C, H, W]`, or one for all.
fn per_channel(constant: &Constant, channels: usize) -> Option<Vec<f32>> {
    if !matches!(constant.element, ElementType::F32 | ElementType::F16) {
        return None;
    }
    let values = constant.floats();
    match constant.shape.as_slice() {
        [] | [1] | [1, 1] | [1, 1, 1] | [1, 1, 1, 1] => Some(vec![*values.first()?; channels]),
        &[c, 1, 1] | &[1, c, 1, 1] if c == channels => Some(values),
        _ => None,
    }
}
