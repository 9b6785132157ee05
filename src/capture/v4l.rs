//! V4L2 cameras: choosing a format, setting controls and reading them back, frames from mapped buffers.

mod device;

pub(crate) use device::{ControlInfo, controls, devices, formats};

use super::{CaptureError, Next, Source};
use crate::clock;
use crate::config::{V4lFormat, V4lSettings};
use constancy_core::frame::{ColorEncoding, Frame, PixelFormat};
use device::{Camera, CameraControl, fourcc_name};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use v4l::buffer::{Flags, Type};
use v4l::format::{Colorspace, Quantization};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::{Format, FourCC};

/// Enough for the driver to fill one while another is copied and a third waits.
const BUFFERS: u32 = 4;

/// What is tried for `format = "auto"`, best first: MJPEG carries the highest rates over USB.
const FORMATS: [(V4lFormat, &[u8; 4], PixelFormat); 6] = [
    (V4lFormat::Mjpeg, b"MJPG", PixelFormat::Jpeg),
    (V4lFormat::Mjpeg, b"JPEG", PixelFormat::Jpeg),
    (V4lFormat::Yuyv, b"YUYV", PixelFormat::Yuyv),
    (V4lFormat::Nv12, b"NV12", PixelFormat::Nv12),
    (V4lFormat::Uyvy, b"UYVY", PixelFormat::Uyvy),
    (V4lFormat::Grey, b"GREY", PixelFormat::Grey),
];

/// A camera that streams.
pub(crate) struct V4lSource {
    path: PathBuf,
    stream: Option<Stream<'static>>,
    format: Format,
    pixel_format: PixelFormat,
    color: ColorEncoding,
    /// How long the first frame may take.
    stall: Duration,
    streaming: bool,
    /// The driver's number of the last frame.
    sequence: Option<u32>,
    lost: u64,
}

impl V4lSource {
    /// Opens the camera, negotiates format and rate, applies the controls and reads them back.
    pub(crate) fn open(settings: &V4lSettings, stall: Duration) -> Result<Self, CaptureError> {
        let path = settings.device.clone();
        let camera = Camera::open(&path)?;
        let (format, pixel_format) = negotiate(&camera, settings)?;
        if let Some(fps) = settings.fps {
            set_rate(&camera, fps);
        }
        apply_controls(&camera, settings)?;
        let stream = camera.attempt("asking for buffers", |device| {
            Stream::with_buffers(device, Type::VideoCapture, BUFFERS)
        })?;
        let color = color_encoding(&format, pixel_format, camera.ycbcr_encoding());
        Ok(Self {
            path,
            stream: Some(stream),
            format,
            pixel_format,
            color,
            stall,
            streaming: false,
            sequence: None,
            lost: 0,
        })
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> CaptureError {
        CaptureError::Device {
            device: self.path.clone(),
            action,
            source,
        }
    }

    fn frame(&self, data: Vec<u8>, monotonic_ns: u64) -> Frame {
        let taken = clock::at(monotonic_ns);
        if self.pixel_format == PixelFormat::Jpeg {
            return Frame::compressed(PixelFormat::Jpeg, data, taken);
        }
        Frame {
            data,
            format: self.pixel_format,
            width: self.format.width,
            height: self.format.height,
            stride_bytes: self.format.stride as usize,
            color: self.color,
            taken,
            file: None,
            truth: None,
        }
    }
}

impl Source for V4lSource {
    fn next(&mut self, wait: Duration) -> Result<Next, CaptureError> {
        let Some(stream) = &mut self.stream else {
            return Ok(Next::End);
        };
        // `next` queues the buffer it gave before, so it must only be called when another one is ready;
        // the first call starts the stream.
        if self.streaming {
            let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
            match stream.handle().poll(libc::POLLIN, millis) {
                Ok(0) => return Ok(Next::Nothing),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(Next::Nothing),
                Err(e) => return Err(self.error("waiting for a frame", e)),
            }
        }
        stream.set_timeout(self.stall);
        self.streaming = true;
        let taken = stream.next();
        if let Ok((_, meta)) = &taken {
            self.lost += skipped(self.sequence.replace(meta.sequence), meta.sequence);
        }
        match taken {
            Ok((_, meta)) if meta.flags.contains(Flags::ERROR) || meta.bytesused == 0 => {
                Ok(Next::Damaged)
            }
            Ok((bytes, meta)) => {
                let used = (meta.bytesused as usize).min(bytes.len());
                let data = bytes[..used].to_vec();
                let stamp: Duration = meta.timestamp.into();
                let monotonic = meta.flags.contains(Flags::TIMESTAMP_MONOTONIC);
                let monotonic_ns = if monotonic {
                    u64::try_from(stamp.as_nanos()).unwrap_or(0)
                } else {
                    0
                };
                Ok(Next::Frame(self.frame(data, monotonic_ns)))
            }
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Err(CaptureError::Stalled {
                seconds: self.stall.as_secs_f64(),
            }),
            Err(e) => Err(self.error("reading a frame", e)),
        }
    }

    fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn describe(&self) -> String {
        let Format {
            width,
            height,
            fourcc,
            ..
        } = self.format;
        format!("{} ({width}×{height} {fourcc})", self.path.display())
    }
}

impl Drop for V4lSource {
    fn drop(&mut self) {
        // The stream panics on being dropped if the driver refuses to stop, as one that is going away may.
        let stream = self.stream.take();
        if catch_unwind(AssertUnwindSafe(move || drop(stream))).is_err() {
            log::warn!(
                "{}: the driver refused to stop the stream",
                self.path.display()
            );
        }
    }
}

/// How many frames the driver numbered between two that it gave. Numbers wrap; where they run backwards it began anew.
fn skipped(last: Option<u32>, now: u32) -> u64 {
    let steps = last.map_or(0, |last| now.wrapping_sub(last));
    if steps > u32::MAX / 2 {
        0
    } else {
        u64::from(steps.saturating_sub(1))
    }
}

fn negotiate(
    camera: &Camera,
    settings: &V4lSettings,
) -> Result<(Format, PixelFormat), CaptureError> {
    let offered = camera.attempt("listing formats", Capture::enum_formats)?;
    let wanted = FORMATS
        .iter()
        .filter(|(f, ..)| settings.format == V4lFormat::Auto || *f == settings.format);
    let has = |code: &[u8; 4]| offered.iter().any(|o| o.fourcc == FourCC::new(code));
    let Some((_, code, pixel_format)) = wanted.clone().find(|(_, code, _)| has(code)) else {
        let list = |codes: Vec<String>| codes.join(", ");
        return Err(CaptureError::Format {
            device: settings.device.clone(),
            available: list(offered.iter().map(|o| fourcc_name(o.fourcc)).collect()),
            wanted: list(
                wanted
                    .map(|(_, code, _)| FourCC::new(code).to_string())
                    .collect(),
            ),
        });
    };
    let request = Format::new(settings.width, settings.height, FourCC::new(code));
    let format = camera.attempt("setting the format", |d| d.set_format(&request))?;
    if format.fourcc != request.fourcc {
        return Err(CaptureError::Format {
            device: settings.device.clone(),
            available: format.fourcc.to_string(),
            wanted: request.fourcc.to_string(),
        });
    }
    if (format.width, format.height) != (settings.width, settings.height) {
        let (width, height) = (format.width, format.height);
        log::info!(
            "{}: gives {width}×{height}, the nearest to what is configured",
            settings.device.display()
        );
    }
    Ok((format, *pixel_format))
}

fn set_rate(camera: &Camera, fps: u32) {
    let params = v4l::video::capture::Parameters::with_fps(fps);
    match camera.attempt("setting the frame rate", |d| d.set_params(&params)) {
        Ok(got) if got.interval.numerator * fps != got.interval.denominator => {
            let (numerator, denominator) = (got.interval.numerator, got.interval.denominator);
            log::info!(
                "{}: gives {denominator}/{numerator} frames/s for {fps}",
                camera.path.display()
            );
        }
        Ok(_) => {}
        Err(e) => log::warn!("{e}; going on at the camera's own rate"),
    }
}

/// Sets exposure, white balance and the named controls, reading each back.
fn apply_controls(camera: &Camera, settings: &V4lSettings) -> Result<(), CaptureError> {
    if let Some(exposure) = settings.exposure {
        camera.set(CameraControl::ExposureAuto, 1)?;
        camera.set(CameraControl::ExposureAbsolute, i64::from(exposure))?;
    }
    if let Some(kelvin) = settings.white_balance {
        camera.set(CameraControl::WhiteBalanceAuto, 0)?;
        camera.set(CameraControl::WhiteBalanceTemperature, i64::from(kelvin))?;
    }
    camera.set_named(&settings.controls)
}

/// `encoding` is `enum v4l2_ycbcr_encoding`. What is neither of the two that are told apart here, BT.2020 and
/// SMPTE 240M, lies nearer to BT.709.
fn color_encoding(format: &Format, pixel_format: PixelFormat, encoding: u32) -> ColorEncoding {
    // V4L2's defaults: limited range for YUV, full for grey and for JPEG's colour space.
    let full_range = match format.quantization {
        Quantization::FullRange => true,
        Quantization::LimitedRange => false,
        Quantization::Default => {
            pixel_format == PixelFormat::Grey || matches!(format.colorspace, Colorspace::JPEG)
        }
    };
    let bt709 = match encoding {
        0 => matches!(
            format.colorspace,
            Colorspace::Rec709 | Colorspace::DCIP3 | Colorspace::Rec2020 | Colorspace::SMPTE240M
        ),
        // 709, xvYCC 709, the two of BT.2020, SMPTE 240M.
        2 | 4 | 6 | 7 | 8 => true,
        _ => false,
    };
    ColorEncoding { full_range, bt709 }
}

/// Where a device path leads, for messages about links that dangle.
pub(super) fn open_hint(path: &Path, source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound if path.is_symlink() => {
            "the link leads to nothing: is the camera plugged in?"
        }
        std::io::ErrorKind::NotFound => {
            "is the camera plugged in? `constancy camera list` shows those there are"
        }
        std::io::ErrorKind::PermissionDenied => "add the user to group `video`",
        std::io::ErrorKind::ResourceBusy => "another program uses it",
        _ => "see `constancy camera list`",
    }
}

#[cfg(test)]
mod tests {
    use super::skipped;

    #[test]
    fn frames_that_the_driver_lost_show_in_its_numbers() {
        assert_eq!(skipped(None, 17), 0, "the first has none before it");
        assert_eq!(skipped(Some(17), 18), 0);
        assert_eq!(skipped(Some(17), 21), 3);
        assert_eq!(skipped(Some(u32::MAX), 0), 0, "numbers wrap");
        assert_eq!(skipped(Some(u32::MAX - 1), 1), 2);
        assert_eq!(skipped(Some(0), 0), 0, "a driver that does not count");
        assert_eq!(skipped(Some(900), 3), 0, "a driver that began anew");
    }
}
