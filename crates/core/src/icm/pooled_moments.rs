//! Several [`Moments`] read as one, such as those of several environments.

use super::moments::Moments;
use super::sums::{Sums, add_vectors, divisor};
use nalgebra::{DMatrix, DVector};
use std::collections::BTreeMap;

/// A family whose mean ‖δ‖² is below this share of the largest family's is not scaled up further.
const LEAST_MOVE: f64 = 0.01;

/// Moments pooled without the cost of merging them family by family.
#[derive(Clone, Copy)]
pub(super) struct PooledMoments<'a>(pub &'a [&'a Moments]);

impl PooledMoments<'_> {
    pub(super) fn width(&self) -> usize {
        self.0.first().map_or(0, |part| part.width)
    }

    /// The number of images.
    pub(super) fn images(&self) -> u64 {
        self.0.iter().map(|part| part.images.count).sum()
    }

    /// `E[z]`, `[D]`; zeros without images.
    pub(super) fn mean(&self) -> DVector<f64> {
        let mut sum = DVector::zeros(self.width());
        self.0.iter().for_each(|part| sum += &part.images.first);
        sum / divisor(self.images())
    }

    /// The lower triangle of `C = E[z zᵀ]`, `[D, D]`.
    pub(super) fn lower_second(&self) -> DMatrix<f64> {
        let mut sum = DMatrix::zeros(self.width(), self.width());
        for part in self.0 {
            sum += &part.images.lower;
            add_vectors(&mut sum, &part.images.pending, 1.0);
        }
        sum / divisor(self.images())
    }

    /// The lower triangle of Σ Δ / tr Δ over the families that `wanted` accepts, `[D, D]`, and
    /// their number of pairs; `None` if there is no such family.
    ///
    /// Dividing by tr Δ gives every family the same weight, however far it moves embeddings: a
    /// heavy blur says no more than a slight colour shift about the changes yet to come. A family
    /// that moves embeddings by less than [`LEAST_MOVE`] of what another does gets less weight,
    /// because its Δ is mostly rounding error, as for grey images turned grey.
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
        if families.is_empty() {
            return None;
        }
        let shares = family_shares(&families);
        let weighted = || {
            families
                .values()
                .zip(&shares)
                .flat_map(|(parts, &share)| parts.iter().map(move |&sums| (sums, share)))
        };
        let mut sum = DMatrix::zeros(self.width(), self.width());
        // Column by column: the column of the sum stays in cache while the families pass by.
        for (i, mut column) in sum.column_iter_mut().enumerate() {
            for (sums, share) in weighted() {
                column
                    .rows_range_mut(i..)
                    .axpy(share, &sums.lower.column(i).rows_range(i..), 1.0);
            }
        }
        for (sums, share) in weighted() {
            add_vectors(&mut sum, &sums.pending, share);
        }
        Some((sum, weighted().map(|(sums, _)| sums.count).sum()))
    }
}

/// The factor that turns each family's Σδ δᵀ into Δ / tr Δ.
fn family_shares(families: &BTreeMap<&str, Vec<&Sums>>) -> Vec<f64> {
    let pairs = |parts: &[&Sums]| parts.iter().map(|sums| sums.count).sum::<u64>();
    let mean_square =
        |parts: &Vec<&Sums>| parts.iter().map(|p| p.trace()).sum::<f64>() / divisor(pairs(parts));
    let moved: Vec<f64> = families.values().map(mean_square).collect();
    // If nothing moved at all, a sum of zeros must stay zero.
    let least = (LEAST_MOVE * moved.iter().copied().fold(0.0, f64::max)).max(f64::MIN_POSITIVE);
    families
        .values()
        .zip(&moved)
        .map(|(parts, moved)| (divisor(pairs(parts)) * moved.max(least)).recip())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::moments::tests::moments_of;

    #[test]
    fn pooled_moments_are_those_of_the_whole() {
        let whole = moments_of(0..301, 11);
        let (some, others) = (moments_of(0..100, 11), moments_of(100..301, 11));
        let (whole, parts) = (PooledMoments(&[&whole]), PooledMoments(&[&some, &others]));
        assert!((whole.mean() - parts.mean()).amax() < 1e-14);
        assert!((whole.lower_second() - parts.lower_second()).amax() < 1e-14);
        let deltas =
            |moments: PooledMoments<'_>| moments.sum_of_deltas(|name| name != "dark").unwrap();
        let ((a, pairs), (b, in_parts)) = (deltas(whole), deltas(parts));
        assert!((a - b).amax() < 1e-14 && pairs == in_parts);
    }
}
