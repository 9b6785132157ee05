//! Images that nothing is learnt from: the target of an evaluation.

use super::embeddings::Embeddings;
use super::head::Head;
use super::interventions::SourceError;
use super::map::Map;

/// Images of one environment, or under one family of interventions, that nothing was learnt from.
#[derive(Debug, Clone)]
pub struct HeldOut {
    embeddings: Embeddings,
    classes: Vec<usize>,
}

impl HeldOut {
    /// Takes embeddings and the class of each.
    pub fn new(embeddings: Embeddings, classes: Vec<usize>) -> Result<Self, SourceError> {
        if classes.len() == embeddings.len() {
            return Ok(Self::unchecked(embeddings, classes));
        }
        Err(SourceError::Count {
            what: "classes",
            found: classes.len(),
            images: embeddings.len(),
        })
    }

    /// [`Self::new`] for as many classes as embeddings.
    pub(super) fn unchecked(embeddings: Embeddings, classes: Vec<usize>) -> Self {
        Self {
            embeddings,
            classes,
        }
    }

    /// For each image, 1 if `head` names its class under `map`, and 0 if not.
    #[must_use]
    pub fn hits(&self, map: &Map, head: &Head) -> Vec<f64> {
        hits(&head.predict(&map.apply(&self.embeddings)), &self.classes)
    }

    pub(super) fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    pub(super) fn classes(&self) -> &[usize] {
        &self.classes
    }
}

/// For each image, 1 if it was named correctly, and 0 if not.
pub(super) fn hits(named: &[usize], truth: &[usize]) -> Vec<f64> {
    named
        .iter()
        .zip(truth)
        .map(|(named, truth)| if named == truth { 1.0 } else { 0.0 })
        .collect()
}
