//! Vectors of f32: embeddings and class rows.

/// `vector` scaled to length 1. A vector of zeros stays as it is.
///
/// ```
/// use constancy_core::numeric::unit;
///
/// assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
/// assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
/// ```
#[must_use]
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector
        .iter()
        .map(|&v| f64::from(v) * f64::from(v))
        .sum::<f64>()
        .sqrt();
    if norm == 0.0 {
        return vector.to_vec();
    }
    #[expect(clippy::cast_possible_truncation, reason = "f64 only carries the sum")]
    vector
        .iter()
        .map(|&v| (f64::from(v) / norm) as f32)
        .collect()
}

/// Dot product of two vectors of the same width; for unit vectors, their cosine.
///
/// ```
/// use constancy_core::numeric::dot;
///
/// assert_eq!(dot(&[1.0, 2.0], &[3.0, 4.0]), 11.0);
/// ```
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Mean of vectors of the same width, scaled to length 1.
///
/// ```
/// use constancy_core::numeric::unit_mean;
///
/// assert_eq!(unit_mean([vec![3.0, 0.0], vec![0.0, 4.0]].into_iter()), [0.6, 0.8]);
/// ```
#[must_use]
pub fn unit_mean(vectors: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let sum = vectors.fold(Vec::new(), |mut sum: Vec<f32>, v| {
        sum.resize(v.len(), 0.0);
        sum.iter_mut().zip(&v).for_each(|(s, x)| *s += x);
        sum
    });
    unit(&sum)
}
