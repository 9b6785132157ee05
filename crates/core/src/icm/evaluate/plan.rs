//! What an evaluation compares.

use super::calibrated::CalibratedOn;
use crate::icm::embeddings::Embeddings;
use crate::icm::labelled::Labelled;
use crate::icm::select::Criterion;
use crate::icm::spec::MapSpec;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// How classes are told apart. Becomes a [`Method`](crate::icm::Method) once class embeddings and
/// the probe's C are known.
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

/// Which maps can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidates {
    /// None: raw embeddings.
    Raw,
    /// All that suit the number of pairs, hard and soft, as in `constancy fit`.
    Icm,
    /// Soft maps only.
    Soft,
    /// [`Self::Icm`] and [`Self::Soft`], where both chose the same maps.
    Both,
    /// Whitenings by what interventions move and by what differs within classes, as in `constancy
    /// classes`.
    Whitened,
    /// One map that was given, [`Row::map`].
    Given,
}

impl fmt::Display for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Icm => "ICM",
            Self::Soft => "soft",
            Self::Both => "ICM and soft",
            Self::Whitened => "whitened",
            Self::Given => "given",
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

/// Families of interventions that a map is fitted to together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FamilySet {
    pub name: String,
    /// [`SAME_CLASS`](crate::icm::SAME_CLASS) and [`CAPTIONS`](crate::icm::captions::CAPTIONS) may be
    /// among them.
    pub families: Vec<String>,
}

/// What to compare.
#[derive(Debug, Clone)]
pub struct Plan {
    pub sets: Vec<FamilySet>,
    /// How maps are chosen; [`Criterion::HeldOutImages`] chooses whitenings, the others hard and
    /// soft maps. Ignored if [`Self::maps`] are given.
    pub criteria: Vec<Criterion>,
    /// Maps to compare as they are, without a choice.
    pub maps: Vec<MapSpec>,
    pub predictors: Vec<Predictor>,
    /// The text tower's embedding of every class, for [`Predictor::ZeroShot`].
    pub text: Option<Embeddings>,
    /// The factor from cosines to logits.
    pub logit_scale: f64,
    /// The probe's C; defaults to the choice by the sources' environments.
    pub c: Option<f64>,
    /// The number of classes, in their order, that fit and choice may see; defaults to all.
    pub known_classes: Option<usize>,
    /// The number of the target's images, without their labels, that the fitted maps are calibrated on as well; 0 for none.
    /// Probes are not.
    pub calibrate: usize,
    /// The seed for splitting images.
    pub seed: u64,
}

impl Plan {
    /// Adds the choice of whitenings to default criteria, if a head learns from images.
    pub(super) fn add_whitening(&mut self) {
        if self.predictors.iter().any(|&of| of != Predictor::ZeroShot) {
            self.criteria.push(Criterion::HeldOutImages);
        }
    }

    /// The part of `images` that fit and choice may see.
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

/// What one row of a comparison stands for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    pub predictor: Predictor,
    pub candidates: Candidates,
    /// Index into [`Plan::sets`]; `None` if nothing was fitted.
    pub set: Option<usize>,
    pub criterion: Option<Criterion>,
    /// The map that was given; `None` if one was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<MapSpec>,
    /// What it was calibrated on; `None` if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<CalibratedOn>,
}

impl Row {
    pub(super) fn raw(predictor: Predictor) -> Self {
        Self {
            predictor,
            candidates: Candidates::Raw,
            set: None,
            criterion: None,
            map: None,
            calibrated: None,
        }
    }

    pub(super) fn given(predictor: Predictor, set: usize, map: MapSpec) -> Self {
        Self {
            candidates: Candidates::Given,
            set: Some(set),
            map: Some(map),
            ..Self::raw(predictor)
        }
    }
}
