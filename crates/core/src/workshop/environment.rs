//! Named environments: the ranges that the variant causes are drawn from.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a JPEG quality is 1 to 100"
)]

use super::causes::{Light, Pose, Sensor, Surface, Variant};
use crate::numeric::Rng;

/// Bounds of a uniformly drawn cause.
pub type Range = (f32, f32);

/// The ranges of an environment's variant causes. Fields are the ranges of the fields of [`Light`] and [`Sensor`] with the
/// same names.
///
/// ```
/// use constancy_core::workshop::{ENVIRONMENTS, Environment};
///
/// assert_eq!(ENVIRONMENTS[0].name, "noon");
/// assert!(!Environment::named("night-ir").expect("a named environment").daylight_like);
/// assert_eq!(Environment::named("moon"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Environment {
    /// Its name on the command line and in caption files.
    pub name: &'static str,
    /// Whether it resembles daylight. The shipped model was trained on such environments only.
    pub daylight_like: bool,
    /// Its light in a caption, after "under".
    pub light_name: &'static str,
    level: Range,
    /// In turns, like [`Light::direction`].
    direction: Range,
    directed: Range,
    kelvin: Range,
    tint: [f32; 3],
    /// The least factor of a mild tint that is drawn besides, `0..=1`; 1 means none.
    mild_tint: f32,
    shadow: Range,
    softness: Range,
    front: Range,
    haze: Range,
    pool: Range,
    exposure: Range,
    shot_noise: Range,
    read_noise: Range,
    blur: Range,
    vignette: Range,
    jpeg_quality: Range,
    monochrome: bool,
}

/// An evenly lit, bright, slightly noisy environment, the base of the named ones.
const PLAIN: Environment = Environment {
    name: "plain",
    daylight_like: true,
    light_name: "plain light",
    level: (0.9, 1.1),
    direction: (0.5, 1.0),
    directed: (0.2, 0.5),
    kelvin: (5000.0, 6500.0),
    tint: [1.0, 1.0, 1.0],
    mild_tint: 1.0,
    shadow: (0.2, 0.5),
    softness: (0.01, 0.03),
    front: (1.0, 1.0),
    haze: (0.0, 0.01),
    pool: (0.0, 0.1),
    exposure: (0.85, 1.15),
    shot_noise: (0.5, 2.5),
    read_noise: (0.3, 1.0),
    blur: (0.0, 0.002),
    vignette: (0.0, 0.25),
    jpeg_quality: (75.0, 100.0),
    monochrome: false,
};

/// The world's light as CLIP has seen it: continuous ranges that hold the four daylight-like environments and none of the
/// others. Dusk and low light are darker (`level` below 0.3), dusk is bluer too (from 9000 K), backlight is brighter (from
/// 1.6) and leaves the visible side dark (`front` below 0.3), signal lights leave below 0.4 of two channels, and
/// infrared has no colour. Their noise and haze mostly lie above these ranges too.
pub const WIDE: Environment = Environment {
    name: "wide",
    light_name: "some light",
    level: (0.4, 1.5),
    direction: (0.0, 1.0),
    directed: (0.0, 0.8),
    kelvin: (2800.0, 8800.0),
    mild_tint: 0.65,
    shadow: (0.05, 0.75),
    softness: (0.004, 0.06),
    front: (0.5, 1.0),
    haze: (0.0, 0.03),
    pool: (0.0, 0.7),
    exposure: (0.7, 1.45),
    shot_noise: (0.5, 5.0),
    read_noise: (0.3, 2.0),
    blur: (0.0, 0.004),
    vignette: (0.0, 0.4),
    jpeg_quality: (40.0, 100.0),
    ..PLAIN
};

/// Every environment, the daylight-like ones first.
pub const ENVIRONMENTS: [Environment; 10] = [
    Environment {
        name: "noon",
        light_name: "bright daylight",
        level: (1.0, 1.4),
        directed: (0.4, 0.7),
        kelvin: (5200.0, 6000.0),
        shadow: (0.5, 0.75),
        softness: (0.004, 0.015),
        ..PLAIN
    },
    Environment {
        name: "overcast",
        light_name: "soft grey daylight",
        level: (0.65, 0.95),
        directed: (0.0, 0.2),
        kelvin: (6500.0, 8000.0),
        shadow: (0.1, 0.3),
        softness: (0.03, 0.06),
        ..PLAIN
    },
    Environment {
        name: "morning",
        light_name: "warm morning light",
        level: (0.7, 1.05),
        direction: (0.9, 1.1),
        directed: (0.45, 0.8),
        kelvin: (3800.0, 4800.0),
        shadow: (0.4, 0.65),
        softness: (0.01, 0.03),
        ..PLAIN
    },
    Environment {
        name: "workshop-lamp",
        light_name: "a workshop lamp",
        level: (0.6, 1.0),
        direction: (0.0, 1.0),
        directed: (0.3, 0.6),
        kelvin: (3000.0, 4200.0),
        shadow: (0.4, 0.7),
        pool: (0.3, 0.7),
        shot_noise: (1.5, 4.0),
        vignette: (0.1, 0.35),
        ..PLAIN
    },
    Environment {
        name: "dusk",
        daylight_like: false,
        light_name: "dim blue dusk light",
        level: (0.12, 0.28),
        kelvin: (9000.0, 12000.0),
        shadow: (0.1, 0.3),
        softness: (0.03, 0.06),
        exposure: (0.9, 1.3),
        shot_noise: (4.0, 8.0),
        read_noise: (2.0, 4.0),
        ..PLAIN
    },
    Environment {
        name: "night-ir",
        daylight_like: false,
        light_name: "infrared light at night",
        level: (0.35, 0.7),
        direction: (0.0, 1.0),
        directed: (0.0, 0.2),
        shadow: (0.3, 0.6),
        pool: (0.7, 1.0),
        shot_noise: (5.0, 10.0),
        read_noise: (2.0, 5.0),
        vignette: (0.4, 0.7),
        monochrome: true,
        ..PLAIN
    },
    Environment {
        name: "backlight",
        daylight_like: false,
        light_name: "strong backlight",
        level: (1.6, 2.4),
        direction: (0.65, 0.85),
        directed: (0.5, 0.8),
        shadow: (0.3, 0.5),
        front: (0.10, 0.25),
        haze: (0.03, 0.12),
        exposure: (0.6, 0.9),
        ..PLAIN
    },
    Environment {
        name: "red-signal",
        daylight_like: false,
        light_name: "red signal light",
        level: (0.5, 0.9),
        direction: (0.0, 1.0),
        tint: [1.0, 0.22, 0.16],
        shadow: (0.4, 0.7),
        pool: (0.2, 0.6),
        shot_noise: (2.0, 5.0),
        ..PLAIN
    },
    Environment {
        name: "blue-signal",
        daylight_like: false,
        light_name: "blue signal light",
        level: (0.5, 0.9),
        direction: (0.0, 1.0),
        tint: [0.20, 0.38, 1.0],
        shadow: (0.4, 0.7),
        pool: (0.2, 0.6),
        shot_noise: (2.0, 5.0),
        ..PLAIN
    },
    Environment {
        name: "low-light",
        daylight_like: false,
        light_name: "very low light",
        level: (0.05, 0.12),
        kelvin: (2600.0, 3400.0),
        exposure: (1.2, 2.2),
        shot_noise: (7.0, 13.0),
        read_noise: (3.0, 6.0),
        blur: (0.001, 0.004),
        ..PLAIN
    },
];

impl Environment {
    /// The environment with that name, [`WIDE`] included.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ENVIRONMENTS.iter().chain([&WIDE]).find(|e| e.name == name)
    }

    /// Draws variant causes from this environment's ranges.
    pub(super) fn sample(&self, rng: &mut Rng) -> Variant {
        Variant {
            environment: self.name,
            surface: rng.pick(&Surface::ALL),
            light: self.light(rng),
            pose: pose(rng),
            sensor: self.sensor(rng),
            grain: rng.next_u64(),
            moment: 0,
        }
    }

    fn light(&self, rng: &mut Rng) -> Light {
        let mut draw = |(low, high): Range| rng.between(low, high);
        Light {
            level: draw(self.level),
            direction: draw(self.direction),
            directed: draw(self.directed),
            kelvin: draw(self.kelvin),
            tint: if self.mild_tint < 1.0 {
                mild_tint(self.mild_tint, &mut draw)
            } else {
                self.tint
            },
            shadow: draw(self.shadow),
            shadow_softness: draw(self.softness),
            front: draw(self.front),
            haze: draw(self.haze),
            pool: draw(self.pool),
        }
    }

    fn sensor(&self, rng: &mut Rng) -> Sensor {
        let mut draw = |(low, high): Range| rng.between(low, high);
        Sensor {
            exposure: draw(self.exposure),
            white_balance: draw((0.2, 0.8)),
            white_point: None,
            shot_noise: draw(self.shot_noise),
            read_noise: draw(self.read_noise),
            blur: draw(self.blur),
            vignette: draw(self.vignette),
            jpeg_quality: draw(self.jpeg_quality) as u8,
            monochrome: self.monochrome,
        }
    }
}

/// Factors of red, green and blue of which the largest is 1 and the others are at least `least`.
fn mild_tint(least: f32, draw: &mut impl FnMut(Range) -> f32) -> [f32; 3] {
    let tint = [(); 3].map(|()| draw((least, 1.0)));
    let largest = tint.iter().fold(0.0_f32, |a, &b| a.max(b));
    tint.map(|t| t / largest)
}

/// The jitter of a camera whose bracket is knocked now and then, and of parts laid down by hand.
fn pose(rng: &mut Rng) -> Pose {
    Pose {
        rotation: rng.between(-0.06, 0.06),
        scale: rng.between(0.92, 1.12),
        shift: [rng.between(-0.10, 0.10), rng.between(-0.10, 0.10)],
        tilt: rng.between(0.0, 0.12),
        tilt_axis: rng.unit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_found() {
        for (i, environment) in ENVIRONMENTS.iter().enumerate() {
            assert_eq!(Environment::named(environment.name), Some(environment));
            assert!(
                ENVIRONMENTS[..i]
                    .iter()
                    .all(|e| e.light_name != environment.light_name)
            );
        }
        assert_eq!(Environment::named("wide"), Some(&WIDE));
        assert_eq!(Environment::named("moon"), None);
        assert_eq!(ENVIRONMENTS.iter().filter(|e| e.daylight_like).count(), 4);
    }

    /// The ranges of an environment, but for the direction, which is a circle.
    fn ranges(e: &Environment) -> [Range; 13] {
        [
            e.level,
            e.directed,
            e.kelvin,
            e.shadow,
            e.softness,
            e.front,
            e.haze,
            e.pool,
            e.exposure,
            e.shot_noise,
            e.read_noise,
            e.blur,
            e.vignette,
        ]
    }

    #[test]
    fn wide_holds_the_daylight_like_environments_and_none_of_the_others() {
        let holds = |wide: Range, range: Range| wide.0 <= range.0 && range.1 <= wide.1;
        let apart = |wide: Range, range: Range| range.1 < wide.0 || wide.1 < range.0;
        let pairs = |e| ranges(&WIDE).into_iter().zip(ranges(e));
        for environment in &ENVIRONMENTS {
            let coloured = environment.tint.iter().any(|&t| t < WIDE.mild_tint);
            if environment.daylight_like {
                assert!(
                    pairs(environment).all(|(w, r)| holds(w, r)),
                    "{}",
                    environment.name
                );
                assert!(!coloured && !environment.monochrome);
            } else {
                let outside = pairs(environment).any(|(w, r)| apart(w, r));
                assert!(
                    outside || coloured || environment.monochrome,
                    "{}",
                    environment.name
                );
            }
        }
    }

    #[test]
    fn a_mild_tint_is_within_its_bounds() {
        let mut rng = Rng::new(5);
        for _ in 0..500 {
            let tint = WIDE.sample(&mut rng).light.tint;
            let [least, most] = [f32::min, f32::max].map(|f| tint.into_iter().reduce(f));
            assert_eq!(most, Some(1.0));
            assert!(least.is_some_and(|t| t >= WIDE.mild_tint), "{tint:?}");
        }
    }
}
