//! The candidate maps of a choice.

use crate::icm::spec::{Lambda, MapKind, MapSpec};

/// Numbers of removed directions to try, up to half of the width.
const REMOVED: [usize; 14] = [1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150];
/// Strengths of the soft map to try. At 1, the variance of a direction that interventions move by
/// the mean over all directions is halved; gentler maps leave most of the possible gain.
const STRENGTHS: [f64; 4] = [1.0, 3.0, 10.0, 30.0];

/// The maps to choose from; the identity is always the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid(Vec<MapSpec>);

impl Grid {
    /// The identity and `candidates`.
    #[must_use]
    pub fn new(candidates: impl IntoIterator<Item = MapSpec>) -> Self {
        let others = candidates
            .into_iter()
            .filter(|spec| spec.kind != MapKind::Identity);
        Self([MapSpec::IDENTITY].into_iter().chain(others).collect())
    }

    /// Hard maps that remove few directions or many, and soft maps, for embeddings of `width`
    /// values.
    #[must_use]
    pub fn usual(width: usize) -> Self {
        Self::new(
            Self::hard(width, &[Lambda::Infinite])
                .0
                .into_iter()
                .chain(Self::soft().0),
        )
    }

    /// The usual maps; only the soft ones if there are fewer pairs than dimensions. Then each
    /// direction is estimated poorly, and shrinking it by how far it moved is more robust than
    /// removing it or not.
    #[must_use]
    pub fn suited(width: usize, pairs: u64) -> Self {
        if pairs < width as u64 {
            Self::soft()
        } else {
            Self::usual(width)
        }
    }

    /// Hard maps that remove few directions or many, at each λ'.
    #[must_use]
    pub fn hard(width: usize, lambdas: &[Lambda]) -> Self {
        let removed = REMOVED.into_iter().filter(|&removed| removed <= width / 2);
        let kind = |(&lambda, removed)| MapSpec {
            kind: MapKind::Hard { lambda, removed },
            centred: false,
        };
        Self::new(
            lambdas
                .iter()
                .flat_map(|l| removed.clone().map(move |r| (l, r)))
                .map(kind),
        )
    }

    /// Soft maps, which are the more robust ones with few images.
    #[must_use]
    pub fn soft() -> Self {
        Self::new(STRENGTHS.map(MapSpec::soft))
    }

    /// The same maps, both not centred and centred.
    #[must_use]
    pub fn both_centred(self) -> Self {
        let centred: Vec<MapSpec> = self.0.iter().map(|spec| spec.centred(true)).collect();
        Self::new(self.0.into_iter().chain(centred))
    }

    /// The maps, the identity first.
    #[must_use]
    pub fn candidates(&self) -> &[MapSpec] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_always_among_the_candidates_and_first() {
        let grid = Grid::new([MapSpec::without(3), MapSpec::IDENTITY]);
        assert_eq!(grid.candidates(), [MapSpec::IDENTITY, MapSpec::without(3)]);
        let most = Grid::usual(8)
            .candidates()
            .iter()
            .filter(|c| matches!(c.kind, MapKind::Hard { .. }))
            .count();
        assert_eq!(most, 3, "1, 2 and 3 of 8");
        assert_eq!(Grid::suited(40, 39), Grid::soft());
        assert_eq!(Grid::suited(40, 40), Grid::usual(40));
    }
}
