//! Enumerates a device's controls. The v4l crate's own enumeration fails as a whole on one control that it does not know.

use std::ffi::CStr;
use std::io;
use v4l::Device;
use v4l::v4l_sys::{v4l2_query_ext_ctrl, v4l2_querymenu};
use v4l::v4l2::vidioc::{_IOC_TYPE, VIDIOC_QUERY_EXT_CTRL, VIDIOC_QUERYMENU};

/// `V4L2_CTRL_FLAG_NEXT_CTRL`: asks for the control after the given one.
const NEXT: u32 = 0x8000_0000;
/// `V4L2_CTRL_FLAG_DISABLED` and `V4L2_CTRL_FLAG_READ_ONLY`.
const NOT_SETTABLE: u32 = 0x1 | 0x4;
/// More items than any menu has.
const MAX_ITEMS: usize = 256;

/// `enum v4l2_ctrl_type`.
mod kind {
    pub(super) const INTEGER: u32 = 1;
    pub(super) const BOOLEAN: u32 = 2;
    pub(super) const MENU: u32 = 3;
    pub(super) const INTEGER64: u32 = 5;
}

/// A control, its range and its default.
#[derive(Debug)]
pub(super) struct ControlDescription {
    pub(super) id: u32,
    /// The name in `camera.v4l.controls`.
    pub(super) name: String,
    kind: u32,
    flags: u32,
    pub(super) minimum: i64,
    pub(super) maximum: i64,
    pub(super) step: u64,
    pub(super) default: i64,
    /// The choices of a menu: value and meaning.
    pub(super) menu: Vec<(u32, String)>,
}

impl ControlDescription {
    /// Whether this program can set the control and read it back.
    pub(super) fn is_settable(&self) -> bool {
        self.kind_name().is_some() && self.flags & NOT_SETTABLE == 0
    }

    /// Whether the control chooses a mode, on which other controls may depend.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.kind, kind::BOOLEAN | kind::MENU)
    }

    /// The kind in words, for those that this program can set.
    pub(super) fn kind_name(&self) -> Option<&'static str> {
        Some(match self.kind {
            kind::INTEGER => "integer",
            kind::BOOLEAN => "boolean",
            kind::MENU => "menu",
            kind::INTEGER64 => "integer64",
            _ => return None,
        })
    }
}

/// The device's controls in the order of their ids. A driver that lacks the request has none.
pub(super) fn enumerate(device: &Device) -> io::Result<Vec<ControlDescription>> {
    let mut found = Vec::new();
    let mut last = 0;
    loop {
        // SAFETY: all-zero is a valid v4l2_query_ext_ctrl: it holds integers only.
        let mut answer: v4l2_query_ext_ctrl = unsafe { std::mem::zeroed() };
        answer.id = last | NEXT;
        // SAFETY: the request reads and writes one v4l2_query_ext_ctrl.
        match unsafe { request(device, VIDIOC_QUERY_EXT_CTRL, &mut answer) } {
            // Ids rise; a driver that gives one again would never end.
            Ok(()) if answer.id & !NEXT > last => last = answer.id & !NEXT,
            Ok(()) => return Ok(found),
            Err(e) if is_absent(&e) => return Ok(found),
            Err(e) => return Err(e),
        }
        found.push(ControlDescription {
            id: last,
            name: control_name(&text(&answer.name.map(|c| c.to_ne_bytes()[0]))),
            kind: answer.type_,
            flags: answer.flags,
            minimum: answer.minimum,
            maximum: answer.maximum,
            step: answer.step,
            default: answer.default_value,
            menu: if answer.type_ == kind::MENU {
                menu(device, last, answer.minimum, answer.maximum)
            } else {
                Vec::new()
            },
        });
    }
}

/// Whether a driver's answer means that it lacks the request or the object asked for: `ENOTTY` or `EINVAL`. Most requests
/// of V4L2 are optional.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

/// The items of a menu. A driver may refuse some indices between the smallest and the largest.
fn menu(device: &Device, id: u32, minimum: i64, maximum: i64) -> Vec<(u32, String)> {
    let indices = (minimum..=maximum).take(MAX_ITEMS);
    let item = |index: i64| {
        let index = u32::try_from(index).ok()?;
        // SAFETY: all-zero is a valid v4l2_querymenu: integers, and a union of integers.
        let mut answer: v4l2_querymenu = unsafe { std::mem::zeroed() };
        (answer.id, answer.index) = (id, index);
        // SAFETY: the request reads and writes one v4l2_querymenu.
        unsafe { request(device, VIDIOC_QUERYMENU, &mut answer) }.ok()?;
        // SAFETY: the kernel fills in `name` for a menu; all its bytes are initialised either way.
        let name = unsafe { answer.__bindgen_anon_1.name };
        Some((index, text(&name)))
    };
    indices.filter_map(item).collect()
}

/// Runs one request.
///
/// # Safety
///
/// `answer` must have the type that the request reads and writes.
unsafe fn request<T>(device: &Device, request: _IOC_TYPE, answer: &mut T) -> io::Result<()> {
    // SAFETY: the caller chose the type; the descriptor is open as long as the device.
    unsafe { v4l::v4l2::ioctl(device.handle().fd(), request, (&raw mut *answer).cast()) }
}

/// The text of a field that a driver fills, which may lack its end and hold any bytes.
fn text(field: &[u8]) -> String {
    let bytes = CStr::from_bytes_until_nul(field).map_or(field, CStr::to_bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// Turns a title such as `White Balance, Automatic` into `white_balance_automatic`, as `v4l2-ctl` does.
fn control_name(title: &str) -> String {
    let words = title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    words
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join("_")
}
