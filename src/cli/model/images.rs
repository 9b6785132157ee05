//! The images that towers are measured on: files, or renders of a workshop.

use crate::cli::CliError;
use crate::cli::output::{image_files, read_frame};
use crate::clock;
use crate::recognizer::FrameError;
use clap::Args;
use constancy_core::frame::Frame;
use constancy_core::preprocess::{DecodeError, Preprocessor};
use constancy_core::workshop::{ENVIRONMENTS, Scene, render};
use constancy_engine::Manifest;
use std::path::PathBuf;

/// Width and height of a render, pixels.
const RENDER_SIZE: (u32, u32) = (640, 480);

/// First scene; neither training nor tests of the shipped model use these scenes.
const SEED: u64 = 1_234_567 << 32;

/// The images to measure on.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// Image or folder of images to measure on, such as frames of your cameras; defaults to renders of a workshop
    #[arg(short, long, value_name = "FOLDER")]
    images: Vec<PathBuf>,
    /// Number of images, spread evenly over those given
    #[arg(short = 'n', long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
}

impl ImageArgs {
    /// Their number and kind, such as `30 rendered images`.
    pub(super) fn describe(&self, count: usize) -> String {
        let what = if self.images.is_empty() {
            "rendered image"
        } else {
            "image"
        };
        format!("{count} {what}{}", if count == 1 { "" } else { "s" })
    }

    /// The images, preprocessed for the tower of `manifest`. Damaged images are logged and skipped.
    pub(super) fn tensors(&self, manifest: &Manifest) -> Result<Vec<Vec<f32>>, CliError> {
        let mut preprocessor = Preprocessor::new(manifest.transform());
        if self.images.is_empty() {
            let tensor = |i| preprocessor.tensor(&rendered(i)).map_err(decode);
            return (0..u64::from(self.count)).map(tensor).collect();
        }
        let mut tensors = Vec::new();
        let mut damaged = None;
        for path in self.files()? {
            match preprocessor.tensor(&read_frame(&path)?) {
                Ok(tensor) => tensors.push(tensor),
                Err(source) => {
                    log::warn!("{}: {source}; skipping this image", path.display());
                    damaged = Some(CliError::Image { path, source });
                }
            }
        }
        match damaged {
            Some(error) if tensors.is_empty() => Err(error),
            _ => Ok(tensors),
        }
    }

    fn files(&self) -> Result<Vec<PathBuf>, CliError> {
        let files = image_files(&self.images)?;
        let count = files.len().min(self.count as usize);
        Ok((0..count)
            .map(|i| files[i * files.len() / count].clone())
            .collect())
    }
}

fn decode(error: DecodeError) -> CliError {
    FrameError::Decode(error).into()
}

/// Render `i`, in environment `i` of all, which repeat.
fn rendered(i: u64) -> Frame {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a remainder of a small length"
    )]
    let environment = &ENVIRONMENTS[(i % ENVIRONMENTS.len() as u64) as usize];
    let (width, height) = RENDER_SIZE;
    Frame::rgb(
        render(&Scene::from_seed(SEED + i, environment), width, height),
        width,
        height,
        clock::now(),
    )
}
