//! Watches one camera: learns its reference and tells its faults.

use super::background::Background;
use super::dirt::Patches;
use super::glance::Glance;
use super::health::CameraHealth;
use super::latch::{Latch, Pace, above, below};
use super::reference::{Learner, Reference};

/// Mean luma below which there is no light.
const DARK: (f32, f32) = (0.03, 0.04);
/// The share of white pixels above which the camera is blinded.
const BLINDED: (f32, f32) = (0.5, 0.4);
/// Structure relative to the reference's below which the lens is covered.
const COVERED: (f32, f32) = (0.01, 0.03);
/// The spread of the weakest channel relative to the middle one below which it is lost.
const COLOUR_LOST: (f32, f32) = (0.02, 0.05);
/// Spreads of the middle channel below this, in levels, say nothing of colours.
const COLOURED: f32 = 2.0;
/// The sharpness of a picture without any fine detail.
const BLURRED: f32 = 0.25;
/// A reference less sharp than this shows no blur.
const LEAST_SHARP: f32 = 0.35;
/// The share of the reference's sharpness above [`BLURRED`] that is left.
const OUT_OF_FOCUS: (f32, f32) = (0.3, 0.5);

/// The faults in the order in which they are told: an earlier one explains the later ones.
const ORDER: [CameraHealth; 8] = [
    CameraHealth::Dark,
    CameraHealth::Blinded,
    CameraHealth::Covered,
    CameraHealth::ColourLost,
    CameraHealth::Moved,
    CameraHealth::OutOfFocus,
    CameraHealth::Dirty,
    CameraHealth::Learning,
];

/// Tells a camera's faults from its frames.
#[derive(Debug, Clone)]
pub struct HealthMonitor {
    reference: Option<Reference>,
    learner: Learner,
    pace: Pace,
    /// In [`ORDER`].
    latches: [Latch; ORDER.len() - 1],
    background: Background,
    sharpness: Option<f32>,
    patches: Patches,
}

impl HealthMonitor {
    /// A monitor with a reference from before, or one that learns a new one.
    #[must_use]
    pub fn new(reference: Option<Reference>) -> Self {
        Self {
            reference,
            learner: Learner::new(),
            pace: Pace::START,
            latches: [Latch::default(); ORDER.len() - 1],
            background: Background::new(),
            sharpness: None,
            patches: Patches::new(),
        }
    }

    #[must_use]
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// What is wrong at present.
    #[must_use]
    pub fn health(&self) -> CameraHealth {
        let told = ORDER.iter().zip(&self.latches).find(|(_, l)| l.is_on());
        match told {
            Some((&fault, _)) => fault,
            None if self.reference.is_none() => CameraHealth::Learning,
            None => CameraHealth::Good,
        }
    }

    /// Takes a frame captured at `monotonic_ns`; returns whether it completed a new reference.
    pub fn update(&mut self, glance: &Glance, monotonic_ns: u64) -> bool {
        let weight = self.pace.weight(monotonic_ns);
        let seen = self.look(glance, weight);
        if self.reference.is_some() || !seen {
            return false;
        }
        self.reference = self.learner.learn(glance, monotonic_ns);
        self.reference.is_some()
    }

    /// Updates what is told; returns whether the frame shows anything to learn from.
    fn look(&mut self, glance: &Glance, weight: f32) -> bool {
        let [dark, blinded, covered, colour, moved, focus, dirty] = &mut self.latches;
        let is_dark = above(-glance.statistics.brightness, -DARK.0, -DARK.1);
        dark.update(is_dark, weight);
        if is_dark != Some(false) {
            return false;
        }
        let is_blinded = above(glance.white, BLINDED.0, BLINDED.1);
        blinded.update(is_blinded, weight);
        if is_blinded != Some(false) {
            return false;
        }
        let is_covered = self.reference.as_ref().and_then(|r| covers(glance, r));
        covered.update(is_covered, weight);
        if is_covered == Some(true) {
            return false;
        }
        let is_lost = colour_lost(glance.spread);
        colour.update(is_lost, weight);
        if let Some(reference) = &self.reference {
            moved.update(self.background.update(glance, reference, weight), weight);
            let mean = glance.statistics.sharpness.map(|s| {
                let before = self.sharpness.unwrap_or(s);
                before + weight * (s - before)
            });
            self.sharpness = mean.or(self.sharpness);
            focus.update(mean.and_then(|m| is_blurred(m, reference)), weight);
            dirty.update(self.patches.update(glance, reference, weight), weight);
        }
        is_lost != Some(true)
    }
}

fn covers(glance: &Glance, reference: &Reference) -> Option<bool> {
    let left = (glance.structure.max(f32::MIN_POSITIVE).ln() - reference.structure).exp();
    below(left, COVERED.0, COVERED.1).filter(|_| reference.is_never_blank())
}

fn colour_lost(mut spread: [f32; 3]) -> Option<bool> {
    spread.sort_by(f32::total_cmp);
    let [weakest, middle, _] = spread;
    (middle >= COLOURED).then(|| below(weakest / middle, COLOUR_LOST.0, COLOUR_LOST.1))?
}

fn is_blurred(sharpness: f32, reference: &Reference) -> Option<bool> {
    if reference.sharpness < LEAST_SHARP {
        return None;
    }
    let left = (sharpness - BLURRED) / (reference.sharpness - BLURRED);
    below(left, OUT_OF_FOCUS.0, OUT_OF_FOCUS.1)
}
