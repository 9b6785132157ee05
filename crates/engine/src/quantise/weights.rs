//! Weights in int8, and the smoothing that makes them and their inputs easier to quantise.
//!
//! Smoothing (Xiao et al., *SmoothQuant*, ICML 2023, arXiv 2211.10438) divides each channel of a
//! layer's input by a factor and multiplies the weights of that channel by it: a channel that is
//! much larger than the others then no longer determines the range of all. The division is folded
//! into the normalisation before the layer, so it costs nothing.

/// The weights of a layer in int8.
pub(super) struct Int8Weights {
    /// `[depth, columns]`.
    pub(super) values: Vec<i8>,
    /// `[columns]`.
    pub(super) scales: Vec<f32>,
}

/// The smoothing factors `max|x|^α / max|w|^(1 − α)` of the channels, scaled to a geometric mean of one.
/// `max_inputs` is `max|x|` `[depth]`; `weights` are those of all layers that read the input,
/// each `[depth, columns]`.
pub(super) fn smoothing_factors(max_inputs: &[f32], weights: &[Vec<f32>], alpha: f32) -> Vec<f32> {
    let max_weight = |channel: usize| {
        let of_layer = |w: &Vec<f32>| {
            let columns = w.len() / max_inputs.len();
            w[channel * columns..(channel + 1) * columns]
                .iter()
                .fold(0.0f32, |max, v| max.max(v.abs()))
        };
        weights.iter().map(of_layer).fold(0.0, f32::max)
    };
    let raw_factor = |(channel, &x): (usize, &f32)| {
        let w = max_weight(channel);
        // A channel that is always 0 needs no smoothing.
        if x > 0.0 && w > 0.0 {
            f64::from(x).powf(alpha.into()) / f64::from(w).powf((1.0 - alpha).into())
        } else {
            0.0
        }
    };
    let raw: Vec<f64> = max_inputs.iter().enumerate().map(raw_factor).collect();
    let logs: Vec<f64> = raw.iter().filter(|&&f| f > 0.0).map(|f| f.ln()).collect();
    let mean = (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp();
    #[expect(clippy::cast_possible_truncation, reason = "f32 in and out")]
    raw.iter()
        .map(|&f| if f > 0.0 { (f / mean) as f32 } else { 1.0 })
        .collect()
}

/// The weights `[depth, columns]` with each channel multiplied by its factor.
pub(super) fn smoothed(weights: &[f32], factors: &[f32]) -> Vec<f32> {
    let columns = weights.len() / factors.len().max(1);
    let rows = weights.chunks_exact(columns.max(1)).zip(factors);
    rows.flat_map(|(row, factor)| row.iter().map(move |w| w * factor))
        .collect()
}

/// Quantises weights `[depth, columns]` symmetrically with a scale per column: the largest
/// magnitude becomes 127.
pub(super) fn quantised(weights: &[f32], columns: usize) -> Int8Weights {
    let mut scales = vec![0.0f32; columns];
    for row in weights.chunks_exact(columns) {
        for (max, w) in scales.iter_mut().zip(row) {
            *max = max.max(w.abs());
        }
    }
    for scale in &mut scales {
        *scale = if *scale > 0.0 { *scale / 127.0 } else { 1.0 };
    }
    let quantise = |(w, scale): (&f32, &f32)| {
        #[expect(clippy::cast_possible_truncation, reason = "integral, in -127..=127")]
        let value = (w / scale).round_ties_even() as i8;
        value
    };
    let values = weights
        .chunks_exact(columns)
        .flat_map(|row| row.iter().zip(&scales).map(quantise))
        .collect();
    Int8Weights { values, scales }
}

#[cfg(test)]
mod tests {
    use super::{quantised, smoothed, smoothing_factors};

    #[test]
    fn smoothing_evens_out_a_large_channel_and_keeps_the_product() {
        let (max_inputs, weights) = ([1.0, 100.0, 0.0], vec![vec![0.5, -1.0, 1.0, 0.5, 2.0, 2.0]]);
        let factors = smoothing_factors(&max_inputs, &weights, 0.5);
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
        let int8 = quantised(&[0.5, 0.0, -1.0, 0.0], 2);
        assert_eq!(int8.values, [64, 0, -127, 0]);
        assert!((int8.scales[0] - 1.0 / 127.0).abs() < 1e-9);
        assert!(
            (int8.scales[1] - 1.0).abs() < 1e-9,
            "a column of zeros has a scale too"
        );
    }
}
