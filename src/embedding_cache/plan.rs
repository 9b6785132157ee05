//! Which interventions are applied to an image.

use constancy_core::intervene::{Draw, Family, Intervention};

/// SHA-256 of a file's content.
pub(crate) type ContentHash = [u8; 32];

/// The interventions that are applied to each image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterventionPlan {
    pub families: Vec<Family>,
    /// Interventions of each family.
    pub draws: u32,
    pub seed: u64,
}

impl InterventionPlan {
    /// The interventions on an image, family by family.
    #[must_use]
    pub(crate) fn interventions(&self, content: &ContentHash) -> Vec<Intervention> {
        let draw = Draw::new(self.seed);
        let image = content
            .iter()
            .take(8)
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte));
        let of = |&family| {
            (0..u64::from(self.draws)).map(move |k| draw.one(image.wrapping_add(k), family))
        };
        self.families.iter().flat_map(of).collect()
    }

    /// The variants of an image: itself (`None`), then each intervention.
    pub(super) fn variants(&self, content: &ContentHash) -> Vec<Option<Intervention>> {
        std::iter::once(None)
            .chain(self.interventions(content).into_iter().map(Some))
            .collect()
    }
}
