//! Compares every instruction set of this machine with plain loops, in odd shapes and with extreme values.

mod convolution;
mod guarded;
mod products;

use super::int8::{MAX_LEVEL, min_level};
use super::{AttentionArgs, Int8Args, Int8Kernel, Isa, Kernels, NormArgs, PackedInt8};
use proptest::prelude::*;

/// Activations as the kernel stores them, clamped to its range.
fn stored(kernel: &Int8Kernel, a: &[u8]) -> Vec<u8> {
    a.iter()
        .map(|&v| v.clamp(min_level(kernel.flip), MAX_LEVEL) ^ kernel.flip)
        .collect()
}

/// The activation that a stored byte represents.
fn value(kernel: &Int8Kernel, byte: u8) -> i32 {
    if kernel.flip == 0 {
        i32::from(byte)
    } else {
        i32::from(byte.cast_signed())
    }
}

/// The kernel's sums `[rows, columns]`, computed in panels and tiles as the operators do.
fn product(
    kernels: &Kernels,
    a: &[u8],
    w: &[i8],
    rows: usize,
    depth: usize,
    columns: usize,
) -> Vec<i32> {
    let kernel = &kernels.int8;
    let packed = PackedInt8::new(kernel, depth, columns, |first, to| {
        for (d, row) in to.chunks_exact_mut(kernel.panel).enumerate() {
            for (c, to) in row.iter_mut().enumerate().take(columns - first) {
                *to = w[d * columns + first + c];
            }
        }
    });
    let mut padded = vec![0u8; rows * packed.depth];
    for (to, from) in padded
        .chunks_exact_mut(packed.depth)
        .zip(a.chunks_exact(depth))
    {
        to[..depth].copy_from_slice(from);
    }
    let mut out = vec![0i32; rows * columns];
    let mut sums = vec![0i32; kernel.rows * kernel.panel];
    for p in 0..packed.panels() {
        for first in (0..rows).step_by(kernel.rows) {
            let tile_rows = kernel.rows.min(rows - first);
            let extras = packed.extras(p);
            let args = Int8Args {
                rows: tile_rows,
                a: padded[first * packed.depth..].as_ptr(),
                a_stride: packed.depth,
                weights: packed.panel(p),
                depth: packed.depth,
                extras: extras.as_ptr(),
                extra_count: extras.len(),
                prefetch: packed.panel(p + 1),
                prefetch_step: 64,
            };
            // SAFETY: `padded` holds `tile_rows` rows of the padded depth from `first` on, `sums` a whole tile.
            unsafe { (kernel.tile)(&args, sums.as_mut_ptr()) };
            for r in 0..tile_rows {
                for c in 0..kernel.panel.min(columns - p * kernel.panel) {
                    out[(first + r) * columns + p * kernel.panel + c] = sums[r * kernel.panel + c];
                }
            }
        }
    }
    out
}

/// The same sums by plain loops.
fn naive(
    kernel: &Int8Kernel,
    a: &[u8],
    w: &[i8],
    rows: usize,
    depth: usize,
    columns: usize,
) -> Vec<i32> {
    let sum = |r: usize, c: usize| {
        (0..depth)
            .map(|d| value(kernel, a[r * depth + d]) * i32::from(w[d * columns + c]))
            .sum::<i32>()
    };
    (0..rows)
        .flat_map(|r| (0..columns).map(move |c| (r, c)))
        .map(|(r, c)| sum(r, c))
        .collect()
}

/// Weights that are often extreme.
fn weight() -> impl Strategy<Value = i8> {
    prop_oneof![Just(i8::MIN), Just(i8::MAX), Just(0), any::<i8>()]
}

fn matrices() -> impl Strategy<Value = (usize, usize, usize, Vec<u8>, Vec<i8>)> {
    (1..=70usize, 1..=131usize, 1..=67usize).prop_flat_map(|(rows, depth, columns)| {
        let activation = prop_oneof![Just(0u8), Just(u8::MAX), any::<u8>()];
        (
            Just(rows),
            Just(depth),
            Just(columns),
            prop::collection::vec(activation, rows * depth),
            prop::collection::vec(weight(), depth * columns),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn integer_products_are_exact((rows, depth, columns, a, w) in matrices()) {
        for kernels in Kernels::all() {
            let a = stored(&kernels.int8, &a);
            let ours = product(kernels, &a, &w, rows, depth, columns);
            prop_assert_eq!(ours, naive(&kernels.int8, &a, &w, rows, depth, columns), "{}", kernels.isa.name());
        }
    }

    #[test]
    fn rows_are_quantised_to_half_a_step(x in prop::collection::vec(-1e3f32..1e3, 1..300), level in -20i32..20) {
        let x: Vec<f32> = x.iter().map(|v| v * 2f32.powi(level)).collect();
        for kernels in Kernels::all() {
            let mut bytes = vec![0u8; x.len()];
            let row = kernels.quantise_row(&x, kernels.range(&x), &mut bytes);
            for (&v, &b) in x.iter().zip(&bytes) {
                let back = value(&kernels.int8, b) as f32 * row.scale + row.offset;
                // Half a step for the value, half for the zero point, which is itself rounded.
                prop_assert!((back - v).abs() <= row.scale * 1.01, "{}: {back} for {v}", kernels.isa.name());
            }
        }
    }

    #[test]
    fn layer_norm_is_the_formula(x in prop::collection::vec(-100f32..100.0, 1..300)) {
        let gain: Vec<f32> = (0..x.len()).map(|i| 0.5 + i as f32 / x.len() as f32).collect();
        let shift: Vec<f32> = (0..x.len()).map(|i| (i % 7) as f32 - 3.0).collect();
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        for kernels in Kernels::all() {
            let mut y = vec![0.0; x.len()];
            let range = kernels.layer_norm(&x, &mut y, &NormArgs { gain: &gain, shift: &shift, epsilon: 1e-5 });
            prop_assert_eq!(range.low, y.iter().copied().fold(0.0, f32::min));
            prop_assert_eq!(range.high, y.iter().copied().fold(0.0, f32::max));
            for i in 0..x.len() {
                let want = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt() * f64::from(gain[i]) + f64::from(shift[i]);
                prop_assert!((f64::from(y[i]) - want).abs() < 1e-3 * (1.0 + want.abs()), "{}", kernels.isa.name());
            }
        }
    }

    #[test]
    fn attention_is_the_formula(queries in 1..=33usize, keys in 1..=70usize, depth in prop_oneof![1..=80usize, Just(32), Just(64)], seed in any::<u64>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut noise = |n: usize| (0..n).map(|_| rng.f32() * 4.0 - 2.0).collect::<Vec<f32>>();
        let (q, k, v) = (noise(queries * depth), noise(keys * depth), noise(keys * depth));
        let scale = 1.0 / (depth as f32).sqrt();
        let want = naive_attention(&q, &k, &v, keys, depth, scale);
        for kernels in Kernels::all() {
            let mut out = vec![0.0f32; queries * depth];
            let mut scratch = vec![0.0f32; kernels.attention_scratch(keys, depth)];
            let args = AttentionArgs {
                queries, keys, depth, scale,
                q: q.as_ptr(), q_stride: depth,
                k: k.as_ptr(), k_stride: depth,
                v: v.as_ptr(), v_stride: depth,
                out: out.as_mut_ptr(), out_stride: depth,
                scratch: scratch.as_mut_ptr(),
            };
            for (attention, tolerance) in [(kernels.attention, 1e-4), (kernels.low_precision_attention, 3e-2)] {
                // SAFETY: every matrix matches its rows, depth and stride; scratch has the required size.
                unsafe { attention(&args) };
                for (ours, want) in out.iter().zip(&want) {
                    prop_assert!((f64::from(*ours) - want).abs() < tolerance, "{}: {ours} for {want}", kernels.isa.name());
                }
            }
        }
    }
}

fn naive_attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    keys: usize,
    depth: usize,
    scale: f32,
) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    };
    let mut out = Vec::new();
    for q in q.chunks_exact(depth) {
        let scores: Vec<f64> = k
            .chunks_exact(depth)
            .map(|k| dot(q, k) * f64::from(scale))
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        out.extend((0..depth).map(|d| {
            (0..keys)
                .map(|i| weights[i] / total * f64::from(v[i * depth + d]))
                .sum::<f64>()
        }));
    }
    out
}

#[test]
fn a_constant_row_survives_quantising() {
    for kernels in Kernels::all() {
        for x in [0.0f32, 1.0, -3.5, 1e-30, 1e30] {
            let mut bytes = vec![0u8; 37];
            let row = kernels.quantise_row(&[x; 37], kernels.range(&[x; 37]), &mut bytes);
            assert!(row.scale.is_finite(), "{}: {x}", kernels.isa.name());
            let back = value(&kernels.int8, bytes[36]) as f32 * row.scale + row.offset;
            assert!(
                (back - x).abs() <= x.abs() * 0.01,
                "{}: {back} for {x}",
                kernels.isa.name()
            );
        }
    }
}

#[test]
fn the_worst_weights_do_not_overflow_sixteen_bits() {
    for kernels in Kernels::all() {
        // Sums of several pairs of 65 overflow as well, although each pair is small.
        for worst in [i8::MIN, -65, -44, 44, 65, i8::MAX] {
            for activation in [0, u8::MAX] {
                let a = stored(&kernels.int8, &vec![activation; 13 * 3072]);
                let ours = product(kernels, &a, &vec![worst; 3072 * 9], 13, 3072, 9);
                let want = 3072 * value(&kernels.int8, a[0]) * i32::from(worst);
                assert!(
                    ours.iter().all(|&v| v == want),
                    "{}: {worst}",
                    kernels.isa.name()
                );
            }
        }
    }
}

/// `CONSTANCY_EXPECT_ISA` lists the sets that the machine must have (`make test-arm` sets it for each emulated core), so
/// that no set is left untested unnoticed.
#[test]
fn the_machine_has_the_expected_sets() {
    if let Ok(expected) = std::env::var("CONSTANCY_EXPECT_ISA") {
        let names: Vec<&str> = Isa::available().map(Isa::name).collect();
        assert_eq!(names.join(" "), expected);
    }
}

/// A run with `CONSTANCY_ISA` set must really use that set.
#[test]
fn the_environment_selects_the_set() {
    let Ok(name) = std::env::var("CONSTANCY_ISA") else {
        return;
    };
    if Isa::available().any(|isa| isa.name() == name) {
        assert_eq!(Kernels::best().isa.name(), name);
    } else {
        // Not `println!`, which libtest captures.
        let line = format!("SKIPPED the_environment_selects_the_set: this machine has no {name}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    }
}
