//! What the device remembers over restarts, in one small file: its own id, and the retained topics that it has published,
//! so that it can delete those that it publishes no longer.
//!
//! A topic is written down before it is published. The file belongs to one machine: on other hardware, as on a cloned SD
//! card, the id is made anew and the topics are left alone, since the other machine may still publish them.

use crate::publish::state_file;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILE: &str = "mqtt.json";
/// Larger files are none of ours.
const MAX_BYTES: u64 = 4 << 20;

/// The file's contents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Contents {
    /// Random, made once.
    id: String,
    /// Where it was made: [`fingerprint`](super::hardware::fingerprint).
    hardware: String,
    /// The retained topics on each broker, by `host:port`.
    retained: BTreeMap<String, BTreeSet<String>>,
}

/// The contents of the file, or of memory alone if there is none.
#[derive(Debug)]
pub(super) struct Memory {
    /// `None` without a folder, and after a failure to write.
    file: Option<PathBuf>,
    contents: Contents,
}

impl Memory {
    /// Reads the file in `folder`, or makes one on this hardware. Without a folder, or where it cannot be written, nothing
    /// is remembered.
    pub(super) fn open(folder: Option<&Path>, hardware: String) -> Self {
        let file = folder.map(|folder| folder.join(FILE));
        let read = file.as_deref().and_then(read);
        let mut memory = Self {
            file,
            contents: read.unwrap_or_default(),
        };
        let known = !memory.contents.id.is_empty();
        if known && memory.contents.hardware == hardware {
            return memory;
        }
        if known {
            log::info!(
                "{}: from another machine, perhaps by a copied card: this one gets a client id of its own",
                memory.name()
            );
        }
        memory.contents = Contents {
            id: format!("{:032x}", fastrand::u128(..)),
            hardware,
            retained: BTreeMap::new(),
        };
        memory.write();
        memory
    }

    /// The id, if it is kept.
    pub(super) fn id(&self) -> Option<&str> {
        self.file.as_ref().map(|_| self.contents.id.as_str())
    }

    /// Notes that `topics` are published on a broker from now on. Returns those that were published there before and are no
    /// longer; they are remembered until
    /// [`Self::deleted`].
    pub(super) fn publish(&mut self, broker: &str, topics: &BTreeSet<String>) -> Vec<String> {
        let known = self.contents.retained.entry(broker.to_owned()).or_default();
        let gone = known.difference(topics).cloned().collect();
        if !topics.is_subset(known) {
            known.extend(topics.iter().cloned());
            self.write();
        }
        gone
    }

    /// Notes that a broker has forgotten these topics.
    pub(super) fn deleted(&mut self, broker: &str, topics: &[String]) {
        if let Some(known) = self.contents.retained.get_mut(broker) {
            known.retain(|topic| !topics.contains(topic));
            self.write();
        }
    }

    fn name(&self) -> String {
        let file = self.file.as_deref().unwrap_or(Path::new(FILE));
        file.display().to_string()
    }

    /// Replaces the file as a whole. After a failure it is not tried again until the next start.
    fn write(&mut self) {
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(&self.contents).map_err(std::io::Error::from);
        if let Err(e) = written.and_then(|bytes| state_file::replace(file, &bytes)) {
            // The queue warns of the same folder.
            log::info!(
                "{}: {e}; after a restart, topics that were published before are not deleted from the broker",
                self.name()
            );
            self.file = None;
        }
    }
}

/// The contents of the file; `None` if there is none, or none that can be used.
fn read(file: &Path) -> Option<Contents> {
    let bytes = match state_file::read(file, MAX_BYTES) {
        Ok(None) => return None,
        Ok(bytes) => bytes,
        Err(_) => None,
    };
    let contents = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if contents.is_none() {
        log::warn!(
            "{}: cannot be read; it is made anew, and topics that are published no longer stay on the broker",
            file.display()
        );
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(topics: &[&str]) -> BTreeSet<String> {
        topics.iter().map(|&t| t.to_owned()).collect()
    }

    #[test]
    fn topics_that_are_published_no_longer_are_remembered_until_they_are_deleted() {
        let folder = tempfile::tempdir().expect("folder");
        let open = || Memory::open(Some(folder.path()), "board 1".into());
        let id = open().id().expect("it is kept").to_owned();
        assert_eq!(open().publish("b:1", &set(&["a", "b"])), [""; 0]);
        assert_eq!(open().publish("b:1", &set(&["b", "c"])), ["a"]);
        assert_eq!(
            open().publish("b:1", &set(&["c"])),
            ["a", "b"],
            "none is deleted yet"
        );
        open().deleted("b:1", &["a".into()]);
        assert_eq!(
            open().publish("other:1", &set(&["c"])),
            [""; 0],
            "another broker"
        );
        assert_eq!(open().publish("b:1", &set(&["b"])), ["c"]);
        assert_eq!(open().id(), Some(id.as_str()));
    }

    #[test]
    fn a_copy_on_other_hardware_gets_its_own_id_and_deletes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let open = |hardware: &str| Memory::open(Some(folder.path()), hardware.into());
        let id = open("board 1").id().map(str::to_owned);
        open("board 1").publish("b:1", &set(&["a"]));
        let mut copy = open("board 2");
        assert_ne!(copy.id().map(str::to_owned), id);
        assert_eq!(copy.publish("b:1", &set(&["b"])), [""; 0]);
    }

    #[test]
    fn a_file_that_cannot_be_used_stops_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join(FILE), "noise").expect("file");
        assert!(
            Memory::open(Some(folder.path()), String::new())
                .id()
                .is_some()
        );
        std::fs::write(folder.path().join("file"), "").expect("file");
        let nowhere = folder.path().join("file/below");
        assert_eq!(Memory::open(Some(&nowhere), String::new()).id(), None);
        let mut none = Memory::open(None, String::new());
        assert_eq!(none.id(), None);
        assert_eq!(none.publish("b:1", &set(&["a"])), [""; 0]);
        assert_eq!(none.publish("b:1", &set(&["b"])), ["a"]);
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().expect("folder");
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "precious").expect("file");
        for planted in [FILE, "mqtt.json.new"] {
            std::os::unix::fs::symlink(&victim, folder.path().join(planted)).expect("link");
        }
        Memory::open(Some(folder.path()), String::new());
        assert_eq!(std::fs::read_to_string(&victim).expect("file"), "precious");
        let left = std::fs::read_dir(folder.path()).expect("folder").count();
        assert_eq!(left, 2, "no file is left behind");
    }
}
