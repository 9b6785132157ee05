//! Linear branches of one input as one convolution. Towers that were trained with parallel branches (MobileOne, FastViT)
//! are often exported with them.

use crate::onnx::{Constant, ElementType};
use crate::spec::{ConvolutionSpec, Window};
use constancy_kernels::Activation;

/// The convolution that gives the mean of each window.
pub(super) fn mean(window: &Window) -> ConvolutionSpec {
    let (channels, (lines, across)) = (window.channels, window.size);
    let weight = 1.0 / (lines * across) as f32;
    let weights = vec![weight; channels * lines * across];
    ConvolutionSpec {
        weights: floats(vec![channels, 1, lines, across], &weights),
        window: *window,
        ..identity(window)
    }
}

/// The convolution that leaves the images of a window's operator as they are.
pub(super) fn identity(of: &Window) -> ConvolutionSpec {
    let channels = of.channels;
    ConvolutionSpec {
        weights: floats(vec![channels, 1, 1, 1], &vec![1.0; channels]),
        scales: vec![],
        bias: vec![0.0; channels],
        groups: channels,
        window: Window {
            planar: of.planar,
            ..Window::of_pixels(channels, of.height, of.width)
        },
        activation: Activation::None,
        residual: false,
        residual_first: false,
    }
}

/// `factors.0 · a + factors.1 · b`, for linear convolutions of one input; `None` where that would cost more than both.
pub(super) fn merged(
    a: &ConvolutionSpec,
    b: &ConvolutionSpec,
    factors: (f32, f32),
) -> Option<ConvolutionSpec> {
    // A stride makes no difference to a window that is moved once.
    if a.columns() != b.columns() || a.window.out != b.window.out {
        return None;
    }
    if a.window.stride != b.window.stride {
        return None;
    }
    let union = union(&a.window, &b.window);
    // The larger window is that of the convolution with the most products.
    let is =
        |spec: &ConvolutionSpec| spec.window.size == union.size && spec.window.pad == union.pad;
    let groups = if a.groups == b.groups {
        a.groups
    } else {
        let (dense, other) = if a.groups == 1 { (a, b) } else { (b, a) };
        let one_filter = other.groups == other.columns();
        (dense.groups == 1 && one_filter && is(dense)).then_some(1)?
    };
    if !is(a) && !is(b) {
        return None;
    }
    let channels = union.channels / groups;
    let taps = union.size.0 * union.size.1;
    let mut weights = vec![0.0f32; a.columns() * channels * taps];
    add(&mut weights, channels, &union, a, factors.0);
    add(&mut weights, channels, &union, b, factors.1);
    let bias = a.bias.iter().zip(&b.bias);
    Some(ConvolutionSpec {
        weights: floats(
            vec![a.columns(), channels, union.size.0, union.size.1],
            &weights,
        ),
        scales: vec![],
        bias: bias.map(|(a, b)| a * factors.0 + b * factors.1).collect(),
        groups,
        window: union,
        ..a.clone()
    })
}

/// The smallest window that holds both.
fn union(a: &Window, b: &Window) -> Window {
    let pad = (a.pad.0.max(b.pad.0), a.pad.1.max(b.pad.1));
    let size = (
        pad.0 + (a.size.0 + b.pad.0).max(b.size.0 + a.pad.0) - a.pad.0 - b.pad.0,
        pad.1 + (a.size.1 + b.pad.1).max(b.size.1 + a.pad.1) - a.pad.1 - b.pad.1,
    );
    Window { size, pad, ..*a }
}

/// Adds the weights of `spec`, times `factor`, to `weights` `[columns, channels, window]`.
fn add(weights: &mut [f32], channels: usize, window: &Window, spec: &ConvolutionSpec, factor: f32) {
    let of_channels = spec.window.channels / spec.groups;
    let (lines, across) = spec.window.size;
    let shift = (
        window.pad.0 - spec.window.pad.0,
        window.pad.1 - spec.window.pad.1,
    );
    let filter = of_channels * lines * across;
    for (column, from) in spec.scaled_weights().chunks_exact(filter).enumerate() {
        for (i, &weight) in from.iter().enumerate() {
            let (c, y, x) = (i / (lines * across), i / across % lines, i % across);
            // A filter of one channel among filters of all.
            let c = if of_channels == channels { c } else { column };
            let at = ((column * channels + c) * window.size.0 + y + shift.0) * window.size.1;
            weights[at + x + shift.1] += factor * weight;
        }
    }
}

fn floats(shape: Vec<usize>, values: &[f32]) -> Constant {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Constant::owned(shape, ElementType::F32, bytes)
}

#[cfg(test)]
mod tests {
    use super::{floats, identity, merged};
    use crate::spec::{ConvolutionSpec, Window};

    fn spec(size: usize, groups: usize) -> ConvolutionSpec {
        let window = Window {
            channels: 2,
            height: 5,
            width: 5,
            size: (size, size),
            stride: 1,
            pad: (size / 2, size / 2),
            out: (5, 5),
            planar: false,
        };
        let channels = 2 / groups;
        let weights: Vec<f32> = (0..2 * channels * size * size).map(|i| i as f32).collect();
        ConvolutionSpec {
            weights: floats(vec![2, channels, size, size], &weights),
            scales: vec![2.0, 3.0],
            bias: vec![1.0, 2.0],
            groups,
            window,
            ..identity(&window)
        }
    }

    #[test]
    fn branches_become_one_window() {
        let one = merged(&spec(3, 2), &identity(&spec(3, 2).window), (1.0, -1.0)).unwrap();
        assert_eq!(one.groups, 2);
        let mut want = spec(3, 2).scaled_weights();
        want[4] -= 1.0;
        want[9 + 4] -= 1.0;
        assert_eq!(one.weights.floats(), want);
        assert_eq!(one.bias, [1.0, 2.0]);
    }

    #[test]
    fn a_filter_per_channel_joins_one_of_all_channels() {
        let one = merged(&spec(1, 2), &spec(1, 1), (1.0, 1.0)).unwrap();
        assert_eq!(one.groups, 1);
        // [[0, 1] · 2, [2, 3] · 3] plus the diagonal [0 · 2, 1 · 3].
        assert_eq!(one.weights.floats(), [0.0, 2.0, 6.0, 12.0]);
        assert_eq!(one.bias, [2.0, 4.0]);
    }

    #[test]
    fn a_small_product_does_not_become_a_large_one() {
        assert!(merged(&spec(3, 2), &spec(1, 1), (1.0, 1.0)).is_none());
    }
}
