//! Many maps at once, to compare them: those that share eigenvectors differ only in what they leave of each direction.
//!
//! In f32: a comparison counts which images come out right, and for that f32 is as good and takes half the time.

use super::embeddings::{add_transposed_product, unit_columns};
use super::fit::{FitError, Fitter, Objective};
use super::logistic::LogisticError;
use super::predict::{Learnt, Method, class_means, rows_of};
use super::spec::MapSpec;
use super::spectrum::Spectrum;
use nalgebra::{DMatrix, DVector};

/// What a map leaves of each direction of a spectrum, `[D]`, `0..=1`.
pub(super) struct DirectionWeights(DVector<f32>);

impl DirectionWeights {
    /// Unit columns `[D, n]` of coordinates `[D, n]`.
    pub(super) fn look(&self, coordinates: &DMatrix<f32>) -> DMatrix<f32> {
        let mut seen = coordinates.clone();
        for mut column in seen.column_iter_mut() {
            column.component_mul_assign(&self.0);
        }
        unit_columns(seen)
    }

    /// How many directions are taken away: D − Σw².
    pub(super) fn removed(&self) -> f64 {
        self.0.len() as f64
            - self
                .0
                .iter()
                .map(|&w| f64::from(w) * f64::from(w))
                .sum::<f64>()
    }

    /// The share of each direction in a dot product that is taken away, `[D]`.
    fn taken(&self) -> DVector<f32> {
        self.0.map(|w| 1.0 - w * w)
    }
}

/// MapSet that share eigenvectors and mean, by their index among the candidates.
pub(super) struct MapSet {
    spectrum: Spectrum<f32>,
    /// `[D]`, where it is taken off.
    mean: Option<DVector<f32>>,
    pub lenses: Vec<(usize, DirectionWeights)>,
}

/// An objective, whether the mean is taken off, and the maps of both with their indices.
type SameObjective = (Objective, bool, Vec<(usize, MapSpec)>);

impl MapSet {
    /// Fits `candidates`, each with its index; `failed` hears of those that cannot be fitted.
    pub(super) fn fit(
        fitter: &Fitter,
        candidates: &[(usize, MapSpec)],
        mut failed: impl FnMut(usize, FitError),
    ) -> Result<Vec<Self>, FitError> {
        let mut groups: Vec<SameObjective> = Vec::new();
        for &(index, spec) in candidates {
            let (objective, centred) = (Objective::of(&spec), spec.centred);
            match groups
                .iter_mut()
                .find(|(o, c, _)| (*o, *c) == (objective, centred))
            {
                Some((_, _, specs)) => specs.push((index, spec)),
                None => groups.push((objective, centred, vec![(index, spec)])),
            }
        }
        let mut all: Vec<Self> = Vec::new();
        for (objective, centred, specs) in groups {
            let spectrum = fitter.spectrum(objective)?;
            let mean = centred.then(|| fitter.mean_of(&specs[0].1).map(nalgebra::convert));
            let mut lenses = Vec::new();
            for (index, spec) in specs {
                match fitter.weights(&spec, &spectrum) {
                    Ok(weights) => lenses.push((index, DirectionWeights(weights))),
                    Err(error) => failed(index, error),
                }
            }
            all.push(Self {
                spectrum,
                mean,
                lenses,
            });
        }
        Ok(all)
    }

    /// Unit columns `[D, n]` in the coordinates of the eigenvectors, `[D, n]`, the mean taken off.
    pub(super) fn coordinates(&self, columns: &DMatrix<f32>) -> DMatrix<f32> {
        match &self.mean {
            None => self.spectrum.coordinates(columns),
            Some(_) => self.spectrum.coordinates(&self.centred(columns)),
        }
    }

    fn centred(&self, columns: &DMatrix<f32>) -> DMatrix<f32> {
        let mut centred = columns.clone();
        if let Some(mean) = &self.mean {
            for mut column in centred.column_iter_mut() {
                column -= mean;
            }
        }
        centred
    }

    /// Eigenvalues, the largest first.
    pub(super) fn eigenvalues(&self) -> &DVector<f32> {
        &self.spectrum.values
    }

    /// Calls `found` with candidate and query for each query that is nearer to its own of the `gallery` `[D, n]` than to
    /// every other; `queries` `[D, m]` are of the images `of`. A tie is no hit: a map that makes all images alike
    /// identifies none.
    ///
    /// Cosines of one lens are those of the one before but for the directions that the two treat differently, which are
    /// few where directions are removed.
    pub(super) fn identify(
        &self,
        gallery: &DMatrix<f32>,
        queries: &DMatrix<f32>,
        of: &[usize],
        mut found: impl FnMut(usize, usize),
    ) {
        let (gallery, queries) = (self.coordinates(gallery), self.coordinates(queries));
        let mut products = DMatrix::zeros(gallery.ncols(), queries.ncols());
        let width = gallery.nrows();
        add_transposed_product(&mut products, 1.0, &gallery, &queries, 0..width);
        let mut squares: Vec<f32> = gallery.column_iter().map(|c| c.norm_squared()).collect();
        let mut state = DVector::zeros(width);
        for (index, lens) in &self.lenses {
            let more = lens.taken() - &state;
            state = lens.taken();
            if let (Some(first), Some(last)) = (
                more.iter().position(|&t| t != 0.0),
                more.iter().rposition(|&t| t != 0.0),
            ) {
                let rows = first..last + 1;
                let mut scaled = gallery.clone();
                for (mut column, square) in scaled.column_iter_mut().zip(&mut squares) {
                    for row in rows.clone() {
                        let whole = column[row];
                        column[row] *= more[row];
                        *square -= column[row] * whole;
                    }
                }
                add_transposed_product(&mut products, -1.0, &scaled, &queries, rows);
            }
            // A query's own length is the same in all its cosines.
            let scale: Vec<f32> = squares
                .iter()
                .map(|s| s.max(f32::MIN_POSITIVE).sqrt().recip())
                .collect();
            for (query, &own) in of.iter().enumerate() {
                let products = products.column(query);
                let nearest = products[own] * scale[own];
                let others = products
                    .iter()
                    .zip(&scale)
                    .enumerate()
                    .filter(|(image, _)| *image != own);
                if others
                    .into_iter()
                    .all(|(_, (product, scale))| product * scale < nearest)
                {
                    found(*index, query);
                }
            }
        }
    }
}

/// Examples with a class each, in the coordinates of maps that share eigenvectors.
pub(super) struct Examples<'a> {
    /// `[D, n]`.
    coordinates: DMatrix<f32>,
    /// `[D, classes]`, of the classes that have examples.
    means: DMatrix<f32>,
    labels: &'a [usize],
}

impl<'a> Examples<'a> {
    /// Of unit columns `[D, n]`.
    pub(super) fn new(maps: &MapSet, columns: &DMatrix<f32>, labels: &'a [usize]) -> Self {
        let (classes, rows) = rows_of(labels);
        let means = maps.coordinates(&class_means(columns, &rows, classes.len()));
        Self {
            coordinates: maps.coordinates(columns),
            means,
            labels,
        }
    }

    /// What can be learnt of them under one lens; a probe is searched for from `start`.
    pub(super) fn learn(
        &self,
        maps: &MapSet,
        lens: &DirectionWeights,
        method: &Method,
        start: Option<&Learnt<f32>>,
    ) -> Result<Learnt<f32>, LogisticError> {
        Ok(match method {
            Method::ZeroShot(text) => Learnt::nearest(
                (0..text.len()).collect(),
                lens.look(&maps.coordinates(&text.rough())),
            ),
            Method::ClassMeans => Learnt::nearest(rows_of(self.labels).0, lens.look(&self.means)),
            Method::Probe { c } => {
                Learnt::probe(&lens.look(&self.coordinates), self.labels, *c, start)?
            }
        })
    }
}
