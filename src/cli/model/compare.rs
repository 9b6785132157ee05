//! `constancy model compare`: cosine similarity between the embeddings of two towers.

use super::images::ImageArgs;
use crate::cli::CliError;
use crate::cli::model_args::EngineArgs;
use crate::cli::output::{json_line, line};
use crate::recognizer::vetting;
use clap::Args;
use constancy_engine::{Agreement, Encoder, EngineOptions, Manifest, describe};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Manifest or ONNX file of the reference, which runs on the CPU as the file is stored
    #[arg(value_name = "A")]
    first: PathBuf,
    /// Manifest or ONNX file to compare with A; --precision, --device and --plain apply to it
    #[arg(value_name = "B")]
    second: PathBuf,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    a: Tower,
    b: Tower,
    images: &'a str,
    cosine: Agreement,
}

#[derive(Serialize)]
struct Tower {
    model: String,
    sha256: String,
    bytes: u64,
    /// The GPU, or `cpu`.
    device: String,
}

pub(super) fn run(args: &CompareArgs) -> Result<(), CliError> {
    let options = args.engine.apply_to(&EngineOptions::default());
    let of_a = EngineOptions {
        threads: options.threads,
        ..EngineOptions::default()
    };
    vetting::described_tower(&args.first, &of_a)?;
    vetting::described_tower(&args.second, &options)?;
    let (a, b) = (
        describe(&args.first)?.manifest,
        describe(&args.second)?.manifest,
    );
    if a.output.width != b.output.width {
        return Err(CliError::Usage(format!(
            "{} makes embeddings of {} values, and {} of {}; they cannot be compared",
            args.first.display(),
            a.output.width,
            args.second.display(),
            b.output.width
        )));
    }
    let (images, same) = (args.images.tensors(&a)?, a.transform() == b.transform());
    let (first, a) = embeddings(&a, &images, &of_a)?;
    let images = if same {
        images
    } else {
        args.images.tensors(&b)?
    };
    let (second, b) = embeddings(&b, &images, &options)?;
    let Some(cosine) = Agreement::of(&first, &second) else {
        return Err(CliError::Usage(
            "there are no images to compare on; give others with --images".into(),
        ));
    };
    let images = args.images.describe(cosine.images);
    let report = Report {
        a,
        b,
        images: &images,
        cosine,
    };
    if args.json {
        json_line(&report)
    } else {
        print(&report)
    }
}

/// The embeddings of all images, and the tower that made them.
fn embeddings(
    manifest: &Manifest,
    images: &[Vec<f32>],
    options: &EngineOptions,
) -> Result<(Vec<Vec<f32>>, Tower), CliError> {
    let encoder = Encoder::open(manifest.clone(), options)?;
    let rows = images
        .iter()
        .map(|image| encoder.embed(image))
        .collect::<Result<_, _>>()?;
    // If the GPU was lost, the CPU made the rest: report an error instead.
    encoder.ensure_no_fallback()?;
    let tower = Tower {
        model: manifest.encoder.name.clone(),
        sha256: encoder.sha256().to_owned(),
        bytes: encoder.file_bytes(),
        device: encoder.info().gpu.unwrap_or_else(|| "cpu".into()),
    };
    Ok((rows, tower))
}

fn print(report: &Report<'_>) -> Result<(), CliError> {
    for (name, tower) in [("A", &report.a), ("B", &report.b)] {
        let megabytes = tower.bytes as f64 / 1e6;
        let (model, hash, device) = (&tower.model, &tower.sha256[..12], &tower.device);
        line(&format!(
            "{name:<10}  {model}, {megabytes:.1} MB, sha256 {hash}, on {device}"
        ))?;
    }
    let c = &report.cosine;
    line(&format!(
        "cosine      {:.6} in the median, {:.6} at least, on {}",
        c.median, c.least, report.images
    ))?;
    line(&format!(
        "quantiles   1 % {:.6}, 5 % {:.6}, 25 % {:.6}, mean {:.6}",
        c.q01, c.q05, c.q25, c.mean
    ))
}
