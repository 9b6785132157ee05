//! How good a map is where nothing was learnt: the protocols of a comparison, and its figures.
//!
//! Two protocols, and one way to judge. An environment is left out ([`Labelled::leave_out`]), or a family of
//! interventions is, on images that were not learnt from ([`Labelled::leave_out_family`]). Either gives [`Labelled`]
//! sources, by which maps, strengths and the probe's C are chosen, and a [`HeldOut`] target, by which [`judge`] counts.
//! Every row of the result is compared with the raw embeddings on the same images ([`figures_of`]).

mod figures;
mod judge;

pub use figures::{Figure, Figures, Group, Scoreboard, figures_of};
pub use judge::{Choice, Outcome, Verdict, judge};

use super::embeddings::Embeddings;
use super::labelled::Labelled;
use super::select::Criterion;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// How classes are told apart, while it is not yet known what that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    /// By the text tower's embeddings of class names.
    ZeroShot,
    /// By the sources' class means.
    ClassMeans,
    /// By multinomial logistic regression on the sources.
    Probe,
}

impl fmt::Display for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ZeroShot => "zero-shot",
            Self::ClassMeans => "class means",
            Self::Probe => "linear probe",
        })
    }
}

/// Which maps could be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidates {
    /// None: embeddings as they are.
    Raw,
    /// All that suit the number of pairs, hard and soft; what `constancy fit` chooses from.
    Icm,
    /// Soft ones.
    Soft,
}

impl fmt::Display for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Icm => "ICM",
            Self::Soft => "soft",
        })
    }
}

impl Serialize for Predictor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Candidates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Interventions that maps are fitted to together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FamilySet {
    pub name: String,
    /// [`SAME_CLASS`](super::SAME_CLASS) may be one of them.
    pub families: Vec<String>,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct Plan {
    pub sets: Vec<FamilySet>,
    pub criteria: Vec<Criterion>,
    pub predictors: Vec<Predictor>,
    /// The text tower's embedding of every class, for [`Predictor::ZeroShot`].
    pub text: Option<Embeddings>,
    /// The probe's C; chosen by the sources' environments unless given.
    pub c: Option<f64>,
    /// How many of the classes, in their order, fit and choice may see; all unless given.
    pub known_classes: Option<usize>,
    /// Splits images.
    pub seed: u64,
}

impl Plan {
    /// What fit and choice may see of some images.
    #[must_use]
    pub fn seen<'a>(&self, images: &'a Labelled) -> Cow<'a, Labelled> {
        let Some(known) = self.known_classes else {
            return Cow::Borrowed(images);
        };
        let kept: Vec<usize> = (0..images.classes().len())
            .filter(|&i| images.classes()[i] < known)
            .collect();
        Cow::Owned(images.pick(&kept))
    }
}

/// What one row of a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Row {
    pub predictor: Predictor,
    pub candidates: Candidates,
    /// Index into [`Plan::sets`]; none where nothing was fitted.
    pub set: Option<usize>,
    pub criterion: Option<Criterion>,
}

impl Row {
    fn raw(predictor: Predictor) -> Self {
        Self {
            predictor,
            candidates: Candidates::Raw,
            set: None,
            criterion: None,
        }
    }
}
