//! Patches in which detail is lost although the rest of the picture shows it: dirt on the lens.
//!
//! Dirt lies far out of focus, so it has no outline. What lies in front of the camera has one, however smooth it is, and
//! its outline is detail. And dirt stays while the scene changes: only frames that show another scene than the one before
//! count, so that a smooth part at rest is none. Where nothing ever changes, dirt cannot be told.

use super::glance::{Glance, TILE_COLUMNS, TILES};
use super::latch::above;
use super::reference::Reference;

/// A frame shows the same scene as another if its cells agree that much: 1 all, 0 as by chance.
const SAME_SCENE: f32 = 0.85;
/// Tiles with less than this of the usual detail of a picture cannot lose any.
const LEAST_USUAL: f32 = 0.25;
/// A tile is lost with less than this share of its own usual detail.
const LOST: f32 = 0.25;
/// A patch has at least this many tiles.
const LEAST_TILES: usize = 4;
/// The mean share of the usual detail left around a patch, at most: more is an outline.
const OUTLINE: f32 = 0.7;
/// The share of tiles that dirt takes, above which it is told, and below which it is over.
const DIRTY: (f32, f32) = (0.013, 0.006);
/// More than this is not dirt but another fault.
const MOST: f32 = 0.6;

/// The detail of each tile over recent frames.
#[derive(Debug, Clone)]
pub(super) struct Patches {
    /// Relative to the frame's median; NaN until it was seen.
    detail: Vec<f32>,
    /// The [`Glance::signs`] of the last scene that was counted; empty before the first.
    scene: Vec<f32>,
}

impl Patches {
    pub(super) fn new() -> Self {
        Self {
            detail: vec![f32::NAN; TILES],
            scene: Vec::new(),
        }
    }

    /// Whether a frame shows another scene than the last one that was counted, which it then becomes.
    fn is_other_scene(&mut self, glance: &Glance) -> bool {
        let products = glance.signs.iter().zip(&self.scene).map(|(a, b)| a * b);
        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
        let other = sum <= SAME_SCENE * size;
        if other {
            self.scene.clone_from(&glance.signs);
        }
        other
    }

    /// Takes a frame; whether there is dirt, `None` if that cannot be told.
    pub(super) fn update(
        &mut self,
        glance: &Glance,
        reference: &Reference,
        weight: f32,
    ) -> Option<bool> {
        if glance.profile.is_empty() || !self.is_other_scene(glance) {
            return None;
        }
        for (mean, &now) in self.detail.iter_mut().zip(&glance.profile) {
            if mean.is_nan() {
                *mean = now;
            } else if !now.is_nan() {
                *mean += weight * (now - *mean);
            }
        }
        let left: Vec<f32> = self
            .detail
            .iter()
            .zip(&reference.profile)
            .map(|(mean, &usual)| {
                if usual < LEAST_USUAL {
                    f32::NAN
                } else {
                    mean / usual
                }
            })
            .collect();
        let judged = left.iter().filter(|l| !l.is_nan()).count();
        if judged < TILES / 4 {
            return None;
        }
        let share = dirty_tiles(&left) as f32 / judged as f32;
        above(share, DIRTY.0, DIRTY.1).filter(|_| share < MOST)
    }
}

/// The tiles in patches without an outline, given the share of the usual detail that is `left` in each.
fn dirty_tiles(left: &[f32]) -> usize {
    let mut seen = vec![false; left.len()];
    let mut dirty = 0;
    for start in 0..left.len() {
        if seen[start] || left[start].is_nan() || left[start] >= LOST {
            continue;
        }
        seen[start] = true;
        let (mut patch, mut around) = (vec![start], Vec::new());
        let mut next = 0;
        while let Some(&tile) = patch.get(next) {
            next += 1;
            for other in neighbours(tile) {
                if left[other] < LOST && !seen[other] {
                    seen[other] = true;
                    patch.push(other);
                } else if left[other] >= LOST && !around.contains(&other) {
                    around.push(other);
                }
            }
        }
        let rest =
            around.iter().map(|&t| left[t].min(2.0)).sum::<f32>() / around.len().max(1) as f32;
        if patch.len() >= LEAST_TILES && rest < OUTLINE {
            dirty += patch.len();
        }
    }
    dirty
}

/// The up to eight tiles around one.
fn neighbours(tile: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (tile % TILE_COLUMNS, tile / TILE_COLUMNS);
    let rows = y.saturating_sub(1)..=(y + 1).min(TILES / TILE_COLUMNS - 1);
    rows.flat_map(move |row| {
        let columns = x.saturating_sub(1)..=(x + 1).min(TILE_COLUMNS - 1);
        columns.map(move |column| row * TILE_COLUMNS + column)
    })
    .filter(move |&other| other != tile)
}
