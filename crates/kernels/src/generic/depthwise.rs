//! Convolutions of every channel by itself, over pixels whose channels lie side by side.
//!
//! A vector holds neighbouring channels of one pixel, a tile several pixels of a line. Where windows overlap, the
//! compiler keeps a value in its register for all windows of the tile that need it.

use crate::args::{DEPTHWISE_BLOCK, DepthwiseArgs};
use crate::vector::Vector;

/// Computes one line of one block of channels: see [`DepthwiseArgs`].
#[inline(always)]
pub(crate) unsafe fn depthwise<V: Vector>(args: &DepthwiseArgs) {
    // SAFETY: the caller upholds the contract of `DepthwiseArgs`.
    unsafe {
        for filter in 0..args.filters {
            for first in (0..args.channels).step_by(V::LEN) {
                let lane = Lane {
                    input: args.input.add(first),
                    weights: args
                        .weights
                        .add(filter * args.window.0 * args.window.1 * DEPTHWISE_BLOCK + first),
                    bias: args.bias.add(filter * DEPTHWISE_BLOCK + first),
                    out: args.out.add(first * args.filters + filter),
                    channels: V::LEN.min(args.channels - first),
                };
                match (args.stride, args.window.1) {
                    (1, 3) => line::<V, 3, 1>(args, &lane),
                    (1, 5) => line::<V, 5, 1>(args, &lane),
                    (1, 7) => line::<V, 7, 1>(args, &lane),
                    (2, 3) => line::<V, 3, 2>(args, &lane),
                    (2, 7) => line::<V, 7, 2>(args, &lane),
                    _ => line::<V, 0, 0>(args, &lane),
                }
            }
        }
    }
}

/// One vector of channels of a line, for one of the channels' filters.
struct Lane {
    input: *const f32,
    weights: *const f32,
    bias: *const f32,
    out: *mut f32,
    channels: usize,
}

/// All pixels of a line, for a window of `K` columns and stride `S`, or any if both are 0.
#[inline(always)]
unsafe fn line<V: Vector, const K: usize, const S: usize>(args: &DepthwiseArgs, lane: &Lane) {
    let count = args.pixels.div_ceil(V::DEPTHWISE_PIXELS).max(1);
    let size = args.pixels.div_ceil(count);
    // The last tile ends with the line and may overlap the one before.
    macro_rules! tiles {
        ($n:literal) => {
            for t in 0..args.pixels.div_ceil($n) {
                let first = (t * $n).min(args.pixels.saturating_sub($n));
                // SAFETY: as in `depthwise`; the tile lies within the line.
                unsafe { tile::<V, K, S, $n>(args, lane, first) }
            }
        };
    }
    match size {
        0 => {}
        1 => tiles!(1),
        2 => tiles!(2),
        3 => tiles!(3),
        5 | 6 if args.pixels >= 6 => tiles!(6),
        7 | 8 if args.pixels >= 8 => tiles!(8),
        _ => tiles!(4),
    }
}

/// `P` pixels from `first` on.
#[inline(always)]
unsafe fn tile<V: Vector, const K: usize, const S: usize, const P: usize>(
    args: &DepthwiseArgs,
    lane: &Lane,
    first: usize,
) {
    // SAFETY: the pointers match the shapes; this function inherits the caller's features.
    unsafe {
        let (stride, columns) = if K == 0 {
            (args.stride, args.window.1)
        } else {
            (S, K)
        };
        let mut sums = [V::load(lane.bias); P];
        let mut weights = lane.weights;
        for y in 0..args.window.0 {
            let input = lane
                .input
                .add(y * args.line_stride + first * stride * args.pixel_stride);
            for k in 0..columns {
                let weight = V::load(weights);
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum =
                        V::load(input.add((p * stride + k) * args.pixel_stride)).fma(weight, *sum);
                }
                weights = weights.add(DEPTHWISE_BLOCK);
            }
        }
        for (p, sum) in sums.iter().enumerate() {
            let out = lane.out.add((first + p) * args.out_stride);
            if args.filters > 1 {
                let mut lanes = [0.0f32; DEPTHWISE_BLOCK];
                sum.store(lanes.as_mut_ptr());
                for (c, &value) in lanes[..lane.channels].iter().enumerate() {
                    *out.add(c * args.filters) = value;
                }
            } else if lane.channels == V::LEN {
                sum.store(out);
            } else {
                sum.store_partial(out, lane.channels);
            }
        }
    }
}
