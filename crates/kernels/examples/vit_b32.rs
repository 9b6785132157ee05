//! Times the kernels' work for one image through CLIP ViT-B/32, part by part, on one thread and without a model. For
//! boards, and for counting instructions (`tools/instructions.py`).
//!
//! `vit_b32 [products|epilogues|rows|attention|patches|nothing]...` runs the named parts, or all of them, once each.

#![allow(clippy::print_stdout, reason = "its result is printed")]

use constancy_kernels::{
    Activation, AlignedBytes, AttentionArgs, EpilogueArgs, Int8Args, Kernels, NormArgs, PackedInt8,
    Product, QuantisedRow, Range,
};
use std::time::Instant;

const LAYERS: usize = 12;
const TOKENS: usize = 50;
const WIDTH: usize = 768;
const HIDDEN: usize = 4 * WIDTH;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
const PATCHES: usize = 49;
const PATCH: usize = 3 * 32 * 32;

/// Linear layers of a transformer block: depth, columns, activation, whether a residual is added.
const LINEARS: [(usize, usize, Activation, bool); 4] = [
    (WIDTH, 3 * WIDTH, Activation::None, false),
    (WIDTH, WIDTH, Activation::None, true),
    (WIDTH, HIDDEN, Activation::QuickGelu, false),
    (HIDDEN, WIDTH, Activation::None, true),
];

type Part = (&'static str, fn(&mut Tower));

struct Tower {
    kernels: &'static Kernels,
    /// `[LAYERS][4]`, all distinct, so that they are read from memory as a model's weights are.
    weights: Vec<PackedInt8>,
    patches: AlignedBytes,
    bytes: AlignedBytes,
    rows: Vec<f32>,
    out: Vec<f32>,
    sums: Vec<i32>,
    scratch: Vec<f32>,
    quantised: Vec<QuantisedRow>,
    ones: Vec<f32>,
}

impl Tower {
    fn new() -> Self {
        let kernels = Kernels::best();
        let linears = (0..LAYERS).flat_map(|_| LINEARS);
        let mut random = Random(1);
        let weights = linears.map(|(depth, columns, ..)| {
            PackedInt8::new(&kernels.int8, depth, columns, |_, to| {
                for w in to {
                    *w = random.weight();
                }
            })
        });
        let floats = PATCHES.next_multiple_of(kernels.f32_rows) * PATCH;
        Self {
            kernels,
            weights: weights.collect(),
            patches: AlignedBytes::for_weights(
                WIDTH.next_multiple_of(kernels.f32_panel) * PATCH * size_of::<f32>(),
            ),
            bytes: AlignedBytes::zeroed(TOKENS * HIDDEN.next_multiple_of(kernels.int8.step)),
            rows: vec![0.5; floats.max(TOKENS * HIDDEN)],
            out: vec![0.0; floats.max(TOKENS * HIDDEN)],
            sums: vec![0; TOKENS * kernels.int8.panel.max(kernels.f32_panel)],
            scratch: vec![0.0; kernels.attention_scratch(TOKENS, HEAD)],
            quantised: vec![
                QuantisedRow {
                    scale: 1.0,
                    ..QuantisedRow::default()
                };
                TOKENS
            ],
            ones: vec![1.0; HIDDEN],
        }
    }

    fn products(&mut self) {
        let kernel = &self.kernels.int8;
        for weights in &self.weights {
            for p in 0..weights.panels() {
                for (r, rows) in tiles(TOKENS, kernel.rows) {
                    let args = Int8Args {
                        rows,
                        a: self.bytes.as_slice()[r * weights.depth..].as_ptr(),
                        a_stride: weights.depth,
                        weights: weights.panel(p),
                        depth: weights.depth,
                        extras: weights.extras(p).as_ptr(),
                        extra_count: weights.extras(p).len(),
                        prefetch: weights
                            .panel(p + 1)
                            .wrapping_add(r * weights.depth / kernel.step),
                        prefetch_step: kernel.panel * kernel.step * kernel.rows.min(TOKENS)
                            / TOKENS,
                    };
                    // SAFETY: `bytes` holds the rows of any layer, `sums` a panel of all of them.
                    unsafe { (kernel.tile)(&args, self.sums.as_mut_ptr()) };
                }
            }
        }
    }

    fn epilogues(&mut self) {
        let kernel = &self.kernels.int8;
        for (i, weights) in self.weights.iter().enumerate() {
            let (_, columns, activation, residual) = LINEARS[i % LINEARS.len()];
            for p in 0..weights.panels() {
                let first = p * kernel.panel;
                for (r, rows) in tiles(TOKENS, kernel.rows) {
                    let args = EpilogueArgs {
                        rows,
                        columns: kernel.panel.min(columns - first),
                        panel: kernel.panel,
                        sums: self.sums.as_ptr(),
                        quantised: &self.quantised,
                        scales: self.ones.as_ptr(),
                        column_sums: self.ones.as_ptr(),
                        bias: self.ones.as_ptr(),
                        activation,
                        residual: if residual {
                            self.rows.as_ptr()
                        } else {
                            std::ptr::null()
                        },
                        residual_stride: columns,
                        out: self.out[r * columns + first..].as_mut_ptr(),
                        out_stride: columns,
                        ..EpilogueArgs::default()
                    };
                    // SAFETY: the tables hold a panel, `out` and the residual `[TOKENS, columns]`.
                    unsafe { (self.kernels.epilogue)(&args) };
                }
            }
        }
    }

    /// Layer normalisation and quantisation, as often as in a tower.
    fn rows(&mut self) {
        for (i, weights) in self.weights.iter().enumerate() {
            let (depth, ..) = LINEARS[i % LINEARS.len()];
            let norm = NormArgs {
                gain: &self.ones[..depth],
                shift: &self.ones[..depth],
                epsilon: 1e-5,
            };
            for (r, x) in self.rows[..TOKENS * depth].chunks_exact(depth).enumerate() {
                // Layers 0 and 2 of a block read the normalised residual stream.
                let range = if i % 2 == 0 {
                    self.kernels.layer_norm(x, &mut self.out[..depth], &norm);
                    Range {
                        low: 0.0,
                        high: 1.0,
                    }
                } else {
                    self.kernels.range(x)
                };
                self.quantised[r] = self.kernels.quantise_row(
                    x,
                    range,
                    &mut self.bytes.as_mut_slice()[r * weights.depth..][..depth],
                );
            }
        }
    }

    fn attention(&mut self) {
        for head in (0..LAYERS).flat_map(|_| 0..HEADS) {
            let q = self.rows[head * HEAD..].as_ptr();
            let args = AttentionArgs {
                queries: TOKENS,
                keys: TOKENS,
                depth: HEAD,
                scale: 0.125,
                q,
                q_stride: 3 * WIDTH,
                k: q.wrapping_add(WIDTH),
                k_stride: 3 * WIDTH,
                v: q.wrapping_add(2 * WIDTH),
                v_stride: 3 * WIDTH,
                out: self.out[head * HEAD..].as_mut_ptr(),
                out_stride: WIDTH,
                scratch: self.scratch.as_mut_ptr(),
            };
            // SAFETY: `rows` holds `[TOKENS, 3 · WIDTH]`, `out` `[TOKENS, WIDTH]`, scratch has the required size.
            unsafe { (self.kernels.low_precision_attention)(&args) };
        }
    }

    /// The patch embedding, in f32.
    fn patches(&mut self) {
        let panel = self.kernels.f32_panel;
        for weights in self.patches.as_floats().chunks_exact(PATCH * panel) {
            for (r, rows) in tiles(PATCHES, self.kernels.f32_rows) {
                let product = Product {
                    rows,
                    columns: panel,
                    depth: PATCH,
                    segments: 1,
                    a: self.rows[r * PATCH..].as_ptr(),
                    a_stride: PATCH,
                    a_segment: 0,
                    b: weights.as_ptr(),
                    b_stride: panel,
                    c: self.out.as_mut_ptr(),
                    c_stride: panel,
                    prefetch: weights
                        .as_ptr()
                        .wrapping_add((PATCH + r * PATCH / PATCHES) * panel),
                    prefetch_step: panel * size_of::<f32>() * rows / PATCHES,
                };
                // SAFETY: `rows` holds all patches, a panel of weights as many rows, `out` more than a tile.
                unsafe { (self.kernels.product)(&product) };
            }
        }
    }
}

/// Weights distributed like a trained layer's: AVX2 treats pairs of large ones separately.
struct Random(u32);

impl Random {
    /// Approximately normal: the sum of four uniform values.
    fn weight(&mut self) -> i8 {
        let sum: i32 = (0..4).map(|_| self.uniform()).sum();
        i8::try_from(sum.clamp(-127, 127)).unwrap_or_default()
    }

    /// Uniform in -32..32, by a linear congruential generator (Numerical Recipes).
    fn uniform(&mut self) -> i32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 26).cast_signed() - 32
    }
}

/// First row and height of each tile: as few tiles as possible, of nearly equal height.
fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most);
    (0..count).map(move |t| (t * rows / count, (t + 1) * rows / count - t * rows / count))
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut tower = Tower::new();
    println!("{}", tower.kernels.isa.name());
    let parts: [Part; 5] = [
        ("products", Tower::products),
        ("epilogues", Tower::epilogues),
        ("rows", Tower::rows),
        ("attention", Tower::attention),
        ("patches", Tower::patches),
    ];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            let start = Instant::now();
            part(&mut tower);
            println!("{name:<10} {:8.2} ms", start.elapsed().as_secs_f64() * 1e3);
        }
    }
}
