//! `constancy embed`: prints or saves the embeddings of images.

use super::CliError;
use super::model_args::{LoadedModel, ModelArgs};
use super::output::{
    Failures, Target, check_targets, for_each_image, image_files, json_line, write_file,
};
use crate::files::lossy;
use clap::Args;
use constancy_core::numeric::unit;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct EmbedArgs {
    /// Images or folders of images
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Write a safetensors file with `embeddings` [N, D] f32 and the file names, instead of printing JSON lines
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "lossy")]
    file: &'a Path,
    embedding: &'a [f32],
}

pub(super) fn run(args: &EmbedArgs) -> Result<(), CliError> {
    check_targets(args.output.as_deref().map(Target::File))?;
    let LoadedModel {
        mut frame_encoder,
        projection,
        ..
    } = args.model.load()?;
    let images = image_files(&args.images)?;
    let mut files: Vec<&Path> = Vec::new();
    let mut rows: Vec<f32> = Vec::new();
    let result = for_each_image(&images, args.output.is_some(), |index, frame| {
        let (embedding, _) = frame_encoder.embed(frame)?;
        let embedding = projection
            .as_ref()
            .map_or_else(|| unit(&embedding), |p| p.projection.apply(&embedding));
        if args.output.is_none() {
            return json_line(&Line {
                file: &images[index],
                embedding: &embedding,
            });
        }
        files.push(&images[index]);
        rows.extend(embedding);
        Ok(())
    });
    let result = result.and_then(Failures::into_result);
    if let Some(output) = &args.output
        && !files.is_empty()
    {
        save(output, &files, &rows)?;
    }
    result
}

fn save(output: &Path, files: &[&Path], rows: &[f32]) -> Result<(), CliError> {
    let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = vec![files.len(), rows.len() / files.len()];
    let invalid = |e: safetensors::SafeTensorError| CliError::Write {
        path: output.into(),
        source: std::io::Error::other(e),
    };
    let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(invalid)?;
    let names: Vec<_> = files.iter().map(|f| f.to_string_lossy()).collect();
    let metadata = HashMap::from([("files".to_owned(), serde_json::to_string(&names)?)]);
    let file = safetensors::serialize([("embeddings", view)], Some(metadata)).map_err(invalid)?;
    write_file(output, &file)
}
