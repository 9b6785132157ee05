//! A small disk that can be full or read-only.

use super::skip::{InCi, skip};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system in memory, of any size; dropping it unmounts it.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one on `folder`. Only root may, and few containers let it.
    pub fn on(folder: &Path, options: &str) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder)
            .output();
        if mount.is_ok_and(|o| o.status.success()) {
            return Some(Self(folder.into()));
        }
        skip(
            InCi::Optional,
            "mount is refused; it needs root with CAP_SYS_ADMIN",
        );
        None
    }

    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status()
            .expect("mount");
        assert!(status.success(), "{options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
