//! The sensor's own controls, as a camera's driver offers them.

use super::causes::Sensor;
use super::scene::Scene;
use serde::{Deserialize, Serialize};

/// What a person, or a program, sets on the sensor; relative to what the environment's camera does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controls {
    /// Factor of the time in which light is collected.
    pub exposure: f32,
    /// Factor of the amplification after that, which raises noise with the signal.
    pub gain: f32,
    /// Colour temperature that appears white, kelvin. By default the camera balances by itself, in part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub white_balance: Option<f32>,
}

impl Controls {
    /// Factors of exposure that a sensor takes.
    pub const EXPOSURES: (f32, f32) = (0.05, 20.0);
    /// Factors of gain that a sensor takes.
    pub const GAINS: (f32, f32) = (1.0, 16.0);
    /// Colour temperatures that a sensor takes, kelvin.
    pub const WHITE_BALANCES: (f32, f32) = (2500.0, 10_000.0);

    /// What changes nothing.
    pub const NEUTRAL: Self = Self {
        exposure: 1.0,
        gain: 1.0,
        white_balance: None,
    };

    /// Each control by name, with its value and the least and most that a sensor takes.
    #[must_use]
    pub fn ranges(&self) -> [(&'static str, f32, (f32, f32)); 3] {
        let kelvin = Self::WHITE_BALANCES;
        let white = self.white_balance.unwrap_or(kelvin.0);
        [
            ("exposure", self.exposure, Self::EXPOSURES),
            ("gain", self.gain, Self::GAINS),
            ("white_balance", white, kelvin),
        ]
    }

    /// Whether each value is one that a sensor takes.
    #[must_use]
    pub fn are_in_range(&self) -> bool {
        let within =
            |(_, value, (least, most)): (_, f32, (f32, f32))| (least..=most).contains(&value);
        self.ranges().into_iter().all(within)
    }

    /// The sensor with these controls.
    ///
    /// Levels have a gamma of 2. There shot noise grows with the root of the gain, whatever the light, and read noise
    /// with the gain.
    fn applied(self, sensor: Sensor) -> Sensor {
        if self == Self::NEUTRAL {
            return sensor;
        }
        Sensor {
            exposure: sensor.exposure * self.exposure * self.gain,
            shot_noise: sensor.shot_noise * self.gain.sqrt(),
            read_noise: sensor.read_noise * self.gain,
            white_point: self.white_balance.or(sensor.white_point),
            ..sensor
        }
    }
}

impl Default for Controls {
    fn default() -> Self {
        Self::NEUTRAL
    }
}

impl Scene {
    /// The same scene through a sensor with these controls.
    ///
    /// ```
    /// use constancy_core::workshop::{Controls, ENVIRONMENTS, Scene, render};
    ///
    /// let scene = Scene::from_seed(1, &ENVIRONMENTS[0]);
    /// let as_it_is = render(&scene.through(Controls::NEUTRAL), 32, 24);
    /// assert_eq!(as_it_is, render(&scene, 32, 24));
    /// let controls = Controls { exposure: 0.25, ..Controls::NEUTRAL };
    /// let darker = render(&scene.through(controls), 32, 24);
    /// let sum = |pixels: &[u8]| pixels.iter().map(|&v| u64::from(v)).sum::<u64>();
    /// assert!(sum(&darker) < sum(&as_it_is));
    /// ```
    #[must_use]
    pub fn through(mut self, controls: Controls) -> Self {
        self.variant.sensor = controls.applied(self.variant.sensor);
        self
    }

    /// The same scene in frame number `moment`, with noise of its own; 0 is the scene as it was drawn.
    #[must_use]
    pub fn at(mut self, moment: u64) -> Self {
        self.variant.moment = moment;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workshop::{Environment, render};

    fn scene() -> Scene {
        Scene::from_seed(3, Environment::named("noon").expect("noon"))
    }

    /// Mean of the levels, and mean difference between two moments: the noise.
    fn level_and_noise(controls: Controls) -> (f64, f64) {
        let mut scene = scene().through(controls);
        // Compression and clipped levels hide noise.
        scene.variant.sensor.jpeg_quality = 100;
        scene.variant.light.level *= 0.2;
        let [a, b] = [0, 1].map(|moment| render(&scene.at(moment), 96, 72));
        let mean = |f: &dyn Fn((&u8, &u8)) -> u32| {
            f64::from(a.iter().zip(&b).map(f).sum::<u32>()) / a.len() as f64
        };
        (
            mean(&|(a, _)| u32::from(*a)),
            mean(&|(a, b)| u32::from(a.abs_diff(*b))),
        )
    }

    #[test]
    fn gain_raises_noise_with_the_signal_and_exposure_raises_light_alone() {
        let (level, noise) = level_and_noise(Controls::NEUTRAL);
        let (exposed, exposed_noise) = level_and_noise(Controls {
            exposure: 4.0,
            ..Controls::NEUTRAL
        });
        let (gained, gained_noise) = level_and_noise(Controls {
            gain: 4.0,
            ..Controls::NEUTRAL
        });
        assert!(exposed > 1.7 * level && gained > 1.7 * level);
        assert!(
            exposed_noise < 1.05 * noise && gained_noise > 1.6 * noise,
            "{noise}, exposed {exposed_noise}, gained {gained_noise}"
        );
    }

    #[test]
    fn moments_of_a_scene_differ_by_noise_alone() {
        let (still, later) = (render(&scene(), 64, 48), render(&scene().at(1), 64, 48));
        assert_eq!(still, render(&scene().at(0), 64, 48));
        assert_ne!(still, later);
        let apart = still.iter().zip(&later).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart < Some(80), "{apart:?}");
        assert_eq!(later, render(&scene().at(1), 64, 48));
    }
}
