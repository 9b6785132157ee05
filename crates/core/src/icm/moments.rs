//! The sums that an invariant projection is fitted from.
//!
//! With z = f(x) an embedding of unit length and δ = f(x) − f(x^do) what an intervention changed of it:
//! `C = E[z zᵀ]`, and per family of interventions `Δ = E[δ δᵀ]` (Song et al. 2025). Sums are kept, not means: those of
//! parts add up to those of the whole, so that images can be streamed, and devices can pool what they saw without an
//! image leaving them.

use super::embeddings::{EmbeddingError, add_products, checked_unit};
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use faer::MatRef;
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

const FORMAT: &str = "constancy-moments";
/// Vectors that are gathered before their products are summed: one matrix product is faster than many of vectors.
const BLOCK: usize = 128;
/// How far the squared lengths of unit vectors may sum up beside their count, per vector.
const TRACE_TOLERANCE: f64 = 1e-6;
/// Share of the farthest family's mean square of δ below which a family is not scaled up any more.
const LEAST_MOVE: f64 = 0.01;
/// The longest difference of two unit vectors, squared.
const LONGEST_DIFFERENCE: f64 = 4.0;

/// Why moments were refused; the caller knows the file.
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
    #[error("they cannot be right: {0}; the file is damaged, make it again")]
    Damaged(String),
}

/// Σv and Σv vᵀ over vectors of one width.
#[derive(Debug, Clone)]
struct Sums {
    count: u64,
    /// `[D]`.
    first: DVector<f64>,
    /// `[D, D]`, without what is pending: the lower triangle, since the upper is the same.
    lower: DMatrix<f64>,
    /// Up to [`BLOCK`] vectors one after another.
    pending: Vec<f64>,
}

impl Sums {
    fn new(width: usize) -> Self {
        Self {
            count: 0,
            first: DVector::zeros(width),
            lower: DMatrix::zeros(width, width),
            pending: Vec::new(),
        }
    }

    fn add(&mut self, vector: &DVector<f64>) {
        self.count += 1;
        self.first += vector;
        self.pending.extend_from_slice(vector.as_slice());
        if self.pending.len() >= BLOCK * vector.len() {
            self.flush();
        }
    }

    /// Adds columns `[D, n]`.
    fn add_columns(&mut self, columns: &DMatrix<f64>) {
        self.count += columns.ncols() as u64;
        self.first += columns.column_sum();
        add_all(&mut self.lower, columns.as_slice(), 1.0);
    }

    fn flush(&mut self) {
        add_all(&mut self.lower, &self.pending, 1.0);
        self.pending.clear();
    }

    /// The lower triangle of Σv vᵀ of all.
    fn lower(&self) -> DMatrix<f64> {
        let mut whole = self.lower.clone();
        add_all(&mut whole, &self.pending, 1.0);
        whole
    }

    /// Σv vᵀ of all.
    fn second(&self) -> DMatrix<f64> {
        let mut whole = self.lower();
        whole.fill_upper_triangle_with_lower_triangle();
        whole
    }

    /// Sum of the vectors' squared lengths.
    fn trace(&self) -> f64 {
        self.lower.trace() + self.pending.iter().map(|v| v * v).sum::<f64>()
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first += &other.first;
        self.lower += &other.lower;
        add_all(&mut self.lower, &other.pending, 1.0);
    }

    /// The upper triangle of Σv vᵀ, row by row.
    fn triangle(&self) -> Vec<f64> {
        let lower = self.lower();
        (0..lower.ncols())
            .flat_map(|i| lower.column(i).as_slice()[i..].to_vec())
            .collect()
    }

    fn from_parts(count: u64, first: &[f64], triangle: &[f64]) -> Self {
        let width = first.len();
        let mut lower = DMatrix::zeros(width, width);
        let mut rest = triangle;
        for (i, mut column) in lower.column_iter_mut().enumerate() {
            let (row, behind) = rest.split_at(width - i);
            column.rows_mut(i, width - i).copy_from_slice(row);
            rest = behind;
        }
        Self {
            count,
            first: DVector::from_column_slice(first),
            lower,
            pending: Vec::new(),
        }
    }
}

/// Adds `share`·Σv vᵀ over vectors that lie one after another to the lower triangle of a sum.
fn add_all(lower: &mut DMatrix<f64>, vectors: &[f64], share: f64) {
    if !vectors.is_empty() {
        let width = lower.nrows();
        add_products(
            lower,
            MatRef::from_column_major_slice(vectors, width, vectors.len() / width),
            share,
        );
    }
}

/// A family as the file's metadata lists it.
#[derive(Serialize, Deserialize)]
struct FamilyEntry {
    name: String,
    pairs: u64,
}

/// Moments of images and of pairs (image, same image under an intervention), for one encoder.
#[derive(Debug, Clone)]
pub struct Moments {
    encoder_sha256: String,
    width: usize,
    images: Sums,
    families: BTreeMap<String, Sums>,
}

impl Moments {
    /// Nothing yet, of the encoder with `encoder_sha256` (hex), whose embeddings have `width` values.
    #[must_use]
    pub fn new(encoder_sha256: &str, width: usize) -> Self {
        let encoder_sha256 = encoder_sha256.to_ascii_lowercase();
        Self {
            encoder_sha256,
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

    /// Adds an image and what an intervention of `family` made of it, embeddings `[width]` of any length. The image
    /// itself is counted by [`Self::add_image`], once.
    pub fn add_pair(
        &mut self,
        family: &str,
        item: &str,
        original: &[f32],
        changed: &[f32],
    ) -> Result<(), MomentsError> {
        let original = checked_unit(item, original, self.width)?;
        let changed = checked_unit(&format!("{item} under {family}"), changed, self.width)?;
        self.family(family).add(&(original - changed));
        Ok(())
    }

    /// Adds the unit embeddings of images, `[D, n]`.
    pub(super) fn add_units(&mut self, columns: &DMatrix<f64>) {
        self.images.add_columns(columns);
    }

    /// Adds δ, differences of two unit embeddings, `[D, n]`.
    pub(super) fn add_differences(&mut self, family: &str, differences: &DMatrix<f64>) {
        self.family(family).add_columns(differences);
    }

    fn family(&mut self, name: &str) -> &mut Sums {
        let width = self.width;
        self.families
            .entry(name.to_owned())
            .or_insert_with(|| Sums::new(width))
    }

    /// Adds what another device, or another part of the images, has seen; families of the same name become one.
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
            self.family(name).merge(sums);
        }
        Ok(())
    }

    /// Hash of the encoder, hex in lower case.
    #[must_use]
    pub fn encoder_sha256(&self) -> &str {
        &self.encoder_sha256
    }

    /// D.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many images there are.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.images.count
    }

    /// Each family's number of pairs, in the order of their names.
    #[must_use]
    pub fn families(&self) -> BTreeMap<String, u64> {
        self.families
            .iter()
            .map(|(name, sums)| (name.clone(), sums.count))
            .collect()
    }

    /// `E[z]`, `[D]`; zeros where there are no images.
    #[must_use]
    pub fn mean(&self) -> DVector<f64> {
        &self.images.first / at_least_one(self.images.count)
    }

    /// `C = E[z zᵀ]`, `[D, D]`; zeros where there are no images.
    #[must_use]
    pub fn second(&self) -> DMatrix<f64> {
        self.images.second() / at_least_one(self.images.count)
    }

    /// `E[δ]` of a family, `[D]`.
    #[must_use]
    pub fn mean_difference(&self, family: &str) -> Option<DVector<f64>> {
        self.families
            .get(family)
            .map(|sums| &sums.first / at_least_one(sums.count))
    }

    /// `Δ = E[δ δᵀ]` of a family, `[D, D]`.
    #[must_use]
    pub fn delta(&self, family: &str) -> Option<DMatrix<f64>> {
        self.families
            .get(family)
            .map(|sums| sums.second() / at_least_one(sums.count))
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, MomentsError> {
        let file = TensorFile::parse(bytes, FORMAT)?;
        let (shape, first) = file.f64("image_sum", 1)?;
        let width = shape[0];
        let triangle = triangle_len(width);
        let second = file.f64_vector("image_outer", triangle)?;
        let entries: Vec<FamilyEntry> = file.json("families")?;
        let mut families = BTreeMap::new();
        if !entries.is_empty() {
            let first = file.f64_matrix("pair_sum", entries.len(), width)?;
            let second = file.f64_matrix("pair_outer", entries.len(), triangle)?;
            for ((entry, first), second) in entries
                .into_iter()
                .zip(first.chunks(width))
                .zip(second.chunks(triangle))
            {
                let sums = Sums::from_parts(entry.pairs, first, second);
                let longest = LONGEST_DIFFERENCE * sums.count as f64 * (1.0 + TRACE_TOLERANCE);
                if sums.count == 0 || sums.trace() > longest || sums.lower.diagonal().min() < 0.0 {
                    return Err(MomentsError::Damaged(format!(
                        "family `{}` is no sum of differences",
                        entry.name
                    )));
                }
                if families.insert(entry.name.clone(), sums).is_some() {
                    return Err(MomentsError::Damaged(format!(
                        "family `{}` is there twice",
                        entry.name
                    )));
                }
            }
        }
        let images = Sums::from_parts(file.json("images")?, &first, &second);
        let off = (images.trace() - images.count as f64).abs();
        if off > TRACE_TOLERANCE * images.count as f64 {
            let reason = format!(
                "the squared lengths of {} unit embeddings are off by {off:.3}",
                images.count
            );
            return Err(MomentsError::Damaged(reason));
        }
        Ok(Self {
            encoder_sha256: file.text("encoder_sha256")?.to_ascii_lowercase(),
            width,
            images,
            families,
        })
    }

    /// The file's bytes. Tensors in f64: `image_sum` `[D]`, `image_outer` `[D(D+1)/2]`, the upper triangle of Σz zᵀ row by
    /// row, and, one row per family in the order of metadata `families`, `pair_sum` `[F, D]` and
    /// `pair_outer` `[F, D(D+1)/2]`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MomentsError> {
        let entries: Vec<FamilyEntry> = self
            .families
            .iter()
            .map(|(name, sums)| FamilyEntry {
                name: name.clone(),
                pairs: sums.count,
            })
            .collect();
        let metadata = HashMap::from([
            ("encoder_sha256".to_owned(), self.encoder_sha256.clone()),
            ("width".to_owned(), self.width.to_string()),
            ("images".to_owned(), self.images.count.to_string()),
            ("families".to_owned(), to_json("families", &entries)?),
        ]);
        let (count, triangle) = (entries.len(), triangle_len(self.width));
        let outer = self.images.triangle();
        let pair_sum: Vec<f64> = self
            .families
            .values()
            .flat_map(|s| s.first.as_slice().to_vec())
            .collect();
        let pair_outer: Vec<f64> = self.families.values().flat_map(Sums::triangle).collect();
        let mut tensors = vec![
            (
                "image_sum",
                vec![self.width],
                Values::F64(self.images.first.as_slice()),
            ),
            ("image_outer", vec![triangle], Values::F64(&outer)),
        ];
        if count > 0 {
            tensors.push(("pair_sum", vec![count, self.width], Values::F64(&pair_sum)));
            tensors.push((
                "pair_outer",
                vec![count, triangle],
                Values::F64(&pair_outer),
            ));
        }
        Ok(tensor_file::to_bytes(FORMAT, 1, &tensors, metadata)?)
    }
}

/// Moments that belong together, as those of several environments do, without the cost of adding them up family by
/// family.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a>(pub &'a [&'a Moments]);

impl Parts<'_> {
    pub(super) fn width(&self) -> usize {
        self.0.first().map_or(0, |part| part.width)
    }

    pub(super) fn images(&self) -> u64 {
        self.0.iter().map(|part| part.images.count).sum()
    }

    /// `E[z]`, `[D]`; zeros where there are no images.
    pub(super) fn mean(&self) -> DVector<f64> {
        let mut sum = DVector::zeros(self.width());
        self.0.iter().for_each(|part| sum += &part.images.first);
        sum / at_least_one(self.images())
    }

    /// The lower triangle of C, `[D, D]`.
    pub(super) fn lower_second(&self) -> DMatrix<f64> {
        let mut sum = DMatrix::zeros(self.width(), self.width());
        for part in self.0 {
            sum += &part.images.lower;
            add_all(&mut sum, &part.images.pending, 1.0);
        }
        sum / at_least_one(self.images())
    }

    /// The lower triangle of the sum over families of Δ / tr Δ, `[D, D]`, and how many pairs they have; `None` where no
    /// family is wanted. Each has the same say, however far it moves embeddings: a heavy blur tells no more than a slight
    /// change of colour of what else may happen. One that moves them less than [`LEAST_MOVE`] of what another does has
    /// less: what it shows is mostly rounding, as of grey images in grey.
    pub(super) fn sum_of_deltas(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(DMatrix<f64>, u64)> {
        let mut families: BTreeMap<&str, Vec<&Sums>> = BTreeMap::new();
        for (name, sums) in self
            .0
            .iter()
            .flat_map(|part| &part.families)
            .filter(|(name, _)| wanted(name))
        {
            families.entry(name).or_default().push(sums);
        }
        let pairs = |parts: &[&Sums]| parts.iter().map(|sums| sums.count).sum::<u64>();
        let moved = |parts: &Vec<&Sums>| {
            parts.iter().map(|p| p.trace()).sum::<f64>() / at_least_one(pairs(parts))
        };
        let moved: Vec<f64> = families.values().map(moved).collect();
        // Where nothing moved at all, a sum of zeros has to stay one.
        let least = (LEAST_MOVE * moved.iter().copied().fold(0.0, f64::max)).max(f64::MIN_POSITIVE);
        let share = |(parts, moved): (&Vec<&Sums>, &f64)| {
            (at_least_one(pairs(parts)) * moved.max(least)).recip()
        };
        let shares: Vec<f64> = families.values().zip(&moved).map(share).collect();
        let all = || {
            families
                .values()
                .zip(&shares)
                .flat_map(|(parts, &share)| parts.iter().map(move |p| (p, share)))
        };
        let mut sum = DMatrix::zeros(self.width(), self.width());
        // Column by column, so that the sum stays at hand while the families pass by.
        for (i, mut column) in sum.column_iter_mut().enumerate() {
            for (sums, share) in all() {
                column
                    .rows_range_mut(i..)
                    .axpy(share, &sums.lower.column(i).rows_range(i..), 1.0);
            }
        }
        for (sums, share) in all() {
            add_all(&mut sum, &sums.pending, share);
        }
        (!families.is_empty()).then(|| (sum, all().map(|(sums, _)| sums.count).sum()))
    }
}

fn triangle_len(width: usize) -> usize {
    width.saturating_mul(width.saturating_add(1)) / 2
}

/// A divisor for sums that are zero where nothing was counted.
fn at_least_one(count: u64) -> f64 {
    count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Rng;

    const SHA: &str = "aa11";

    fn embedding(rng: &mut Rng, width: usize) -> Vec<f32> {
        (0..width).map(|_| rng.between(-1.0, 1.0)).collect()
    }

    /// Moments of images `range` of one stream of images; each has a family in turn.
    fn of(range: std::ops::Range<usize>, width: usize) -> Moments {
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

    fn assert_same(a: &Moments, b: &Moments, tolerance: f64) {
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
    fn moments_of_parts_add_up_to_those_of_the_whole() {
        let whole = of(0..301, 11);
        let mut merged = of(0..100, 11);
        merged.merge(&of(100..101, 11)).unwrap();
        merged.merge(&of(101..301, 11)).unwrap();
        assert_same(&whole, &merged, 1e-14);
        let (some, others) = (of(0..100, 11), of(100..301, 11));
        let (whole, parts) = (Parts(&[&whole]), Parts(&[&some, &others]));
        assert!((whole.mean() - parts.mean()).amax() < 1e-14);
        assert!((whole.lower_second() - parts.lower_second()).amax() < 1e-14);
        let deltas = |of: Parts<'_>| of.sum_of_deltas(|name| name != "dark").unwrap();
        let ((a, pairs), (b, in_parts)) = (deltas(whole), deltas(parts));
        assert!((a - b).amax() < 1e-14 && pairs == in_parts);
    }

    #[test]
    fn a_file_keeps_every_digit() {
        let moments = of(0..70, 7);
        let read = Moments::parse(&moments.to_bytes().unwrap()).unwrap();
        assert_same(&moments, &read, 0.0);
        assert_eq!((read.encoder_sha256(), read.width()), (SHA, 7));
    }

    #[test]
    fn moments_without_interventions_have_a_file_too() {
        let mut moments = Moments::new(SHA, 2);
        moments.add_image("a", &[3.0, 4.0]).unwrap();
        let read = Moments::parse(&moments.to_bytes().unwrap()).unwrap();
        assert!((read.second()[(0, 1)] - 0.48).abs() < 1e-12);
        assert!(read.families().is_empty());
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

    #[test]
    fn a_damaged_file_is_noticed() {
        let mut moments = of(0..9, 4);
        moments.images.count = 8;
        let error = Moments::parse(&moments.to_bytes().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("8 unit embeddings") && error.contains("make it again"),
            "{error}"
        );
        let mut moments = of(0..9, 4);
        for sums in moments.families.values_mut() {
            sums.flush();
            sums.lower *= 1e3;
        }
        let error = Moments::parse(&moments.to_bytes().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no sum of differences"), "{error}");
    }
}
