//! Replays image files as a camera would deliver them.

use super::error::CaptureError;
use super::pace::Pace;
use super::source::{Next, Source};
use crate::clock;
use crate::config::ReplaySettings;
use crate::files::{self, Images, ImagesError, MAX_IMAGE_BYTES, PassedOver, find_images};
use constancy_core::frame::{Frame, PixelFormat};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Replays the images of a folder or a list.
pub(super) struct ReplaySource {
    settings: ReplaySettings,
    images: Vec<PathBuf>,
    /// Index of the next image.
    next_image: usize,
    /// Whether an image could be read since the first one was due.
    any_read: bool,
    /// What was told about the folder or the list, and the images that were told to be unreadable.
    told: PassedOver,
    told_unreadable: BTreeSet<PathBuf>,
    pace: Pace,
}

impl ReplaySource {
    pub(super) fn open(settings: &ReplaySettings) -> Result<Self, CaptureError> {
        let mut source = Self {
            settings: settings.clone(),
            images: Vec::new(),
            next_image: 0,
            any_read: false,
            told: PassedOver::default(),
            told_unreadable: BTreeSet::new(),
            pace: Pace::new(settings.rate),
        };
        source.rewind()?;
        Ok(source)
    }

    /// Starts with the images that the folder or the list has now.
    fn rewind(&mut self) -> Result<(), CaptureError> {
        let Images { paths, passed_over } = find_images(&self.settings.path)?;
        if passed_over != self.told {
            passed_over.log(&self.settings.path);
            self.told = passed_over;
        }
        (self.images, self.next_image, self.any_read) = (paths, 0, false);
        Ok(())
    }

    /// What follows the last image: the end, or the first one again.
    fn finish_pass(&mut self) -> Result<Option<Next>, CaptureError> {
        if !self.any_read {
            return Err(CaptureError::Images(ImagesError::NoneReadable {
                path: self.settings.path.clone(),
                count: self.images.len(),
            }));
        }
        if !self.settings.looping {
            return Ok(Some(Next::End));
        }
        self.rewind()?;
        Ok(None)
    }
}

impl Source for ReplaySource {
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError> {
        if self.next_image == self.images.len()
            && let Some(end) = self.finish_pass()?
        {
            return Ok(end);
        }
        if !self.pace.wait(timeout) {
            return Ok(Next::Nothing);
        }
        let path = &self.images[self.next_image];
        match files::read(path, MAX_IMAGE_BYTES) {
            Ok(data) => {
                (self.next_image, self.any_read) = (self.next_image + 1, true);
                let frame = Frame::compressed(PixelFormat::ImageFile, data, clock::now());
                Ok(Next::Frame(Frame {
                    file: Some(Arc::new(path.clone())),
                    ..frame
                }))
            }
            // One missing file is skipped; a missing folder or list is a failure of the source.
            Err(source) if self.settings.path.exists() => {
                if self.told_unreadable.insert(path.clone()) {
                    log::warn!("{} cannot be read: {source}; skipped", path.display());
                }
                self.next_image += 1;
                Ok(Next::Damaged)
            }
            Err(source) => Err(CaptureError::Images(ImagesError::Read {
                path: self.settings.path.clone(),
                source,
            })),
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
