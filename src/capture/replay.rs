//! Replays image files as a camera would deliver them.

use super::error::CaptureError;
use super::pace::Pace;
use super::source::{Next, Source};
use crate::clock;
use crate::config::ReplaySettings;
use constancy_core::frame::{Frame, PixelFormat};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Replays the images of a folder or a list.
pub(super) struct ReplaySource {
    settings: ReplaySettings,
    images: Vec<PathBuf>,
    /// Index of the next image.
    next_image: usize,
    pace: Pace,
}

impl ReplaySource {
    pub(super) fn open(settings: &ReplaySettings) -> Result<Self, CaptureError> {
        let images = list_images(&settings.path)?;
        Ok(Self {
            settings: settings.clone(),
            images,
            next_image: 0,
            pace: Pace::new(settings.rate),
        })
    }

    /// Starts again with the images that the folder or the list has now.
    fn rewind(&mut self) -> Result<(), CaptureError> {
        self.images = list_images(&self.settings.path)?;
        self.next_image = 0;
        Ok(())
    }
}

impl Source for ReplaySource {
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError> {
        if self.next_image == self.images.len() {
            if !self.settings.looping {
                return Ok(Next::End);
            }
            self.rewind()?;
        }
        if !self.pace.wait(timeout) {
            return Ok(Next::Nothing);
        }
        let path = &self.images[self.next_image];
        match std::fs::read(path) {
            Ok(data) => {
                self.next_image += 1;
                let frame = Frame::compressed(PixelFormat::ImageFile, data, clock::now());
                Ok(Next::Frame(Frame {
                    file: Some(Arc::new(path.clone())),
                    ..frame
                }))
            }
            // One missing file is skipped; a missing folder or list is a failure of the source.
            Err(source) if self.settings.path.exists() => {
                log::warn!("{} cannot be read: {source}; skipped", path.display());
                self.next_image += 1;
                Ok(Next::Damaged)
            }
            Err(source) => Err(CaptureError::Read {
                path: self.settings.path.clone(),
                source,
            }),
        }
    }

    fn is_live(&self) -> bool {
        false
    }

    fn waits_for_reader(&self) -> bool {
        self.settings.rate.is_none()
    }

    fn describe(&self) -> String {
        format!(
            "{} images of {}",
            self.images.len(),
            self.settings.path.display()
        )
    }
}

/// The images of a folder and its subfolders, sorted by path, or the images that a text file lists, one per line.
pub(crate) fn list_images(path: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    let unreadable = |source| CaptureError::Read {
        path: path.into(),
        source,
    };
    let mut images = Vec::new();
    if path.is_dir() {
        collect(path, &mut images).map_err(unreadable)?;
        images.sort();
    } else {
        let list = std::fs::read_to_string(path).map_err(unreadable)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        images.extend(
            list.lines()
                .map(str::trim)
                .filter(|l| !l.is_empty())
                .map(|l| folder.join(l)),
        );
    }
    if images.is_empty() {
        return Err(CaptureError::Empty { path: path.into() });
    }
    Ok(images)
}

fn collect(folder: &Path, images: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, images)?;
        } else if is_image(&path) {
            images.push(path);
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}
