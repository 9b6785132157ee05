//! How much of the scatter of some embeddings lies between classes.

/// Sums of vectors.
#[derive(Default)]
struct Sums {
    count: f64,
    sum: Vec<f64>,
    squares: f64,
}

impl Sums {
    fn add(&mut self, vector: impl Iterator<Item = f64>) {
        self.count += 1.0;
        for (i, v) in vector.enumerate() {
            if i == self.sum.len() {
                self.sum.push(0.0);
            }
            self.sum[i] += v;
            self.squares += v * v;
        }
    }

    /// The total variance.
    fn scatter(&self) -> f64 {
        let of_mean = self.sum.iter().map(|s| s * s).sum::<f64>() / self.count;
        (self.squares - of_mean) / (self.count - 1.0)
    }
}

/// The logarithm of the scatter of the classes' logits, over that of the invariant embeddings: high where embeddings differ
/// as classes do, low where they all are of one class. Light that takes contrast from everything changes both. Takes
/// embeddings `[k]` with logits `[C]`; `None` where nothing varies.
pub(in crate::classify) fn between_share<'a>(
    embeddings: impl Iterator<Item = (&'a [f32], &'a [f32])>,
) -> Option<f32> {
    let (mut between, mut total) = (Sums::default(), Sums::default());
    for (z, logits) in embeddings {
        let mean = logits.iter().map(|&l| f64::from(l)).sum::<f64>() / logits.len().max(1) as f64;
        between.add(logits.iter().map(|&l| f64::from(l) - mean));
        total.add(z.iter().map(|&v| f64::from(v)));
    }
    let (between, total) = (between.scatter(), total.scatter());
    let varies = between.is_finite() && between > 0.0 && total > 1e-9;
    varies.then(|| crate::classify::confidence::narrow((between / total).ln()))
}
