//! Which map to fit, without labels where there are none, and never with a look at the target.
//!
//! - [`by_identification`] needs no labels: after an intervention of a family that the fit has not seen, is each image
//!   still the nearest to its own original? Too little removed, and the intervention still moves the image; too much,
//!   and images become alike.
//! - [`by_environment`] needs labels and at least two environments: accuracy on the environment that was left out, of
//!   all the ways in which classes are to be told apart together. An encoder has one map, whoever uses it; and a few
//!   environments say too little of each way alone.
//! - [`by_intervention`] needs labels, of one environment or more: accuracy under interventions of families that the fit
//!   has not seen.
//!
//! All judge every candidate by the same images, and choose alike. Only candidates that improve on the identity by
//! more than [`SURE`] standard errors of the paired difference are considered: a map that does no good may do harm, so
//! where there is none, the identity is chosen. The error is that over images or, where it is larger, that over
//! environments: what helps in one and hurts in another is no evidence for a third. Of the others, those that fall behind
//! the best by no more than one standard error are as good as it (Breiman et al., *Classification and Regression Trees*,
//! section 3.4.3; the error is that of the paired difference, as all are judged by the same images), and the gentlest
//! of them is taken: the one that removes the fewest directions.

mod environment;
mod halves;
mod identification;
mod intervention;
mod scores;

pub(super) use environment::by_environments;
pub use environment::{by_environment, penalty_by_environment};
pub(super) use identification::identify;
pub use identification::{Identification, by_identification};
pub(super) use intervention::by_interventions;
pub use intervention::{HARM, by_intervention};
pub(super) use scores::Scores;

use super::fit::{FitError, FitWarning};
use super::labelled::SAME_CLASS;
use super::logistic::LogisticError;
use super::sources::Interventions;
use super::spec::{Lambda, MapKind, MapSpec};
use serde::{Serialize, Serializer};
use std::fmt;
use thiserror::Error;

/// Standard errors that a map must gain over the identity.
pub const SURE: f64 = 2.0;
/// Numbers of removed directions that are tried, as far as the width allows.
const REMOVED: [usize; 14] = [1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150];
/// Strengths of the soft map that are tried. From 1 on, where a direction in which interventions move embeddings by the
/// mean over all directions is halved: gentler maps leave most of what could be gained.
const STRENGTHS: [f64; 4] = [1.0, 3.0, 10.0, 30.0];

/// The probe's C that are tried where environments can tell which is right: half decades around
/// [`DEFAULT_C`](super::DEFAULT_C), which is meant for embeddings of length 10, not 1.
pub const PENALTIES: [f64; 7] = [0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0];

/// Why no choice was made.
#[derive(Debug, Error, PartialEq)]
pub enum SelectError {
    #[error("there are {found} families of interventions; leaving one out needs at least two")]
    Families { found: usize },
    #[error("there are {found} images; splitting them in halves needs at least {least}")]
    Images { found: usize, least: usize },
    #[error(
        "family `{family}` changes only {found} images of a half; give every family more images"
    )]
    FamilyImages { family: String, found: usize },
    #[error(
        "all images are of one environment, `{environment}`; leaving one out needs at least two: add another, or choose by identification, which needs no labels"
    )]
    OneEnvironment { environment: String },
    #[error(
        "environment `{environment}` has no image of a class that the others have; nothing can be learnt for it"
    )]
    NothingInCommon { environment: String },
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Probe(#[from] LogisticError),
    #[error("nothing can be judged: give each environment images of at least two classes")]
    NoScores,
}

/// MapSet to choose from; the identity is always one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid(Vec<MapSpec>);

impl Grid {
    /// `candidates` and the identity.
    #[must_use]
    pub fn new(candidates: impl IntoIterator<Item = MapSpec>) -> Self {
        let others = candidates
            .into_iter()
            .filter(|spec| spec.kind != MapKind::Identity);
        Self([MapSpec::IDENTITY].into_iter().chain(others).collect())
    }

    /// Removal of few directions or many, and soft maps, for embeddings of `width` values.
    #[must_use]
    pub fn usual(width: usize) -> Self {
        Self::new(
            Self::hard(width, &[Lambda::Infinite])
                .0
                .into_iter()
                .chain(Self::soft().0),
        )
    }

    /// The usual maps; soft ones alone where there are fewer pairs than dimensions. Then every direction that a pair
    /// shows is a guess, and to shrink it by how far it moved is the surer thing than to remove it or not.
    #[must_use]
    pub fn suited(width: usize, pairs: u64) -> Self {
        if pairs < width as u64 {
            Self::soft()
        } else {
            Self::usual(width)
        }
    }

    /// Removal of few directions or many, at each λ'.
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

    /// Soft maps, which are the surer ones where images are few.
    #[must_use]
    pub fn soft() -> Self {
        Self::new(STRENGTHS.map(MapSpec::soft))
    }

    /// The same maps, not centred and centred.
    #[must_use]
    pub fn both_centred(self) -> Self {
        let centred: Vec<MapSpec> = self.0.iter().map(|spec| spec.centred(true)).collect();
        Self::new(self.0.into_iter().chain(centred))
    }

    #[must_use]
    pub fn candidates(&self) -> &[MapSpec] {
        &self.0
    }
}

/// Which families may be known, [`SAME_CLASS`] among them or not, and among which maps is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub families: &'a [&'a str],
    pub grid: &'a Grid,
}

impl Question<'_> {
    /// Whether moments of a family may be used; those of pairs that are no images always are.
    pub(super) fn knows(&self, images: &Interventions, family: &str) -> bool {
        let of_images =
            || family == SAME_CLASS || images.families().iter().any(|f| f.name == family);
        self.families.contains(&family) || !of_images()
    }

    /// The families of interventions, which can be left out and judged by.
    fn interventions(&self) -> Vec<&str> {
        self.families
            .iter()
            .copied()
            .filter(|&family| family != SAME_CLASS)
            .collect()
    }
}

/// What the scores of a choice are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Recall@1 of the original under a left-out family of interventions.
    Identification,
    /// Accuracy on a left-out environment.
    LeftOutEnvironment,
    /// Accuracy under a left-out family of interventions.
    LeftOutIntervention,
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identification => {
                "identification of images under an intervention that was left out"
            }
            Self::LeftOutEnvironment => "accuracy on an environment that was left out",
            Self::LeftOutIntervention => "accuracy under an intervention that was left out",
        })
    }
}

/// One candidate and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    pub map: MapSpec,
    /// `0..=1`.
    pub score: f64,
    /// Standard error of the score, over images.
    pub error: f64,
    /// Mean of score − the identity's, image by image.
    pub gain: f64,
    /// Standard error of the gain.
    pub gain_error: f64,
    /// Directions that the map takes away: D − Σw² over what it leaves of each.
    pub removed: f64,
}

/// What a reader of a choice should know.
#[derive(Debug, Clone, PartialEq)]
pub enum SelectWarning {
    /// Its images are left out: nothing could have named them.
    OnlyIn {
        environment: String,
        class: String,
    },
    /// Left out, it cannot be judged: the others have images of one class.
    OneClass {
        environment: String,
        class: String,
    },
    /// The map cannot be fitted to these images, and was left out.
    Skipped {
        map: MapSpec,
        reason: FitError,
    },
    /// MapSet that make too much of untouched images go wrong, and were left out.
    Costly {
        maps: usize,
    },
    Fit(FitWarning),
}

impl fmt::Display for SelectWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyIn { environment, class } => {
                write!(
                    f,
                    "class `{class}` has images in environment `{environment}` only; it says nothing there"
                )
            }
            Self::OneClass { environment, class } => {
                write!(
                    f,
                    "beside environment `{environment}` there are images of class `{class}` only; it says nothing"
                )
            }
            Self::Skipped { map, reason } => write!(f, "map `{map}` was not tried: {reason}"),
            Self::Costly { maps } => write!(
                f,
                "{maps} maps were not considered: they cost more than {:.0} point on images as they are",
                HARM * 100.0
            ),
            Self::Fit(warning) => warning.fmt(f),
        }
    }
}

impl Serialize for SelectWarning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The map that was chosen, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Selection {
    pub criterion: Criterion,
    pub chosen: Trial,
    /// The identity's.
    pub identity: Trial,
    /// All of them, the identity first.
    pub trials: Vec<Trial>,
    pub warnings: Vec<SelectWarning>,
}

impl Selection {
    /// Whether a map other than the identity was chosen.
    #[must_use]
    pub fn improves(&self) -> bool {
        self.chosen.map.kind != MapKind::Identity
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let Self {
            criterion,
            chosen,
            identity,
            trials,
            ..
        } = self;
        if self.improves() {
            return write!(
                f,
                "{}: {criterion} rises from {:.1} % to {:.1} % (by {:.1} ± {:.1} points)",
                chosen.map,
                percent(identity.score),
                percent(chosen.score),
                percent(chosen.gain),
                percent(chosen.gain_error),
            );
        }
        write!(
            f,
            "identity: no map improves {criterion} beyond doubt, so embeddings stay as they are ({:.1} %)",
            percent(identity.score)
        )?;
        let best = trials[1..]
            .iter()
            .max_by(|a, b| a.score.total_cmp(&b.score));
        best.map_or(Ok(()), |best| {
            let (gain, error) = (percent(best.gain), percent(best.gain_error));
            write!(
                f,
                "; the best, `{}`, changes it by {gain:+.1} ± {error:.1} points",
                best.map
            )
        })
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
