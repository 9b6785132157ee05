//! Scenes: all causes of an image together, drawn at random.

use super::causes::{Condition, Finish, Invariant, Part, Variant};
use super::environment::Environment;
use crate::numeric::Rng;

/// All causes of one image.
///
/// ```
/// use constancy_core::workshop::{Environment, Scene, caption, render};
///
/// let noon = Environment::named("noon").expect("a named environment");
/// let scene = Scene::from_seed(7, noon);
/// let pixels = render(&scene, 64, 48);
/// assert_eq!(pixels.len(), 64 * 48 * 3);
/// // The seed and the environment reproduce the image.
/// assert_eq!(render(&Scene::from_seed(7, noon), 64, 48), pixels);
/// assert!(caption(&scene).ends_with("under bright daylight"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene {
    pub invariant: Invariant,
    pub variant: Variant,
}

impl Scene {
    /// A scene with every cause drawn at random, the variant ones from `environment`.
    #[must_use]
    pub fn sample(rng: &mut Rng, environment: &Environment) -> Self {
        let part = rng.pick(&Part::ALL);
        let condition = rng.pick(&Condition::ALL);
        Self::of(part, condition, rng, environment)
    }

    /// The random scene of `seed` in `environment`.
    #[must_use]
    pub fn from_seed(seed: u64, environment: &Environment) -> Self {
        Self::sample(&mut Rng::new(seed), environment)
    }

    /// A random specimen of `part` in `condition`, in `environment`.
    #[must_use]
    pub fn of(part: Part, condition: Condition, rng: &mut Rng, environment: &Environment) -> Self {
        let finish = rng.pick(&[Finish::Steel, Finish::Zinc, Finish::Dark]);
        let invariant = Invariant {
            part,
            condition,
            finish,
            specimen: rng.next_u64(),
        };
        Self {
            invariant,
            variant: environment.sample(rng),
        }
    }

    /// `thing`, undamaged, in place of the scene's part.
    #[must_use]
    pub fn showing(mut self, thing: Part) -> Self {
        self.invariant.part = thing;
        self.invariant.condition = Condition::Intact;
        self
    }

    /// The same specimen in `environment`: the invariant causes stay, the variant ones are drawn anew.
    #[must_use]
    pub fn pair(&self, rng: &mut Rng, environment: &Environment) -> Self {
        Self {
            invariant: self.invariant,
            variant: environment.sample(rng),
        }
    }

    /// The same specimen with the same pose and surface, under the light and camera of `environment`.
    #[must_use]
    pub fn relit(&self, rng: &mut Rng, environment: &Environment) -> Self {
        let Variant {
            surface,
            pose,
            grain,
            ..
        } = self.variant;
        Self {
            variant: Variant {
                surface,
                pose,
                grain,
                ..environment.sample(rng)
            },
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workshop::ENVIRONMENTS;

    #[test]
    fn a_pair_shares_the_invariant_causes_only() {
        let mut rng = Rng::new(3);
        for environment in &ENVIRONMENTS {
            let scene = Scene::sample(&mut rng, &ENVIRONMENTS[0]);
            let other = scene.pair(&mut rng, environment);
            assert_eq!(scene.invariant, other.invariant);
            assert_ne!(scene.variant.light, other.variant.light);
            assert_ne!(scene.variant.pose, other.variant.pose);
            assert_eq!(other.variant.environment, environment.name);
        }
    }

    #[test]
    fn relighting_leaves_the_pose_and_the_surface() {
        let mut rng = Rng::new(4);
        let scene = Scene::sample(&mut rng, &ENVIRONMENTS[0]);
        let other = scene.relit(&mut rng, &ENVIRONMENTS[5]);
        assert_eq!(
            (scene.variant.pose, scene.variant.surface),
            (other.variant.pose, other.variant.surface)
        );
        assert_ne!(scene.variant.light, other.variant.light);
    }
}
