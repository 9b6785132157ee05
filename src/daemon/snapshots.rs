//! The frames of events as JPEG files in a folder: bounded in number and bytes, the oldest go first.
//!
//! A file is `<number>-<camera>-<first part of boot_id>-<seq>.jpg`: the number tells the order whatever the clock does,
//! the rest which event it belongs to. Files of other names are left alone.

use crate::config::SnapshotSettings;
use crate::threads::wait_for_end;
use constancy_core::frame::Frame;
use constancy_core::preprocess::{RgbImage, View, Viewer, is_whole_jpeg, jpeg_within};
use std::collections::VecDeque;
use std::io::{Error, Result};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Frames that may wait for a slow disk; what comes then is passed over.
const WAITING: usize = 4;
const PARTIAL: &str = "snapshot.partial";
const DIGITS: usize = 12;

/// A frame to be kept.
struct Snapshot {
    /// Camera, start of the daemon and number of the event.
    name: String,
    frame: Frame,
    view: View,
}

/// Writes frames on a thread of its own.
pub(super) struct SnapshotWriter {
    pages: Option<SyncSender<Snapshot>>,
    thread: JoinHandle<()>,
    passed_over: u64,
}

impl SnapshotWriter {
    /// `None` unless a folder is configured. `colour` hides what is not to be seen.
    pub(super) fn open(settings: &SnapshotSettings, colour: [u8; 3]) -> Result<Option<Self>> {
        let Some(folder) = settings.folder.clone() else {
            return Ok(None);
        };
        let folder = Folder::new(folder, settings.max_files, settings.max_mib << 20);
        let (pages, waiting) = sync_channel(WAITING);
        let write = move || write_all(folder, Viewer::new(colour), &waiting);
        let thread = thread::Builder::new()
            .name("snapshots".into())
            .spawn(write)?;
        Ok(Some(Self {
            pages: Some(pages),
            thread,
            passed_over: 0,
        }))
    }

    /// Keeps the frame of an event, unless the disk is behind.
    pub(super) fn keep(
        &mut self,
        camera: &str,
        boot_id: &str,
        seq: u64,
        frame: &Frame,
        view: &View,
    ) {
        let boot: String = boot_id.chars().take(8).collect();
        let page = Snapshot {
            name: format!("{camera}-{boot}-{seq}"),
            frame: frame.clone(),
            view: view.clone(),
        };
        if self
            .pages
            .as_ref()
            .is_some_and(|pages| pages.try_send(page).is_err())
        {
            self.passed_over += 1;
            if self.passed_over.is_power_of_two() {
                log::warn!(
                    "snapshots: the disk is behind; {} events without one so far",
                    self.passed_over
                );
            }
        }
    }

    /// Writes what waits, within `limit`.
    pub(super) fn close(mut self, limit: Duration) {
        self.pages = None;
        wait_for_end(&[self.thread], Instant::now() + limit);
    }
}

fn write_all(mut folder: Folder, mut viewer: Viewer, waiting: &Receiver<Snapshot>) {
    let mut trouble: Option<String> = None;
    for page in waiting {
        let Some(jpeg) = jpeg_of(page.frame, &page.view, &mut viewer) else {
            continue;
        };
        match folder.add(&page.name, &jpeg) {
            Ok(()) => {
                if trouble.take().is_some() {
                    log::info!(
                        "snapshots {}: they can be written again",
                        folder.path.display()
                    );
                }
            }
            Err(e) => {
                let reason = e.to_string();
                if trouble.as_ref() != Some(&reason) {
                    log::warn!(
                        "snapshots {}: {reason}; make max_batch, or see `snapshots.folder`",
                        folder.path.display()
                    );
                    trouble = Some(reason);
                }
            }
        }
    }
}

/// The camera's own JPEG where all of it may be seen; `None` for a frame that is damaged, which has no event either.
fn jpeg_of(frame: Frame, view: &View, viewer: &mut Viewer) -> Option<Vec<u8>> {
    if *view == View::WHOLE && is_whole_jpeg(&frame) {
        return Some(frame.data);
    }
    let mut image = RgbImage::default();
    viewer.see(&frame, view, &mut image).ok()?;
    jpeg_within(&image, usize::MAX)
}

/// The files there are.
struct Folder {
    path: PathBuf,
    max_files: usize,
    max_bytes: u64,
    /// Name and bytes, oldest first; `None` until the folder was read.
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

    /// Our files in the folder, which is made if it is not there.
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

    /// Writes a file, whole or not at all, and removes the oldest beyond the bounds.
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut files = match self.files.take() {
            Some(files) => files,
            None => self.read()?,
        };
        let added = self.add_to(&mut files, name, bytes);
        // After a failure the folder is read again: somebody may have tidied up.
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
        std::fs::write(&partial, bytes)
            .and_then(|()| std::fs::rename(&partial, self.path.join(&name)))?;
        files.push_back((name, size));
        Ok(())
    }
}

/// The number of one of our files.
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
    fn the_oldest_go_and_what_is_not_ours_stays() {
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
        // Another start goes on, with fewer bytes.
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
            "nothing was removed for what cannot be kept"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_and_tried_again() {
        let place = tempfile::tempdir().expect("folder");
        let path = place.path().join("snapshots");
        std::fs::write(&path, b"a file is in the way").expect("written");
        let mut folder = Folder::new(path.clone(), 2, 1000);
        folder.add("belt-a-0", b"one").expect_err("it is a file");
        std::fs::remove_file(&path).expect("removed");
        folder.add("belt-a-1", b"two").expect("written");
        assert_eq!(names(&folder), ["000000000000-belt-a-1.jpg"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
        #[test]
        fn the_bounds_hold_whatever_comes(
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
