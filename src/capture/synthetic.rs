//! Renders the workshop as a camera would show it, one environment after the other, with the ground truth of each
//! scene.

use super::error::CaptureError;
use super::pace::Pace;
use super::source::{Next, Source};
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
        })
    }

    /// The environment of the next frame.
    fn environment(&self) -> &'static Environment {
        let turn = self.next_frame / self.settings.frames_each % self.environments.len() as u64;
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
        let seed = (self.settings.seed << 32) + self.next_frame;
        let environment = self.environment();
        self.next_frame += 1;
        let scene = Scene::from_seed(seed, environment);
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

    fn describe(&self) -> String {
        let names: Vec<&str> = self.environments.iter().map(|e| e.name).collect();
        format!("a rendered workshop: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
