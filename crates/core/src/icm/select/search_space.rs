//! What a choice may use.

use crate::icm::captions::CAPTIONS;
use crate::icm::interventions::Interventions;
use crate::icm::moments::SAME_CLASS;
use crate::icm::select::grid::Grid;

/// The families that maps may be fitted to, possibly with [`SAME_CLASS`] and [`CAPTIONS`], and the
/// maps to choose from.
#[derive(Debug, Clone, Copy)]
pub(in crate::icm) struct SearchSpace<'a> {
    pub families: &'a [&'a str],
    pub grid: &'a Grid,
    /// Whether pairs that are not of these images take part whatever their name.
    pub other_pairs: bool,
}

impl SearchSpace<'_> {
    /// Whether maps may be fitted to a family.
    pub(in crate::icm) fn allows(&self, images: &Interventions, family: &str) -> bool {
        let of_images =
            || family == SAME_CLASS || images.families().iter().any(|f| f.name == family);
        self.families.contains(&family) || self.other_pairs && !of_images()
    }

    /// The families of interventions, which can be left out to score candidates.
    pub(super) fn interventions(&self) -> Vec<&str> {
        self.families
            .iter()
            .copied()
            .filter(|&family| family != SAME_CLASS && family != CAPTIONS)
            .collect()
    }
}
