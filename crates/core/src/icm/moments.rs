//! The moments that an invariant projection is fitted from.
//!
//! Let z = f(x) be an embedding of unit length, and δ = f(x) − f(x^do) what an intervention changed
//! in it. The moments are `C = E[z zᵀ]` and, per family of interventions, `Δ = E[δ δᵀ]` (Song et
//! al. 2025). Moments hold sums, not means: the sums of parts add up to those of the whole. Images
//! can therefore be streamed, and devices can pool their moments without an image leaving any of
//! them.

use super::embeddings::{EmbeddingError, checked_unit};
use super::sums::{Sums, divisor};
use crate::tensor_file::TensorFileError;
use nalgebra::{DMatrix, DVector};
use std::collections::BTreeMap;
use thiserror::Error;

/// The family of pairs that labels give. Two images of one class share what names them and differ
/// in what should not matter to it, like an image and its version under an intervention. No
/// intervention shows the difference in grain from one casting to the next.
pub const SAME_CLASS: &str = "same-class";

/// Why moments were refused; the caller names the file.
#[derive(Debug, Error)]
pub enum MomentsError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(
        "moments of the encoder with sha256 {ours} and of the encoder with {theirs} cannot be added up; embed all images with one model"
    )]
    Encoder { ours: String, theirs: String },
    #[error("moments of embeddings of width {ours} and of width {theirs} cannot be added up")]
    Width { ours: usize, theirs: usize },
    #[error("its moments are inconsistent: {0}; the file is damaged, make it again")]
    Damaged(String),
}

/// Moments of images and of pairs (image, the same image under an intervention), for one encoder.
///
/// ```
/// use constancy_core::icm::Moments;
///
/// let mut ours = Moments::new("00ff", 2);
/// ours.add_image("a.jpg", &[1.0, 0.0])?;
/// ours.add_pair("blur", "a.jpg", &[1.0, 0.0], &[0.6, 0.8])?;
/// let mut theirs = Moments::new("00ff", 2);
/// theirs.add_image("b.jpg", &[0.0, 5.0])?;
///
/// ours.merge(&theirs)?;
/// assert_eq!(ours.images(), 2);
/// assert_eq!(ours.families()["blur"], 1);
/// // C = E[z zᵀ] over the unit embeddings (1, 0) and (0, 1).
/// assert!((ours.second()[(1, 1)] - 0.5).abs() < 1e-12);
/// # Ok::<(), constancy_core::icm::MomentsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Moments {
    pub(super) encoder_sha256: String,
    /// D, the width of the embeddings.
    pub(super) width: usize,
    /// Sums over z.
    pub(super) images: Sums,
    /// Sums over δ, by family.
    pub(super) families: BTreeMap<String, Sums>,
}

impl Moments {
    /// Empty moments for the encoder with `encoder_sha256` (hex), whose embeddings have `width`
    /// values.
    #[must_use]
    pub fn new(encoder_sha256: &str, width: usize) -> Self {
        Self {
            encoder_sha256: encoder_sha256.to_ascii_lowercase(),
            width,
            images: Sums::new(width),
            families: BTreeMap::new(),
        }
    }

    /// Adds an image's embedding `[width]`, of any length; `item` names the image in an error.
    pub fn add_image(&mut self, item: &str, embedding: &[f32]) -> Result<(), MomentsError> {
        self.images.add(&checked_unit(item, embedding, self.width)?);
        Ok(())
    }

    /// Adds the pair of an image and the same image under an intervention of `family`: embeddings
    /// `[width]` of any length. The image itself is added once, by [`Self::add_image`].
    pub fn add_pair(
        &mut self,
        family: &str,
        item: &str,
        original: &[f32],
        changed: &[f32],
    ) -> Result<(), MomentsError> {
        let original = checked_unit(item, original, self.width)?;
        let changed = checked_unit(&format!("{item} under {family}"), changed, self.width)?;
        self.family_mut(family).add(&(original - changed));
        Ok(())
    }

    /// Adds the unit embeddings of images, `[D, n]`.
    pub(super) fn add_units(&mut self, columns: &DMatrix<f64>) {
        self.images.add_columns(columns);
    }

    /// Adds differences δ of unit embeddings, `[D, n]`.
    pub(super) fn add_differences(&mut self, family: &str, differences: &DMatrix<f64>) {
        self.family_mut(family).add_columns(differences);
    }

    fn family_mut(&mut self, name: &str) -> &mut Sums {
        let width = self.width;
        self.families
            .entry(name.to_owned())
            .or_insert_with(|| Sums::new(width))
    }

    /// Adds the moments of another device, or of other images; families of the same name are
    /// joined.
    pub fn merge(&mut self, other: &Self) -> Result<(), MomentsError> {
        if self.encoder_sha256 != other.encoder_sha256 {
            let (ours, theirs) = (self.encoder_sha256.clone(), other.encoder_sha256.clone());
            return Err(MomentsError::Encoder { ours, theirs });
        }
        if self.width != other.width {
            return Err(MomentsError::Width {
                ours: self.width,
                theirs: other.width,
            });
        }
        self.images.merge(&other.images);
        for (name, sums) in &other.families {
            self.family_mut(name).merge(sums);
        }
        Ok(())
    }

    /// SHA-256 of the encoder, lower-case hex.
    #[must_use]
    pub fn encoder_sha256(&self) -> &str {
        &self.encoder_sha256
    }

    /// D, the width of the embeddings.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of images.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.images.count
    }

    /// Each family's number of pairs, sorted by name.
    #[must_use]
    pub fn families(&self) -> BTreeMap<String, u64> {
        self.families
            .iter()
            .map(|(name, sums)| (name.clone(), sums.count))
            .collect()
    }

    /// `E[z]`, `[D]`; zeros without images.
    #[must_use]
    pub fn mean(&self) -> DVector<f64> {
        &self.images.first / divisor(self.images.count)
    }

    /// `C = E[z zᵀ]`, `[D, D]`; zeros without images.
    #[must_use]
    pub fn second(&self) -> DMatrix<f64> {
        self.images.second() / divisor(self.images.count)
    }

    /// `E[δ]` of a family, `[D]`.
    #[must_use]
    pub fn mean_difference(&self, family: &str) -> Option<DVector<f64>> {
        self.families
            .get(family)
            .map(|sums| &sums.first / divisor(sums.count))
    }

    /// `Δ = E[δ δᵀ]` of a family, `[D, D]`.
    #[must_use]
    pub fn delta(&self, family: &str) -> Option<DMatrix<f64>> {
        self.families
            .get(family)
            .map(|sums| sums.second() / divisor(sums.count))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::numeric::Rng;

    pub(in crate::icm) const SHA: &str = "aa11";

    fn embedding(rng: &mut Rng, width: usize) -> Vec<f32> {
        (0..width).map(|_| rng.between(-1.0, 1.0)).collect()
    }

    /// Moments of the images `range` of one stream; families alternate from image to image.
    pub(in crate::icm) fn moments_of(range: std::ops::Range<usize>, width: usize) -> Moments {
        let mut moments = Moments::new(SHA, width);
        for i in range {
            let mut rng = Rng::new(i as u64);
            let (z, changed) = (embedding(&mut rng, width), embedding(&mut rng, width));
            moments.add_image(&i.to_string(), &z).unwrap();
            moments
                .add_pair(["blur", "dark", "grey"][i % 3], "image", &z, &changed)
                .unwrap();
        }
        moments
    }

    pub(in crate::icm) fn assert_same(a: &Moments, b: &Moments, tolerance: f64) {
        assert_eq!((a.images(), a.families()), (b.images(), b.families()));
        assert!((a.second() - b.second()).amax() <= tolerance);
        assert!((a.mean() - b.mean()).amax() <= tolerance);
        for family in a.families().keys() {
            assert!(
                (a.delta(family).unwrap() - b.delta(family).unwrap()).amax() <= tolerance,
                "{family}"
            );
            assert!(
                (a.mean_difference(family).unwrap() - b.mean_difference(family).unwrap()).amax()
                    <= tolerance
            );
        }
    }

    #[test]
    fn merged_moments_are_those_of_the_whole() {
        let whole = moments_of(0..301, 11);
        let mut merged = moments_of(0..100, 11);
        merged.merge(&moments_of(100..101, 11)).unwrap();
        merged.merge(&moments_of(101..301, 11)).unwrap();
        assert_same(&whole, &merged, 1e-14);
    }

    #[test]
    fn encoders_do_not_mix_and_both_are_named() {
        let mut moments = Moments::new(SHA, 2);
        let error = moments
            .merge(&Moments::new("bb22", 2))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(SHA) && error.contains("bb22") && error.contains("with one model"),
            "{error}"
        );
        moments.merge(&Moments::new("AA11", 2)).unwrap();
        assert!(matches!(
            moments.merge(&Moments::new(SHA, 3)),
            Err(MomentsError::Width { ours: 2, theirs: 3 })
        ));
    }

    #[test]
    fn a_bad_embedding_is_refused_by_name_and_not_counted() {
        let mut moments = Moments::new(SHA, 2);
        let error = moments
            .add_image("photo/dog/7.jpg", &[f32::NAN, 1.0])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("photo/dog/7.jpg: ") && error.contains("not a finite number"),
            "{error}"
        );
        let error = moments
            .add_pair("blur", "7.jpg", &[1.0, 0.0], &[0.0, 0.0])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("7.jpg under blur: ") && error.contains("length 0"),
            "{error}"
        );
        let error = moments.add_image("8.jpg", &[1.0]).unwrap_err().to_string();
        assert!(
            error.contains("8.jpg") && error.contains("has 1 values, expected 2"),
            "{error}"
        );
        assert_eq!((moments.images(), moments.families().len()), (0, 0));
    }
}
