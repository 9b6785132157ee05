//! Whole layers: quantised rows, int8 product and epilogue; and the same in f32.

use super::{product, value};
use crate::{Activation, EpilogueArgs, Kernels, Product};
use proptest::prelude::*;

pub(super) const ACTIVATIONS: [Activation; 9] = [
    Activation::None,
    Activation::Relu,
    Activation::QuickGelu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Relu6,
    Activation::HardSwish,
];

/// `y = activation(x · (w − zeros) · scales + outlier x · outlier weights + bias) + residual`, x `[rows, depth]`, w
/// `[depth, columns]`. In f32 there are no zero points and no outliers.
#[derive(Debug)]
struct Layer {
    rows: usize,
    depth: usize,
    columns: usize,
    x: Vec<f32>,
    weights: Vec<i8>,
    scales: Vec<f32>,
    zeros: Option<Vec<i8>>,
    outliers: usize,
    outlier_x: Vec<f32>,
    outlier_weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Option<Vec<f32>>,
    activation: Activation,
    residual_first: bool,
}

fn layers() -> impl Strategy<Value = Layer> {
    let options = (
        0..ACTIVATIONS.len(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0..3usize,
    );
    (1..=70usize, 1..=80usize, 1..=40usize, options, any::<u64>()).prop_map(
        |(
            rows,
            depth,
            columns,
            (activation, with_residual, residual_first, with_zeros, outliers),
            seed,
        )| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut noise = |n: usize| (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect::<Vec<f32>>();
            let mut x = noise(rows * depth);
            // Some rows are all zeros, some all of one sign.
            for (r, row) in x.chunks_exact_mut(depth).enumerate() {
                match r % 5 {
                    2 => row.fill(0.0),
                    3 => row.iter_mut().for_each(|v| *v = v.abs() + 1.0),
                    _ => {}
                }
            }
            let (scales, bias, residual) = (noise(columns), noise(columns), noise(rows * columns));
            let (outlier_x, outlier_weights) = (noise(rows * outliers), noise(outliers * columns));
            let weights = (0..depth * columns).map(|_| rng.i8(..)).collect();
            let zeros = with_zeros.then(|| (0..columns).map(|_| rng.i8(..)).collect());
            let scales = scales.iter().map(|s| (s + 1.5) / 1000.0).collect();
            let residual = with_residual.then_some(residual);
            Layer {
                rows,
                depth,
                columns,
                x,
                weights,
                scales,
                zeros,
                outliers,
                outlier_x,
                outlier_weights,
                bias,
                residual,
                activation: ACTIVATIONS[activation],
                residual_first,
            }
        },
    )
}

impl Layer {
    fn weight(&self, d: usize, c: usize) -> f32 {
        f32::from(self.weights[d * self.columns + c]) * self.scales[c]
    }

    /// The outliers' and zero points' contribution to an int8 product at row and column.
    fn corrections(&self, x: &[f64], r: usize, c: usize) -> f64 {
        let zero = self
            .zeros
            .as_ref()
            .map_or(0.0, |z| f64::from(z[c]) * f64::from(self.scales[c]));
        let row = x[r * self.depth..(r + 1) * self.depth].iter().sum::<f64>();
        let outlier = |j: usize| {
            f64::from(self.outlier_x[r * self.outliers + j])
                * f64::from(self.outlier_weights[j * self.columns + c])
        };
        (0..self.outliers).map(outlier).sum::<f64>() - zero * row
    }

    /// The layer's formula applied to the rows `x`.
    fn naive(&self, x: &[f64], integer: bool) -> Vec<f64> {
        let at = |r: usize, c: usize| {
            let sum = (0..self.depth)
                .map(|d| x[r * self.depth + d] * f64::from(self.weight(d, c)))
                .sum::<f64>();
            let sum = sum
                + if integer {
                    self.corrections(x, r, c)
                } else {
                    0.0
                };
            let residual = self
                .residual
                .as_ref()
                .map_or(0.0, |v| f64::from(v[r * self.columns + c]));
            let sum = sum + f64::from(self.bias[c]);
            if self.residual_first {
                activate(sum + residual, self.activation)
            } else {
                activate(sum, self.activation) + residual
            }
        };
        (0..self.rows)
            .flat_map(|r| (0..self.columns).map(move |c| (r, c)))
            .map(|(r, c)| at(r, c))
            .collect()
    }

    /// Arguments that both epilogues share, for `rows` rows from `r` on and a panel of columns from `first` on.
    fn epilogue<'a>(
        &'a self,
        (r, rows): (usize, usize),
        (first, panel): (usize, usize),
        bias: &[f32],
        out: &mut [f32],
    ) -> EpilogueArgs<'a> {
        let at = r * self.columns + first;
        EpilogueArgs {
            rows,
            columns: panel.min(self.columns - first),
            panel,
            bias: bias[first..].as_ptr(),
            activation: self.activation,
            residual_first: self.residual_first,
            residual: self
                .residual
                .as_ref()
                .map_or(std::ptr::null(), |v| v[at..].as_ptr()),
            residual_stride: self.columns,
            out: out[at..].as_mut_ptr(),
            out_stride: self.columns,
            ..EpilogueArgs::default()
        }
    }

    /// Σw of each column, times its scale.
    fn column_sums(&self) -> Vec<f32> {
        let sum = |c: usize| {
            (0..self.depth)
                .map(|d| i32::from(self.weights[d * self.columns + c]))
                .sum::<i32>()
        };
        (0..self.columns)
            .map(|c| sum(c) as f32 * self.scales[c])
            .collect()
    }

    /// Each column's zero point, times its scale.
    fn scaled_zeros(&self) -> Option<Vec<f32>> {
        let scaled = |(&zero, scale): (&i8, &f32)| f32::from(zero) * scale;
        let zeros = self.zeros.as_ref()?;
        Some(zeros.iter().zip(&self.scales).map(scaled).collect())
    }

    /// The dequantised rows, and the kernels' result for them.
    fn int8(&self, kernels: &Kernels) -> (Vec<f64>, Vec<f32>) {
        let kernel = &kernels.int8;
        let mut bytes = vec![0u8; self.rows * self.depth];
        let rows = self
            .x
            .chunks_exact(self.depth)
            .zip(bytes.chunks_exact_mut(self.depth));
        let quantise = |(x, bytes): (&[f32], &mut [u8])| {
            let mut row = kernels.quantise_row(x, kernels.range(x), bytes);
            let sum = kernels.stored_sum(bytes) as f32;
            row.neg_sum = -(sum * row.scale + self.depth as f32 * row.offset);
            row
        };
        let quantised: Vec<_> = rows.map(quantise).collect();
        let back = bytes.iter().enumerate().map(|(i, &b)| {
            let row = &quantised[i / self.depth];
            f64::from(value(kernel, b)) * f64::from(row.scale) + f64::from(row.offset)
        });
        let back = back.collect();
        let sums = product(
            kernels,
            &bytes,
            &self.weights,
            self.rows,
            self.depth,
            self.columns,
        );
        let padded = self.columns.next_multiple_of(kernel.panel);
        let (scales, bias) = (resized(&self.scales, padded), resized(&self.bias, padded));
        let column_sums = resized(&self.column_sums(), padded);
        let zeros = self.scaled_zeros().map(|zeros| resized(&zeros, padded));
        let outlier_weights: Vec<f32> = self
            .outlier_weights
            .chunks_exact(self.columns)
            .flat_map(|row| resized(row, padded))
            .collect();
        let mut out = vec![f32::NAN; self.rows * self.columns];
        for first in (0..self.columns).step_by(kernel.panel) {
            let mut tile = vec![0i32; self.rows * kernel.panel];
            for (r, row) in tile.chunks_exact_mut(kernel.panel).enumerate() {
                let columns = kernel.panel.min(self.columns - first);
                row[..columns].copy_from_slice(&sums[r * self.columns + first..][..columns]);
            }
            let args = EpilogueArgs {
                sums: tile.as_ptr(),
                quantised: &quantised,
                scales: scales[first..].as_ptr(),
                column_sums: column_sums[first..].as_ptr(),
                weight_zeros: zeros.as_ref().map(|z| z[first..].as_ptr()),
                outlier_rows: self.outlier_x.as_ptr(),
                outliers: self.outliers,
                outlier_weights: outlier_weights.as_ptr().wrapping_add(first),
                outlier_stride: padded,
                ..self.epilogue((0, self.rows), (first, kernel.panel), &bias, &mut out)
            };
            // SAFETY: the tables hold whole panels, the tile `[rows, panel]`, output and residual `[rows, columns]`.
            unsafe { (kernels.epilogue)(&args) };
        }
        (back, out)
    }

    fn f32(&self, kernels: &Kernels) -> Vec<f32> {
        let panel = kernels.f32_panel;
        let padded = self.columns.next_multiple_of(panel);
        let bias = resized(&self.bias, padded);
        let mut out = vec![f32::NAN; self.rows * self.columns];
        let mut sums = vec![0.0f32; kernels.f32_rows * panel];
        for first in (0..self.columns).step_by(panel) {
            let columns = panel.min(self.columns - first);
            let mut weights = vec![0.0f32; self.depth * panel];
            for (d, row) in weights.chunks_exact_mut(panel).enumerate() {
                (0..columns).for_each(|c| row[c] = self.weight(d, first + c));
            }
            for r in (0..self.rows).step_by(kernels.f32_rows) {
                let rows = kernels.f32_rows.min(self.rows - r);
                let args = self.epilogue((r, rows), (first, panel), &bias, &mut out);
                let product = Product {
                    rows,
                    columns,
                    depth: self.depth,
                    segments: 1,
                    a: self.x[r * self.depth..].as_ptr(),
                    a_stride: self.depth,
                    a_segment: 0,
                    b: weights.as_ptr(),
                    b_stride: panel,
                    c: sums.as_mut_ptr(),
                    c_stride: panel,
                    prefetch: std::ptr::null(),
                    prefetch_step: 0,
                };
                // SAFETY: `rows` rows of `depth` values from `a` on, a panel of as many rows, a tile of `f32_rows`;
                // the bias holds whole panels, output and residual `[rows, columns]`.
                unsafe {
                    (kernels.product)(&product);
                    (kernels.epilogue_f32)(sums.as_ptr(), &args);
                }
            }
        }
        out
    }
}

fn resized<T: Copy + Default>(values: &[T], len: usize) -> Vec<T> {
    let mut values = values.to_vec();
    values.resize(len, T::default());
    values
}

pub(super) fn activate(x: f64, activation: Activation) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::Silu => x * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::GeluTanh => {
            0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x * x * x)).tanh())
        }
    }
}

/// erf by its Taylor series, accurate for the small arguments of these tests.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn an_int8_layer_is_the_formula(layer in layers()) {
        for kernels in Kernels::all() {
            let (x, ours) = layer.int8(kernels);
            for (ours, want) in ours.iter().zip(layer.naive(&x, true)) {
                let close = (f64::from(*ours) - want).abs() < 2e-5 * (1.0 + want.abs());
                prop_assert!(close, "{}: {ours} for {want}", kernels.isa.name());
            }
        }
    }

    #[test]
    fn an_f32_layer_is_the_formula(layer in layers()) {
        let x: Vec<f64> = layer.x.iter().map(|&v| f64::from(v)).collect();
        let want = layer.naive(&x, false);
        for kernels in Kernels::all() {
            for (ours, want) in layer.f32(kernels).iter().zip(&want) {
                let close = (f64::from(*ours) - want).abs() < 2e-5 * (1.0 + want.abs());
                prop_assert!(close, "{}: {ours} for {want}", kernels.isa.name());
            }
        }
    }
}
