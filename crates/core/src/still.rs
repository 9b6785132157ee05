//! A picture that stays the same: when the embedding of an earlier frame may stand for that of the present one.
//!
//! Two frames are compared by what the image tower sees, in cells of 8 × 8 pixels: the greatest change of a cell's colour is
//! their *distance*, in levels of 255. Sensor noise hardly moves cells; a part that appears, or light that changes, does.
//! How far noise moves them is learnt from one frame to the next, and how far a distance moves the embedding from the frames
//! that were embedded. An embedding is reused while the picture is no farther from the one that it was made of than noise
//! takes it, or than moves the embedding as little as noise does. It is always compared with that picture, so slow changes
//! add up until they count.

use crate::numeric::unit;
use crate::preprocess::RgbImage;
use crate::stats::quantile;
use std::collections::VecDeque;

/// The edge of a cell, pixels of the tower's input.
const CELL: usize = 8;
/// Frames that are embedded before anything is reused.
const LEARN: usize = 12;
/// Distances and changes that are remembered.
const MEMORY: usize = 128;
/// The share of frames that come as near to the one before as noise alone lets them: a camera rarely sees only what moves.
const QUIET: f64 = 0.1;
/// Noise takes a frame at most this many times farther than [`QUIET`] frames.
const NOISE: f64 = 2.0;
/// A distance that bytes cannot tell from none, in levels.
const LEAST: f64 = 0.5;
/// Where even the quietest frames are farther apart, nothing stays the same.
const MOST: f64 = 3.0;
/// The greatest change of a unit embedding that noise is believed to make: a cosine of 0.995.
const MOST_CHANGE: f64 = 0.1;
/// The least: a tower that noise does not move at all may not be asked for more.
const LEAST_CHANGE: f64 = 0.003;
/// Frames beyond noise that tell how a distance moves the embedding.
const ENOUGH: usize = 8;

/// What the image tower sees of a frame, in cells: the mean of each, in levels of 255.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cells(Vec<f32>);

impl Cells {
    /// The cells of a tower's input before normalisation.
    #[must_use]
    pub fn of(image: &RgbImage) -> Self {
        let cells = |pixels: u32| (pixels as usize).div_ceil(CELL);
        Self(image.cell_means(cells(image.width), cells(image.height)))
    }

    /// The greatest change of a cell, in levels; infinite if the pictures differ in size.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f32 {
        if self.0.len() != other.0.len() {
            return f32::INFINITY;
        }
        let changes = self.0.iter().zip(&other.0).map(|(a, b)| (a - b).abs());
        changes.fold(0.0, f32::max)
    }
}

/// The frame that was embedded last.
#[derive(Debug, Clone)]
struct Embedded {
    cells: Cells,
    embedding: Vec<f32>,
    captured_ns: u64,
    /// Whether its answer was far from being another.
    sure: bool,
}

/// What one camera's frames have shown of noise and change.
///
/// ```
/// use constancy_core::preprocess::RgbImage;
/// use constancy_core::still::{Cells, StillScene};
///
/// let picture = |level: u8| Cells::of(&RgbImage { width: 16, height: 16, data: vec![level; 768] });
/// let (second, mut scene) = (1_000_000_000, StillScene::default());
/// for frame in 0..20 {
///     if scene.reuse(&picture(100), frame * second, 60 * second).is_none() {
///         scene.learn(&picture(100), &[1.0, 0.0], frame * second);
///         scene.settle(true);
///     }
/// }
/// assert!(scene.reuse(&picture(100), 20 * second, 60 * second).is_some());
/// assert!(scene.reuse(&picture(140), 21 * second, 60 * second).is_none(), "something came");
/// ```
#[derive(Debug, Clone, Default)]
pub struct StillScene {
    last: Option<Embedded>,
    /// The cells of the frame before.
    before: Option<Cells>,
    /// Distances from one frame to the next.
    steps: VecDeque<f64>,
    /// Distances between frames that were embedded, and how far their unit embeddings are apart.
    changes: VecDeque<(f64, f64)>,
}

impl StillScene {
    /// Takes a frame that was captured at `now_ns`. Gives the embedding `[D]` of an earlier one, at most `keep_ns` old, and
    /// its age in nanoseconds; `None` if this one must be embedded.
    pub fn reuse(&mut self, cells: &Cells, now_ns: u64, keep_ns: u64) -> Option<(&[f32], u64)> {
        if let Some(before) = &self.before {
            remember(&mut self.steps, f64::from(before.distance(cells)));
        }
        self.before = Some(cells.clone());
        let allowed = self.allowed()?;
        let last = self.last.as_ref()?;
        let age = now_ns.checked_sub(last.captured_ns)?;
        let near = f64::from(last.cells.distance(cells)) <= allowed;
        (last.sure && near && age <= keep_ns).then_some((&last.embedding[..], age))
    }

    /// Takes the embedding of the frame that [`Self::reuse`] was last asked about.
    pub fn learn(&mut self, cells: &Cells, embedding: &[f32], captured_ns: u64) {
        if let Some(last) = &self.last {
            let (a, b) = (unit(&last.embedding), unit(embedding));
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let change = a.iter().zip(&b).map(square).sum::<f64>().sqrt();
            let distance = f64::from(last.cells.distance(cells));
            if distance.is_finite() && a.len() == b.len() {
                remember(&mut self.changes, (distance, change));
            }
        }
        self.last = Some(Embedded {
            cells: cells.clone(),
            embedding: embedding.to_vec(),
            captured_ns,
            sure: false,
        });
    }

    /// Says whether the answer to the last embedding was far from being another. One that is not is never reused.
    pub fn settle(&mut self, sure: bool) {
        if let Some(last) = &mut self.last {
            last.sure = sure;
        }
    }

    /// The distance up to which an embedding is reused; `None` while too little is known, or where nothing stays the same.
    fn allowed(&self) -> Option<f64> {
        if self.changes.len() < LEARN {
            return None;
        }
        let quiet = quantile(&sorted(self.steps.iter().copied()), QUIET).max(LEAST);
        if quiet > MOST {
            return None;
        }
        let noise = NOISE * quiet;
        let within = self.changes.iter().filter(|c| c.0 <= noise);
        let beyond = self.changes.iter().filter(|c| c.0 > noise);
        let by_noise = sorted(within.map(|c| c.1));
        let steepness = sorted(beyond.map(|(distance, change)| change / distance));
        if by_noise.is_empty() {
            return None;
        }
        let change = quantile(&by_noise, 0.5);
        if change > MOST_CHANGE {
            return None;
        }
        if steepness.len() < ENOUGH {
            return Some(noise);
        }
        let steepest = quantile(&steepness, 0.9).max(f64::MIN_POSITIVE);
        Some((change.max(LEAST_CHANGE) / steepest).clamp(noise, 2.0 * noise))
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn remember<T>(memory: &mut VecDeque<T>, value: T) {
    if memory.len() == MEMORY {
        memory.pop_front();
    }
    memory.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const KEEP: u64 = 10 * SECOND;

    /// A camera that sees a level, with noise, and a tower that follows the picture.
    struct Camera {
        rng: fastrand::Rng,
        scene: StillScene,
        frame: u64,
        embedded: Vec<bool>,
    }

    impl Camera {
        fn new() -> Self {
            Self {
                rng: fastrand::Rng::with_seed(9),
                scene: StillScene::default(),
                frame: 0,
                embedded: Vec::new(),
            }
        }

        /// Whether the frame was embedded.
        fn see(&mut self, level: f32, part: bool, noise: f32) -> bool {
            let mut data = Vec::new();
            for y in 0..64 {
                for x in 0..64 {
                    // A part of 6 × 6 pixels, 40 levels brighter.
                    let on = part && (20..26).contains(&x) && (40..46).contains(&y);
                    for _ in 0..3 {
                        let sum: f32 = (0..12).map(|_| self.rng.f32()).sum();
                        let value = level + noise * (sum - 6.0) + if on { 40.0 } else { 0.0 };
                        #[expect(
                            clippy::cast_possible_truncation,
                            clippy::cast_sign_loss,
                            reason = "0 to 255"
                        )]
                        data.push(value.round() as u8);
                    }
                }
            }
            let image = RgbImage {
                width: 64,
                height: 64,
                data,
            };
            let (cells, now) = (Cells::of(&image), self.frame * SECOND / 10);
            self.frame += 1;
            let embed = self.scene.reuse(&cells, now, KEEP).is_none();
            if embed {
                let noise = 0.002 * noise * (self.rng.f32() - 0.5);
                let embedding = [1.0 + noise, level / 100.0, if part { 0.3 } else { 0.0 }];
                self.scene.learn(&cells, &embedding, now);
                self.scene.settle(true);
            }
            self.embedded.push(embed);
            embed
        }
    }

    #[test]
    fn a_still_picture_is_embedded_now_and_then_and_a_part_at_once() {
        for noise in [0.0, 2.0, 6.0] {
            let mut camera = Camera::new();
            for _ in 0..400 {
                camera.see(100.0, false, noise);
            }
            let late = camera.embedded[100..].iter().filter(|e| **e).count();
            assert!(
                (2..=5).contains(&late),
                "every 10 s: {late} of 300, noise {noise}"
            );
            assert!(camera.see(100.0, true, noise), "a part came, noise {noise}");
            assert!(!camera.see(100.0, true, noise), "it stays, noise {noise}");
            assert!(camera.see(100.0, false, noise), "it left, noise {noise}");
        }
    }

    #[test]
    fn slow_light_adds_up() {
        let mut camera = Camera::new();
        for i in 0..600u16 {
            camera.see(100.0 + 0.05 * f32::from(i), false, 2.0);
        }
        let gaps = camera.embedded[50..].split(|e| *e).map(<[bool]>::len);
        let longest = gaps.max().unwrap_or(0);
        // 30 levels in all; none of the reused embeddings is off by more than a few.
        assert!(
            (5..=80).contains(&longest),
            "{longest} frames of 0.05 levels"
        );
    }

    #[test]
    fn what_moves_or_is_unsure_or_old_is_embedded() {
        let mut moving = Camera::new();
        for i in 0..200u16 {
            moving.see(f32::from(i % 50) * 4.0, false, 2.0);
        }
        assert!(moving.embedded.iter().all(|e| *e), "each frame is another");
        let mut camera = Camera::new();
        for _ in 0..50 {
            camera.see(100.0, false, 2.0);
        }
        camera.scene.settle(false);
        assert!(camera.see(100.0, false, 2.0), "the answer was unsure");
        assert!(!camera.see(100.0, false, 2.0));
        camera.frame += 200;
        assert!(camera.see(100.0, false, 2.0), "20 s later");
        camera.frame -= 150;
        assert!(camera.see(100.0, false, 2.0), "a clock that went back");
    }

    #[test]
    fn pictures_of_two_sizes_are_never_the_same() {
        let cells = |width| {
            let data = vec![9; width as usize * 24];
            Cells::of(&RgbImage {
                width,
                height: 8,
                data,
            })
        };
        assert!(cells(8).distance(&cells(8)) < 1e-6);
        assert!(cells(8).distance(&cells(16)).is_infinite());
    }
}
