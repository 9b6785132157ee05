//! The images on which towers are measured: photographs, or renders of the workshop where there are none.

use super::super::CliError;
use super::super::output::{expand, read_frame};
use crate::clock;
use crate::recognizer::FrameError;
use clap::Args;
use constancy_core::frame::Frame;
use constancy_core::preprocess::{DecodeError, Preprocessor};
use constancy_core::workshop::{ENVIRONMENTS, Scene, render};
use constancy_engine::Manifest;
use std::path::PathBuf;

/// Renders are drawn in this size, pixels.
const RENDERED: (u32, u32) = (640, 480);

/// Scenes that neither the shipped model's training nor its tests have seen.
const SEED: u64 = 1_234_567 << 32;

/// Which images.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// Measure on these images, such as what the cameras see: a folder, or a file; renders of a workshop unless given
    #[arg(short, long, value_name = "FOLDER")]
    images: Vec<PathBuf>,
    /// How many images; of a folder, evenly spread ones
    #[arg(short = 'n', long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
}

impl ImageArgs {
    /// What they are, in words.
    pub(super) fn describe(&self, count: usize) -> String {
        let what = if self.images.is_empty() {
            "rendered image"
        } else {
            "image"
        };
        format!("{count} {what}{}", if count == 1 { "" } else { "s" })
    }

    /// The images as the tower of `manifest` takes them.
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
                    log::warn!("{}: {source}; it is passed over", path.display());
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
        let files = expand(&self.images)?;
        let count = files.len().min(self.count as usize);
        Ok((0..count)
            .map(|i| files[i * files.len() / count].clone())
            .collect())
    }
}

fn decode(error: DecodeError) -> CliError {
    FrameError::Decode(error).into()
}

/// Render `i`, in the environments' turn.
fn rendered(i: u64) -> Frame {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a remainder of a small length"
    )]
    let environment = &ENVIRONMENTS[(i % ENVIRONMENTS.len() as u64) as usize];
    let (width, height) = RENDERED;
    Frame::rgb(
        render(&Scene::numbered(SEED + i, environment), width, height),
        width,
        height,
        clock::now(),
    )
}
