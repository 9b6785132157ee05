//! `constancy camera`: lists cameras, their formats and controls, saves a frame, intervenes, and shows references.

mod intervene;
mod picture;
mod reference;

use super::output::{Target, check_targets, json_line, line, write_file};
use super::{CliError, configured};
use crate::capture::v4l::{self, ControlInfo};
use crate::capture::{self, CaptureError, Next};
use crate::config::{CameraSettings, Settings, SourceSettings, V4lFormat, V4lSettings};
use clap::{Args, Subcommand};
use constancy_core::frame::{Frame, PixelFormat};
use constancy_core::preprocess::{View, is_whole_jpeg, jpeg_within};
use picture::{png, visible};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(super) struct CameraArgs {
    #[command(subcommand)]
    command: CameraCommand,
}

#[derive(Debug, Subcommand)]
enum CameraCommand {
    /// List connected cameras
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// List the pixel formats, sizes and frame rates of a camera
    Formats {
        /// Camera device, such as /dev/video0 or /dev/v4l/by-id/…
        device: PathBuf,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// List the controls of a camera with their ranges and current values
    Controls {
        /// Camera device, such as /dev/video0 or /dev/v4l/by-id/…
        device: PathBuf,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Save one frame as PNG, with the camera's region and masks applied, or as the camera's own JPEG
    Grab(GrabArgs),
    /// Move the sensor's own exposure, gain, white balance and more while the scene stands still, and store pairs of
    /// images for `fit --pairs`
    ///
    /// The daemon must not run on the camera: stop it first. Every control is put back at the end, also after Ctrl-C or an
    /// error; if this is killed, by the next start of it or of the daemon.
    Intervene(intervene::InterveneArgs),
    /// Show or renew the reference picture by which the daemon tells a camera's faults
    Reference(reference::ReferenceArgs),
}

#[derive(Debug, Args)]
struct GrabArgs {
    /// Camera device, such as /dev/video0; with --config, the name of a camera
    camera: String,
    /// Configuration file to take the camera and its settings from
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Number of frames to skip while exposure settles
    #[arg(long, default_value_t = 5)]
    skip: u32,
    /// Image to write: .png, or .jpg if the camera sends JPEG
    #[arg(short, long, default_value = "frame.png")]
    output: PathBuf,
}

pub(super) fn run(args: &CameraArgs) -> Result<(), CliError> {
    match &args.command {
        CameraCommand::List { json } => list(*json),
        CameraCommand::Formats { device, json } => formats(device, *json),
        CameraCommand::Controls { device, json } => controls(device, *json),
        CameraCommand::Grab(args) => grab(args),
        CameraCommand::Intervene(args) => intervene::run(args),
        CameraCommand::Reference(args) => reference::run(args),
    }
}

fn list(json: bool) -> Result<(), CliError> {
    let devices = v4l::devices();
    if json {
        return devices.iter().try_for_each(json_line);
    }
    if devices.is_empty() {
        return line("no camera found; if other programs see one, add this user to group `video`");
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
    if formats.is_empty() {
        return line(&format!(
            "{} does not list its formats; the daemon tries those that it reads",
            device.display()
        ));
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
    if controls.is_empty() {
        return line(&format!(
            "{} has no controls that can be set",
            device.display()
        ));
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
    check_targets([Target::File(&args.output)])?;
    let settings = camera_settings(args)?;
    let frame = one_frame(&settings, args.skip)?;
    let bytes = encode(&frame, &settings.view, &args.output)?;
    write_file(&args.output, &bytes)?;
    line(&args.output.display().to_string())
}

fn camera_settings(args: &GrabArgs) -> Result<CameraSettings, CliError> {
    if let Some(config) = &args.config {
        let settings = Settings::read(config)?;
        return configured::camera(&settings, Some(&args.camera), config).cloned();
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
        reuse_s: 0.0,
        publish: crate::config::PublishSettings::default(),
        view: View::WHOLE,
    })
}

/// The first good frame after `skip` others; recordings skip none.
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
                let stalled = CaptureError::Stalled {
                    seconds: settings.stall_s,
                };
                return Err(stalled.with_what_came(source.came_instead()).into());
            }
            Next::Damaged | Next::Nothing => {}
        }
    }
}

/// The file to write: the camera's own JPEG, or the visible part of the frame as PNG.
fn encode(frame: &Frame, view: &View, output: &Path) -> Result<Vec<u8>, CliError> {
    let extension = output
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        "jpg" | "jpeg" if *view == View::WHOLE && is_whole_jpeg(frame) => Ok(frame.data.clone()),
        // What the camera sent is not a file that other programs show.
        "jpg" | "jpeg" if frame.format == PixelFormat::Jpeg && *view == View::WHOLE => {
            jpeg_within(&visible(frame, view)?, usize::MAX).ok_or_else(|| CliError::Write {
                path: output.into(),
                source: std::io::Error::other("the frame cannot be encoded as a JPEG"),
            })
        }
        "png" => png(&visible(frame, view)?, output),
        _ => Err(CliError::Usage(format!(
            "{}: name a .png file; .jpg needs a camera that sends JPEG and has no region or mask",
            output.display()
        ))),
    }
}
