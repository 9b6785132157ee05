//! Images `[B, H, W, C]` as convolutions and pooling read them: with the pixels around them that windows reach.

use super::scratch::with_floats;
use crate::spec::Window;
use constancy_kernels::{DEPTHWISE_BLOCK, Pool, SharedMut};

/// Lines that one task copies.
const LINES_PER_TASK: usize = 8;

/// Images whose windows all lie within the lines.
pub(super) struct Source<'a> {
    values: &'a [f32],
    window: &'a Window,
    /// Distance of pixels, lines and images.
    pub(super) pixel: usize,
    pub(super) line: usize,
    image: usize,
}

impl Source<'_> {
    /// The first value of the window at the start of line `y` of the output for `image`.
    pub(super) fn at(&self, image: usize, y: usize) -> *const f32 {
        self.values[image * self.image + y * self.window.stride * self.line..].as_ptr()
    }
}

/// Calls `work` with the images `x`, with `fill` around them where windows reach beyond them, and channels side by side.
pub(super) fn with_source<T>(
    window: &Window,
    pool: &Pool,
    x: &[f32],
    fill: f32,
    work: impl FnOnce(&Source<'_>) -> T,
) -> T {
    let pixel = window.channels;
    if window.is_inside() && !window.planar {
        return work(&Source {
            values: x,
            window,
            pixel,
            line: window.width * pixel,
            image: window.height * window.width * pixel,
        });
    }
    let (height, width) = window.covered();
    let (line, from_image) = (width * pixel, window.height * window.width * pixel);
    let images = x.len() / from_image.max(1);
    with_floats(images * height * line, |padded| {
        let lines = SharedMut::new(padded);
        pool.run((images * height).div_ceil(LINES_PER_TASK), &|task| {
            let first = task * LINES_PER_TASK;
            for l in first..(images * height).min(first + LINES_PER_TASK) {
                // SAFETY: every line is written by one task.
                let to = unsafe { lines.slice(l * line, line) };
                let image = &x[l / height * from_image..][..from_image];
                if window.planar {
                    join_line(window, image, l % height, fill, to);
                } else {
                    copy_line(window, image, l % height, fill, to);
                }
            }
        });
        work(&Source {
            values: padded,
            window,
            pixel,
            line,
            image: height * line,
        })
    })
}

/// Copies the part of an image that the lines `first..first + count` of the output need of the channels `channel..`, up to
/// [`DEPTHWISE_BLOCK`] of them, to `to` `[lines, columns, block]`; gives the distance of its lines. Side by side, these channels
/// stay in the nearest cache, however many others there are.
pub(super) fn copy_block(
    window: &Window,
    image: &[f32],
    (first, count): (usize, usize),
    channel: usize,
    to: &mut [f32],
) -> usize {
    const B: usize = DEPTHWISE_BLOCK;
    let (_, width) = window.covered();
    let channels = B.min(window.channels - channel);
    let lines = block_lines(window, count);
    for (l, to) in to.chunks_exact_mut(width * B).take(lines).enumerate() {
        let y = (first * window.stride + l).checked_sub(window.pad.0);
        let Some(y) = y.filter(|&y| y < window.height) else {
            to.fill(0.0);
            continue;
        };
        let left = window.pad.1.min(width);
        let right = (left + window.width).min(width);
        to[..left * B].fill(0.0);
        to[right * B..].fill(0.0);
        let from = &image[y * window.width * window.channels + channel..];
        let pixels = from.chunks(window.channels);
        for (to, from) in to[left * B..right * B].chunks_exact_mut(B).zip(pixels) {
            if channels == B {
                to.copy_from_slice(&from[..B]);
            } else {
                to[..channels].copy_from_slice(&from[..channels]);
                to[channels..].fill(0.0);
            }
        }
    }
    width * B
}

/// Lines of the image that `count` lines of the output need.
pub(super) fn block_lines(window: &Window, count: usize) -> usize {
    (count.max(1) - 1) * window.stride + window.size.0
}

/// Line `y` of the padded image.
fn copy_line(window: &Window, image: &[f32], y: usize, fill: f32, to: &mut [f32]) {
    let line = window.width * window.channels;
    let Some(from) = y
        .checked_sub(window.pad.0)
        .filter(|&y| y < window.height)
        .map(|y| &image[y * line..][..line])
    else {
        return to.fill(fill);
    };
    let left = (window.pad.1 * window.channels).min(to.len());
    let count = line.min(to.len() - left);
    to[..left].fill(fill);
    to[left + count..].fill(fill);
    to[left..left + count].copy_from_slice(&from[..count]);
}

/// Line `y` of the padded image that is made from planes.
fn join_line(window: &Window, image: &[f32], y: usize, fill: f32, to: &mut [f32]) {
    let Some(y) = y.checked_sub(window.pad.0).filter(|&y| y < window.height) else {
        return to.fill(fill);
    };
    let channels = window.channels;
    let left = (window.pad.1 * channels).min(to.len());
    let count = (window.width * channels).min(to.len() - left);
    to[..left].fill(fill);
    to[left + count..].fill(fill);
    let to = &mut to[left..left + count];
    for c in 0..channels {
        let plane = &image[(c * window.height + y) * window.width..][..window.width];
        for (to, from) in to[c..].iter_mut().step_by(channels).zip(plane) {
            *to = *from;
        }
    }
}

/// Writes window `r` of `images` to `to` `[lines, columns, C]`.
pub(super) fn copy_window(window: &Window, images: &[f32], r: usize, to: &mut [f32]) {
    let pixels = window.out.0 * window.out.1;
    let (image, pixel) = (r / pixels, r % pixels);
    let first = (
        pixel / window.out.1 * window.stride,
        pixel % window.out.1 * window.stride,
    );
    let line = window.width * window.channels;
    let image = &images[image * window.height * line..][..window.height * line];
    for (k, to) in to.chunks_exact_mut(window.channels).enumerate() {
        let y = (first.0 + k / window.size.1).checked_sub(window.pad.0);
        let x = (first.1 + k % window.size.1).checked_sub(window.pad.1);
        match (y, x) {
            (Some(y), Some(x)) if y < window.height && x < window.width => {
                to.copy_from_slice(&image[y * line + x * window.channels..][..window.channels]);
            }
            _ => to.fill(0.0),
        }
    }
}
