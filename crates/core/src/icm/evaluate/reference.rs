//! The source images as a reference: how far is an embedding from what the answers were learnt from?

use crate::icm::cholesky::Cholesky;
use crate::icm::linalg::{add_outer_products, gram, product, transposed_product, unit_columns};
use nalgebra::{DMatrix, DVector};

/// Of the source images, the one whose cosine counts: one alone may be a stray.
const NEIGHBOUR: usize = 5;

/// Mapped source images with a class each.
pub(super) struct Reference {
    /// `[D, n]`.
    images: DMatrix<f32>,
    /// The mean of all, `[D]`.
    mean: DVector<f32>,
    /// The mean of each class less [`Self::mean`], `[D, classes]`.
    means: DMatrix<f32>,
    /// About the class means.
    within: Gaussian,
    /// About the mean of all.
    total: Gaussian,
}

/// How near embeddings are to the source images, higher being nearer.
pub(super) struct Nearness {
    /// The cosine to the nearest class mean.
    pub cosines: Vec<f64>,
    /// Minus the squared Mahalanobis distance to the nearest class mean.
    pub mahalanobis: Vec<f64>,
    /// The same, less that to the mean of all.
    pub relative: Vec<f64>,
    /// The cosine to the [`NEIGHBOUR`]-th nearest image.
    pub neighbours: Vec<f64>,
}

impl Reference {
    /// Takes unit columns `[D, n]` and the class of each, which are below `classes` and name every
    /// class; `None` if there is no image, or a value is not a number.
    pub(super) fn new(images: DMatrix<f32>, rows: &[usize], classes: usize) -> Option<Self> {
        if images.is_empty() {
            return None;
        }
        let mean = images.column_mean();
        let mut centred = images.clone();
        centred.column_iter_mut().for_each(|mut c| c -= &mean);
        let mut means = DMatrix::zeros(images.nrows(), classes);
        let mut counts = vec![0.0_f32; classes];
        for (column, &row) in centred.column_iter().zip(rows) {
            let mut sum = means.column_mut(row);
            sum += column;
            counts[row] += 1.0;
        }
        for (mut column, count) in means.column_iter_mut().zip(counts) {
            column /= count.max(1.0);
        }
        let mut residuals = centred.clone();
        for (mut column, &row) in residuals.column_iter_mut().zip(rows) {
            column -= means.column(row);
        }
        Some(Self {
            images,
            mean,
            means,
            within: Gaussian::of(residuals)?,
            total: Gaussian::of(centred)?,
        })
    }

    /// How near unit columns `[D, n]` are.
    pub(super) fn nearness(&self, columns: &DMatrix<f32>) -> Nearness {
        let mut centred = columns.clone();
        centred.column_iter_mut().for_each(|mut c| c -= &self.mean);
        let mut class_means = self.means.clone();
        class_means
            .column_iter_mut()
            .for_each(|mut c| c += &self.mean);
        let cosines = transposed_product(&unit_columns(class_means), columns);
        let to_class = self.within.nearest(&centred, &self.means);
        let to_all = self.total.squares(&centred);
        let images = transposed_product(&self.images, columns);
        Nearness {
            cosines: cosines.column_iter().map(|c| f64::from(c.max())).collect(),
            relative: to_class.iter().zip(to_all).map(|(c, a)| a - c).collect(),
            mahalanobis: to_class.into_iter().map(|distance| -distance).collect(),
            neighbours: images
                .column_iter()
                .map(|c| kth_largest(c.iter()))
                .collect(),
        }
    }
}

/// The [`NEIGHBOUR`]-th largest value, or the least if there are fewer.
fn kth_largest<'a>(values: impl Iterator<Item = &'a f32>) -> f64 {
    let mut values: Vec<f32> = values.copied().collect();
    let k = NEIGHBOUR.min(values.len()) - 1;
    let (_, value, _) = values.select_nth_unstable_by(k, |a, b| b.total_cmp(a));
    f64::from(*value)
}

/// A Gaussian about 0 with covariance `ridge`·I + `weight`·X Xᵀ: the sample covariance, shrunk towards a
/// multiple of the identity as far as the sample is too small to tell (Ledoit and Wolf, *Journal of
/// Multivariate Analysis* 88, 2004).
struct Gaussian {
    ridge: f32,
    weight: f32,
    inverse: Inverse,
}

enum Inverse {
    /// Of the covariance itself, `[D, D]`.
    Full(Cholesky<f32>),
    /// For fewer columns X `[D, n]` than rows: of `ridge`·I + `weight`·XᵀX, `[n, n]` (Woodbury).
    Span(DMatrix<f32>, Cholesky<f32>),
}

impl Gaussian {
    /// Takes columns `[D, n]` that are centred; `None` if a value is not a number.
    fn of(columns: DMatrix<f32>) -> Option<Self> {
        let (width, count) = columns.shape();
        let narrow = count < width;
        let mut products = if narrow {
            gram(&columns)
        } else {
            let mut sum = DMatrix::zeros(width, width);
            let view = faer::MatRef::from_column_major_slice(columns.as_slice(), width, count);
            add_outer_products(&mut sum, view, 1.0);
            sum
        };
        let (ridge, weight) = shrinkage(&columns, &products);
        products *= weight;
        (0..products.nrows()).for_each(|i| products[(i, i)] += ridge);
        let solver = Cholesky::of(&products)?;
        Some(Self {
            ridge,
            weight,
            inverse: if narrow {
                Inverse::Span(columns, solver)
            } else {
                Inverse::Full(solver)
            },
        })
    }

    /// Σ⁻¹ b, `[D, n]`.
    fn solve(&self, b: &DMatrix<f32>) -> DMatrix<f32> {
        match &self.inverse {
            Inverse::Full(solver) => solver.solve(b.clone()),
            Inverse::Span(x, solver) => {
                let within = product(x, &solver.solve(transposed_product(x, b)));
                (b - within * self.weight) / self.ridge
            }
        }
    }

    /// The squared distance of each column `[D, n]` from 0.
    fn squares(&self, columns: &DMatrix<f32>) -> Vec<f64> {
        dots(columns, &self.solve(columns))
    }

    /// The squared distance of each column `[D, n]` to the nearest of `means` `[D, m]`.
    fn nearest(&self, columns: &DMatrix<f32>, means: &DMatrix<f32>) -> Vec<f64> {
        let solved = self.solve(means);
        let (own, lengths) = (self.squares(columns), dots(means, &solved));
        let across = transposed_product(&solved, columns);
        let nearest = |(own, across): (f64, nalgebra::DVectorView<'_, f32>)| {
            let distances = across.iter().zip(&lengths);
            distances
                .map(|(&product, length)| own - 2.0 * f64::from(product) + length)
                .fold(f64::INFINITY, f64::min)
        };
        own.into_iter()
            .zip(across.column_iter())
            .map(nearest)
            .collect()
    }
}

/// The dot product of each column of `a` with that of `b`.
fn dots(a: &DMatrix<f32>, b: &DMatrix<f32>) -> Vec<f64> {
    let pairs = a.column_iter().zip(b.column_iter());
    pairs.map(|(a, b)| f64::from(a.dot(&b))).collect()
}

/// Ledoit and Wolf's `ridge` and `weight`. `products` is XᵀX or X Xᵀ of the columns X `[D, n]`, of
/// which the lower triangle is read; both have the same sum of squares.
fn shrinkage(columns: &DMatrix<f32>, products: &DMatrix<f32>) -> (f32, f32) {
    let (width, count) = (columns.nrows() as f64, columns.ncols() as f64);
    let square = |value: f32| f64::from(value) * f64::from(value);
    let lengths: Vec<f64> = columns
        .column_iter()
        .map(|c| f64::from(c.norm_squared()))
        .collect();
    let mean = lengths.iter().sum::<f64>() / (count * width);
    if mean <= f64::from(f32::MIN_POSITIVE) {
        // Nothing varies: all directions are alike.
        return (1.0, 0.0);
    }
    let mut squares = 0.0;
    for (i, column) in products.column_iter().enumerate() {
        squares += square(column[i]);
        squares += 2.0
            * column
                .rows_range(i + 1..)
                .iter()
                .map(|&v| square(v))
                .sum::<f64>();
    }
    let squares = squares / (count * count);
    let apart = squares - width * mean * mean;
    let fourths: f64 = lengths.iter().map(|l| l * l).sum();
    let noise = (fourths / count - squares) / count;
    // A covariance of full confidence would be singular where images are few.
    let share = if apart > 0.0 {
        (noise / apart).clamp(1e-3, 1.0)
    } else {
        1.0
    };
    #[expect(clippy::cast_possible_truncation, reason = "shares of small numbers")]
    let narrow = |value: f64| value as f32;
    (narrow(share * mean), narrow((1.0 - share) / count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Rng;

    /// `[width, count]`, the first row varying ten times as much as the others.
    fn sample(width: usize, count: usize, seed: u64) -> DMatrix<f32> {
        let mut rng = Rng::new(seed);
        let mut columns = DMatrix::from_fn(width, count, |_, _| rng.between(-1.0, 1.0));
        columns.row_mut(0).scale_mut(10.0);
        let mean = columns.column_mean();
        columns.column_iter_mut().for_each(|mut c| c -= &mean);
        columns
    }

    #[test]
    fn distances_are_those_of_the_shrunk_covariance() {
        for (width, count) in [(6, 40), (30, 12)] {
            let columns = sample(width, count, 5);
            let gaussian = Gaussian::of(columns.clone()).unwrap();
            let covariance = &columns * columns.transpose() * gaussian.weight
                + DMatrix::identity(width, width) * gaussian.ridge;
            let inverse = covariance.try_inverse().unwrap();
            let other = sample(width, 3, 6);
            for (found, column) in gaussian.squares(&other).iter().zip(other.column_iter()) {
                let expected = f64::from((column.transpose() * &inverse * column)[(0, 0)]);
                assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_large_sample_is_hardly_shrunk_and_a_small_one_is() {
        let ridge_of = |count| {
            let columns = sample(8, count, 7);
            let trace = columns.norm_squared() / (8 * count) as f32;
            Gaussian::of(columns).unwrap().ridge / trace
        };
        assert!(ridge_of(4_000) < 0.01 && ridge_of(5) > 20.0 * ridge_of(4_000));
    }

    #[test]
    fn near_images_are_nearer_than_far_ones() {
        // Two classes along the first two axes, with noise in the third.
        let columns = DMatrix::from_fn(3, 20, |row, i| match row {
            2 => 0.1 * ((i / 2) as f32 - 4.5) / 4.5,
            row => f32::from(u8::from(i % 2 == row)),
        });
        let rows: Vec<usize> = (0..20).map(|i| i % 2).collect();
        let reference = Reference::new(unit_columns(columns), &rows, 2).unwrap();
        let asked =
            DMatrix::from_column_slice(3, 3, &[1.0, 0.0, 0.05, 0.7, 0.7, 0.0, 0.0, 0.0, -1.0]);
        let near = reference.nearness(&unit_columns(asked));
        for scores in [&near.cosines, &near.mahalanobis, &near.neighbours] {
            assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
        }
        assert!(near.relative[0] > near.relative[1]);
    }

    #[test]
    fn one_image_a_class_is_enough_and_none_is_not() {
        let reference = Reference::new(DMatrix::identity(3, 2), &[0, 1], 2).unwrap();
        let near = reference.nearness(&DMatrix::identity(3, 3));
        assert!(near.mahalanobis[0] > near.mahalanobis[2]);
        assert!(Reference::new(DMatrix::zeros(3, 0), &[], 0).is_none());
    }
}
