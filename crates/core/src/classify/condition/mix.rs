//! Where the calibration's classes lie, and what the mean of frames does by chance and by another mix of classes.

use nalgebra::DMatrix;

/// Most classes whose mix is looked at: those of most images. More would make the bank's file large, and hardly differ.
pub(in crate::classify) const MAX_CLASSES: usize = 40;
/// How far the share of each class among frames of all classes usually is from that in the calibration, in shares of its
/// own.
const VARIES: f64 = 0.3;
/// Where the calibration's classes lie, and how far single images are from there, in *class coordinates*: a vector as the
/// change of the classes' shares that would move the logits of their mean as it does.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMix {
    /// Indices of the classes in the bank: `[C]`, 2 or more.
    pub classes: Vec<u32>,
    /// How far the mean of each class is from [`Reference::mean`](super::Reference::mean): `[C, D]`.
    pub moves: Vec<Vec<f32>>,
    /// The covariance of one image's class coordinates around those of its class: `[C, C]`, row by row.
    pub scatter: Vec<f32>,
    /// The number of images that the mean of the calibration rests on, as if classes had the same number.
    pub images: f32,
}

impl ClassMix {
    /// The covariance of the class coordinates of the mean of so many frames in the calibration's light.
    pub(super) fn chance(&self, frames: usize) -> DMatrix<f64> {
        let n = self.classes.len();
        let count = n as f64;
        let of_mix = VARIES.powi(2) / count / (count - 1.0);
        let of_mean = 1.0 / frames.max(1) as f64 + 1.0 / f64::from(self.images);
        DMatrix::from_fn(n, n, |i, j| {
            let mix = of_mix * (f64::from(u8::from(i == j)) - 1.0 / count);
            mix + of_mean * f64::from(self.scatter[i * n + j])
        })
    }

    /// Says whether these are values that no calibration gives; `width` is D.
    pub(super) fn is_impossible(&self, width: usize) -> bool {
        let n = self.classes.len();
        let finite = |v: &[f32]| v.iter().all(|v| v.abs() < 1e6);
        let moves = self.moves.iter().all(|m| m.len() == width && finite(m));
        let sizes = self.moves.len() == n && self.scatter.len() == n * n;
        let fine = sizes && moves && finite(&self.scatter) && self.images >= 1.0;
        !fine || !(2..=MAX_CLASSES).contains(&n) || !self.images.is_finite()
    }
}
