//! The causes of an image, each a named value.

use std::fmt;

/// What lies in front of the camera: a kind of factory part, or something that is none.
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
    /// The bare surface.
    Nothing,
    Hand,
    Screwdriver,
    Spanner,
    Ruler,
}

impl Part {
    /// Every factory part.
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

    /// What is no factory part: a class bank of the parts should call none of it known.
    pub const OTHERS: [Self; 5] = [
        Self::Nothing,
        Self::Hand,
        Self::Screwdriver,
        Self::Spanner,
        Self::Ruler,
    ];

    /// Its name in captions and labels.
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
            Self::Nothing => "nothing",
            Self::Hand => "hand",
            Self::Screwdriver => "screwdriver",
            Self::Spanner => "spanner",
            Self::Ruler => "ruler",
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

    /// Its name in captions and labels.
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

/// The appearance of a part's metal.
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

/// The invariant causes, which a change of environment does not affect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Invariant {
    pub part: Part,
    pub condition: Condition,
    pub finish: Finish,
    /// Seed of this specimen's proportions and of the place of its damage.
    pub specimen: u64,
}

/// The surface that the part lies on.
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

    /// Its name in captions, without an article.
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
    /// Illumination; the camera exposes for 1.
    pub level: f32,
    /// Direction of the light, in turns: 0 from the right, 0.25 from below, 0.75 from above.
    pub direction: f32,
    /// Share of the light that comes from one side, `0..=1`.
    pub directed: f32,
    /// Colour temperature, kelvin.
    pub kelvin: f32,
    /// Coloured light: factors of red, green and blue, `0..=1` each.
    pub tint: [f32; 3],
    /// How dark the cast shadow is, `0..=1`.
    pub shadow: f32,
    /// Half width of the shadow's soft edge, as a share of the image's shorter side.
    pub shadow_softness: f32,
    /// Share of the light that reaches the visible side of the part, `0..=1`; little for backlit parts.
    pub front: f32,
    /// Stray light in the lens, in the unit of `level`.
    pub haze: f32,
    /// How much the light is concentrated in the middle, as under a lamp, `0..=1`.
    pub pool: f32,
}

/// The part's place in the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Rotation in turns.
    pub rotation: f32,
    /// Size; 1 fills the shorter side.
    pub scale: f32,
    /// Shift right and down, in units of half the shorter side.
    pub shift: [f32; 2],
    /// Relative foreshortening along one axis, `0..1`.
    pub tilt: f32,
    /// The foreshortened axis, in turns.
    pub tilt_axis: f32,
}

/// The properties of the camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensor {
    /// Gain; 1 is correct for a [`Light::level`] of 1.
    pub exposure: f32,
    /// Share of the colour cast that white balance removes, `0..=1`.
    pub white_balance: f32,
    /// Colour temperature that appears white, kelvin; in place of `white_balance`.
    pub white_point: Option<f32>,
    /// Standard deviation of shot noise in mid grey, in levels of 255.
    pub shot_noise: f32,
    /// Standard deviation of read noise in mid grey, in levels of 255; larger in the shadows.
    pub read_noise: f32,
    /// Standard deviation of the defocus, as a share of the shorter side.
    pub blur: f32,
    /// Loss of light in the corners, `0..=1`.
    pub vignette: f32,
    /// JPEG quality `1..=100`; 100 means no compression.
    pub jpeg_quality: u8,
    /// Whether the image is grey, as under infrared light.
    pub monochrome: bool,
}

/// The variant causes, which a change of environment changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variant {
    /// Name of the environment that they were drawn from.
    pub environment: &'static str,
    pub surface: Surface,
    pub light: Light,
    pub pose: Pose,
    pub sensor: Sensor,
    /// Seed of the surface's grain and of the noise.
    pub grain: u64,
    /// Number of the frame of a scene that stands still: only the noise differs.
    pub moment: u64,
}

impl Invariant {
    /// The class name, condition and part: "cracked gear". What is no factory part has no condition: "hand".
    ///
    /// ```
    /// use constancy_core::workshop::{Condition, Finish, Invariant, Part};
    ///
    /// let invariant = Invariant {
    ///     part: Part::Gear,
    ///     condition: Condition::Cracked,
    ///     finish: Finish::Steel,
    ///     specimen: 1,
    /// };
    /// assert_eq!(invariant.class(), "cracked gear");
    /// ```
    #[must_use]
    pub fn class(&self) -> String {
        if Part::OTHERS.contains(&self.part) {
            return self.part.name().to_owned();
        }
        format!("{} {}", self.condition, self.part)
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
