//! `constancy camera`: what cameras there are, what they can do, and one frame of one of them.

use super::CliError;
use super::output::{json_line, line, write_file};
use crate::capture::v4l::{self, ControlInfo};
use crate::capture::{self, CaptureError, Next};
use crate::config::{CameraSettings, Settings, SourceSettings, V4lFormat, V4lSettings};
use clap::{Args, Subcommand};
use constancy_core::frame::{Frame, PixelFormat};
use constancy_core::preprocess::{RgbImage, View, Viewer};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What hides a camera's masks in a picture for people; the daemon takes the model's own mean, which is a grey as well.
const HIDING: [u8; 3] = [128; 3];

#[derive(Debug, Args)]
pub(super) struct CameraArgs {
    #[command(subcommand)]
    command: CameraCommand,
}

#[derive(Debug, Subcommand)]
enum CameraCommand {
    /// List the cameras that are plugged in
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// List the pixel formats, sizes and rates of a camera
    Formats {
        /// /dev/videoN or /dev/v4l/by-id/…
        device: PathBuf,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// List the controls of a camera, their ranges and present values
    Controls {
        /// /dev/videoN or /dev/v4l/by-id/…
        device: PathBuf,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Save what is looked at of one frame as PNG, or the frame as JPEG where the camera sends that
    Grab(GrabArgs),
}

#[derive(Debug, Args)]
struct GrabArgs {
    /// /dev/videoN or /dev/v4l/by-id/…; or the name of a camera in --config
    camera: String,
    /// Take the camera and its settings from this configuration
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Frames to pass over first, while exposure settles
    #[arg(long, default_value_t = 5)]
    skip: u32,
    /// The image to write: .png, or .jpg for a camera that sends JPEG
    #[arg(short, long, default_value = "frame.png")]
    output: PathBuf,
}

pub(super) fn run(args: &CameraArgs) -> Result<(), CliError> {
    match &args.command {
        CameraCommand::List { json } => list(*json),
        CameraCommand::Formats { device, json } => formats(device, *json),
        CameraCommand::Controls { device, json } => controls(device, *json),
        CameraCommand::Grab(args) => grab(args),
    }
}

fn list(json: bool) -> Result<(), CliError> {
    let devices = v4l::devices();
    if json {
        return devices.iter().try_for_each(json_line);
    }
    if devices.is_empty() {
        return line("no camera found; one that other programs see may need group `video`");
    }
    for device in devices {
        line(&format!(
            "{}  {} ({}, {})",
            device.path.display(),
            device.card,
            device.driver,
            device.bus
        ))?;
        device
            .links
            .iter()
            .try_for_each(|link| line(&format!("    {}", link.display())))?;
    }
    Ok(())
}

fn formats(device: &Path, json: bool) -> Result<(), CliError> {
    let formats = v4l::formats(device)?;
    if json {
        return formats.iter().try_for_each(json_line);
    }
    for format in formats {
        let note = if format.readable {
            ""
        } else {
            "  (not read by constancy)"
        };
        line(&format!("{}  {}{note}", format.fourcc, format.description))?;
        format
            .sizes
            .iter()
            .try_for_each(|size| line(&format!("    {size}")))?;
    }
    Ok(())
}

fn controls(device: &Path, json: bool) -> Result<(), CliError> {
    let controls = v4l::controls(device)?;
    if json {
        return controls.iter().try_for_each(json_line);
    }
    controls.iter().try_for_each(control_lines)
}

fn control_lines(control: &ControlInfo) -> Result<(), CliError> {
    let ControlInfo {
        name,
        kind,
        minimum,
        maximum,
        step,
        default,
        value,
        menu,
    } = control;
    let value = value.map_or("?".into(), |v| v.to_string());
    line(&format!(
        "{name:<36} {value:>8}  ({kind}, {minimum} to {maximum}, step {step}, default {default})"
    ))?;
    menu.iter()
        .try_for_each(|(number, meaning)| line(&format!("    {number}: {meaning}")))
}

fn grab(args: &GrabArgs) -> Result<(), CliError> {
    let settings = camera_settings(args)?;
    let frame = one_frame(&settings, args.skip)?;
    let bytes = encode(&frame, &settings.view, &args.output)?;
    write_file(&args.output, &bytes)?;
    line(&args.output.display().to_string())
}

fn camera_settings(args: &GrabArgs) -> Result<CameraSettings, CliError> {
    if let Some(config) = &args.config {
        let settings = Settings::read(config)?;
        let names: Vec<String> = settings.cameras.iter().map(|c| c.name.clone()).collect();
        let found = settings.cameras.into_iter().find(|c| c.name == args.camera);
        return found.ok_or_else(|| {
            CliError::Usage(format!(
                "no camera `{}` in {}; it has {}",
                args.camera,
                config.display(),
                names.join(", ")
            ))
        });
    }
    Ok(CameraSettings {
        name: "grab".into(),
        source: SourceSettings::V4l(V4lSettings {
            device: args.camera.clone().into(),
            width: 1280,
            height: 720,
            fps: None,
            format: V4lFormat::Auto,
            exposure: None,
            white_balance: None,
            controls: BTreeMap::new(),
        }),
        stall_s: 5.0,
        publish: crate::config::PublishSettings::default(),
        view: View::WHOLE,
    })
}

/// The first good frame after `skip`; sources that end give what they have.
fn one_frame(settings: &CameraSettings, skip: u32) -> Result<Frame, CliError> {
    let mut source = capture::open(settings)?;
    let skip = if source.is_live() { skip } else { 0 };
    let stall = Duration::from_secs_f64(settings.stall_s);
    let mut seen = 0;
    let mut last = Instant::now();
    loop {
        match source.next(Duration::from_millis(100))? {
            Next::Frame(frame) if seen >= skip => return Ok(frame),
            Next::Frame(_) => {
                seen += 1;
                last = Instant::now();
            }
            Next::End => return Err(CaptureError::Stalled { seconds: 0.0 }.into()),
            Next::Damaged | Next::Nothing if last.elapsed() > stall => {
                return Err(CaptureError::Stalled {
                    seconds: settings.stall_s,
                }
                .into());
            }
            Next::Damaged | Next::Nothing => {}
        }
    }
}

/// A JPEG as the camera sent it; or what is to be seen of it as PNG.
fn encode(frame: &Frame, view: &View, output: &Path) -> Result<Vec<u8>, CliError> {
    let extension = output
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        "jpg" | "jpeg" if frame.format == PixelFormat::Jpeg && *view == View::WHOLE => {
            Ok(frame.data.clone())
        }
        "png" => {
            let mut rgb = RgbImage::default();
            Viewer::new(HIDING)
                .see(frame, view, &mut rgb)
                .map_err(crate::recognizer::FrameError::Decode)?;
            let mut png = Cursor::new(Vec::new());
            image::write_buffer_with_format(
                &mut png,
                &rgb.data,
                rgb.width,
                rgb.height,
                image::ColorType::Rgb8,
                image::ImageFormat::Png,
            )
            .map_err(|e| CliError::Write {
                path: output.into(),
                source: std::io::Error::other(e),
            })?;
            Ok(png.into_inner())
        }
        _ => Err(CliError::Usage(format!(
            "{}: name a .png (a .jpg only where the camera sends JPEG and all of it is looked at)",
            output.display()
        ))),
    }
}
