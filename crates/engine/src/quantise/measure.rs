//! How each group of layers is stored: smoothed how strongly, in bytes or in halves, by what that does to its outputs.
//!
//! Smoothing (Xiao et al., *SmoothQuant*, ICML 2023, arXiv 2211.10438) divides each channel of the rows by a factor and
//! multiplies the weights that meet it: a channel that is much larger than the others no longer takes the range of all.
//! The division is folded into the normalisation before, so it costs nothing.
//!
//! Errors are those of the kernels that will run, on rows that the layers have really seen.

use super::super::chain;
use super::super::onnx::{Constant, Element, Slice};
use super::super::ops::{Precision, Runtime, pack};
use super::super::rewrite::{LinearSpec, Spec, Specs, WeightSpec};
use super::calibrate::Activations;
use super::layers::{Group, Layers};
use half::f16;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// Strengths of smoothing that are tried, besides none.
const ALPHAS: [f32; 3] = [0.25, 0.5, 0.75];

/// How much less the error must be for smoothing to be worth it.
const WORTH: f64 = 0.95;

/// A layer's weights as they are stored.
pub(super) struct Bytes {
    /// `[depth, columns]`.
    pub(super) values: Vec<i8>,
    /// `[columns]`.
    pub(super) scales: Vec<f32>,
}

/// How a group is stored.
pub(super) struct Choice {
    pub(super) int8: bool,
    /// Strength of the smoothing; 0 where there is none.
    pub(super) alpha: f32,
    /// What each channel is divided by, where there is smoothing.
    pub(super) smoothing: Option<Vec<f32>>,
    /// Of each layer's output, relative to how much that varies.
    pub(super) errors: Vec<f64>,
}

/// Chooses for one group.
pub(super) fn choose(
    layers: &Layers,
    group: &Group,
    seen: &Activations,
    max_error: f64,
    smooth: bool,
    runtime: &Arc<Runtime>,
) -> TractResult<Choice> {
    let weights: Vec<Vec<f32>> = group.layers.iter().map(|l| layers.weights(l)).collect();
    let measured = Measured::new(group, &weights, seen, runtime)?;
    let mut best = Choice {
        int8: true,
        alpha: 0.0,
        smoothing: None,
        errors: measured.int8(None)?,
    };
    if smooth && group.norm.is_some() {
        for alpha in ALPHAS {
            let factors = factors(&seen.most, &weights, alpha);
            let errors = measured.int8(Some(&factors))?;
            if total(&errors) < total(&best.errors) * if best.alpha == 0.0 { WORTH } else { 1.0 } {
                best = Choice {
                    int8: true,
                    alpha,
                    smoothing: Some(factors),
                    errors,
                };
            }
        }
    }
    // They share a quantised input, and the engine puts them side by side: all of a kind.
    if best.errors.iter().any(|&e| e > max_error) {
        best = Choice {
            int8: false,
            alpha: 0.0,
            smoothing: None,
            errors: measured.halves()?,
        };
    }
    Ok(best)
}

/// Root of the sum of squares.
fn total(errors: &[f64]) -> f64 {
    errors.iter().map(|e| e * e).sum::<f64>().sqrt()
}

/// `max|x|^α / max|w|^(1 − α)` of each channel, so scaled that they are 1 in the geometric mean.
fn factors(most: &[f32], weights: &[Vec<f32>], alpha: f32) -> Vec<f32> {
    let largest = |channel: usize| {
        let of = |w: &Vec<f32>| {
            let columns = w.len() / most.len();
            w[channel * columns..(channel + 1) * columns]
                .iter()
                .fold(0.0f32, |most, v| most.max(v.abs()))
        };
        weights.iter().map(of).fold(0.0, f32::max)
    };
    let one = |(channel, &x): (usize, &f32)| {
        let w = largest(channel);
        // A channel that is always 0 asks for nothing.
        if x > 0.0 && w > 0.0 {
            f64::from(x).powf(alpha.into()) / f64::from(w).powf((1.0 - alpha).into())
        } else {
            0.0
        }
    };
    let raw: Vec<f64> = most.iter().enumerate().map(one).collect();
    let logs: Vec<f64> = raw.iter().filter(|&&f| f > 0.0).map(|f| f.ln()).collect();
    let mean = (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp();
    #[expect(clippy::cast_possible_truncation, reason = "f32 in and out")]
    raw.iter()
        .map(|&f| if f > 0.0 { (f / mean) as f32 } else { 1.0 })
        .collect()
}

/// Multiplies each channel's weights with its factor.
pub(super) fn smoothed(weights: &[f32], factors: &[f32]) -> Vec<f32> {
    let columns = weights.len() / factors.len().max(1);
    let rows = weights.chunks_exact(columns.max(1)).zip(factors);
    rows.flat_map(|(row, factor)| row.iter().map(move |w| w * factor))
        .collect()
}

/// Symmetric, a scale for each column: the largest magnitude becomes 127.
pub(super) fn quantised(weights: &[f32], columns: usize) -> Bytes {
    let mut scales = vec![0.0f32; columns];
    for row in weights.chunks_exact(columns) {
        for (most, w) in scales.iter_mut().zip(row) {
            *most = most.max(w.abs());
        }
    }
    for scale in &mut scales {
        *scale = if *scale > 0.0 { *scale / 127.0 } else { 1.0 };
    }
    let byte = |(w, scale): (&f32, &f32)| {
        #[expect(clippy::cast_possible_truncation, reason = "integral, in -127..=127")]
        let byte = (w / scale).round_ties_even() as i8;
        byte
    };
    let values = weights
        .chunks_exact(columns)
        .flat_map(|row| row.iter().zip(&scales).map(byte))
        .collect();
    Bytes { values, scales }
}

/// A group's rows and what its layers make of them in f32.
struct Measured<'a> {
    group: &'a Group,
    weights: &'a [Vec<f32>],
    rows: &'a [f32],
    outputs: Vec<Tensor>,
    runtime: &'a Arc<Runtime>,
}

impl<'a> Measured<'a> {
    fn new(
        group: &'a Group,
        weights: &'a [Vec<f32>],
        seen: &'a Activations,
        runtime: &'a Arc<Runtime>,
    ) -> TractResult<Self> {
        let mut new = Self {
            group,
            weights,
            rows: &seen.rows,
            outputs: Vec::new(),
            runtime,
        };
        for (layer, weights) in group.layers.iter().zip(weights) {
            let bytes = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
            let weight = weight(Element::F32, layer.depth, layer.columns, bytes, vec![]);
            let output = new.product(&seen.rows, layer.depth, weight)?;
            new.outputs.push(output);
        }
        Ok(new)
    }

    /// Errors in bytes.
    fn int8(&self, factors: Option<&[f32]>) -> TractResult<Vec<f64>> {
        let divided: Option<Vec<f32>> = factors.map(|f| {
            self.rows
                .chunks_exact(f.len())
                .flat_map(|r| r.iter().zip(f).map(|(x, f)| x / f))
                .collect()
        });
        let rows = divided.as_deref().unwrap_or(self.rows);
        self.errors(rows, |weights, columns| {
            let bytes = match factors {
                Some(factors) => quantised(&smoothed(weights, factors), columns),
                None => quantised(weights, columns),
            };
            let values = bytes.values.iter().map(|b| b.cast_unsigned()).collect();
            (Element::I8, values, bytes.scales)
        })
    }

    /// Errors in halves.
    fn halves(&self) -> TractResult<Vec<f64>> {
        self.errors(self.rows, |weights, _| {
            (
                Element::F16,
                weights
                    .iter()
                    .flat_map(|&w| f16::from_f32(w).to_le_bytes())
                    .collect(),
                vec![],
            )
        })
    }

    fn errors(
        &self,
        rows: &[f32],
        store: impl Fn(&[f32], usize) -> (Element, Vec<u8>, Vec<f32>),
    ) -> TractResult<Vec<f64>> {
        let one = |((layer, weights), exact): ((&super::layers::Layer, &Vec<f32>), &Tensor)| {
            let (element, bytes, scales) = store(weights, layer.columns);
            let weight = weight(element, layer.depth, layer.columns, bytes, scales);
            relative_error(
                &self.product(rows, layer.depth, weight)?,
                exact,
                layer.columns,
            )
        };
        self.group
            .layers
            .iter()
            .zip(self.weights)
            .zip(&self.outputs)
            .map(one)
            .collect()
    }

    /// The product as the engine will compute it.
    fn product(&self, rows: &[f32], depth: usize, weight: WeightSpec) -> TractResult<Tensor> {
        let name = String::from("measured");
        let specs = Specs::from([(name.clone(), Spec::Linear(LinearSpec::plain(weight)))]);
        let operators = pack(&specs, self.runtime, Precision::File)?;
        let input = Tensor::from_shape(&[rows.len() / depth, depth], rows)?;
        operators[&name].eval(&[input.into()])
    }
}

fn weight(
    element: Element,
    depth: usize,
    columns: usize,
    bytes: Vec<u8>,
    scales: Vec<f32>,
) -> WeightSpec {
    let data = Constant {
        shape: vec![depth, columns],
        element,
        data: Slice::Owned(Arc::new(bytes)),
    };
    WeightSpec {
        data,
        transposed: false,
        scales,
        zeros: vec![],
        bias: vec![],
    }
}

/// `‖found − exact‖ / ‖exact − its mean row‖`: what all rows have in common tells nothing of an image, and channels that
/// are large everywhere make much of it.
fn relative_error(found: &Tensor, exact: &Tensor, columns: usize) -> TractResult<f64> {
    let (found, exact) = (found.try_as_plain_ram()?, exact.try_as_plain_ram()?);
    let (found, exact) = (found.as_slice::<f32>()?, exact.as_slice::<f32>()?);
    let mut mean = vec![0.0; columns];
    for row in exact.chunks_exact(columns) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(mean, &e)| *mean += f64::from(e));
    }
    let rows = (exact.len() / columns) as f64;
    let (mut error, mut size) = (0.0, 0.0);
    for (found, exact) in found.chunks_exact(columns).zip(exact.chunks_exact(columns)) {
        for ((&f, &e), &sum) in found.iter().zip(exact).zip(&mean) {
            error += f64::from(f - e).powi(2);
            size += (f64::from(e) - sum / rows).powi(2);
        }
    }
    let relative = if error > 0.0 {
        (error / size).sqrt()
    } else {
        0.0
    };
    // What overflows, or never varies, is no error that one could compare.
    Ok(if relative.is_finite() {
        relative
    } else {
        f64::INFINITY
    })
}

/// What went wrong, in one line.
pub(super) fn reason(error: &TractError) -> String {
    chain(error)
}

#[cfg(test)]
mod tests {
    use super::{factors, quantised, smoothed};

    #[test]
    fn smoothing_evens_out_a_large_channel_and_leaves_the_product() {
        let (most, weights) = ([1.0, 100.0, 0.0], vec![vec![0.5, -1.0, 1.0, 0.5, 2.0, 2.0]]);
        let factors = factors(&most, &weights, 0.5);
        assert!(
            (factors[1] / factors[0] - 10.0).abs() < 1e-4,
            "the root of the ratio: {factors:?}"
        );
        assert!((factors[2] - 1.0).abs() < 1e-6, "a channel of zeros stays");
        assert!(
            (factors[0] * factors[1] - 1.0).abs() < 1e-4,
            "1 in the mean"
        );
        let x = [0.7, 80.0, 0.0];
        let product = |x: &[f32], w: &[f32]| (0..3).map(|d| x[d] * w[2 * d]).sum::<f32>();
        let divided: Vec<f32> = x.iter().zip(&factors).map(|(x, f)| x / f).collect();
        let difference =
            product(&x, &weights[0]) - product(&divided, &smoothed(&weights[0], &factors));
        assert!(difference.abs() < 1e-3, "{difference}");
    }

    #[test]
    fn the_largest_weight_of_a_column_becomes_127() {
        let bytes = quantised(&[0.5, 0.0, -1.0, 0.0], 2);
        assert_eq!(bytes.values, [64, 0, -127, 0]);
        assert!((bytes.scales[0] - 1.0 / 127.0).abs() < 1e-9);
        assert!(
            (bytes.scales[1] - 1.0).abs() < 1e-9,
            "a column of zeros has a scale too"
        );
    }
}
