//! Lists V4L2 devices, and the formats and controls of a camera.

use super::super::error::CaptureError;
use super::controls::ControlDescription;
use super::device::Camera;
use super::formats::{FORMATS, fourcc_name};
use serde::Serialize;
use std::path::{Path, PathBuf};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;
use v4l::{Device, FourCC};

/// A capture device and its stable paths.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceInfo {
    pub path: PathBuf,
    pub card: String,
    pub driver: String,
    pub bus: String,
    /// Its links in `/dev/v4l/by-id` and `/dev/v4l/by-path`.
    pub links: Vec<PathBuf>,
}

/// Every device that captures video, sorted by path. Devices that cannot be opened are left out.
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
    // video2 comes before video10.
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
    /// Whether this program can read it.
    pub readable: bool,
}

/// The pixel formats that a camera offers.
pub(crate) fn formats(path: &Path) -> Result<Vec<FormatInfo>, CaptureError> {
    let camera = Camera::open(path)?;
    let offered = camera.attempt("listing formats", Capture::enum_formats)?;
    Ok(offered
        .into_iter()
        .map(|format| FormatInfo {
            fourcc: fourcc_name(format.fourcc),
            description: format.description,
            sizes: sizes(&camera, format.fourcc),
            readable: FORMATS
                .iter()
                .any(|(_, code, _)| FourCC::new(code) == format.fourcc),
        })
        .collect())
}

/// The sizes of a format, each with its rates; empty if the driver does not list them.
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

/// The frame rates of a size; empty if the driver does not list them.
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

/// A control with its range and its present value.
#[derive(Debug, Serialize)]
pub(crate) struct ControlInfo {
    /// The name in `camera.v4l.controls`.
    pub name: String,
    pub kind: String,
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default: i64,
    pub value: Option<i64>,
    /// The choices of a menu: value and meaning.
    pub menu: Vec<(u32, String)>,
}

/// The controls of a camera that can be set.
pub(crate) fn controls(path: &Path) -> Result<Vec<ControlInfo>, CaptureError> {
    let camera = Camera::open(path)?;
    let all = camera.controls()?.into_iter();
    Ok(all
        .filter(ControlDescription::is_settable)
        .map(|control| ControlInfo {
            kind: control.kind_name().unwrap_or_default().into(),
            value: camera.value(control.id).ok(),
            name: control.name,
            minimum: control.minimum,
            maximum: control.maximum,
            step: control.step,
            default: control.default,
            menu: control.menu,
        })
        .collect())
}
