//! Sparkplug's `bdSeq`, the number of a connection.

use crate::publish::state_file;
use std::path::PathBuf;

/// Far more than a number takes.
const MAX_BYTES: u64 = 64;

/// Counts connections from 0 to 255 and then from 0 again; continues across restarts if there is a
/// file.
#[derive(Debug)]
pub(super) struct BdSeq {
    file: Option<PathBuf>,
    next: u8,
}

impl BdSeq {
    /// Continues after the number in the file.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let last = file
            .as_ref()
            .and_then(|f| state_file::read(f, MAX_BYTES).ok()?)
            .and_then(|t| str::from_utf8(&t).ok()?.trim().parse::<u8>().ok());
        Self {
            file,
            next: last.map_or(0, |n| n.wrapping_add(1)),
        }
    }

    /// The number of the next connection.
    pub(super) fn number(&self) -> u8 {
        self.next
    }

    /// Counts the present number as used: the broker may know of a connection with it.
    pub(super) fn used(&mut self) {
        if let Some(file) = &self.file
            && let Err(e) = state_file::replace(file, self.next.to_string().as_bytes())
        {
            log::debug!(
                "{}: cannot write bdSeq: {e}. After a restart it starts at 0",
                file.display()
            );
        }
        self.next = self.next.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_numbered_over_restarts_and_255_is_followed_by_0() {
        let folder = tempfile::tempdir().expect("folder");
        let file = || Some(folder.path().join("bdseq"));
        let mut bd_seq = BdSeq::open(file());
        assert_eq!(bd_seq.number(), 0);
        assert_eq!(bd_seq.number(), 0, "a failed attempt uses no number");
        (0..255).for_each(|_| bd_seq.used());
        assert_eq!(BdSeq::open(file()).number(), 255);
        let mut bd_seq = BdSeq::open(file());
        bd_seq.used();
        assert_eq!(bd_seq.number(), 0);
        assert_eq!(BdSeq::open(file()).number(), 0);
        std::fs::write(folder.path().join("bdseq"), "noise").expect("written");
        assert_eq!(BdSeq::open(file()).number(), 0);
    }

    /// Someone who may write to the folder must not choose a file that the daemon overwrites, or one that it waits for.
    #[test]
    fn a_planted_link_is_not_written_through_and_a_fifo_is_not_waited_for() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("folder");
        let (file, victim) = (folder.path().join("bdseq"), folder.path().join("victim"));
        std::fs::write(&victim, "precious").expect("written");
        symlink(&victim, folder.path().join("bdseq.new")).expect("link");
        BdSeq::open(Some(file.clone())).used();
        assert_eq!(
            std::fs::read_to_string(&victim).expect("victim"),
            "precious"
        );
        let metadata = std::fs::symlink_metadata(&file).expect("file");
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o137 == 0);
        assert_eq!(BdSeq::open(Some(file.clone())).number(), 1);
        std::fs::remove_file(&file).expect("removed");
        let path = std::ffi::CString::new(file.to_str().expect("a path")).expect("a path");
        // SAFETY: the path is a C string.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        assert_eq!(BdSeq::open(Some(file)).number(), 0);
    }
}
