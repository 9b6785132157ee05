//! V4L2 cameras: negotiates the format, sets controls and reads them back, and takes frames from mapped buffers.

mod controls;
mod device;
mod formats;
mod listing;
mod sensor;

pub(crate) use listing::{ControlInfo, controls, devices, formats};
pub(crate) use sensor::V4lSensor;

use super::arrived::Instead;
use super::error::CaptureError;
use super::sensor::Sensor;
use super::source::{Next, Source};
use crate::clock;
use crate::config::{V4lFormat, V4lSettings};
use constancy_core::frame::{ColorEncoding, Frame, PixelFormat};
use controls::is_absent;
use device::{Camera, CameraControl};
use formats::{FORMATS, fourcc_name};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;
use v4l::buffer::{Flags, Metadata, Type};
use v4l::format::{Colorspace, Quantization};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::{Format, FourCC};

/// Enough for the driver to fill one while another is copied and further ones wait.
const BUFFERS: u32 = 4;

/// An open camera and its stream.
pub(crate) struct V4lSource {
    path: PathBuf,
    /// `None` only while it is dropped.
    stream: Option<Stream<'static>>,
    format: Format,
    pixel_format: PixelFormat,
    color: ColorEncoding,
    /// How long a frame may take.
    stall: Duration,
    streaming: bool,
    /// The driver's sequence number of the last frame.
    sequence: Option<u32>,
    lost: u64,
    /// Buffers came since the last frame, and none held one.
    is_damaged: bool,
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
            is_damaged: false,
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
        let captured_at = clock::at(monotonic_ns);
        if self.pixel_format == PixelFormat::Jpeg {
            return Frame::compressed(PixelFormat::Jpeg, data, captured_at);
        }
        Frame {
            data,
            format: self.pixel_format,
            width: self.format.width,
            height: self.format.height,
            stride_bytes: self.format.stride as usize,
            color: self.color,
            captured_at,
            file: None,
            truth: None,
        }
    }
}

impl Source for V4lSource {
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError> {
        let Some(stream) = &mut self.stream else {
            let reason = format!("{}: the stream is closed", self.path.display());
            return Err(CaptureError::Internal(reason));
        };
        // `next` returns the previous buffer to the driver, so it may only be called when another one is ready. Its
        // first call starts the stream.
        if self.streaming {
            let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            match stream.handle().poll(libc::POLLIN, millis) {
                Ok(0) => return Ok(Next::Nothing),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(Next::Nothing),
                Err(e) => return Err(self.error("waiting for a frame", e)),
            }
        }
        stream.set_timeout(self.stall);
        self.streaming = true;
        let (data, meta) = match stream.next() {
            Ok((bytes, meta)) => {
                let is_whole = !meta.flags.contains(Flags::ERROR) && meta.bytesused > 0;
                let used = (meta.bytesused as usize).min(bytes.len());
                (is_whole.then(|| bytes[..used].to_vec()), *meta)
            }
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                return Err(CaptureError::Stalled {
                    seconds: self.stall.as_secs_f64(),
                });
            }
            Err(e) => return Err(self.error("reading a frame", e)),
        };
        self.is_damaged = data.is_none();
        self.lost += skipped(self.sequence.replace(meta.sequence), meta.sequence);
        Ok(data.map_or(Next::Damaged, |data| {
            Next::Frame(self.frame(data, stamp_ns(&meta)))
        }))
    }

    fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn came_instead(&self) -> Option<Instead> {
        Some(Instead::of(if self.is_damaged {
            "the driver delivers buffers that are empty or marked as damaged: cable, power or USB bandwidth"
        } else {
            "the driver delivers no buffers: cable, power or USB bandwidth, or a format or rate that the camera lists and cannot send"
        }))
    }

    fn sensor(&self) -> Result<Option<Box<dyn Sensor>>, CaptureError> {
        Ok(Some(Box::new(V4lSensor::open(&self.path)?)))
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
        // Dropping the stream panics if the driver refuses to stop it, as may happen when the camera is unplugged.
        let stream = self.stream.take();
        if catch_unwind(AssertUnwindSafe(move || drop(stream))).is_err() {
            log::warn!(
                "{}: the driver refused to stop the stream",
                self.path.display()
            );
        }
    }
}

/// The driver's stamp on `CLOCK_MONOTONIC`; 0 if it has none.
fn stamp_ns(meta: &Metadata) -> u64 {
    if !meta.flags.contains(Flags::TIMESTAMP_MONOTONIC) {
        return 0;
    }
    let stamp: Duration = meta.timestamp.into();
    u64::try_from(stamp.as_nanos()).unwrap_or(0)
}

/// How many sequence numbers lie between two frames. They wrap; if they run backwards, the driver has started again.
fn skipped(last: Option<u32>, now: u32) -> u64 {
    let steps = last.map_or(0, |last| now.wrapping_sub(last));
    if steps > u32::MAX / 2 {
        0
    } else {
        u64::from(steps.saturating_sub(1))
    }
}

/// Sets the first wanted format that the camera offers. A driver need not list its formats: then each is tried.
fn negotiate(
    camera: &Camera,
    settings: &V4lSettings,
) -> Result<(Format, PixelFormat), CaptureError> {
    let offered = camera.attempt("listing formats", Capture::enum_formats)?;
    let has = |code| offered.is_empty() || offered.iter().any(|o| o.fourcc == FourCC::new(code));
    let wanted: Vec<_> = FORMATS
        .iter()
        .filter(|(f, ..)| settings.format == V4lFormat::Auto || *f == settings.format)
        .collect();
    let mut answered = offered.iter().map(|o| fourcc_name(o.fourcc)).collect();
    for (_, code, pixel_format) in wanted.iter().filter(|(_, code, _)| has(code)) {
        let request = Format::new(settings.width, settings.height, FourCC::new(code));
        match camera.attempt("setting the format", |d| d.set_format(&request)) {
            Ok(format) if format.fourcc == request.fourcc => {
                log_other_size(&format, settings);
                return Ok((format, *pixel_format));
            }
            Ok(format) => answered = vec![fourcc_name(format.fourcc)],
            Err(CaptureError::Device { source, .. })
                if offered.is_empty() && is_absent(&source) => {}
            Err(e) => return Err(e),
        }
    }
    let wanted = wanted
        .iter()
        .map(|(_, code, _)| FourCC::new(code).to_string());
    Err(CaptureError::Format {
        device: settings.device.clone(),
        available: answered.join(", "),
        wanted: wanted.collect::<Vec<_>>().join(", "),
    })
}

fn log_other_size(format: &Format, settings: &V4lSettings) {
    let (width, height) = (format.width, format.height);
    if (width, height) != (settings.width, settings.height) {
        log::info!(
            "{}: delivers {width}×{height}, the nearest to the configured size",
            settings.device.display()
        );
    }
}

/// Asks for a frame rate. Drivers need not have one that can be set.
fn set_rate(camera: &Camera, fps: u32) {
    let params = v4l::video::capture::Parameters::with_fps(fps);
    let path = camera.path.display();
    match camera.attempt("setting the frame rate", |d| d.set_params(&params)) {
        Ok(got) => {
            let (numerator, denominator) = (got.interval.numerator, got.interval.denominator);
            if u64::from(numerator) * u64::from(fps) != u64::from(denominator) {
                log::info!("{path}: delivers {denominator}/{numerator} frames/s instead of {fps}");
            }
        }
        Err(CaptureError::Device { source, .. }) if is_absent(&source) => {
            log::warn!("{path}: its frame rate cannot be set; `fps` has no effect");
        }
        Err(e) => log::warn!("{e}; using the camera's own rate"),
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

/// The frame's colour encoding; `encoding` is `enum v4l2_ycbcr_encoding`. BT.2020 and SMPTE 240M are treated as BT.709,
/// the nearer of the two supported matrices.
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
        // BT.709, xvYCC 709, both of BT.2020, SMPTE 240M.
        2 | 4 | 6 | 7 | 8 => true,
        _ => false,
    };
    ColorEncoding { full_range, bt709 }
}

#[cfg(test)]
mod tests {
    use super::skipped;

    #[test]
    fn gaps_in_the_sequence_numbers_are_lost_frames() {
        assert_eq!(skipped(None, 17), 0, "nothing comes before the first frame");
        assert_eq!(skipped(Some(17), 18), 0);
        assert_eq!(skipped(Some(17), 21), 3);
        assert_eq!(skipped(Some(u32::MAX), 0), 0, "numbers wrap");
        assert_eq!(skipped(Some(u32::MAX - 1), 1), 2);
        assert_eq!(skipped(Some(0), 0), 0, "a driver that does not count");
        assert_eq!(skipped(Some(900), 3), 0, "a driver that started again");
    }
}
