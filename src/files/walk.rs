//! The walk through a folder of images.
//!
//! Hidden entries are passed over. Each folder is entered once, known by device and inode: loops of links, bind mounts
//! and links to a folder that is read anyway bring no image twice. Folders come before links to folders, so an image
//! has its own path where it has one.

use super::passed_over::{LeftOut, PassedOver};
use constancy_engine::regular_file::check_kind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{DirEntry, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"];

/// What `constancy synth` writes beside its images; nobody misses it among them.
pub(crate) const CAPTIONS: &str = "captions.jsonl";

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Sorted.
    pub images: Vec<PathBuf>,
    pub passed_over: PassedOver,
    /// Every folder that was entered, with the files that were left out in it.
    folders: BTreeMap<PathBuf, LeftOut>,
}

impl Walk {
    /// Walks through `root` and its subfolders. Only a root that cannot be read is an error.
    pub(super) fn through(root: &Path) -> std::io::Result<Self> {
        drop(std::fs::read_dir(root)?);
        let mut way = Way::from(root, &std::fs::metadata(root)?);
        let mut walk = Self::default();
        while let Some(folder) = way.next(&mut walk.passed_over) {
            match Entries::read(&folder.path, &mut walk.passed_over) {
                Ok(entries) => {
                    walk.passed_over.left_out.merge(&entries.left_out);
                    walk.images.extend(entries.images);
                    way.add(&folder, entries.folders, entries.links);
                    walk.folders.insert(folder.path, entries.left_out);
                }
                Err(e) => {
                    let why = format!("cannot be entered: {e}");
                    walk.passed_over.problem(&folder.path, &why);
                }
            }
        }
        walk.images.sort();
        Ok(walk)
    }

    /// The folders `depth` levels below `root` without an image in them or below, with the files that were left out there.
    pub(super) fn without_images(&self, root: &Path, depth: usize) -> Vec<(&Path, LeftOut)> {
        let with_images: BTreeSet<&Path> = self
            .images
            .iter()
            .flat_map(|image| image.ancestors().skip(1))
            .collect();
        let at_depth = |folder: &Path| {
            let inside = folder.strip_prefix(root);
            inside.is_ok_and(|inside| inside.iter().count() == depth)
        };
        let empty = self.folders.keys().map(PathBuf::as_path);
        let empty = empty.filter(|folder| at_depth(folder) && !with_images.contains(folder));
        let left_out = |folder: &Path| {
            let mut sum = LeftOut::default();
            let below = self.folders.iter().filter(|(f, _)| f.starts_with(folder));
            below.for_each(|(_, left_out)| sum.merge(left_out));
            sum
        };
        empty.map(|folder| (folder, left_out(folder))).collect()
    }
}

/// Device and inode.
type FolderId = (u64, u64);

fn id(metadata: &Metadata) -> FolderId {
    (metadata.dev(), metadata.ino())
}

/// A folder to enter.
struct Folder {
    path: PathBuf,
    id: FolderId,
    /// The folders on the way to it.
    above: Vec<FolderId>,
}

/// The folders that are still to be entered, and those that were.
struct Way {
    folders: VecDeque<Folder>,
    /// Links to folders.
    links: VecDeque<Folder>,
    /// Under the path that was taken.
    entered: BTreeMap<FolderId, PathBuf>,
}

impl Way {
    fn from(root: &Path, metadata: &Metadata) -> Self {
        let root = Folder {
            path: root.into(),
            id: id(metadata),
            above: Vec::new(),
        };
        Self {
            folders: VecDeque::from([root]),
            links: VecDeque::new(),
            entered: BTreeMap::new(),
        }
    }

    /// The next folder that was not entered yet.
    fn next(&mut self, passed_over: &mut PassedOver) -> Option<Folder> {
        while let Some(folder) = self.folders.pop_front().or_else(|| self.links.pop_front()) {
            let Some(first) = self.entered.get(&folder.id) else {
                self.entered.insert(folder.id, folder.path.clone());
                return Some(folder);
            };
            // A loop brings nothing new; another name may have been meant as a folder of its own.
            if !folder.above.contains(&folder.id) {
                let why = format!("the same folder as {}", first.display());
                passed_over.problem(&folder.path, &why);
            }
        }
        None
    }

    fn add(&mut self, above: &Folder, folders: Vec<Found>, links: Vec<Found>) {
        let above: Vec<FolderId> = above.above.iter().copied().chain([above.id]).collect();
        let below = |(path, id): Found| Folder {
            path,
            id,
            above: above.clone(),
        };
        self.folders.extend(folders.into_iter().map(below));
        self.links.extend(links.into_iter().map(below));
    }
}

type Found = (PathBuf, FolderId);

/// What one folder holds.
#[derive(Default)]
struct Entries {
    images: Vec<PathBuf>,
    folders: Vec<Found>,
    /// Links to folders.
    links: Vec<Found>,
    left_out: LeftOut,
}

impl Entries {
    /// Reads a folder, in the order of names.
    fn read(folder: &Path, passed_over: &mut PassedOver) -> std::io::Result<Self> {
        let mut listed = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            match entry {
                Ok(entry) if entry.file_name().as_bytes().starts_with(b".") => {}
                Ok(entry) => listed.push(entry),
                Err(e) => passed_over.problem(folder, &format!("cannot be read to its end: {e}")),
            }
        }
        listed.sort_by_key(DirEntry::file_name);
        let mut entries = Self::default();
        for entry in listed {
            if let Err(why) = entries.add(&entry) {
                passed_over.problem(&entry.path(), &why);
            }
        }
        Ok(entries)
    }

    /// An error is why the entry cannot be used.
    fn add(&mut self, entry: &DirEntry) -> std::io::Result<()> {
        let (path, own) = (entry.path(), entry.file_type()?);
        let image = has_image_extension(&path);
        let kind = if own.is_dir() || own.is_symlink() {
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && own.is_dir() => {
                    self.folders.push((path, id(&metadata)));
                    return Ok(());
                }
                Ok(metadata) if metadata.is_dir() => {
                    self.links.push((path, id(&metadata)));
                    return Ok(());
                }
                Ok(metadata) => metadata.file_type(),
                // Without an extension it may have led to a folder.
                Err(e) if image || path.extension().is_none() => return Err(e),
                Err(_) => own,
            }
        } else {
            own
        };
        if !image {
            if entry.file_name() != CAPTIONS {
                self.left_out.add(&path);
            }
            return Ok(());
        }
        check_kind(kind)?;
        self.images.push(path);
        Ok(())
    }
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with these files; names that end in `/` are folders.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            if name.ends_with('/') {
                std::fs::create_dir_all(&path).expect("folder");
            } else {
                std::fs::write(&path, "").expect("file");
            }
        }
        folder
    }

    /// The images, relative to the folder.
    fn images(root: &Path, walk: &Walk) -> Vec<String> {
        let name = |path: &PathBuf| {
            path.strip_prefix(root)
                .expect("inside")
                .display()
                .to_string()
        };
        walk.images.iter().map(name).collect()
    }

    #[test]
    fn hidden_entries_are_passed_over_and_other_files_are_counted() {
        let folder = folder(&[
            "b/2.JPG",
            "b/1.tiff",
            "a.bmp",
            "._a.bmp",
            ".git/x.png",
            "b/.x/y.png",
            "b/Thumbs.db",
            "desktop.ini",
            CAPTIONS,
            "README",
        ]);
        let walk = Walk::through(folder.path()).expect("walk");
        assert_eq!(
            images(folder.path(), &walk),
            ["a.bmp", "b/1.tiff", "b/2.JPG"]
        );
        assert_eq!(
            walk.passed_over.reason(),
            "; 3 files left out: .db (1), .ini (1), no extension (1)"
        );
        // What is hidden above the root is not.
        let below = Walk::through(&folder.path().join(".git")).expect("walk");
        assert_eq!(below.images.len(), 1);
    }

    #[test]
    fn each_folder_is_entered_once_under_its_own_name() {
        let folder = folder(&["z/1.png", "z/deep/2.png"]);
        let link = |to: &str, name: &str| symlink(to, folder.path().join(name)).expect("link");
        link(".", "loop");
        link("..", "z/deep/up");
        link("z", "a");
        link("gone", "b");
        link("b.png", "b.png");
        link("gone", "b.txt");
        let walk = Walk::through(folder.path()).expect("walk");
        assert_eq!(images(folder.path(), &walk), ["z/1.png", "z/deep/2.png"]);
        let reason = walk.passed_over.reason();
        for told in [
            "/a: the same folder as",
            "/b: No such file",
            "/b.png: Too many",
            ".txt (1)",
        ] {
            assert!(reason.contains(told), "{told} in {reason}");
        }
        assert_eq!(
            reason.matches("; ").count(),
            4,
            "loops are not told: {reason}"
        );
    }

    #[test]
    fn folders_without_images_are_known_with_what_they_hold() {
        let folder = folder(&["a/1.png", "b/raw/1.nef", "b/raw/2.nef", "b/x.txt", "c/"]);
        let walk = Walk::through(folder.path()).expect("walk");
        let empty = walk.without_images(folder.path(), 1);
        let told: Vec<Option<String>> = empty.iter().map(|(_, left)| left.told()).collect();
        assert_eq!(
            told,
            [
                Some("3 files left out: .nef (2), .txt (1)".to_owned()),
                None
            ]
        );
        assert!(empty[0].0.ends_with("b") && empty[1].0.ends_with("c"));
    }

    #[test]
    fn special_files_are_named_and_a_root_that_is_none_is_an_error() {
        let folder = folder(&["1.png"]);
        let path = |name: &str| folder.path().join(name);
        let made = std::process::Command::new("mkfifo")
            .arg(path("f.jpg"))
            .status();
        assert!(made.expect("mkfifo").success());
        symlink("/dev/zero", path("zero.jpg")).expect("link");
        let walk = Walk::through(folder.path()).expect("walk");
        assert_eq!(walk.images, [path("1.png")]);
        let reason = walk.passed_over.reason();
        assert!(
            reason.contains("a pipe") && reason.contains("a device"),
            "{reason}"
        );
        Walk::through(&path("1.png")).expect_err("a file");
        Walk::through(&path("gone")).expect_err("gone");
    }
}
