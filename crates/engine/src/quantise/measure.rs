//! Chooses how each group of layers is stored, in int8 (smoothed or not) or in fp16, by the error
//! that this causes in the outputs of the layers.
//!
//! Errors are measured with the kernels that will run, on recorded inputs of the layers.

use super::calibrate::Activations;
use super::layers::{Group, Layer, Layers};
use super::weights::{quantised, smoothed, smoothing_factors};
use crate::onnx::{Constant, ElementType};
use crate::ops::pack;
use crate::precision::Precision;
use crate::runtime::Runtime;
use crate::spec::{LinearSpec, Spec, Specs, WeightSpec};
use half::f16;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// Strengths of smoothing that are tried, besides none.
const ALPHAS: [f32; 3] = [0.25, 0.5, 0.75];

/// Smoothing is worth it if it lowers the error to less than this share.
const WORTHWHILE: f64 = 0.95;

/// How a group is stored.
pub(super) struct Choice {
    /// In fp16 otherwise.
    pub(super) int8: bool,
    /// Strength of the smoothing, 0 without smoothing.
    pub(super) alpha: f32,
    /// The factors that the channels of the input are divided by, with smoothing.
    pub(super) smoothing: Option<Vec<f32>>,
    /// Error of the output of each layer, relative to how much the output varies.
    pub(super) errors: Vec<f64>,
}

/// The weights of a layer as they would be stored.
struct Stored {
    element: ElementType,
    bytes: Vec<u8>,
    /// `[columns]`, or empty for floats.
    scales: Vec<f32>,
}

/// A group of layers, its recorded inputs, and its outputs in f32.
pub(super) struct Measurement<'a> {
    group: &'a Group,
    /// The weights of each layer, `[depth, columns]`.
    weights: Vec<Vec<f32>>,
    activations: &'a Activations,
    outputs: Vec<Tensor>,
    runtime: &'a Arc<Runtime>,
}

impl<'a> Measurement<'a> {
    /// Computes the outputs in f32.
    pub(super) fn new(
        layers: &Layers,
        group: &'a Group,
        activations: &'a Activations,
        runtime: &'a Arc<Runtime>,
    ) -> TractResult<Self> {
        let mut new = Self {
            group,
            weights: group.layers.iter().map(|l| layers.weights(l)).collect(),
            activations,
            outputs: Vec::new(),
            runtime,
        };
        for (layer, weights) in group.layers.iter().zip(&new.weights) {
            let exact = Stored {
                element: ElementType::F32,
                bytes: weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
                scales: vec![],
            };
            let output = new.product(&activations.rows, layer, exact)?;
            new.outputs.push(output);
        }
        Ok(new)
    }

    /// int8 with the best smoothing, or fp16 if a layer's error is then above `max_error`.
    pub(super) fn choose(&self, max_error: f64, smooth: bool) -> TractResult<Choice> {
        let mut best = Choice {
            int8: true,
            alpha: 0.0,
            smoothing: None,
            errors: self.int8_errors(None)?,
        };
        if smooth && self.group.norm.is_some() {
            for alpha in ALPHAS {
                let factors = smoothing_factors(&self.activations.max_inputs, &self.weights, alpha);
                let errors = self.int8_errors(Some(&factors))?;
                let needed = if best.alpha == 0.0 { WORTHWHILE } else { 1.0 };
                if total(&errors) < total(&best.errors) * needed {
                    best = Choice {
                        int8: true,
                        alpha,
                        smoothing: Some(factors),
                        errors,
                    };
                }
            }
        }
        // The layers of a group share their quantised input, and the engine merges them: all or
        // none.
        if best.errors.iter().any(|&e| e > max_error) {
            best = Choice {
                int8: false,
                alpha: 0.0,
                smoothing: None,
                errors: self.fp16_errors()?,
            };
        }
        Ok(best)
    }

    /// The error of each layer in int8, smoothed by `factors`.
    fn int8_errors(&self, factors: Option<&[f32]>) -> TractResult<Vec<f64>> {
        let rows = &self.activations.rows;
        let divided: Option<Vec<f32>> = factors.map(|f| {
            rows.chunks_exact(f.len())
                .flat_map(|r| r.iter().zip(f).map(|(x, f)| x / f))
                .collect()
        });
        self.errors(divided.as_deref().unwrap_or(rows), |weights, columns| {
            let int8 = match factors {
                Some(factors) => quantised(&smoothed(weights, factors), columns),
                None => quantised(weights, columns),
            };
            Stored {
                element: ElementType::I8,
                bytes: int8.values.iter().map(|b| b.cast_unsigned()).collect(),
                scales: int8.scales,
            }
        })
    }

    /// The error of each layer in fp16.
    fn fp16_errors(&self) -> TractResult<Vec<f64>> {
        self.errors(&self.activations.rows, |weights, _| Stored {
            element: ElementType::F16,
            bytes: weights
                .iter()
                .flat_map(|&w| f16::from_f32(w).to_le_bytes())
                .collect(),
            scales: vec![],
        })
    }

    /// The error of each layer for the input `rows`, with its weights stored by `store`.
    fn errors(
        &self,
        rows: &[f32],
        store: impl Fn(&[f32], usize) -> Stored,
    ) -> TractResult<Vec<f64>> {
        let layers = self.group.layers.iter().zip(&self.weights);
        layers
            .zip(&self.outputs)
            .map(|((layer, weights), exact)| {
                let found = self.product(rows, layer, store(weights, layer.columns))?;
                relative_error(&found, exact, layer.columns)
            })
            .collect()
    }

    /// The output of a layer, as the engine will compute it.
    fn product(&self, rows: &[f32], layer: &Layer, weights: Stored) -> TractResult<Tensor> {
        let shape = vec![layer.depth, layer.columns];
        let weight = WeightSpec {
            scales: weights.scales,
            ..WeightSpec::new(Constant::owned(shape, weights.element, weights.bytes))
        };
        let name = String::from("measured");
        let specs = Specs::from([(name.clone(), Spec::Linear(LinearSpec::plain(weight)))]);
        let operators = pack(&specs, self.runtime, Precision::File)?;
        let input = Tensor::from_shape(&[rows.len() / layer.depth, layer.depth], rows)?;
        operators[&name].eval(&[input.into()])
    }
}

/// Root of the sum of squares.
fn total(errors: &[f64]) -> f64 {
    errors.iter().map(|e| e * e).sum::<f64>().sqrt()
}

/// `‖found − exact‖ / ‖exact − its mean row‖`. The mean row is subtracted because it says nothing
/// about an image, and would dominate where some channels are large in every row.
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
    // An output that overflows or never varies has no meaningful error: it never passes.
    Ok(if relative.is_finite() {
        relative
    } else {
        f64::INFINITY
    })
}
