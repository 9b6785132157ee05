//! Many maps at once, for comparing candidates: maps that share eigenvectors differ only in the
//! weight they give each direction.
//!
//! Computed in f32: a comparison only counts right answers, so f32 is precise enough, and it takes
//! half the time.

use super::fit::{FitError, Fitter, Objective};
use super::linalg::{add_transposed_product, unit_columns};
use super::spec::MapSpec;
use super::spectrum::Spectrum;
use nalgebra::{DMatrix, DVector};

/// The weight that a map gives each direction of a spectrum, `[D]`, `0..=1`.
pub(super) struct DirectionWeights(DVector<f32>);

impl DirectionWeights {
    /// Applies the map to coordinates `[D, n]`; returns unit columns `[D, n]`.
    pub(super) fn apply(&self, coordinates: &DMatrix<f32>) -> DMatrix<f32> {
        let mut weighted = coordinates.clone();
        for mut column in weighted.column_iter_mut() {
            column.component_mul_assign(&self.0);
        }
        unit_columns(weighted)
    }

    /// The number of directions that the map removes: D − Σw².
    pub(super) fn removed(&self) -> f64 {
        self.0.len() as f64
            - self
                .0
                .iter()
                .map(|&w| f64::from(w) * f64::from(w))
                .sum::<f64>()
    }

    /// The share of each direction's part in a dot product that the map removes, 1 − w², `[D]`.
    fn removed_shares(&self) -> DVector<f32> {
        self.0.map(|w| 1.0 - w * w)
    }
}

/// Maps that share eigenvectors and mean, by their index among the candidates.
pub(super) struct MapSet {
    spectrum: Spectrum<f32>,
    /// μ, `[D]`, if the maps are centred.
    mean: Option<DVector<f32>>,
    pub maps: Vec<(usize, DirectionWeights)>,
}

/// An objective, whether the maps are centred, and the maps that share both, with their indices.
type SameObjective = (Objective, bool, Vec<(usize, MapSpec)>);

impl MapSet {
    /// Fits `candidates`, each with its index. Calls `failed` for each one that cannot be fitted.
    pub(super) fn fit(
        fitter: &Fitter,
        candidates: &[(usize, MapSpec)],
        mut failed: impl FnMut(usize, FitError),
    ) -> Result<Vec<Self>, FitError> {
        let mut sets: Vec<Self> = Vec::new();
        for (objective, centred, specs) in by_objective(candidates) {
            let spectrum = fitter.spectrum(objective)?;
            let mean = centred.then(|| fitter.mean_of(&specs[0].1).map(nalgebra::convert));
            let mut maps = Vec::new();
            for (index, spec) in specs {
                match fitter.weights(&spec, &spectrum) {
                    Ok(weights) => maps.push((index, DirectionWeights(weights))),
                    Err(error) => failed(index, error),
                }
            }
            sets.push(Self {
                spectrum,
                mean,
                maps,
            });
        }
        Ok(sets)
    }

    /// The coordinates `[D, n]` of unit columns `[D, n]`, minus the mean, in the basis of the
    /// eigenvectors.
    pub(super) fn coordinates(&self, columns: &DMatrix<f32>) -> DMatrix<f32> {
        let Some(mean) = &self.mean else {
            return self.spectrum.coordinates(columns);
        };
        let mut centred = columns.clone();
        for mut column in centred.column_iter_mut() {
            column -= mean;
        }
        self.spectrum.coordinates(&centred)
    }

    /// Eigenvalues, largest first.
    pub(super) fn eigenvalues(&self) -> &DVector<f32> {
        &self.spectrum.values
    }

    /// Calls `found(candidate, query)` for each query whose nearest neighbour in `gallery` `[D, n]`
    /// is its own original. `queries` is `[D, m]`, and `originals[query]` is the index of the
    /// query's original in the gallery. A tie is a miss: a map that makes all images equal
    /// identifies none.
    ///
    /// The dot products of one map differ from those of the map before it only in the directions to
    /// which the two give different weights. Hard maps differ in few.
    pub(super) fn identify(
        &self,
        gallery: &DMatrix<f32>,
        queries: &DMatrix<f32>,
        originals: &[usize],
        mut found: impl FnMut(usize, usize),
    ) {
        let mut gallery =
            GalleryProducts::new(self.coordinates(gallery), self.coordinates(queries));
        for (candidate, weights) in &self.maps {
            gallery.set_weights(weights);
            let scale = gallery.scale();
            for (query, &original) in originals.iter().enumerate() {
                let products = gallery.products.column(query);
                let own = products[original] * scale[original];
                let mut others = products
                    .iter()
                    .zip(&scale)
                    .enumerate()
                    .filter(|(image, _)| *image != original);
                if others.all(|(_, (product, scale))| product * scale < own) {
                    found(*candidate, query);
                }
            }
        }
    }
}

fn by_objective(candidates: &[(usize, MapSpec)]) -> Vec<SameObjective> {
    let mut groups: Vec<SameObjective> = Vec::new();
    for &(index, spec) in candidates {
        let (objective, centred) = (Objective::for_spec(&spec), spec.centred);
        match groups
            .iter_mut()
            .find(|(o, c, _)| (*o, *c) == (objective, centred))
        {
            Some((_, _, specs)) => specs.push((index, spec)),
            None => groups.push((objective, centred, vec![(index, spec)])),
        }
    }
    groups
}

/// Dot products of a gallery with queries under one map, updated from map to map.
struct GalleryProducts {
    /// Coordinates of the gallery, `[D, n]`.
    gallery: DMatrix<f32>,
    /// Coordinates of the queries, `[D, m]`.
    queries: DMatrix<f32>,
    /// `[n, m]`.
    products: DMatrix<f32>,
    /// Squared lengths of the gallery's columns, `[n]`.
    squares: Vec<f32>,
    /// 1 − w² of the current map, `[D]`.
    removed: DVector<f32>,
}

impl GalleryProducts {
    /// The products under the identity.
    fn new(gallery: DMatrix<f32>, queries: DMatrix<f32>) -> Self {
        let mut products = DMatrix::zeros(gallery.ncols(), queries.ncols());
        let width = gallery.nrows();
        add_transposed_product(&mut products, 1.0, &gallery, &queries, 0..width);
        Self {
            squares: gallery.column_iter().map(|c| c.norm_squared()).collect(),
            removed: DVector::zeros(width),
            gallery,
            queries,
            products,
        }
    }

    fn set_weights(&mut self, weights: &DirectionWeights) {
        let removed = weights.removed_shares();
        let more = &removed - &self.removed;
        self.removed = removed;
        let (Some(first), Some(last)) = (
            more.iter().position(|&t| t != 0.0),
            more.iter().rposition(|&t| t != 0.0),
        ) else {
            return;
        };
        let rows = first..last + 1;
        let mut scaled = self.gallery.clone();
        for (mut column, square) in scaled.column_iter_mut().zip(&mut self.squares) {
            for row in rows.clone() {
                let whole = column[row];
                column[row] *= more[row];
                *square -= column[row] * whole;
            }
        }
        add_transposed_product(&mut self.products, -1.0, &scaled, &self.queries, rows);
    }

    /// The factors `[n]` that turn a query's products into its cosines, up to the query's own
    /// length, which is the same in all of them.
    fn scale(&self) -> Vec<f32> {
        self.squares
            .iter()
            .map(|s| s.max(f32::MIN_POSITIVE).sqrt().recip())
            .collect()
    }
}
