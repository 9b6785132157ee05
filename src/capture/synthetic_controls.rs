//! The controls of the rendered workshop's sensor, named and numbered as a V4L2 driver would.

use super::error::CaptureError;
use super::sensor::{Effect, Sensor, SensorControl, Setting};
use crate::config::SyntheticSettings;
use crate::files::{self, MAX_TEXT_BYTES};
use constancy_core::workshop::Controls;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// White balance, automatic: `V4L2_CID_AUTO_WHITE_BALANCE`.
const BALANCES_ITSELF: u32 = 0x0098_090c;
/// What white balance is set to while it is automatic: the light of a cloudless noon.
const USUAL_KELVIN: i64 = 5500;
/// A factor of 1, in the unit of exposure and gain.
const ONE: f32 = 100.0;
/// Bytes of the file, of which the last are line ends.
const LENGTH: usize = 128;

/// A handle on the sensor; clones are of the same one.
#[derive(Debug, Clone)]
pub(super) struct SyntheticSensor {
    state: Arc<Mutex<State>>,
    /// Where the state is kept over the program's end, and read from at each frame.
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    controls: Controls,
    /// The temperature to return to when automatic white balance is switched off.
    kelvin: i64,
}

impl SyntheticSensor {
    pub(super) fn of(settings: &SyntheticSettings) -> Self {
        let controls = settings.controls;
        let state = State {
            kelvin: controls.white_balance.map_or(USUAL_KELVIN, whole),
            controls,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            file: settings.controls_file.clone(),
        }
    }

    /// What the sensor is set to now.
    pub(super) fn controls(&self) -> Result<Controls, CaptureError> {
        Ok(self.state()?.controls)
    }

    fn state(&self) -> Result<State, CaptureError> {
        let mut state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file
            && let Some(kept) = read(file)?
        {
            state.controls = kept;
        }
        Ok(state)
    }

    fn keep(&self, state: State) -> Result<(), CaptureError> {
        if let Some(file) = &self.file {
            write(file, &state.controls)?;
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }
}

/// The controls that a file keeps; `None` if there is no file.
fn read(file: &Path) -> Result<Option<Controls>, CaptureError> {
    let text = match files::read_text(file, MAX_TEXT_BYTES) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(refused(file, "reading the controls", source)),
    };
    let controls = toml::from_str(&text).map_err(std::io::Error::other);
    let controls: Controls = controls.map_err(|e| refused(file, "reading the controls", e))?;
    if !controls.are_in_range() {
        let reason = "a value is out of range; remove the file";
        let error = std::io::Error::new(ErrorKind::InvalidData, reason);
        return Err(refused(file, "reading the controls", error));
    }
    Ok(Some(controls))
}

/// Writes the file in one go and at one length: another program may read it at any time. It need not outlive a power cut,
/// which a driver's controls do not either.
fn write(file: &Path, controls: &Controls) -> Result<(), CaptureError> {
    let failed = |e| refused(file, "writing the controls", e);
    let text = toml::to_string(controls).map_err(|e| failed(std::io::Error::other(e)))?;
    let text = format!("{text:\n<LENGTH$}");
    let kept = files::open_or_create(file).map_err(failed)?;
    kept.write_all_at(text.as_bytes(), 0).map_err(failed)?;
    kept.set_len(text.len() as u64).map_err(failed)
}

fn refused(file: &Path, action: &'static str, source: std::io::Error) -> CaptureError {
    CaptureError::Device {
        device: file.into(),
        action,
        source,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a control's value, which is within its range"
)]
fn whole(value: f32) -> i64 {
    value.round() as i64
}

fn factor(value: i64) -> f32 {
    value as f32 / ONE
}

fn control(id: u32, name: &str, (minimum, maximum): (f32, f32)) -> SensorControl {
    SensorControl {
        id,
        name: name.into(),
        minimum: whole(minimum),
        maximum: whole(maximum),
        step: 1,
    }
}

impl Sensor for SyntheticSensor {
    fn identity(&self) -> String {
        let file = self.file.as_ref();
        file.map_or("a rendered workshop".into(), |f| f.display().to_string())
    }

    fn controls(&self) -> Result<Vec<SensorControl>, CaptureError> {
        let times = |(least, most): (f32, f32)| (least * ONE, most * ONE);
        Ok(vec![
            control(BALANCES_ITSELF, "white_balance_automatic", (0.0, 1.0)),
            control(Effect::Gain.id(), "gain", times(Controls::GAINS)),
            control(
                Effect::WhiteBalance.id(),
                "white_balance_temperature",
                Controls::WHITE_BALANCES,
            ),
            control(
                Effect::Exposure.id(),
                "exposure_time",
                times(Controls::EXPOSURES),
            ),
        ])
    }

    fn value(&self, control: &Setting) -> Result<i64, CaptureError> {
        let State { controls, kelvin } = self.state()?;
        Ok(match control.id {
            BALANCES_ITSELF => i64::from(controls.white_balance.is_none()),
            id if id == Effect::WhiteBalance.id() => controls.white_balance.map_or(kelvin, whole),
            id if id == Effect::Gain.id() => whole(controls.gain * ONE),
            _ => whole(controls.exposure * ONE),
        })
    }

    fn set(&mut self, control: &Setting, value: i64) -> Result<i64, CaptureError> {
        let mut state = self.state()?;
        let known = Sensor::controls(self)?;
        let Some(range) = known.iter().find(|c| c.id == control.id) else {
            return Err(CaptureError::Control {
                device: self.identity().into(),
                control: control.name.clone(),
                problem: "is not one of this camera's".into(),
            });
        };
        let value = value.clamp(range.minimum, range.maximum);
        let set = &mut state.controls;
        match control.id {
            BALANCES_ITSELF => {
                set.white_balance = (value == 0).then_some(state.kelvin as f32);
            }
            id if id == Effect::WhiteBalance.id() => {
                state.kelvin = value;
                // While white balance is automatic, the value waits.
                set.white_balance = set.white_balance.map(|_| value as f32);
            }
            id if id == Effect::Gain.id() => set.gain = factor(value),
            _ => set.exposure = factor(value),
        }
        self.keep(state)?;
        self.value(control)
    }
}
