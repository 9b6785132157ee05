//! Renders the workshop as a camera would show it, one environment after the other, with the ground truth of each
//! scene.

use super::error::CaptureError;
use super::pace::Pace;
use super::sensor::Sensor;
use super::source::{Next, Source};
use super::synthetic_controls::SyntheticSensor;
use crate::clock;
use crate::config::SyntheticSettings;
use constancy_core::frame::{Frame, GroundTruth};
use constancy_core::workshop::{Environment, Scene, render};
use std::sync::Arc;
use std::time::Duration;

/// Renders frames by a schedule of environments.
pub(super) struct SyntheticSource {
    settings: SyntheticSettings,
    /// At least one.
    environments: Vec<&'static Environment>,
    /// The number of the next frame.
    next_frame: u64,
    pace: Pace,
    sensor: SyntheticSensor,
}

impl SyntheticSource {
    /// Reading the configuration has checked that there are environments, and that all of them exist.
    pub(super) fn open(settings: &SyntheticSettings) -> Result<Self, CaptureError> {
        let named = |name: &String| {
            Environment::named(name)
                .ok_or_else(|| CaptureError::Internal(format!("there is no environment `{name}`")))
        };
        let environments: Vec<&Environment> = settings
            .environments
            .iter()
            .map(named)
            .collect::<Result<_, _>>()?;
        if environments.is_empty() || settings.frames_each == 0 {
            let reason = "a synthetic source without environments or without frames in each";
            return Err(CaptureError::Internal(reason.into()));
        }
        Ok(Self {
            settings: settings.clone(),
            environments,
            next_frame: 0,
            pace: Pace::new(settings.rate),
            sensor: SyntheticSensor::of(settings),
        })
    }

    /// The environment of a scene that begins with this frame.
    fn environment(&self, first_frame: u64) -> &'static Environment {
        let turn = first_frame / self.settings.frames_each % self.environments.len() as u64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the number of environments"
        )]
        self.environments[turn as usize]
    }
}

impl Source for SyntheticSource {
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError> {
        let count = self.settings.count;
        if count.is_some_and(|count| self.next_frame >= count) {
            return Ok(Next::End);
        }
        if !self.pace.wait(timeout) {
            return Ok(Next::Nothing);
        }
        let (number, moment) = (
            self.next_frame / self.settings.hold,
            self.next_frame % self.settings.hold,
        );
        let seed = (self.settings.seed << 32) + number;
        let environment = self.environment(number * self.settings.hold);
        self.next_frame += 1;
        let scene = Scene::from_seed(seed, environment).at(moment);
        let scene = scene.through(self.sensor.controls()?);
        let (width, height) = (self.settings.width, self.settings.height);
        let data = render(&scene, width, height);
        let truth = GroundTruth {
            class: scene.invariant.class(),
            part: scene.invariant.part.name().to_owned(),
            condition: scene.invariant.condition.name().to_owned(),
            environment: environment.name.to_owned(),
            seed,
        };
        let frame = Frame::rgb(data, width, height, clock::now());
        Ok(Next::Frame(Frame {
            truth: Some(Arc::new(truth)),
            ..frame
        }))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn waits_for_reader(&self) -> bool {
        self.settings.rate.is_none()
    }

    fn sensor(&self) -> Result<Option<Box<dyn Sensor>>, CaptureError> {
        Ok(Some(Box::new(self.sensor.clone())))
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.environments.iter().map(|e| e.name).collect();
        format!("a rendered workshop: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Effect, Setting};
    use constancy_core::workshop::ENVIRONMENTS;

    fn settings(environments: &[&str]) -> SyntheticSettings {
        let names = environments.iter().map(|name| format!("{name:?}"));
        let names: Vec<String> = names.collect();
        let text = format!(
            "environments = [{}]\nframes_each = 2\ncount = 5\nwidth = 16\nheight = 16\n",
            names.join(", ")
        );
        toml::from_str(&text).expect("settings")
    }

    #[test]
    fn environments_take_turns_until_the_end() {
        let names = [ENVIRONMENTS[0].name, ENVIRONMENTS[1].name];
        let mut source = SyntheticSource::open(&settings(&names)).expect("opened");
        let shown: Vec<String> = std::iter::from_fn(|| match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => frame.truth.map(|truth| truth.environment.clone()),
            _ => None,
        })
        .collect();
        assert_eq!(shown, [names[0], names[0], names[1], names[1], names[0]]);
    }

    #[test]
    fn a_held_scene_changes_by_its_noise_alone_and_controls_act_at_once() {
        let mut held = settings(&[ENVIRONMENTS[0].name, ENVIRONMENTS[1].name]);
        (held.hold, held.width, held.height) = (3, 64, 48);
        let mut source = SyntheticSource::open(&held).expect("opened");
        let mut sensor = source.sensor().expect("sensor").expect("a sensor");
        let mut next = || match source.next(Duration::ZERO) {
            Ok(Next::Frame(frame)) => (frame.truth.expect("truth").seed, frame.data),
            other => panic!("{other:?}"),
        };
        let mean =
            |data: &[u8]| data.iter().map(|&v| u64::from(v)).sum::<u64>() / data.len() as u64;
        let (first, still) = (next(), next());
        assert_eq!(first.0, still.0);
        assert_ne!(first.1, still.1);
        assert!(mean(&first.1).abs_diff(mean(&still.1)) <= 1);
        let controls = sensor.controls().expect("controls");
        let exposure = controls
            .iter()
            .find(|c| c.effect() == Some(Effect::Exposure));
        let exposure = Setting::new(exposure.expect("exposure"), 25);
        assert_eq!(sensor.value(&exposure).expect("value"), 100);
        assert_eq!(sensor.set(&exposure, 25).expect("set"), 25);
        let (darker, other) = (next(), next());
        assert_eq!(darker.0, first.0);
        assert!(mean(&darker.1) * 3 < mean(&first.1) * 2);
        assert_ne!(other.0, first.0, "the fourth frame is another scene");
    }

    #[test]
    fn settings_that_were_not_checked_are_an_internal_error() {
        for environments in [&["no such place"][..], &[]] {
            let error = SyntheticSource::open(&settings(environments)).err();
            assert!(
                matches!(error, Some(CaptureError::Internal(_))),
                "{error:?}"
            );
        }
    }
}
