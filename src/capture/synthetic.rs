//! The rendered workshop as a camera: scene after scene, environment after environment, with the truth beside it.

use super::pace::Pace;
use super::{CaptureError, Next, Source};
use crate::clock;
use crate::config::SyntheticSettings;
use constancy_core::frame::{Frame, Truth};
use constancy_core::workshop::{Environment, Scene, render};
use std::sync::Arc;
use std::time::Duration;

/// Draws frames by a schedule.
pub(super) struct SyntheticSource {
    settings: SyntheticSettings,
    environments: Vec<&'static Environment>,
    /// The next frame's number.
    at: u64,
    pace: Pace,
}

impl SyntheticSource {
    /// The settings are checked: every environment exists, and there is one at least.
    pub(super) fn open(settings: &SyntheticSettings) -> Self {
        let environments = settings
            .environments
            .iter()
            .filter_map(|name| Environment::named(name))
            .collect();
        Self {
            settings: settings.clone(),
            environments,
            at: 0,
            pace: Pace::new(settings.rate),
        }
    }

    fn environment(&self) -> Option<&'static Environment> {
        let count = self.environments.len() as u64;
        let index = (self.at / self.settings.frames_each).checked_rem(count)?;
        self.environments.get(usize::try_from(index).ok()?).copied()
    }
}

impl Source for SyntheticSource {
    fn next(&mut self, wait: Duration) -> Result<Next, CaptureError> {
        let over = self.settings.count.is_some_and(|count| self.at >= count);
        let (false, Some(environment)) = (over, self.environment()) else {
            return Ok(Next::End);
        };
        if !self.pace.wait(wait) {
            return Ok(Next::Nothing);
        }
        let seed = (self.settings.seed << 32) + self.at;
        self.at += 1;
        let scene = Scene::numbered(seed, environment);
        let (width, height) = (self.settings.width, self.settings.height);
        let data = render(&scene, width, height);
        let truth = Truth {
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
