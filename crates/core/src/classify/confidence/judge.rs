//! The confidence model and its geometry, prepared for one set of class rows.

use super::evidence::{Evidence, Place};
use super::geometry::{Geometry, Tails, product};
use super::model::ConfidenceModel;
use super::reason::Reason;

/// What a class's centre adds to distances: computed once, not per frame.
#[derive(Debug, Clone)]
struct Center {
    square: f32,
    /// Along the axes of the covariance within classes.
    coordinates: Vec<f32>,
}

/// Places embeddings among those of the calibration, in O((C + r) D) per embedding.
#[derive(Debug, Clone)]
pub(in crate::classify) struct Locator {
    geometry: Geometry,
    centers: Vec<Center>,
    mean: Center,
}

impl Locator {
    /// For classes with these invariant `rows` `[C, k]` of unit length.
    pub(in crate::classify) fn new(geometry: Geometry, rows: &[Vec<f32>]) -> Self {
        let prepared = |axes: &super::LowRank, v: &[f32]| Center {
            square: product(v, v),
            coordinates: axes.coordinates(v),
        };
        let centers = geometry.centers.as_deref().unwrap_or(rows);
        Self {
            centers: centers
                .iter()
                .map(|c| prepared(&geometry.within, c))
                .collect(),
            mean: prepared(&geometry.background, &geometry.mean),
            geometry,
        }
    }

    /// The place of an embedding: of unit length `[D]`, invariant `[k]`, and its cosines to the classes' rows.
    pub(in crate::classify) fn place(&self, unit: &[f32], z: &[f32], cosines: &[f32]) -> Place {
        let Geometry {
            within,
            background,
            mean,
            centers,
            drift,
        } = &self.geometry;
        let square = product(z, z);
        let (inside, around) = (within.coordinates(z), background.coordinates(z));
        let squared = |axes: &super::LowRank, to: &Center, dot: f32, own: &[f32]| {
            let away = (square - 2.0 * dot + to.square).max(0.0);
            let coordinates = own.iter().zip(&to.coordinates).map(|(a, b)| a - b);
            axes.squared_length(away, coordinates)
        };
        let nearest = self.centers.iter().enumerate().map(|(i, center)| {
            // Where the rows are the centres, their dot products are known.
            let dot = centers
                .as_ref()
                .map_or_else(|| cosines[i], |c| product(z, &c[i]));
            squared(within, center, dot, &inside)
        });
        let nearest = nearest.fold(f32::INFINITY, f32::min);
        let common = squared(background, &self.mean, product(z, mean), &around);
        let width = z.len().max(1) as f32;
        Place {
            cosine: cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            mahalanobis: (nearest - common) / width,
            background: common / width,
            drift: drift.distance(unit),
        }
    }

    pub(in crate::classify) fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}

/// What is said of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::classify) struct Verdict {
    pub confidence: f32,
    pub unfamiliar: bool,
    pub drifted: bool,
    pub drift: f32,
}

/// Judges answers of a classifier.
#[derive(Debug, Clone)]
pub(in crate::classify) struct Judge {
    pub model: ConfidenceModel,
    pub tails: Tails,
    pub locator: Locator,
}

impl Judge {
    /// What to say of an answer with these logits `[C]` at that place.
    pub(in crate::classify) fn verdict(&self, logits: &[f32], place: Place) -> Verdict {
        let evidence = Evidence::new(logits, self.model.temperature, place);
        Verdict {
            confidence: self.model.confidence(&evidence),
            unfamiliar: self.tails.unfamiliar(&place),
            drifted: evidence.drift > self.tails.drift,
            drift: evidence.drift,
        }
    }
}

impl Verdict {
    /// Why the answer is not known; `None` if it is.
    pub(in crate::classify) fn reason(&self, threshold: f32) -> Option<Reason> {
        if self.unfamiliar {
            Some(Reason::Unfamiliar)
        } else if self.confidence >= threshold {
            None
        } else if self.drifted {
            Some(Reason::Drift)
        } else {
            Some(Reason::Ambiguous)
        }
    }
}
