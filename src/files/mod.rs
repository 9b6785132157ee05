//! Files that somebody named: opening and reading them, finding the images in a folder or a list, showing their names.
//!
//! Whatever is not a regular file stays unopened. What cannot be used is passed over with one warning. An image is only
//! listed here; whoever decodes it decides what a damaged one means.

mod images;
mod list;
mod media;
mod names;
mod passed_over;
mod walk;

pub(crate) use constancy_engine::regular_file::{
    MAX_TENSOR_BYTES, MAX_TEXT_BYTES, check, megabytes, open, open_or_create, read, read_text,
};
pub(crate) use images::{
    Class, Images, ImagesError, Layout, find_images, images_of_classes, labelled_images,
    list_images,
};
pub(crate) use media::{HEAD_BYTES, picture, video};
pub(crate) use names::lossy;
pub(crate) use passed_over::PassedOver;
pub(crate) use walk::CAPTIONS;

/// Limit of an image file: a picture of 16384×4096 pixels without compression fits.
pub(crate) const MAX_IMAGE_BYTES: u64 = 256 << 20;
