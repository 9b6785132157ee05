//! Weights of 3 × 3 convolutions that are computed in tiles, and which convolutions these are.

use crate::spec::{LinearSpec, Window};
use constancy_kernels::{AlignedBytes, Kernels};

/// Fewest tiles of an image: with fewer, reading the transformed weights takes longer than it saves.
const LEAST_TILES: usize = 32;
/// Fewest channels and columns: with fewer, the transforms do.
const LEAST_CHANNELS: usize = 16;
/// The filters' transforms, for tiles of 2 and 4 outputs along an edge.
const FILTER_2: [[f32; 3]; 4] = [
    [1.0, 0.0, 0.0],
    [0.5, 0.5, 0.5],
    [0.5, -0.5, 0.5],
    [0.0, 0.0, 1.0],
];
const FILTER_4: [[f32; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Transformed weights: for each position of a tile, panels of `[channels][panel]`.
pub(super) struct WinogradWeights {
    pub(super) edge: usize,
    pub(super) panels: usize,
    pub(super) bytes: AlignedBytes,
    /// Whether all weights are numbers.
    pub(super) finite: bool,
}

/// Outputs along the edge of a tile for a convolution that takes fewest products in tiles; `None` where it takes fewer
/// without.
fn best_edge(window: &Window, columns: usize) -> Option<usize> {
    let suits = window.size == (3, 3)
        && window.stride == 1
        && window.channels >= LEAST_CHANNELS
        && columns >= LEAST_CHANNELS;
    let tiles = |edge: usize| window.out.0.div_ceil(edge) * window.out.1.div_ceil(edge);
    let direct = window.out.0 * window.out.1 * 9;
    let edge = [4, 2]
        .into_iter()
        .find(|&edge| suits && tiles(edge) >= LEAST_TILES)?;
    (tiles(edge) * (edge + 2).pow(2) < direct).then_some(edge)
}

impl WinogradWeights {
    /// The weights of a convolution that is faster in tiles.
    pub(super) fn pack(spec: &LinearSpec, kernels: &Kernels) -> Option<Self> {
        let (window, [part]) = (spec.window?, spec.parts.as_slice()) else {
            return None;
        };
        let edge = best_edge(&window, spec.columns)?;
        let filter: &[[f32; 3]] = if edge == 2 { &FILTER_2 } else { &FILTER_4 };
        let (panel, channels) = (kernels.f32_panel, window.channels);
        let panels = spec.columns.div_ceil(panel);
        let position = panels * channels * panel;
        let mut bytes =
            AlignedBytes::for_weights(filter.len().pow(2) * position * size_of::<f32>());
        let floats = bytes.as_mut_floats();
        let mut finite = true;
        let mut taps = vec![0.0f32; 9 * channels * panel];
        for p in 0..panels {
            taps.fill(0.0);
            let first = p * panel;
            part.visit(first, spec.columns.min(first + panel), |d, c, value| {
                finite &= value.is_finite();
                taps[d * panel + c - first] = part.dequantise(c, value);
            });
            for (at, (y, x)) in (0..filter.len())
                .flat_map(|y| (0..filter.len()).map(move |x| (y, x)))
                .enumerate()
            {
                let to = &mut floats[at * position + p * channels * panel..][..channels * panel];
                for (t, taps) in taps.chunks_exact(channels * panel).enumerate() {
                    let factor = filter[y][t / 3] * filter[x][t % 3];
                    to.iter_mut()
                        .zip(taps)
                        .for_each(|(w, tap)| *w += factor * tap);
                }
            }
        }
        Some(Self {
            edge,
            panels,
            bytes,
            finite,
        })
    }
}
