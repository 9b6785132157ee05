//! Draws an image's interventions from a seed and the image's index.

use super::{Family, intervene};
use crate::numeric::Rng;
use crate::preprocess::RgbImage;
use std::fmt;

/// One intervention with all its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intervention {
    pub family: Family,
    /// `0..=1`, with the meaning that [`Family`] gives it.
    pub strength: f32,
    /// The seed of signs, directions, places and noise.
    pub seed: u64,
}

impl Intervention {
    /// The image after this intervention; see [`intervene`].
    #[must_use]
    pub fn apply(&self, image: &RgbImage) -> RgbImage {
        intervene(image, self.family, self.strength, self.seed)
    }
}

impl fmt::Display for Intervention {
    /// Writes, for example, `motion-blur 0.62`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.2}", self.family, self.strength)
    }
}

/// Draws interventions. An image's intervention depends only on the seed, the image's index and the
/// family's name: not on the machine, the other images or the other families.
///
/// ```
/// use constancy_core::intervene::{Draw, Family};
///
/// let draw = Draw::new(7);
/// let blur = draw.one(42, Family::MotionBlur);
/// assert!(Family::MotionBlur.strengths().contains(&blur.strength));
/// // The same image gets the same intervention, whichever other families are drawn.
/// let drawn = draw.each(42, &[Family::Jpeg, Family::MotionBlur]);
/// assert_eq!(drawn[1], blur);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    seed: u64,
}

impl Draw {
    /// Draws from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// An intervention of `family` on the image with index `image`, of a strength within
    /// [`Family::strengths`].
    #[must_use]
    pub fn one(self, image: u64, family: Family) -> Intervention {
        let mut rng = self.stream(image, family.name());
        let range = family.strengths();
        let strength = rng.between(*range.start(), *range.end());
        Intervention {
            family,
            strength,
            seed: rng.next_u64(),
        }
    }

    /// One intervention of each family.
    #[must_use]
    pub fn each(self, image: u64, families: &[Family]) -> Vec<Intervention> {
        families
            .iter()
            .map(|&family| self.one(image, family))
            .collect()
    }

    /// Interventions of `k` different families, chosen uniformly; of all families if there are no
    /// more than `k`.
    #[must_use]
    pub fn some(self, image: u64, families: &[Family], k: usize) -> Vec<Intervention> {
        let mut rng = self.stream(image, "families");
        let mut left = families.to_vec();
        let chosen = (0..k.min(left.len()))
            .map(|_| left.swap_remove(rng.count(0, left.len() - 1)))
            .collect::<Vec<_>>();
        self.each(image, &chosen)
    }

    /// The random stream of one image for one purpose.
    fn stream(self, image: u64, purpose: &str) -> Rng {
        // FNV-1a of the name: a family's position in the list may change, its name does not.
        let named = purpose
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
            });
        let of_image = Rng::new(self.seed).next_u64() ^ image;
        Rng::new(Rng::new(of_image).next_u64() ^ named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_draw_depends_on_seed_image_and_family() {
        let one = |seed, image, family| Draw::new(seed).one(image, family);
        let first = one(1, 2, Family::Jpeg);
        assert_eq!(first, one(1, 2, Family::Jpeg));
        for other in [
            one(2, 2, Family::Jpeg),
            one(1, 3, Family::Jpeg),
            one(1, 2, Family::Haze),
        ] {
            assert!(
                first.seed != other.seed && first.strength.to_bits() != other.strength.to_bits()
            );
        }
    }

    #[test]
    fn every_machine_draws_the_same() {
        // Recorded on x86-64. A change here changes the interventions of every fit.
        let drawn = Draw::new(7).one(42, Family::MotionBlur);
        assert_eq!(
            (drawn.strength.to_bits(), drawn.seed),
            (0x3f1a_563b, 0xe43d_d4f2_d985_00a1)
        );
    }

    #[test]
    fn strengths_fill_the_familys_range() {
        for family in Family::ALL {
            let range = family.strengths();
            let drawn: Vec<f32> = (0..300)
                .map(|i| Draw::new(5).one(i, family).strength)
                .collect();
            assert!(drawn.iter().all(|s| range.contains(s)), "{family}");
            let width = range.end() - range.start();
            let (least, most) = drawn
                .iter()
                .fold((1.0f32, 0.0f32), |(a, b), &s| (a.min(s), b.max(s)));
            assert!(
                least <= range.start() + 0.05 * width && most >= range.end() - 0.05 * width,
                "{family}"
            );
        }
    }

    #[test]
    fn some_draws_different_families_with_equal_probability() {
        let draw = Draw::new(9);
        let mut counts = [0; 20];
        for image in 0..2000 {
            let some = draw.some(image, &Family::ALL, 3);
            let families: BTreeSet<Family> = some.iter().map(|i| i.family).collect();
            assert_eq!(families.len(), 3);
            for intervention in some {
                assert_eq!(
                    intervention,
                    draw.one(image, intervention.family),
                    "one() and some() agree"
                );
                counts[Family::ALL
                    .iter()
                    .position(|&f| f == intervention.family)
                    .expect("a family")] += 1;
            }
        }
        assert!(
            counts.iter().all(|&c| (230..=370).contains(&c)),
            "{counts:?}"
        );
    }

    #[test]
    fn no_more_families_are_drawn_than_exist() {
        assert_eq!(Draw::new(1).some(0, Family::PAPER, 50).len(), 7);
        assert!(Draw::new(1).some(0, &[], 2).is_empty() && Draw::new(1).each(0, &[]).is_empty());
        assert_eq!(Draw::new(1).each(4, Family::CAMERA).len(), 13);
    }

    #[test]
    fn an_intervention_is_written_with_family_and_strength() {
        let intervention = Intervention {
            family: Family::MotionBlur,
            strength: 0.618,
            seed: 1,
        };
        assert_eq!(intervention.to_string(), "motion-blur 0.62");
    }
}
