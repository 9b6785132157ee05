//! How closely the embeddings of two towers agree.

use constancy_core::stats::quantile;
use serde::Serialize;

/// Cosines between two towers' embeddings of the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    pub images: usize,
    pub median: f64,
    pub mean: f64,
    /// The smallest.
    pub least: f64,
    pub q01: f64,
    pub q05: f64,
    pub q25: f64,
}

impl Agreement {
    /// Compares embeddings `a` and `b`, in the same order of images; `None` if there are none.
    #[must_use]
    pub fn of(a: &[Vec<f32>], b: &[Vec<f32>]) -> Option<Self> {
        let mut cosines: Vec<f64> = a.iter().zip(b).map(|(a, b)| cosine(a, b)).collect();
        cosines.sort_by(f64::total_cmp);
        let least = *cosines.first()?;
        Some(Self {
            images: cosines.len(),
            median: quantile(&cosines, 0.5),
            mean: cosines.iter().sum::<f64>() / cosines.len() as f64,
            least,
            q01: quantile(&cosines, 0.01),
            q05: quantile(&cosines, 0.05),
            q25: quantile(&cosines, 0.25),
        })
    }
}

/// Cosine of the angle between two vectors; 0 if one of them is zero.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum::<f64>()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::Agreement;

    #[test]
    fn quantiles_interpolate_between_the_nearest_cosines() {
        let unit = |angle: f32| vec![angle.cos(), angle.sin()];
        let (a, b) = (vec![unit(0.0); 3], vec![unit(0.0), unit(0.1), unit(0.2)]);
        let found = Agreement::of(&a, &b).expect("three");
        assert!(
            (found.median - 0.1f64.cos()).abs() < 1e-6 && (found.least - 0.2f64.cos()).abs() < 1e-6
        );
        assert!(found.least < found.q25 && found.q25 < found.median && found.median < 1.0);
        assert_eq!(Agreement::of(&[], &[]), None);
    }
}
