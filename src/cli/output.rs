//! Reading images and writing results, for all subcommands.

use super::CliError;
use crate::capture::list_images;
use crate::clock;
use crate::recognizer::FrameError;
use constancy_core::frame::{Frame, PixelFormat};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads an image file as a frame.
pub(super) fn read_frame(path: &Path) -> Result<Frame, CliError> {
    let data = std::fs::read(path).map_err(|source| CliError::Read {
        path: path.into(),
        source,
    })?;
    Ok(Frame::compressed(
        PixelFormat::ImageFile,
        data,
        clock::now(),
    ))
}

/// The image files that arguments name; a folder stands for the images in it.
pub(super) fn image_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut images = Vec::new();
    for path in paths {
        if path.is_dir() {
            images.extend(list_images(path)?);
        } else {
            images.push(path.clone());
        }
    }
    Ok(images)
}

/// Calls `each` with the index of every image and its frame. An image that cannot be read is reported, counted and skipped.
pub(super) fn for_each_image(
    images: &[PathBuf],
    show_progress: bool,
    mut each: impl FnMut(usize, &Frame) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let bar = progress(images.len(), "images", show_progress);
    let mut failed = 0;
    for (index, path) in images.iter().enumerate() {
        let result = read_frame(path).and_then(|frame| each(index, &frame));
        match result {
            Ok(()) => {}
            Err(CliError::Read { .. }) if images.len() == 1 => return result,
            Err(e @ (CliError::Read { .. } | CliError::Frame(FrameError::Decode(_)))) => {
                failed += 1;
                let named = matches!(e, CliError::Read { .. });
                let message = if named {
                    e.to_string()
                } else {
                    format!("{}: {e}", path.display())
                };
                bar.suspend(|| writeln!(std::io::stderr(), "error: {message}"))?;
            }
            Err(e) => return Err(e),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if failed > 0 {
        Err(CliError::SomeFailed {
            failed,
            total: images.len(),
        })
    } else {
        Ok(())
    }
}

/// A progress bar on stderr, if stderr is a terminal and the work may take a while.
pub(super) fn progress(total: usize, what: &str, wanted: bool) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    if !wanted || total < 20 {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    if let Ok(style) =
        ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left"))
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Writes one line to stdout.
pub(super) fn line(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Writes one JSON value as a line to stdout.
pub(super) fn json_line(value: &impl serde::Serialize) -> Result<(), CliError> {
    line(&serde_json::to_string(value)?)
}

/// Writes a file atomically.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let failed = |source| CliError::Write {
        path: path.into(),
        source,
    };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|e| {
            let _ = std::fs::remove_file(&partial);
            failed(e)
        })
}
