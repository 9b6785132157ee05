//! Images and class means in the coordinates of covariances, where many whitenings are quick to try.

use super::Covariances;
use crate::icm::head::{class_means, rows_of};
use crate::icm::labelled::Labelled;
use nalgebra::{DMatrix, DVector};

/// The unit means of the classes that have images.
pub(super) struct Means {
    pub classes: Vec<usize>,
    /// `[k, classes]`.
    pub columns: DMatrix<f64>,
}

impl Means {
    pub(super) fn of(images: &Labelled) -> Self {
        let (classes, rows) = rows_of(images.classes());
        let columns = images.images().originals().columns();
        Self {
            columns: class_means(columns, &rows, classes.len()),
            classes,
        }
    }
}

/// Images and class means in the basis of covariances, and their products outside of it.
pub(super) struct Coordinates {
    /// `[r, n]`.
    images: DMatrix<f64>,
    /// `[r, classes]`.
    means: DMatrix<f64>,
    /// Products of what lies outside the basis, `[n, classes]`.
    outside: DMatrix<f64>,
    /// Squared lengths of the means' parts outside the basis, `[classes]`.
    means_outside: Vec<f64>,
}

impl Coordinates {
    pub(super) fn new(
        covariances: &Covariances,
        images: &DMatrix<f64>,
        means: &DMatrix<f64>,
    ) -> Self {
        let (c, m) = (
            covariances.basis.tr_mul(images),
            covariances.basis.tr_mul(means),
        );
        let lengths = means.column_iter().zip(m.column_iter());
        Self {
            outside: images.tr_mul(means) - c.tr_mul(&m),
            means_outside: lengths
                .map(|(whole, inside)| (whole.norm_squared() - inside.norm_squared()).max(0.0))
                .collect(),
            images: c,
            means: m,
        }
    }

    /// The row of the class mean that is nearest to each image under `W`.
    pub(super) fn nearest(&self, vectors: &DMatrix<f64>, weights: &DVector<f64>) -> Vec<usize> {
        let scaled = |columns: &DMatrix<f64>| {
            let mut mapped = vectors.tr_mul(columns);
            for mut column in mapped.column_iter_mut() {
                column.component_mul_assign(weights);
            }
            mapped
        };
        let (images, means) = (scaled(&self.images), scaled(&self.means));
        let products = &self.outside + images.tr_mul(&means);
        let lengths = means.column_iter().zip(&self.means_outside);
        let lengths: Vec<f64> = lengths
            .map(|(inside, outside)| (inside.norm_squared() + outside).sqrt())
            .collect();
        products
            .row_iter()
            .map(|row| {
                let cosine = |c: &usize| row[*c] / lengths[*c].max(f64::MIN_POSITIVE);
                (0..lengths.len())
                    .max_by(|a, b| cosine(a).total_cmp(&cosine(b)))
                    .unwrap_or(0)
            })
            .collect()
    }
}
