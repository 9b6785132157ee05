//! An open V4L2 device: its requests, and setting controls.

use super::super::error::CaptureError;
use super::controls::{ControlDescription, enumerate, is_absent};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use v4l::Device;
use v4l::capability::Flags;
use v4l::control::{Control, Value};
use v4l::v4l_sys::v4l2_format;

/// The controls that have their own configuration keys, with V4L2's ids (`linux/v4l2-controls.h`).
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
    /// The configuration key that sets it.
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
        keep_from_children(&device);
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
            .map_err(|_| not_a_camera("it does not answer V4L2 queries"))?;
        if !capabilities.capabilities.contains(Flags::VIDEO_CAPTURE) {
            let many_planes = capabilities
                .capabilities
                .contains(Flags::VIDEO_CAPTURE_MPLANE);
            let reason = if many_planes {
                "it uses the multi-planar API, which is not supported"
            } else {
                "it does not capture video"
            };
            return Err(not_a_camera(reason));
        }
        Ok(camera)
    }

    /// Runs one request. The v4l crate panics on values of newer kernels that it does not know; that is an error here.
    pub(super) fn attempt<T>(
        &self,
        action: &'static str,
        request: impl FnOnce(&Device) -> std::io::Result<T>,
    ) -> Result<T, CaptureError> {
        catch_unwind(AssertUnwindSafe(|| request(&self.device)))
            .unwrap_or_else(|_| Err(not_understood()))
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

    /// The format's `enum v4l2_ycbcr_encoding`, which the v4l crate leaves out. 0, the colour space's default, if the
    /// driver does not answer.
    pub(super) fn ycbcr_encoding(&self) -> u32 {
        // SAFETY: all-zero is a valid v4l2_format: it holds integers only.
        let mut format: v4l2_format = unsafe { std::mem::zeroed() };
        format.type_ = v4l::buffer::Type::VideoCapture as u32;
        // SAFETY: VIDIOC_G_FMT reads and writes one v4l2_format, which outlives the call; the descriptor is open as
        // long as the device. For a single-planar capture type the kernel fills in `pix`.
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

    /// The camera's controls; none if the driver has none.
    pub(super) fn controls(&self) -> Result<Vec<ControlDescription>, CaptureError> {
        self.attempt("listing controls", enumerate)
    }

    /// The value of a control that the camera has.
    pub(super) fn value(&self, id: u32) -> std::io::Result<i64> {
        let read = catch_unwind(AssertUnwindSafe(|| self.device.control(id)));
        match read.unwrap_or_else(|_| Err(not_understood()))?.value {
            Value::Integer(value) => Ok(value),
            Value::Boolean(value) => Ok(i64::from(value)),
            _ => Err(not_understood()),
        }
    }

    /// Sets one of the well-known controls.
    pub(super) fn set(&self, control: CameraControl, value: i64) -> Result<(), CaptureError> {
        self.set_id(control as u32, control.key(), value)
    }

    /// Sets controls by the names that [`super::controls()`] lists. Switches and menus come first: a camera ignores or
    /// refuses a value while the control's automatic mode is still on.
    pub(super) fn set_named(&self, wanted: &BTreeMap<String, i64>) -> Result<(), CaptureError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let all = self.controls()?;
        let mut found = Vec::new();
        for (name, value) in wanted {
            let Some(control) = all.iter().find(|c| c.name == *name) else {
                return Err(self.lacks(name));
            };
            if !control.is_settable() {
                return Err(self.control_error(name, "cannot be set".into()));
            }
            found.push((!control.is_switch(), control.id, name, *value));
        }
        found.sort();
        found
            .into_iter()
            .try_for_each(|(_, id, name, value)| self.set_id(id, name, value))
    }

    /// Sets a control and reads it back: many cameras accept a value but keep another one.
    fn set_id(&self, id: u32, name: &str, value: i64) -> Result<(), CaptureError> {
        match self.value(id) {
            Ok(_) => {}
            Err(e) if is_absent(&e) => return Err(self.lacks(name)),
            Err(e) => return Err(self.control_error(name, format!("cannot be read: {e}"))),
        }
        let kept = self.put(id, name, value)?;
        if kept != value {
            log::warn!(
                "{}: control `{name}` was set to {value}, the camera keeps {kept}",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Sets a control that the camera has, and returns the value that the camera keeps.
    pub(super) fn put(&self, id: u32, name: &str, value: i64) -> Result<i64, CaptureError> {
        let wanted = Control {
            id,
            value: Value::Integer(value),
        };
        self.device
            .set_control(wanted)
            .map_err(|e| self.control_error(name, format!("does not take {value}: {e}")))?;
        self.value(id)
            .map_err(|e| self.control_error(name, format!("cannot be read back: {e}")))
    }

    /// [`Self::value`], with an error that names the control.
    pub(super) fn named_value(&self, id: u32, name: &str) -> Result<i64, CaptureError> {
        self.value(id)
            .map_err(|e| self.control_error(name, format!("cannot be read: {e}")))
    }

    /// The error for a configured control that the camera lacks.
    fn lacks(&self, control: &str) -> CaptureError {
        let has_none = self.controls().is_ok_and(|all| all.is_empty());
        let problem = if has_none {
            "is not one of this camera's, which has no controls at all; remove it from the configuration"
        } else {
            "is not one of this camera's; `constancy camera controls` lists them"
        };
        self.control_error(control, problem.into())
    }

    fn control_error(&self, control: &str, problem: String) -> CaptureError {
        CaptureError::Control {
            device: self.path.clone(),
            control: control.into(),
            problem,
        }
    }
}

fn not_understood() -> Error {
    Error::new(
        ErrorKind::InvalidData,
        "the driver's answer is not understood",
    )
}

/// Closes the device in every child process: a program that inherited it would keep it busy after this one has closed it.
fn keep_from_children(device: &Device) {
    // SAFETY: F_SETFD takes no pointer, and the descriptor is open as long as the device.
    let result = unsafe { libc::fcntl(device.handle().fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        log::debug!("FD_CLOEXEC: {}", Error::last_os_error());
    }
}

/// A hint for the error of opening a device.
fn open_hint(path: &Path, source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound if path.is_symlink() => {
            "the link is dangling: is the camera plugged in?"
        }
        std::io::ErrorKind::NotFound => {
            "is the camera plugged in? `constancy camera list` shows the cameras"
        }
        std::io::ErrorKind::PermissionDenied => "add the user to group `video`",
        std::io::ErrorKind::ResourceBusy => "another program uses it",
        _ => "see `constancy camera list`",
    }
}
