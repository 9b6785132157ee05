//! Keeps the frames of events as JPEG files in a folder, bounded in number and bytes; the oldest are removed first.
//!
//! A file's name is `<number>-<camera>-<start of boot_id>-<seq>.jpg`: the number gives the order even if the clock
//! jumps, the rest names the event. Files with other names are left alone.

use crate::config::SnapshotSettings;
use crate::threads::wait_for_end;
use constancy_core::frame::Frame;
use constancy_core::preprocess::{RgbImage, View, ViewMasker, is_whole_jpeg, jpeg_within};
use constancy_engine::catch_panic;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{Error, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Frames that may wait for a slow disk; further ones are skipped.
const MAX_WAITING: usize = 4;
const PARTIAL: &str = "snapshot.partial";
/// The rights of a snapshot, less those that the umask takes.
const MODE: u32 = 0o640;
const DIGITS: usize = 12;

/// An event's frame that will be written.
struct Snapshot {
    /// `<camera>-<start of boot_id>-<seq>`.
    name: String,
    frame: Frame,
    view: View,
}

/// Writes frames to the folder on its own thread.
pub(super) struct SnapshotWriter {
    queue: SyncSender<Snapshot>,
    thread: JoinHandle<()>,
    /// Snapshots that were not queued.
    skipped: u64,
}

impl SnapshotWriter {
    /// Starts the writer; `None` if no folder is configured. `mask_colour` covers what the camera's view hides.
    pub(super) fn open(settings: &SnapshotSettings, mask_colour: [u8; 3]) -> Result<Option<Self>> {
        let Some(folder) = settings.folder.clone() else {
            return Ok(None);
        };
        let folder = Folder::new(folder, settings.max_files, settings.max_mib << 20);
        let (queue, snapshots) = sync_channel(MAX_WAITING);
        let write = move || write_all(folder, ViewMasker::new(mask_colour), &snapshots);
        let thread = thread::Builder::new()
            .name("snapshots".into())
            .spawn(write)?;
        Ok(Some(Self {
            queue,
            thread,
            skipped: 0,
        }))
    }

    /// Queues the frame of an event, unless the disk is too slow.
    pub(super) fn keep(
        &mut self,
        camera: &str,
        boot_id: &str,
        seq: u64,
        frame: &Frame,
        view: &View,
    ) {
        let boot: String = boot_id.chars().take(8).collect();
        let snapshot = Snapshot {
            name: format!("{camera}-{boot}-{seq}"),
            frame: frame.clone(),
            view: view.clone(),
        };
        let reason = match self.queue.try_send(snapshot) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "the disk is too slow",
            Err(TrySendError::Disconnected(_)) => "the thread that writes them has ended",
        };
        self.skipped += 1;
        if self.skipped.is_power_of_two() {
            log::warn!(
                "snapshots: {reason}; {} events without one so far",
                self.skipped
            );
        }
    }

    /// Writes the snapshots that still wait, for up to `limit`.
    pub(super) fn close(self, limit: Duration) {
        drop(self.queue);
        wait_for_end(&[self.thread], Instant::now() + limit);
    }
}

/// Writes every snapshot. An error is logged when it first occurs and again when it changes.
fn write_all(mut folder: Folder, mut masker: ViewMasker, snapshots: &Receiver<Snapshot>) {
    let mut logged: Option<String> = None;
    for Snapshot { name, frame, view } in snapshots {
        let jpeg = catch_panic(|| jpeg_of(frame, &view, &mut masker)).flatten();
        let jpeg = match jpeg {
            Ok(jpeg) => jpeg,
            Err(reason) => {
                // A frame with an event was decoded before.
                log::error!("snapshot {name}: internal error: {reason}");
                continue;
            }
        };
        match folder.add(&name, &jpeg) {
            Ok(()) => {
                if logged.take().is_some() {
                    log::info!(
                        "snapshots {}: they can be written again",
                        folder.path.display()
                    );
                }
            }
            Err(e) => {
                let reason = e.to_string();
                if logged.as_ref() != Some(&reason) {
                    log::warn!(
                        "snapshots {}: {reason}; make room, or see `snapshots.folder`",
                        folder.path.display()
                    );
                    logged = Some(reason);
                }
            }
        }
    }
}

/// The camera's own JPEG if the view hides nothing, else the visible part as a new JPEG.
fn jpeg_of(
    frame: Frame,
    view: &View,
    masker: &mut ViewMasker,
) -> std::result::Result<Vec<u8>, String> {
    if *view == View::WHOLE && is_whole_jpeg(&frame) {
        return Ok(frame.data);
    }
    let mut image = RgbImage::default();
    masker
        .decode(&frame, view, &mut image)
        .map_err(|e| format!("the frame cannot be decoded: {e}"))?;
    jpeg_within(&image, usize::MAX).ok_or_else(|| "the frame cannot be encoded as a JPEG".into())
}

/// Our files in the folder.
struct Folder {
    path: PathBuf,
    max_files: usize,
    max_bytes: u64,
    /// Name and size in bytes, oldest first; `None` until the folder is read.
    files: Option<VecDeque<(String, u64)>>,
}

impl Folder {
    fn new(path: PathBuf, max_files: usize, max_bytes: u64) -> Self {
        Self {
            path,
            max_files,
            max_bytes,
            files: None,
        }
    }

    /// Lists our files; creates the folder if it does not exist.
    fn read(&self) -> Result<VecDeque<(String, u64)>> {
        std::fs::create_dir_all(&self.path)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| number(name).is_some())
            {
                found.push((name.to_owned(), entry.metadata()?.len()));
            }
        }
        found.sort();
        Ok(found.into())
    }

    /// Writes a file atomically, after removing the oldest ones that exceed the bounds with it.
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut files = match self.files.take() {
            Some(files) => files,
            None => self.read()?,
        };
        let added = self.add_to(&mut files, name, bytes);
        // After a failure the folder is read again: the user may have removed files.
        self.files = added.is_ok().then_some(files);
        added
    }

    fn add_to(&self, files: &mut VecDeque<(String, u64)>, name: &str, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        if size > self.max_bytes {
            return Err(Error::other(format!(
                "a picture of {size} bytes is more than `snapshots.max_mib` allows"
            )));
        }
        let mut total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        while files.len() >= self.max_files || total + size > self.max_bytes {
            let Some((oldest, bytes)) = files.pop_front() else {
                break;
            };
            match std::fs::remove_file(self.path.join(oldest)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => total -= bytes,
            }
        }
        let next = files
            .back()
            .and_then(|(last, _)| number(last))
            .map_or(0, |n| n + 1);
        let name = format!("{next:0DIGITS$}-{name}.jpg");
        let partial = self.path.join(PARTIAL);
        write_anew(&partial, bytes)
            .and_then(|()| std::fs::rename(&partial, self.path.join(&name)))?;
        files.push_back((name, size));
        Ok(())
    }
}

/// Writes a file that did not exist: one that an earlier run has left there, or a link that somebody has put there, is
/// removed and not written to. Pictures are nobody's but the owner's and the group's.
fn write_anew(path: &Path, bytes: &[u8]) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(bytes)
}

/// The number in the name of one of our files; `None` for any other file.
fn number(name: &str) -> Option<u64> {
    let (digits, rest) = name.split_at_checked(DIGITS)?;
    let ours = rest.starts_with('-')
        && rest.strip_suffix(".jpg").is_some()
        && digits.bytes().all(|b| b.is_ascii_digit());
    if ours { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(folder: &Folder) -> Vec<String> {
        let files = folder.read().expect("folder");
        files.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn the_oldest_are_removed_and_foreign_files_stay() {
        let place = tempfile::tempdir().expect("folder");
        let path = place.path().join("deep/snapshots");
        let mut folder = Folder::new(path.clone(), 2, 1000);
        folder.add("belt-a-0", b"one").expect("written");
        std::fs::write(path.join("holiday.jpg"), b"not ours").expect("written");
        folder.add("belt-a-1", b"two").expect("written");
        folder.add("belt-a-2", b"three").expect("written");
        assert_eq!(
            names(&folder),
            ["000000000001-belt-a-1.jpg", "000000000002-belt-a-2.jpg"]
        );
        // A restart continues the numbers, here with a lower bound on bytes.
        let mut folder = Folder::new(path.clone(), 10, 9);
        folder.add("belt-b-0", b"four").expect("written");
        assert_eq!(
            names(&folder),
            ["000000000002-belt-a-2.jpg", "000000000003-belt-b-0.jpg"]
        );
        assert!(path.join("holiday.jpg").exists());
        assert!(
            folder
                .add("belt-b-1", &[0; 10])
                .expect_err("too large")
                .to_string()
                .contains("snapshots.max_mib")
        );
        assert_eq!(
            names(&folder).len(),
            2,
            "nothing is removed for a file that is too large"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_tried_again() {
        let place = tempfile::tempdir().expect("folder");
        let path = place.path().join("snapshots");
        std::fs::write(&path, b"a file is in the way").expect("written");
        let mut folder = Folder::new(path.clone(), 2, 1000);
        folder.add("belt-a-0", b"one").expect_err("it is a file");
        std::fs::remove_file(&path).expect("removed");
        folder.add("belt-a-1", b"two").expect("written");
        assert_eq!(names(&folder), ["000000000000-belt-a-1.jpg"]);
    }

    #[test]
    fn nothing_is_written_through_a_link_and_files_are_not_for_everybody() {
        use std::os::unix::fs::{MetadataExt, symlink};
        let place = tempfile::tempdir().expect("folder");
        let (path, precious) = (place.path().join("kept"), place.path().join("precious"));
        std::fs::create_dir(&path).expect("folder");
        std::fs::write(&precious, "precious").expect("written");
        symlink(&precious, path.join(PARTIAL)).expect("link");
        let mut folder = Folder::new(path.clone(), 2, 1000);
        folder.add("belt-a-0", b"one").expect("written");
        let kept = std::fs::read(&precious).expect("read");
        assert_eq!(kept, b"precious");
        let file = path.join("000000000000-belt-a-0.jpg");
        let meta = std::fs::symlink_metadata(&file).expect("file");
        assert!(meta.is_file());
        assert_eq!(meta.mode() & 0o7137, 0, "mode {:o}", meta.mode());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
        #[test]
        fn the_bounds_hold_for_any_sizes(
            sizes in prop::collection::vec(0..40usize, 1..25), max_files in 1..6usize, max_bytes in 1..100u64,
        ) {
            let place = tempfile::tempdir().expect("folder");
            let mut folder = Folder::new(place.path().to_owned(), max_files, max_bytes);
            for (i, size) in sizes.iter().enumerate() {
                let kept = folder.add(&format!("c-b-{i}"), &vec![0; *size]).is_ok();
                prop_assert_eq!(kept, *size as u64 <= max_bytes);
                let files = folder.read().expect("folder");
                prop_assert!(files.len() <= max_files && files.iter().map(|f| f.1).sum::<u64>() <= max_bytes);
                let newest = format!("-c-b-{i}.jpg");
                prop_assert!(!kept || files.back().is_some_and(|(name, _)| name.ends_with(&newest)));
            }
        }
    }
}
