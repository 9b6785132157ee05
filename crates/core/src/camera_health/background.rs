//! Whether what was always there is still in its place.

use super::glance::{CELLS, Glance};
use super::reference::{REGIONS, Reference, Steadiness, region};

/// A region is in its place if its cells agree with the reference that much: 1 all, 0 as by chance.
const IN_PLACE: f32 = 0.5;
/// A region is judged by at least this many cells of the background.
const LEAST_CELLS: u32 = 6;
/// And if at least this share of them is seen.
const SEEN: f32 = 0.1;
/// Fewer regions than this say nothing.
const LEAST_REGIONS: usize = 3;
/// The share of regions in place up to which the camera has moved, and from which it has not.
const MOVED: f32 = 0.125;
const THERE: f32 = 0.3;
/// The share of cells that must stay as they are in what the camera shows now, to say that the camera moved rather than
/// what it looks at.
const AT_REST: f32 = 0.05;

/// The background over recent frames, beside the reference's.
#[derive(Debug, Clone)]
pub(super) struct Background {
    regions: [Agreement; REGIONS],
    signs: Steadiness,
}

#[derive(Debug, Clone, Copy, Default)]
struct Agreement {
    /// Cells of the reference's background.
    cells: u32,
    /// The sums over cells of products with the reference: as they are, in absolute value, and if all were as usual.
    product: f32,
    size: f32,
    usual: f32,
}

impl Background {
    pub(super) fn new() -> Self {
        Self {
            regions: [Agreement::default(); REGIONS],
            signs: Steadiness::new(),
        }
    }

    /// Takes a frame; whether the camera has moved, `None` if that cannot be told.
    pub(super) fn update(
        &mut self,
        glance: &Glance,
        reference: &Reference,
        weight: f32,
    ) -> Option<bool> {
        if !reference.has_background() {
            return None;
        }
        self.signs.add(&glance.signs, weight);
        let mut now = [Agreement::default(); REGIONS];
        for (cell, (sign, mean)) in glance.signs.iter().zip(&reference.background).enumerate() {
            let region = &mut now[region(cell)];
            region.cells += u32::from(*mean != 0.0);
            region.product += sign * mean;
            region.size += (sign * mean).abs();
            region.usual += mean * mean;
        }
        for (recent, now) in self.regions.iter_mut().zip(now) {
            *recent = Agreement {
                product: recent.product + weight * (now.product - recent.product),
                size: recent.size + weight * (now.size - recent.size),
                ..now
            };
        }
        self.verdict(reference)
    }

    fn verdict(&self, reference: &Reference) -> Option<bool> {
        let judged = || {
            let seen = |r: &&Agreement| r.cells >= LEAST_CELLS && r.size > SEEN * r.usual;
            self.regions.iter().filter(seen)
        };
        let count = judged().count();
        if count < LEAST_REGIONS {
            return None;
        }
        let in_place = judged().filter(|r| r.product > IN_PLACE * r.size).count();
        let share = in_place as f32 / count as f32;
        if share >= THERE {
            return Some(false);
        }
        (share <= MOVED && self.rests(reference)).then_some(true)
    }

    /// A camera that has moved shows another background, which keeps as still as the one before.
    fn rests(&self, reference: &Reference) -> bool {
        let steady = |cells: &[f32]| cells.iter().filter(|&&m| m != 0.0).count() as f32;
        let least = (AT_REST * CELLS as f32).max(steady(&reference.background) / 2.0);
        steady(&self.signs.steady()) >= least
    }
}
