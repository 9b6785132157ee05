//! Why the store cannot be used.

use std::io::ErrorKind;

/// Why the store cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The file does not hold what was written; it must be replaced.
    Damaged(String),
    /// The disk or the operating system refuses; a later attempt may succeed.
    Refused { kind: ErrorKind, reason: String },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(e)
                if e.kind() != ErrorKind::InvalidData && e.kind() != ErrorKind::UnexpectedEof =>
            {
                Self::Refused {
                    kind: e.kind(),
                    reason: e.to_string(),
                }
            }
            e @ (redb::Error::PreviousIo
            | redb::Error::DatabaseAlreadyOpen
            | redb::Error::LockPoisoned(_)) => Self::Refused {
                kind: ErrorKind::ResourceBusy,
                reason: e.to_string(),
            },
            e => Self::Damaged(e.to_string()),
        }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Damaged(reason) | Self::Refused { reason, .. }) = self;
        f.write_str(reason)
    }
}

/// A refusal in the operator's words, with the way out.
pub(super) fn explain_refusal(kind: ErrorKind, reason: &str) -> String {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; make room, or lower `queue.max_mib`".into()
        }
        ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; remount it read-write, or find out why it is read-only"
                .into()
        }
        ErrorKind::PermissionDenied => {
            "permission denied; give `queue.folder` to the user that the daemon runs as".into()
        }
        ErrorKind::NotFound => {
            "there is no such folder; create it, or correct `queue.folder`".into()
        }
        ErrorKind::ResourceBusy => {
            format!("{reason}; does another daemon use the same `queue.folder`?")
        }
        _ => reason.to_owned(),
    }
}
