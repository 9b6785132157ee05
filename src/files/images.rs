//! The images of a folder, of class folders, or of a list.

use super::list::images_listed;
use super::media::{Listing, listing};
use super::passed_over::PassedOver;
use super::walk::Walk;
use super::{megabytes, open};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// How much of a file is looked at that may be a list: the first frame of a recording in MJPEG fits.
const BEGINNING_BYTES: u64 = 4 << 20;

/// Why there are no images.
#[derive(Debug, Error)]
pub enum ImagesError {
    #[error("{path} cannot be read: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} holds no JPEG, PNG, WebP, BMP or TIFF image{why}")]
    Empty {
        path: PathBuf,
        /// `; ` and what was passed over, or nothing.
        why: String,
    },
    #[error(
        "{path} is a video ({format}), and a replay takes pictures: play it with `[camera.pipe]` and `command = [\"ffmpeg\", \"-re\", \"-i\", \"{path}\", \"-f\", \"mjpeg\", \"-q:v\", \"2\", \"-\"]`, or take it apart into pictures with `ffmpeg -i {path} frame-%06d.png`"
    )]
    Video { path: PathBuf, format: &'static str },
    #[error(
        "{path} holds {format} ({size}): expected a folder, a picture (JPEG, PNG, WebP, BMP, TIFF) or a text file with the path of a picture on each line"
    )]
    NoList {
        path: PathBuf,
        format: &'static str,
        size: String,
    },
    #[error("none of the {count} images of {path} can be read")]
    NoneReadable { path: PathBuf, count: usize },
    #[error(
        "{folder}: two class folders are named alike where their names are not UTF-8, `{name}`; rename one"
    )]
    SameName { folder: PathBuf, name: String },
}

/// The images of a folder or a list.
#[derive(Debug)]
pub(crate) struct Images {
    /// In the order of their paths, or of the list.
    pub paths: Vec<PathBuf>,
    pub passed_over: PassedOver,
}

/// A class folder.
#[derive(Debug)]
pub(crate) struct Class {
    /// Its name; what is not UTF-8 in it became U+FFFD.
    pub name: String,
    pub folder: PathBuf,
    /// Sorted.
    pub images: Vec<PathBuf>,
}

/// How a folder names classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// It does not.
    Unlabelled,
    /// `ENVIRONMENT/CLASS/IMAGE`.
    Environments,
    /// That, or `CLASS/IMAGE`.
    Any,
}

fn read(path: &Path) -> impl FnOnce(std::io::Error) -> ImagesError {
    move |source| ImagesError::Read {
        path: path.into(),
        source,
    }
}

/// Finds the images of a folder and its subfolders, or those that a text file lists, one path per line. A picture is the
/// only image of itself.
pub(crate) fn find_images(path: &Path) -> Result<Images, ImagesError> {
    let found = if path.is_dir() {
        Walk::through(path).map(|walk| (walk.images, walk.passed_over))
    } else {
        match listing(&beginning(path).map_err(read(path))?) {
            Listing::List => images_listed(path),
            Listing::Picture => Ok((vec![path.into()], PassedOver::default())),
            Listing::Video(format) => {
                let path = path.into();
                return Err(ImagesError::Video { path, format });
            }
            Listing::Other(format) => {
                let bytes = std::fs::metadata(path).map_err(read(path))?.len();
                return Err(ImagesError::NoList {
                    path: path.into(),
                    format,
                    size: megabytes(bytes),
                });
            }
        }
    };
    let (paths, passed_over) = found.map_err(read(path))?;
    refuse_none(path, &paths, &passed_over)?;
    Ok(Images { paths, passed_over })
}

/// The beginning of a file.
fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(BEGINNING_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refuse_none(
    path: &Path,
    images: &[PathBuf],
    passed_over: &PassedOver,
) -> Result<(), ImagesError> {
    if images.is_empty() {
        return Err(ImagesError::Empty {
            path: path.into(),
            why: passed_over.reason(),
        });
    }
    Ok(())
}

/// The images of a folder or a list; what is passed over is logged.
pub(crate) fn list_images(path: &Path) -> Result<Vec<PathBuf>, ImagesError> {
    let images = find_images(path)?;
    images.passed_over.log(path);
    Ok(images.paths)
}

/// The images of a folder; what is passed over is logged. A class folder without images, because of its files'
/// extensions, is an error.
pub(crate) fn labelled_images(root: &Path, layout: Layout) -> Result<Vec<PathBuf>, ImagesError> {
    let walk = Walk::through(root).map_err(read(root))?;
    refuse_none(root, &walk.images, &walk.passed_over)?;
    let in_class_folders = |image: &PathBuf| {
        let inside = image.strip_prefix(root);
        inside.is_ok_and(|inside| inside.iter().count() == 2)
    };
    let class_depth = match layout {
        Layout::Unlabelled => None,
        Layout::Any if walk.images.iter().all(in_class_folders) => Some(1),
        Layout::Any | Layout::Environments => Some(2),
    };
    let empty = class_depth.map_or_else(Vec::new, |depth| walk.without_images(root, depth));
    let emptied = empty.iter().find(|(_, left_out)| !left_out.is_empty());
    if let Some((folder, left_out)) = emptied {
        return Err(ImagesError::Empty {
            path: folder.into(),
            why: format!("; {left_out}"),
        });
    }
    walk.passed_over.log(root);
    Ok(walk.images)
}

/// The class folders in `root`, sorted, with their images; what is passed over is logged. A class folder without images
/// is an error, unless it cannot be entered.
pub(crate) fn images_of_classes(root: &Path) -> Result<Vec<Class>, ImagesError> {
    let walk = Walk::through(root).map_err(read(root))?;
    if let Some((folder, left_out)) = walk.without_images(root, 1).into_iter().next() {
        return Err(ImagesError::Empty {
            path: folder.into(),
            why: left_out
                .told()
                .map_or_else(String::new, |t| format!("; {t}")),
        });
    }
    let mut classes: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
    for image in &walk.images {
        let mut inside = image.strip_prefix(root).unwrap_or(image).iter();
        if let (Some(class), Some(_)) = (inside.next(), inside.next()) {
            classes.entry(class.into()).or_default().push(image.clone());
        }
    }
    let class = |(name, images): (OsString, Vec<PathBuf>)| Class {
        folder: root.join(&name),
        name: name.to_string_lossy().into_owned(),
        images,
    };
    let classes: Vec<Class> = classes.into_iter().map(class).collect();
    for (i, class) in classes.iter().enumerate() {
        if classes[..i].iter().any(|c| c.name == class.name) {
            return Err(ImagesError::SameName {
                folder: root.into(),
                name: class.name.clone(),
            });
        }
    }
    walk.passed_over.log(root);
    Ok(classes)
}
