//! `constancy model quantise`: converts an image tower to int8 or fp16.

use super::images::ImageArgs;
use crate::cli::CliError;
use crate::cli::output::{Target, check_targets, json_line, line};
use crate::recognizer::{RecognizerError, VettingError, vetting};
use clap::{Args, ValueEnum};
use constancy_engine::{
    DEFAULT_MAX_ERROR, EngineOptions, LayerReport, Manifest, Progress, QuantiseOptions,
    QuantiseReport, Quantiser, StorageFormat, describe,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// With a lower median cosine to the original, decisions may change.
const GOOD_COSINE: f64 = 0.995;

#[derive(Debug, Args)]
pub(super) struct QuantiseArgs {
    /// Manifest or ONNX file of the fp32 image tower; an ONNX file without a manifest next to it is
    /// taken to be CLIP
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write, .onnx or .toml; the model and its manifest are both written
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Storage format: int8 for linear layers and convolutions (a quarter of the size), or fp16 for all weights, computed in fp32
    #[arg(long, value_enum, default_value_t = Format::Int8)]
    format: Format,
    #[command(flatten)]
    images: ImageArgs,
    /// Store a layer in fp16 if int8 changes its output by more than this share of its variation
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_MAX_ERROR, value_parser = share)]
    max_error: f64,
    /// Turn off smoothing of channels that are much larger than the others
    #[arg(long)]
    no_smoothing: bool,
    /// Number of threads; defaults to the number of performance cores
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: Option<u8>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Int8,
    Fp16,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|s: &f64| (0.0..=1.0).contains(s));
    share.ok_or_else(|| "expected a share of 0 to 1".into())
}

pub(super) fn run(args: &QuantiseArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let out = args.onnx_file()?;
    check_targets([
        Target::File(&out),
        Target::File(&out.with_extension("toml")),
    ])?;
    let engine = EngineOptions {
        threads: args.threads.map(usize::from),
        ..EngineOptions::default()
    };
    // What a child survives is told below, in the quantiser's own words.
    match vetting::described_tower(&args.input, &engine) {
        Err(RecognizerError::Vetting(VettingError::Refused { .. })) | Ok(()) => {}
        Err(died) => return Err(died.into()),
    }
    let described = describe(&args.input)?;
    refuse_to_replace(&described.manifest, &out)?;
    let options = QuantiseOptions {
        format: match args.format {
            Format::Int8 => StorageFormat::Int8,
            Format::Fp16 => StorageFormat::Fp16,
        },
        max_error: args.max_error,
        smooth: !args.no_smoothing,
        threads: args.threads.map(usize::from),
    };
    let quantiser = Quantiser::open(&described.manifest, &out, options)?;
    let images = args.images.tensors(&described.manifest)?;
    let measured_on = args.images.describe(images.len());
    let bar = bar();
    let report = quantiser.run(&images, &measured_on, &mut |p| show(&bar, p));
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        return json_line(&report);
    }
    print(&report, &measured_on, start)?;
    if report.cosine.median < GOOD_COSINE {
        line(
            "note        embeddings have moved: try --images with what the cameras see, or a smaller --max-error",
        )?;
    }
    if described.assumed {
        line(&format!(
            "note        {} had no manifest: CLIP's preprocessing and a logit scale of 100 were assumed; correct {} if they are others",
            args.input.display(),
            report.manifest.display()
        ))?;
    }
    Ok(())
}

impl QuantiseArgs {
    /// The ONNX file of OUT.
    fn onnx_file(&self) -> Result<PathBuf, CliError> {
        match self.output.extension().and_then(|e| e.to_str()) {
            Some("onnx") => Ok(self.output.clone()),
            Some("toml") => Ok(self.output.with_extension("onnx")),
            _ => Err(CliError::Usage(format!(
                "{}: give OUT a name ending in .onnx or .toml",
                self.output.display()
            ))),
        }
    }
}

/// Refuses to overwrite IN or its manifest, which may have the same name as OUT's.
fn refuse_to_replace(source: &Manifest, out: &Path) -> Result<(), CliError> {
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    for (input, output) in [
        (source.encoder_file(), out.to_owned()),
        (source.path.clone(), out.with_extension("toml")),
    ] {
        if same(&input, &output) {
            let message = format!(
                "{} would be overwritten by the output; give OUT another name",
                input.display()
            );
            return Err(CliError::Usage(message));
        }
    }
    Ok(())
}

/// A progress bar on stderr, if stderr is a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(progress.step);
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
}

fn print(report: &QuantiseReport, images: &str, start: Instant) -> Result<(), CliError> {
    if !report.layers.is_empty() {
        print_layers(&report.layers)?;
    }
    let int8 = report.layers.iter().filter(|l| l.form == "int8").count();
    let smoothed = report.layers.iter().filter(|l| l.alpha > 0.0).count();
    if report.format == StorageFormat::Int8 {
        line(&format!(
            "layers      {int8} of {} in int8, {smoothed} of them smoothed; {} other tensors in fp16",
            report.layers.len(),
            report.fp16_tensors
        ))?;
    } else {
        line(&format!("tensors     {} in fp16", report.fp16_tensors))?;
    }
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let (from, to) = (
        megabytes(report.source.bytes),
        megabytes(report.written.bytes),
    );
    line(&format!(
        "size        {to:.1} MB of {from:.1} MB ({:.0} %)",
        to / from * 100.0
    ))?;
    let cosine = report.cosine;
    line(&format!(
        "cosine      {:.5} in the median, {:.5} at least, to the original on {}",
        cosine.median, cosine.least, images
    ))?;
    line(&format!(
        "written     {} and {} in {:.0} s; projections and class banks of the original must be made anew",
        report.written.file.display(),
        report.manifest.display(),
        start.elapsed().as_secs_f64()
    ))
}

fn print_layers(layers: &[LayerReport]) -> Result<(), CliError> {
    let prefix = shared_prefix(layers);
    let short = |layer: &LayerReport| {
        let name = layer.name.strip_prefix(prefix).unwrap_or(&layer.name);
        name.strip_suffix("/MatMul")
            .or_else(|| name.strip_suffix("/Gemm"))
            .unwrap_or(name)
            .to_owned()
    };
    let width = layers
        .iter()
        .map(|l| short(l).chars().count())
        .max()
        .unwrap_or(0)
        .max("layer".len());
    line(&format!(
        "{:<width$}  shape         form  smoothing   error",
        "layer"
    ))?;
    for layer in layers {
        let shape = format!("{}x{}", layer.depth, layer.columns);
        let smoothing = if layer.alpha > 0.0 {
            layer.alpha.to_string()
        } else {
            "-".to_owned()
        };
        let (name, form, error) = (short(layer), layer.form, layer.error);
        line(&format!(
            "{name:<width$}  {shape:<12}  {form}  {smoothing:<9}  {error:>6.4}"
        ))?;
    }
    Ok(())
}

/// The longest prefix of all names that ends at a separator.
fn shared_prefix(layers: &[LayerReport]) -> &str {
    let Some(first) = layers.first().map(|l| l.name.as_str()) else {
        return "";
    };
    let shared = layers.iter().fold(first.len(), |n, l| {
        first
            .bytes()
            .zip(l.name.bytes())
            .take(n)
            .take_while(|(a, b)| a == b)
            .count()
    });
    let end = first.as_bytes()[..shared]
        .iter()
        .rposition(|&b| b == b'/' || b == b'.')
        .map_or(0, |at| at + 1);
    first.get(..end).unwrap_or_default()
}
