//! What a camera is and can do: listing devices, formats and controls; setting a control for good.

use super::super::CaptureError;
use super::open_hint;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use v4l::capability::Flags;
use v4l::control::{Control, Description, MenuItem, Type, Value};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::v4l_sys::v4l2_format;
use v4l::video::Capture;
use v4l::{Device, FourCC};

const UNKNOWN_CONTROL: &str = "is not one of this camera's; `constancy camera controls` lists them";

/// The controls that settings name themselves, by V4L2's numbers (`linux/v4l2-controls.h`).
#[derive(Debug, Clone, Copy)]
pub(super) enum CameraControl {
    WhiteBalanceAuto = 0x0098_090c,
    WhiteBalanceTemperature = 0x0098_091a,
    /// Menu: 1 is manual.
    ExposureAuto = 0x009a_0901,
    /// Units of 100 µs.
    ExposureAbsolute = 0x009a_0902,
}

impl CameraControl {
    /// The key of the configuration that sets it.
    fn key(self) -> &'static str {
        match self {
            Self::WhiteBalanceAuto | Self::WhiteBalanceTemperature => "white_balance",
            Self::ExposureAuto | Self::ExposureAbsolute => "exposure",
        }
    }
}

/// An open capture device.
pub(super) struct Camera {
    pub(super) path: PathBuf,
    device: Device,
}

impl Camera {
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        let device = Device::with_path(path).map_err(|source| {
            let hint = open_hint(path, &source);
            CaptureError::Open {
                device: path.into(),
                source,
                hint,
            }
        })?;
        let camera = Self {
            path: path.into(),
            device,
        };
        let not_a_camera = |reason| CaptureError::NotACamera {
            device: path.into(),
            reason,
        };
        let capabilities = camera
            .attempt("asking for its capabilities", Device::query_caps)
            .map_err(|_| not_a_camera("it does not answer V4L2's questions"))?;
        if !capabilities.capabilities.contains(Flags::VIDEO_CAPTURE) {
            let many_planes = capabilities
                .capabilities
                .contains(Flags::VIDEO_CAPTURE_MPLANE);
            let reason = if many_planes {
                "it gives frames in several buffers each, which is not read"
            } else {
                "it does not capture video"
            };
            return Err(not_a_camera(reason));
        }
        Ok(camera)
    }

    /// Runs one request. The crate panics on values that a newer kernel may give; that is an error here.
    pub(super) fn attempt<T>(
        &self,
        action: &'static str,
        request: impl FnOnce(&Device) -> std::io::Result<T>,
    ) -> Result<T, CaptureError> {
        let unexpected = |_| {
            Err(Error::new(
                ErrorKind::InvalidData,
                "the driver's answer is not understood",
            ))
        };
        catch_unwind(AssertUnwindSafe(|| request(&self.device)))
            .unwrap_or_else(unexpected)
            .map_err(|source| match source.kind() {
                ErrorKind::ResourceBusy => CaptureError::Busy {
                    device: self.path.clone(),
                },
                _ => CaptureError::Device {
                    device: self.path.clone(),
                    action,
                    source,
                },
            })
    }

    /// The driver's number for how colours are encoded (`enum v4l2_ycbcr_encoding`), which the crate's format
    /// leaves out; 0, the colour space's own default, where it cannot be had.
    pub(super) fn ycbcr_encoding(&self) -> u32 {
        // SAFETY: all-zero is a valid v4l2_format: it holds integers only.
        let mut format: v4l2_format = unsafe { std::mem::zeroed() };
        format.type_ = v4l::buffer::Type::VideoCapture as u32;
        // SAFETY: VIDIOC_G_FMT reads and writes one v4l2_format, which lives through the call; the descriptor is
        // open as long as the device. For a single-planar capture type the kernel fills in `pix`.
        unsafe {
            let fd = self.device.handle().fd();
            v4l::v4l2::ioctl(
                fd,
                v4l::v4l2::vidioc::VIDIOC_G_FMT,
                (&raw mut format).cast(),
            )
            .map_or(0, |()| format.fmt.pix.__bindgen_anon_1.ycbcr_enc)
        }
    }

    /// Sets one of the well-known controls.
    pub(super) fn set(&self, control: CameraControl, value: i64) -> Result<(), CaptureError> {
        self.set_id(control as u32, control.key(), value)
    }

    /// Sets controls by the names that [`controls`] gives them. Switches and menus come first: a camera ignores or
    /// refuses a value while its automatic is still on.
    pub(super) fn set_named(&self, wanted: &BTreeMap<String, i64>) -> Result<(), CaptureError> {
        let all = self.attempt("listing controls", Device::query_controls)?;
        let mut found = Vec::new();
        for (name, value) in wanted {
            let Some(control) = all.iter().find(|c| control_name(&c.name) == *name) else {
                return Err(self.control_error(name, UNKNOWN_CONTROL.into()));
            };
            if !settable(control) {
                return Err(self.control_error(name, "cannot be set".into()));
            }
            let is_value = !matches!(control.typ, Type::Boolean | Type::Menu);
            found.push((is_value, control.id, name, *value));
        }
        found.sort();
        found
            .into_iter()
            .try_for_each(|(_, id, name, value)| self.set_id(id, name, value))
    }

    /// Sets a control and reads it back: many cameras accept a value and keep another.
    fn set_id(&self, id: u32, name: &str, value: i64) -> Result<(), CaptureError> {
        let typed = match self.device.control(id).map(|c| c.value) {
            Ok(Value::Boolean(_)) => Value::Boolean(value != 0),
            Ok(_) => Value::Integer(value),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                return Err(self.control_error(name, UNKNOWN_CONTROL.into()));
            }
            Err(e) => return Err(self.control_error(name, format!("cannot be read: {e}"))),
        };
        self.device
            .set_control(Control { id, value: typed })
            .map_err(|e| self.control_error(name, format!("does not take {value}: {e}")))?;
        let kept = match self.device.control(id).map(|c| c.value) {
            Ok(Value::Integer(kept)) => kept,
            Ok(Value::Boolean(kept)) => i64::from(kept),
            Ok(_) => value,
            Err(e) => return Err(self.control_error(name, format!("cannot be read back: {e}"))),
        };
        if kept != value {
            log::warn!(
                "{}: control `{name}` was set to {value}, the camera keeps {kept}",
                self.path.display()
            );
        }
        Ok(())
    }

    fn control_error(&self, control: &str, problem: String) -> CaptureError {
        CaptureError::Control {
            device: self.path.clone(),
            control: control.into(),
            problem,
        }
    }
}

/// A capture device and the names that do not move.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceInfo {
    pub path: PathBuf,
    pub card: String,
    pub driver: String,
    pub bus: String,
    /// `/dev/v4l/by-id/…` and `by-path/…` that lead here.
    pub links: Vec<PathBuf>,
}

/// Every device that captures video, by path.
#[must_use]
pub(crate) fn devices() -> Vec<DeviceInfo> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with("video"))
        })
        .collect();
    // video2 before video10.
    paths.sort_by_key(|p| (p.as_os_str().len(), p.clone()));
    paths.iter().filter_map(|path| device_info(path)).collect()
}

fn device_info(path: &Path) -> Option<DeviceInfo> {
    let camera = Camera::open(path).ok()?;
    let capabilities = camera
        .attempt("asking for its capabilities", Device::query_caps)
        .ok()?;
    Some(DeviceInfo {
        path: path.into(),
        card: capabilities.card,
        driver: capabilities.driver,
        bus: capabilities.bus,
        links: links_to(path),
    })
}

fn links_to(path: &Path) -> Vec<PathBuf> {
    let folders = ["/dev/v4l/by-id", "/dev/v4l/by-path"];
    let entries = folders
        .iter()
        .filter_map(|f| std::fs::read_dir(f).ok())
        .flatten();
    let links = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut links: Vec<PathBuf> = links
        .filter(|l| std::fs::canonicalize(l).is_ok_and(|t| t == path))
        .collect();
    links.sort();
    links
}

/// A pixel format with its sizes and rates.
#[derive(Debug, Serialize)]
pub(crate) struct FormatInfo {
    pub fourcc: String,
    pub description: String,
    /// `1280×720 at 30, 15 frames/s` and the like.
    pub sizes: Vec<String>,
    /// Whether this program reads it.
    pub readable: bool,
}

/// What a camera offers.
pub(crate) fn formats(path: &Path) -> Result<Vec<FormatInfo>, CaptureError> {
    let camera = Camera::open(path)?;
    let offered = camera.attempt("listing formats", Capture::enum_formats)?;
    Ok(offered
        .into_iter()
        .map(|format| FormatInfo {
            fourcc: fourcc_name(format.fourcc),
            description: format.description,
            sizes: sizes(&camera, format.fourcc),
            readable: super::FORMATS
                .iter()
                .any(|(_, code, _)| FourCC::new(code) == format.fourcc),
        })
        .collect())
}

fn sizes(camera: &Camera, fourcc: FourCC) -> Vec<String> {
    let found = camera
        .attempt("listing sizes", |d| d.enum_framesizes(fourcc))
        .unwrap_or_default();
    found
        .into_iter()
        .map(|size| match size.size {
            FrameSizeEnum::Discrete(s) => {
                format!(
                    "{}×{}{}",
                    s.width,
                    s.height,
                    rates(camera, fourcc, s.width, s.height)
                )
            }
            FrameSizeEnum::Stepwise(s) => {
                format!(
                    "{}×{} to {}×{}",
                    s.min_width, s.min_height, s.max_width, s.max_height
                )
            }
        })
        .collect()
}

fn rates(camera: &Camera, fourcc: FourCC, width: u32, height: u32) -> String {
    let intervals = camera
        .attempt("listing rates", |d| {
            d.enum_frameintervals(fourcc, width, height)
        })
        .unwrap_or_default();
    let rate = |n: u32, d: u32| {
        format!(
            "{}",
            (f64::from(d) / f64::from(n.max(1)) * 100.0).round() / 100.0
        )
    };
    let rates: Vec<String> = intervals
        .into_iter()
        .map(|i| match i.interval {
            FrameIntervalEnum::Discrete(f) => rate(f.numerator, f.denominator),
            FrameIntervalEnum::Stepwise(s) => {
                format!(
                    "{} to {}",
                    rate(s.max.numerator, s.max.denominator),
                    rate(s.min.numerator, s.min.denominator)
                )
            }
        })
        .collect();
    if rates.is_empty() {
        String::new()
    } else {
        format!(" at {} frames/s", rates.join(", "))
    }
}

/// A control, its range and its present value.
#[derive(Debug, Serialize)]
pub(crate) struct ControlInfo {
    /// As `camera.v4l.controls` names it.
    pub name: String,
    pub kind: String,
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default: i64,
    pub value: Option<i64>,
    /// The choices of a menu: number and meaning.
    pub menu: Vec<(u32, String)>,
}

/// What can be set on a camera.
pub(crate) fn controls(path: &Path) -> Result<Vec<ControlInfo>, CaptureError> {
    let camera = Camera::open(path)?;
    let all = camera.attempt("listing controls", Device::query_controls)?;
    Ok(all
        .into_iter()
        .filter(settable)
        .map(|c| control_info(&camera, c))
        .collect())
}

/// Whether a control's value can be set and read back here.
fn settable(control: &Description) -> bool {
    matches!(
        control.typ,
        Type::Integer | Type::Boolean | Type::Menu | Type::Integer64
    ) && !control.flags.contains(v4l::control::Flags::READ_ONLY)
}

/// A format's four letters; the crate prints nothing for those of big-endian formats, which have a bit set.
pub(super) fn fourcc_name(fourcc: FourCC) -> String {
    let mut letters = fourcc.repr;
    let big_endian = letters[3] & 0x80 != 0;
    letters[3] &= 0x7f;
    let name = String::from_utf8_lossy(&letters).trim_end().to_owned();
    if big_endian {
        format!("{name}-BE")
    } else {
        name
    }
}

fn control_info(camera: &Camera, control: Description) -> ControlInfo {
    let value = match camera
        .attempt("reading a control", |d| d.control(control.id))
        .map(|c| c.value)
    {
        Ok(Value::Integer(value)) => Some(value),
        Ok(Value::Boolean(value)) => Some(i64::from(value)),
        _ => None,
    };
    let meaning = |item: MenuItem| match item {
        MenuItem::Name(name) => name.trim_end_matches('\0').to_owned(),
        MenuItem::Value(value) => value.to_string(),
    };
    ControlInfo {
        name: control_name(&control.name),
        kind: format!("{:?}", control.typ).to_lowercase(),
        minimum: control.minimum,
        maximum: control.maximum,
        step: control.step,
        default: control.default,
        value,
        menu: control
            .items
            .unwrap_or_default()
            .into_iter()
            .map(|(i, m)| (i, meaning(m)))
            .collect(),
    }
}

/// `White Balance, Automatic` as `white_balance_automatic`, the way `v4l2-ctl` names controls.
fn control_name(title: &str) -> String {
    let words = title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    words
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join("_")
}
