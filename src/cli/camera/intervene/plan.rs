//! What an intervention moves, from where, and to where.

use super::light::Light;
use super::moved::Moved;
use super::steps::values;
use super::view::{Calm, Look, Viewer};
use crate::capture::{Effect, Sensor, SensorControl, Setting};
use crate::cli::CliError;
use crate::cli::output::created;
use crate::daemon::control_journal::Saved;

/// A picture that is this many times darker or brighter without the automatic modes is warned of.
const MUCH: f32 = 2.0;

/// A control, where it stands, and where it is moved to.
pub(super) struct Move {
    pub(super) effect: Effect,
    pub(super) control: Setting,
    pub(super) values: Vec<i64>,
}

/// All that an intervention moves.
pub(super) struct Plan {
    pub(super) moves: Vec<Move>,
    /// Modes that are switched off meanwhile: the mode as it is, and the value that switches it off.
    pub(super) automatic: Vec<(Setting, i64)>,
    /// The light's usual level, and the others.
    pub(super) light: Option<(String, Vec<String>)>,
}

impl Plan {
    /// `wanted` are the controls to move, and on each side of where a control stands, the number of values.
    pub(super) fn new(
        camera: &str,
        wanted: (&[Effect], u32),
        sensor: Option<&dyn Sensor>,
        light: Option<&Light>,
    ) -> Result<Self, CliError> {
        let (mut moves, mut automatic) = (Vec::new(), Vec::new());
        if let Some(sensor) = sensor {
            for control in sensor.controls()? {
                let now = sensor.value(&Setting::new(&control, 0))?;
                let setting = Setting::new(&control, now);
                if let Some(manual) = control.manual().filter(|&manual| manual != now) {
                    automatic.push((setting, manual));
                } else if let Some(moved) = move_of(wanted, &control, setting) {
                    moves.push(moved);
                }
            }
        }
        let plan = Self {
            moves,
            automatic,
            light: light.map(|light| (light.usual.clone(), light.others.clone())),
        };
        if plan.moves.is_empty() && plan.light.is_none() {
            let reason = "none of its controls can be moved: `constancy camera controls` lists those of a V4L2 camera; for \
                          others, let a program change the light (--light-command)";
            return Err(CliError::refused(camera, reason));
        }
        Ok(plan)
    }

    /// All that is set, in the order in which it must be put back: a camera refuses values while their automatic mode is on.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> {
        let modes = self.automatic.iter().map(|(mode, _)| mode);
        self.moves.iter().map(|m| &m.control).chain(modes)
    }

    pub(super) fn saved(&self, sensor: Option<&dyn Sensor>, light: Option<&Light>) -> Saved {
        Saved {
            sensor: sensor.map_or_else(String::new, Sensor::identity),
            started: created(),
            controls: self.settings().cloned().collect(),
            light: light.map_or_else(Vec::new, |light| light.command(&light.usual)),
        }
    }

    /// Switches automatic modes off, so that the camera does not undo what is done, and sets each control to where it
    /// stood. Learns how still the scene then is.
    pub(super) fn end_automatic(
        &self,
        moved: &mut Moved,
        viewer: &mut Viewer<'_>,
        before: Option<&Look>,
    ) -> Result<Calm, CliError> {
        for (mode, manual) in &self.automatic {
            moved.set(mode, *manual)?;
        }
        for Move { control, .. } in &self.moves {
            moved.set(control, control.value)?;
        }
        if let Some((usual, _)) = &self.light {
            moved.light(usual)?;
        }
        let (calm, look) = viewer.learn()?.ok_or_else(|| restless(viewer.camera()))?;
        let ratio = before.map_or(1.0, |b| (look.brightness() + 1.0) / (b.brightness() + 1.0));
        if !(1.0 / MUCH..=MUCH).contains(&ratio) {
            log::warn!(
                "camera {}: without its automatic modes the picture is {ratio:.2} times as bright as with them; set \
                 `camera.v4l.exposure` to a fitting value, and intervene again",
                viewer.camera()
            );
        }
        Ok(calm)
    }
}

/// Where a control is moved to; `None` if it is not to be moved, or has nowhere to go.
fn move_of(
    (effects, steps): (&[Effect], u32),
    control: &SensorControl,
    setting: Setting,
) -> Option<Move> {
    let effect = control.effect().filter(|e| effects.contains(e))?;
    let values = values(effect, control, setting.value, steps);
    (!values.is_empty()).then_some(Move {
        effect,
        control: setting,
        values,
    })
}

/// The error for a picture that does not stand still.
pub(super) fn restless(camera: &str) -> CliError {
    CliError::refused(
        camera,
        "the picture does not stand still: stop the belt, or whatever moves before the camera",
    )
}
