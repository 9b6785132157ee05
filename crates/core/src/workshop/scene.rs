//! What an image depends on, every cause by name.

use super::environment::Environment;
use crate::numeric::Rng;
use std::fmt;

/// A kind of factory part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Bolt,
    Nut,
    Washer,
    Gear,
    Bearing,
    Spring,
    Bracket,
    PipeFitting,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 8] = [
        Self::Bolt,
        Self::Nut,
        Self::Washer,
        Self::Gear,
        Self::Bearing,
        Self::Spring,
        Self::Bracket,
        Self::PipeFitting,
    ];

    /// As captions and labels have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bolt => "bolt",
            Self::Nut => "nut",
            Self::Washer => "washer",
            Self::Gear => "gear",
            Self::Bearing => "bearing",
            Self::Spring => "spring",
            Self::Bracket => "bracket",
            Self::PipeFitting => "pipe fitting",
        }
    }
}

/// The state a part is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    Intact,
    Scratched,
    Cracked,
    Rusty,
    Broken,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 5] = [
        Self::Intact,
        Self::Scratched,
        Self::Cracked,
        Self::Rusty,
        Self::Broken,
    ];

    /// As captions and labels have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Scratched => "scratched",
            Self::Cracked => "cracked",
            Self::Rusty => "rusty",
            Self::Broken => "broken",
        }
    }
}

/// What a part's metal looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Steel,
    Zinc,
    Dark,
}

impl Finish {
    /// Reflectance of red, green and blue as sRGB values, `0..=255`.
    pub(super) fn colour(self) -> [f32; 3] {
        match self {
            Self::Steel => [168.0, 168.0, 170.0],
            Self::Zinc => [178.0, 184.0, 194.0],
            Self::Dark => [132.0, 132.0, 138.0],
        }
    }
}

/// What the part is: a change of environment leaves all of this alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Invariant {
    pub part: Part,
    pub condition: Condition,
    pub finish: Finish,
    /// Decides this specimen's proportions and where its damage sits.
    pub specimen: u64,
}

/// What the part lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    SteelBench,
    Wood,
    Concrete,
    RubberMat,
    Fabric,
    Cardboard,
}

impl Surface {
    /// Every surface.
    pub const ALL: [Self; 6] = [
        Self::SteelBench,
        Self::Wood,
        Self::Concrete,
        Self::RubberMat,
        Self::Fabric,
        Self::Cardboard,
    ];

    /// As captions have it, without an article.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SteelBench => "steel bench",
            Self::Wood => "wooden table",
            Self::Concrete => "concrete floor",
            Self::RubberMat => "rubber mat",
            Self::Fabric => "blue cloth",
            Self::Cardboard => "cardboard sheet",
        }
    }
}

/// How the scene is lit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Light {
    /// Light that arrives, 1 being what the camera exposes for.
    pub level: f32,
    /// Where it comes from, in turns: 0 from the right, 0.25 from below, 0.75 from above.
    pub direction: f32,
    /// Share of the light that comes from one side, `0..=1`.
    pub directed: f32,
    /// Colour temperature, kelvin.
    pub kelvin: f32,
    /// Coloured light: what is left of red, green and blue, `0..=1` each.
    pub tint: [f32; 3],
    /// How dark the cast shadow is, `0..=1`.
    pub shadow: f32,
    /// Half width of the shadow's soft edge, as a share of the image's shorter side.
    pub shadow_softness: f32,
    /// Share of the light that reaches the side the camera sees, `0..=1`; backlit parts get little.
    pub front: f32,
    /// Stray light in the lens, of the same unit as `level`.
    pub haze: f32,
    /// How much the light is gathered in a pool as under a lamp, `0..=1`.
    pub pool: f32,
}

/// How the camera is held: the part's place in the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Rotation in turns.
    pub rotation: f32,
    /// Size; 1 fills the shorter side.
    pub scale: f32,
    /// Shift right and down, in halves of the shorter side.
    pub shift: [f32; 2],
    /// Relative shortening along one axis by a tilted view, `0..1`.
    pub tilt: f32,
    /// The tilted axis, in turns.
    pub tilt_axis: f32,
}

/// What the camera makes of the light.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensor {
    /// Gain on the light, 1 being right for `Light::level` 1.
    pub exposure: f32,
    /// Share of the colour temperature that white balance takes out, `0..=1`.
    pub white_balance: f32,
    /// Standard deviation of photon noise in mid grey, of 255.
    pub shot_noise: f32,
    /// Standard deviation of read-out noise in mid grey, of 255; it grows in the shadows.
    pub read_noise: f32,
    /// Standard deviation of the defocus, as a share of the shorter side.
    pub blur: f32,
    /// Loss of light in the corners, `0..=1`.
    pub vignette: f32,
    /// JPEG quality `1..=100`; 100 is not compressed at all.
    pub jpeg_quality: u8,
    /// Sees in grey, as with infrared light.
    pub monochrome: bool,
}

/// Everything that a change of environment changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variant {
    /// Name of the environment it was drawn from.
    pub environment: &'static str,
    pub surface: Surface,
    pub light: Light,
    pub pose: Pose,
    pub sensor: Sensor,
    /// Decides the surface's grain and the noise.
    pub grain: u64,
}

/// All causes of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene {
    pub invariant: Invariant,
    pub variant: Variant,
}

impl Invariant {
    /// Condition and part, as class names have them: "cracked gear".
    #[must_use]
    pub fn class(&self) -> String {
        format!("{} {}", self.condition, self.part)
    }
}

impl Scene {
    /// A scene with every cause drawn at random, the variant ones within `environment`.
    #[must_use]
    pub fn sample(rng: &mut Rng, environment: &Environment) -> Self {
        let part = rng.pick(&Part::ALL);
        let condition = rng.pick(&Condition::ALL);
        Self::of(part, condition, rng, environment)
    }

    /// The scene that `seed` stands for in `environment`.
    #[must_use]
    pub fn numbered(seed: u64, environment: &Environment) -> Self {
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

    /// The same specimen seen in `environment`: invariant causes kept, variant ones drawn anew.
    #[must_use]
    pub fn pair(&self, rng: &mut Rng, environment: &Environment) -> Self {
        Self {
            invariant: self.invariant,
            variant: environment.sample(rng),
        }
    }

    /// The same specimen, held and lying as it is, in the light and before the camera of `environment`.
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

macro_rules! display_by_name {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    )*};
}
display_by_name!(Part, Condition, Surface);

#[cfg(test)]
mod tests {
    use super::super::environment::ENVIRONMENTS;
    use super::*;

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
