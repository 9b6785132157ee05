//! A sensor's own controls: what an intervention moves, and what it puts back.

use super::error::CaptureError;
use serde::{Deserialize, Serialize};

/// What a control changes in the picture. The values are V4L2's ids (`linux/v4l2-controls.h`), by which cameras of any
/// name are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    Brightness = 0x0098_0900,
    Contrast = 0x0098_0901,
    Saturation = 0x0098_0902,
    Hue = 0x0098_0903,
    Gain = 0x0098_0913,
    WhiteBalance = 0x0098_091a,
    Exposure = 0x009a_0902,
}

/// A mode in which the camera moves a control by itself: its id, and the value that leaves the control alone.
const AUTOMATIC: [(u32, i64); 5] = [
    // Exposure: 1 is manual.
    (0x009a_0901, 1),
    // White balance, gain, hue, brightness.
    (0x0098_090c, 0),
    (0x0098_0912, 0),
    (0x0098_0919, 0),
    (0x0098_0920, 0),
];

impl Effect {
    pub(crate) const ALL: [Self; 7] = [
        Self::Exposure,
        Self::Gain,
        Self::WhiteBalance,
        Self::Brightness,
        Self::Contrast,
        Self::Saturation,
        Self::Hue,
    ];

    /// The name on the command line, and after `physical-` that of the family.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exposure => "exposure",
            Self::Gain => "gain",
            Self::WhiteBalance => "white-balance",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Saturation => "saturation",
            Self::Hue => "hue",
        }
    }

    pub(crate) fn id(self) -> u32 {
        self as u32
    }
}

/// A control with its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SensorControl {
    pub(crate) id: u32,
    /// The name that the camera gives it.
    pub(crate) name: String,
    pub(crate) minimum: i64,
    pub(crate) maximum: i64,
    /// At least 1.
    pub(crate) step: i64,
}

impl SensorControl {
    pub(crate) fn effect(&self) -> Option<Effect> {
        Effect::ALL.into_iter().find(|e| e.id() == self.id)
    }

    /// The value that ends the automatic mode which this control switches on.
    pub(crate) fn manual(&self) -> Option<i64> {
        let mode = AUTOMATIC.iter().find(|(id, _)| *id == self.id);
        mode.map(|(_, manual)| *manual)
    }
}

/// A sensor that a program can set. A trait, so that a test can replace the camera.
pub(crate) trait Sensor {
    /// Which camera this is, wherever it is opened from.
    fn identity(&self) -> String;

    /// The controls that can be set.
    fn controls(&self) -> Result<Vec<SensorControl>, CaptureError>;

    fn value(&self, control: &Setting) -> Result<i64, CaptureError>;

    /// Sets a control, and returns the value that the sensor keeps.
    fn set(&mut self, control: &Setting, value: i64) -> Result<i64, CaptureError>;
}

/// A control and a value of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) value: i64,
}

impl Setting {
    pub(crate) fn new(control: &SensorControl, value: i64) -> Self {
        Self {
            id: control.id,
            name: control.name.clone(),
            value,
        }
    }
}

/// Sets all of `settings`, in their order; returns what failed, in words. Automatic modes must come last: while one is on,
/// a camera refuses values of its control.
pub(crate) fn restore(sensor: &mut dyn Sensor, settings: &[Setting]) -> Vec<String> {
    let put_back = |setting: &Setting| match sensor.set(setting, setting.value) {
        Ok(kept) if kept == setting.value => None,
        Ok(kept) => Some(format!(
            "`{}` was to be {} again, and the camera keeps {kept}",
            setting.name, setting.value
        )),
        Err(error) => Some(format!(
            "`{}` was to be {} again: {error}",
            setting.name, setting.value
        )),
    };
    settings.iter().filter_map(put_back).collect()
}
