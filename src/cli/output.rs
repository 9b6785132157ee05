//! Reading images and writing results, for all subcommands.

use super::CliError;
use crate::clock;
use crate::files::{self, MAX_IMAGE_BYTES, list_images};
use crate::publish::rfc3339;
use crate::recognizer::FrameError;
use crate::text::one_line;
use constancy_core::frame::{Frame, PixelFormat};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads an image file as a frame.
pub(super) fn read_frame(path: &Path) -> Result<Frame, CliError> {
    let data = files::read(path, MAX_IMAGE_BYTES).map_err(|source| CliError::Read {
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

/// How many of a batch of images could not be read.
#[must_use]
pub(super) struct Failures {
    failed: usize,
    total: usize,
}

impl Failures {
    pub(super) const NONE: Self = Self {
        failed: 0,
        total: 0,
    };

    pub(super) fn new(failed: usize, total: usize) -> Self {
        Self { failed, total }
    }

    /// An error if there are any; each was reported.
    pub(super) fn into_result(self) -> Result<(), CliError> {
        let Self { failed, total } = self;
        if failed > 0 {
            return Err(CliError::SomeFailed { failed, total });
        }
        Ok(())
    }
}

/// Calls `each` with the index of every image and its frame. An image that cannot be read is reported, counted and skipped.
pub(super) fn for_each_image(
    images: &[PathBuf],
    show_progress: bool,
    mut each: impl FnMut(usize, &Frame) -> Result<(), CliError>,
) -> Result<Failures, CliError> {
    let bar = progress(images.len(), "images", show_progress);
    let mut failures = Failures {
        failed: 0,
        total: images.len(),
    };
    for (index, path) in images.iter().enumerate() {
        match read_frame(path).and_then(|frame| each(index, &frame)) {
            Ok(()) => {}
            Err(e @ CliError::Read { .. }) if images.len() == 1 => return Err(e),
            Err(e @ (CliError::Read { .. } | CliError::Frame(FrameError::Decode(_)))) => {
                failures.failed += 1;
                let named = matches!(e, CliError::Read { .. });
                let message = if named {
                    e.to_string()
                } else {
                    format!("{}: {e}", path.display())
                };
                bar.suspend(|| report_item(&message));
            }
            Err(e) => return Err(e),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(failures)
}

/// Reports on stderr what one of several items failed by. If stderr is closed, there is nowhere to report to.
pub(super) fn report_item(message: &str) {
    let _ = writeln!(std::io::stderr(), "error: {}", one_line(message));
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

/// Writes one line to stdout; names in it that hold line ends stay in the line.
pub(super) fn line(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{}", one_line(text))?)
}

/// Writes one JSON value as a line to stdout.
pub(super) fn json_line(value: &impl serde::Serialize) -> Result<(), CliError> {
    line(&serde_json::to_string(value)?)
}

/// The present time for a result's record (RFC 3339), or the time that reproducible builds set
/// (reproducible-builds.org/specs/source-date-epoch).
pub(super) fn created() -> String {
    let set = std::env::var("SOURCE_DATE_EPOCH").ok();
    let seconds: Option<i64> = set.and_then(|seconds| seconds.parse().ok());
    let set_ns = seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    rfc3339(set_ns.unwrap_or_else(|| clock::now().unix_ns))
}

/// Where a command will write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    File(&'a Path),
    /// A folder that the command makes.
    Folder(&'a Path),
}

/// Refuses targets that cannot be written, before a command works for hours and then loses the result. Makes the folders
/// of [`Target::Folder`].
pub(super) fn check_targets<'a>(
    targets: impl IntoIterator<Item = Target<'a>>,
) -> Result<(), CliError> {
    targets.into_iter().try_for_each(|target| {
        let (path, refused) = match target {
            Target::File(path) => (path, file_refused(path)),
            Target::Folder(path) => (path, folder_refused(path)),
        };
        refused.map_or(Ok(()), |reason| {
            let path = path.into();
            Err(CliError::Unwritable { path, reason })
        })
    })
}

/// Why no file can be written there, and the way out.
fn file_refused(path: &Path) -> Option<String> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let shown = folder.display();
    if path.is_dir() {
        return Some("it is a folder; name a file in it".into());
    }
    if !folder.exists() {
        return Some(format!(
            "there is no folder {shown}; make it with `mkdir -p {shown}`, or name another"
        ));
    }
    if !folder.is_dir() {
        return Some(format!("{shown} is no folder; name another"));
    }
    let partial = partial_of(path);
    let tried = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&partial);
    // Nothing is lost if the empty file stays.
    let _ = std::fs::remove_file(&partial);
    let reason = tried.err()?;
    Some(format!(
        "nothing can be written to the folder {shown} ({reason}); name one that you may write to"
    ))
}

/// Why no folder can be written there, and the way out.
fn folder_refused(path: &Path) -> Option<String> {
    if path.exists() && !path.is_dir() {
        return Some("it is no folder; name another".into());
    }
    match std::fs::create_dir_all(path) {
        Ok(()) => file_refused(&path.join("constancy")),
        Err(reason) => Some(format!(
            "the folder cannot be made ({reason}); name one that you may write to"
        )),
    }
}

/// The name that a file has until it is complete.
fn partial_of(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    PathBuf::from(partial)
}

/// Writes a file atomically.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let failed = |source| CliError::Write {
        path: path.into(),
        source,
    };
    let partial = partial_of(path);
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|e| {
            let _ = std::fs::remove_file(&partial);
            failed(e)
        })
}
