//! `constancy check`: tries the configuration, GPU, model, cameras, broker and queue without running the daemon.

use super::configured::SERVICE_CONFIG;
use super::output::{json_line, line};
use super::{CliError, exit};
use crate::capture::{self, CaptureError, Next};
use crate::config::{CameraSettings, Settings, Warning};
use crate::publish;
use crate::recognizer::{Limits, Recognizer};
use clap::Args;
use constancy_core::classify::Classifier;
use constancy_engine::{Device, Driver, GpuDevice, GpuError};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the broker may take to answer.
const BROKER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file
    #[arg(short, long, default_value = SERVICE_CONFIG)]
    config: PathBuf,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// The result of one check.
#[derive(Serialize)]
struct Finding {
    check: String,
    ok: bool,
    detail: String,
    /// It works, and should be mended all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    #[serde(skip)]
    code: u8,
}

impl Finding {
    fn good(check: &str, detail: String) -> Self {
        Self {
            check: check.into(),
            ok: true,
            detail,
            warning: false,
            code: 0,
        }
    }

    fn warning(check: &str, detail: String) -> Self {
        Self {
            warning: true,
            ..Self::good(check, detail)
        }
    }

    fn bad(check: &str, detail: &dyn std::fmt::Display, code: u8) -> Self {
        Self {
            check: check.into(),
            ok: false,
            detail: detail.to_string(),
            warning: false,
            code,
        }
    }
}

pub(super) fn run(args: &CheckArgs) -> Result<(), CliError> {
    let mut findings = Vec::new();
    let mut found = |finding: Finding| {
        let shown = if args.json {
            json_line(&finding)
        } else {
            let mark = match (finding.ok, finding.warning) {
                (false, _) => "FAIL",
                (true, true) => "WARN",
                (true, false) => "ok  ",
            };
            line(&format!("{mark}  {:<14} {}", finding.check, finding.detail))
        };
        findings.push(finding);
        shown
    };
    match Settings::read(&args.config) {
        Err(e) => found(Finding::bad("configuration", &e, exit::config(&e)))?,
        Ok(settings) => {
            found(Finding::good(
                "configuration",
                format!("{}, device {}", args.config.display(), settings.device),
            ))?;
            for Warning { key, text } in settings.warnings() {
                found(Finding::warning(key, text))?;
            }
            if let Some(gpu) = gpu(settings.engine.device) {
                found(gpu)?;
            }
            found(model(&settings))?;
            for camera in &settings.cameras {
                found(self::camera(camera))?;
            }
            found(broker(&settings))?;
            if settings.mqtt.broker.is_some() {
                found(queue(&settings))?;
            }
        }
    }
    let failed = findings.iter().filter(|f| !f.ok).count();
    match findings.iter().find(|f| !f.ok) {
        Some(first) => Err(CliError::CheckFailed {
            failed,
            total: findings.len(),
            code: first.code,
        }),
        None => Ok(()),
    }
}

/// The driver and its GPUs; `None` if there is no driver and the configuration does not ask for a GPU.
fn gpu(device: Device) -> Option<Finding> {
    let described = Driver::open().and_then(|driver| {
        let devices = driver.devices()?;
        let one = |d: &GpuDevice| {
            let (major, minor) = d.capability;
            format!(
                "cuda:{} {}, {} MiB, compute capability {major}.{minor}",
                d.index,
                d.name,
                d.memory_bytes >> 20
            )
        };
        let listed: Vec<String> = devices.iter().map(one).collect();
        let listed = if listed.is_empty() {
            "no GPU".into()
        } else {
            listed.join("; ")
        };
        let built = if cfg!(feature = "gpu") {
            ""
        } else {
            "; this build has no GPU support"
        };
        Ok(format!(
            "driver for CUDA {}: {listed}{built}",
            driver.version
        ))
    });
    match (described, device) {
        (Ok(detail), _) => Some(Finding::good("gpu", detail)),
        (Err(_), Device::Cpu) | (Err(GpuError::NoDriver { .. }), Device::Auto) => None,
        (Err(e), _) => Some(Finding::bad("gpu", &e, exit::UNAVAILABLE)),
    }
}

fn model(settings: &Settings) -> Finding {
    let start = Instant::now();
    match Recognizer::load(settings) {
        Ok(recognizer) => {
            let name = &recognizer.encoder().manifest().encoder.name;
            let classes = recognizer.classifier().labels().len();
            let trust = trust(recognizer.classifier(), recognizer.limits());
            let seconds = start.elapsed().as_secs_f64();
            let (model, projection) = (&recognizer.model_digest, &recognizer.projection_digest);
            let place = recognizer
                .encoder()
                .info()
                .gpu
                .map_or_else(String::new, |gpu| format!(" on {gpu}"));
            Finding::good(
                "model",
                format!(
                    "{name} ({model}){place}, projection {projection}, {classes} classes{trust}; loaded in {seconds:.1} s"
                ),
            )
        }
        Err(e) => Finding::bad("model", &e, exit::recognizer(&e)),
    }
}

/// What known answers rest on.
fn trust(classifier: &Classifier, limits: &Limits) -> String {
    let threshold = classifier.threshold();
    if classifier.has_confidence() {
        let of_classes = || limits.of_classes.iter().copied();
        let own = of_classes()
            .reduce(f32::min)
            .map_or_else(String::new, |lowest| {
                let highest = of_classes().fold(lowest, f32::max);
                format!(", of {lowest:.2} to {highest:.2} by class")
            });
        let basis = limits.basis.as_ref();
        let basis = basis.map_or_else(String::new, |basis| format!(" ({basis})"));
        let unknown = limits.unknown.as_ref();
        let unknown = unknown.map_or_else(String::new, |unknown| format!("; {unknown}"));
        let light = classifier
            .reference()
            .map_or_else(String::new, |reference| {
                format!("; an offset {}", reference.describe())
            });
        return format!(
            ", known from a confidence of {threshold:.2} on{own}{basis}{unknown}{light}"
        );
    }
    let unlike = if classifier.has_support() {
        ""
    } else {
        ", no measure of what is unlike the examples"
    };
    format!(", not calibrated{unlike}")
}

fn camera(settings: &CameraSettings) -> Finding {
    let check = format!("camera {}", settings.name);
    match first_frame(settings) {
        Ok(detail) => Finding::good(&check, detail),
        Err(e) => Finding::bad(&check, &e, exit::capture(&e)),
    }
}

fn first_frame(settings: &CameraSettings) -> Result<String, CaptureError> {
    let start = Instant::now();
    let mut source = capture::open(settings)?;
    let limit = Duration::from_secs_f64(settings.stall_s.max(1.0));
    loop {
        match source.next(Duration::from_millis(100))? {
            Next::Frame(_) => {
                return Ok(format!(
                    "{}; first frame after {:.1} s",
                    source.describe(),
                    start.elapsed().as_secs_f64()
                ));
            }
            Next::End => return Ok(source.describe()),
            Next::Damaged | Next::Nothing if start.elapsed() > limit => {
                let stalled = CaptureError::Stalled {
                    seconds: limit.as_secs_f64(),
                };
                return Err(stalled.with_what_came(source.came_instead()));
            }
            Next::Damaged | Next::Nothing => {}
        }
    }
}

fn broker(settings: &Settings) -> Finding {
    if settings.mqtt.broker.is_none() {
        return Finding::good("broker", "none configured: events go to stdout".into());
    }
    match publish::probe(settings, BROKER_LIMIT) {
        Ok(broker) => Finding::good("broker", broker),
        Err(e) => Finding::bad("broker", &e, exit::broker(&e)),
    }
}

fn queue(settings: &Settings) -> Finding {
    let Some(folder) = &settings.queue.folder else {
        return Finding::good(
            "queue",
            "no folder: events wait in memory, and do not survive a restart".into(),
        );
    };
    let name = folder.display();
    match publish::inspect_queue(folder, &settings.queue) {
        Ok(detail) => Finding::good("queue", format!("{name}: {detail}")),
        Err(reason) => Finding::bad("queue", &format!("{name}: {reason}"), exit::CANNOT_CREATE),
    }
}
