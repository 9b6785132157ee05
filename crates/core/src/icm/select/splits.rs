//! What criteria share that fit to one half of the images without some families, and judge by the other under those.

use super::{Question, SelectError};
use crate::icm::sources::{Family, Interventions};
use nalgebra::DMatrix;

/// Fewer images in a half make every candidate a matter of luck.
pub(super) const MIN_HALF: usize = 4;
/// Few images are split more than once, until as many have been judged, so that luck in the split has less of a say.
const JUDGED: usize = 200;
const MOST_SPLITS: usize = 5;
/// Groups of families that are left out in turn: where there are many, what one teaches another teaches too, and
/// leaving out one at a time would ask for little.
const FOLDS: usize = 5;

/// Whether there are enough families and images to leave some out.
pub(super) fn enough(questions: &[Question<'_>], images: usize) -> Result<(), SelectError> {
    if let Some(found) = questions
        .iter()
        .map(|q| q.interventions().len())
        .find(|&found| found < 2)
    {
        return Err(SelectError::Families { found });
    }
    let least = 2 * MIN_HALF;
    if images < least {
        Err(SelectError::Images {
            found: images,
            least,
        })
    } else {
        Ok(())
    }
}

/// How often `count` images are split.
pub(super) fn splits(count: usize) -> usize {
    JUDGED.div_ceil(count).min(MOST_SPLITS)
}

/// The families that are left out together, a fifth of them or one.
pub(super) fn folds<'a>(families: &[&'a str]) -> Vec<Vec<&'a str>> {
    let folds = families.len().min(FOLDS);
    (0..folds)
        .map(|fold| families.iter().skip(fold).step_by(folds).copied().collect())
        .collect()
}

/// A half's images under `families`: unit columns `[D, m]`, the original of each, and what each counts, which `weight`
/// says of a family and its place in the half.
pub(super) fn under(
    half: &Interventions,
    families: &[&str],
    weight: impl Fn(usize, &Family) -> f64,
) -> (DMatrix<f32>, Vec<usize>, Vec<f64>) {
    let (mut columns, mut of, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (i, family) in half.families().iter().enumerate() {
        if families.contains(&family.name.as_str()) {
            columns.extend_from_slice(family.changed.rough().as_slice());
            of.extend_from_slice(&family.of);
            weights.resize(of.len(), weight(i, family));
        }
    }
    (
        DMatrix::from_vec(half.originals().width(), of.len(), columns),
        of,
        weights,
    )
}
