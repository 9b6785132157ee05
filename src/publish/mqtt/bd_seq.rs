//! Sparkplug's `bdSeq`, the number of a connection.

use crate::files;
use std::path::PathBuf;

/// Limit of the file, which holds up to three digits.
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
            .and_then(|f| files::read_text(f, MAX_BYTES).ok())
            .and_then(|t| t.trim().parse::<u8>().ok());
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
        if let Some(file) = &self.file {
            let new = file.with_extension("new");
            let written = std::fs::write(&new, self.next.to_string())
                .and_then(|()| std::fs::rename(&new, file));
            if let Err(e) = written {
                log::debug!(
                    "{}: cannot write bdSeq: {e}. After a restart it starts at 0",
                    file.display()
                );
            }
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
}
