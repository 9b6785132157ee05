//! The journal of an intervention: what the sensor's controls were, in `controls-<camera>.json` in the folder that outlives
//! restarts. It lies there, locked, while `constancy camera intervene` moves them. One without a lock is of a run that was
//! killed; the daemon and the next intervention put the controls back.

use crate::capture::{self, CaptureError, Setting, restore};
use crate::config::CameraSettings;
use crate::publish::state_file;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Larger files are none of ours.
const MAX_BYTES: u64 = 64 << 10;

/// What an intervention must put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The sensor that the values are of.
    pub(crate) sensor: String,
    /// RFC 3339.
    pub(crate) started: String,
    /// In the order in which they must be set.
    pub(crate) controls: Vec<Setting>,
    /// The command that puts the light back, if the intervention moves it.
    pub(crate) light: Vec<String>,
}

/// Why controls are not put back, or no journal can be kept.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} cannot be read: {reason}; look at the camera's controls, then remove the file")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "another `constancy camera intervene` moves the controls of camera {camera}; wait for its end"
    )]
    Running { camera: String },
    #[error(
        "{path} is of {theirs}, and camera {camera} is {ours} now: plug that camera in again, or set its controls by hand and remove the file"
    )]
    OtherSensor {
        path: PathBuf,
        camera: String,
        theirs: String,
        ours: String,
    },
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(
        "controls of camera {camera} are not what they were: {reasons}; {path} has their values"
    )]
    NotRestored {
        path: PathBuf,
        camera: String,
        reasons: String,
    },
}

/// The journal of a running intervention.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    /// Locked as long as this process runs.
    _file: File,
}

impl Journal {
    /// Writes the journal, before anything is moved.
    pub(crate) fn begin(folder: &Path, camera: &str, saved: &Saved) -> Result<Self, JournalError> {
        let path = path(folder, camera);
        let failed = |source| JournalError::File {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec_pretty(saved).map_err(|e| failed(e.into()))?;
        state_file::replace(&path, &text).map_err(failed)?;
        let gone = || std::io::Error::from(ErrorKind::NotFound);
        let file = state_file::open(&path)
            .and_then(|file| file.ok_or_else(gone))
            .map_err(failed)?;
        give_to_owner(folder, &file);
        file.lock().map_err(failed)?;
        Ok(Self { path, _file: file })
    }

    /// Removes the journal, once everything is put back.
    pub(crate) fn end(self) -> Result<(), JournalError> {
        remove(&self.path)
    }
}

/// Gives a file to the folder's owner: what root has begun, the daemon must be able to end. Others cannot, and need not.
fn give_to_owner(folder: &Path, file: &File) {
    let given = std::fs::metadata(folder)
        .and_then(|owner| fchown(file, Some(owner.uid()), Some(owner.gid())));
    if let Err(e) = given {
        log::debug!("{}: {e}", folder.display());
    }
}

fn path(folder: &Path, camera: &str) -> PathBuf {
    folder.join(format!("controls-{camera}.json"))
}

fn remove(path: &Path) -> Result<(), JournalError> {
    std::fs::remove_file(path).map_err(|source| JournalError::File {
        path: path.into(),
        source,
    })
}

/// What an intervention that was killed has left; `None` if there is nothing.
fn left(folder: &Path, camera: &str) -> Result<Option<Saved>, JournalError> {
    let path = path(folder, camera);
    let failed = |source| JournalError::File {
        path: path.clone(),
        source,
    };
    let Some(file) = state_file::open(&path).map_err(failed)? else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(JournalError::Running {
                camera: camera.into(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let bytes = state_file::read(&path, MAX_BYTES).map_err(failed)?;
    let saved = serde_json::from_slice(&bytes.unwrap_or_default());
    saved.map(Some).map_err(|e| JournalError::Damaged {
        path: path.clone(),
        reason: e.to_string(),
    })
}

/// Puts back what an intervention that was killed has left, and returns it; `None` if there is nothing.
pub(crate) fn recover(
    folder: &Path,
    settings: &CameraSettings,
) -> Result<Option<Saved>, JournalError> {
    let Some(saved) = left(folder, &settings.name)? else {
        return Ok(None);
    };
    let path = path(folder, &settings.name);
    if !saved.controls.is_empty() {
        let mut sensor = capture::sensor(settings)?;
        let ours = sensor
            .as_ref()
            .map_or("another source".into(), |s| s.identity());
        let Some(sensor) = sensor.as_mut().filter(|_| ours == saved.sensor) else {
            return Err(JournalError::OtherSensor {
                path,
                camera: settings.name.clone(),
                theirs: saved.sensor,
                ours,
            });
        };
        let failed = restore(sensor.as_mut(), &saved.controls);
        if !failed.is_empty() {
            return Err(JournalError::NotRestored {
                path,
                camera: settings.name.clone(),
                reasons: failed.join("; "),
            });
        }
    }
    remove(&path)?;
    Ok(Some(saved))
}

/// Does [`recover`] for the daemon, which goes on whatever comes of it. It tries again whenever the camera is opened, and
/// `told` is the reason that was logged last: a camera that is away for days must not fill the journal.
pub(super) fn recover_and_log(folder: &Path, settings: &CameraSettings, told: &mut Option<String>) {
    let reason = match recover(folder, settings) {
        Ok(None) => None,
        Ok(Some(saved)) => {
            log::warn!("camera {}: {saved}", settings.name);
            None
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = reason.as_ref().filter(|r| told.as_ref() != Some(r)) {
        log::warn!("camera {}: {reason}", settings.name);
    }
    *told = reason;
}

impl std::fmt::Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = self
            .controls
            .iter()
            .map(|s| format!("{} = {}", s.name, s.value));
        let values = values.collect::<Vec<_>>().join(", ");
        write!(f, "an intervention of {} was cut off; ", self.started)?;
        if !values.is_empty() {
            write!(f, "its controls are put back: {values}")?;
        }
        if !self.light.is_empty() {
            let command = self.light.join(" ");
            write!(f, "; the light may still be changed: run `{command}`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(folder: &Path) -> CameraSettings {
        let file = folder.join("workshop.controls");
        let text = format!(
            "name = \"belt\"\n[synthetic]\ncontrols_file = \"{}\"\n",
            file.display()
        );
        toml::from_str(&text).expect("a camera")
    }

    /// What an intervention at exposure 40 would have left.
    fn saved(folder: &Path) -> Saved {
        let settings = camera(folder);
        let mut sensor = capture::sensor(&settings).expect("sensor").expect("one");
        let controls = sensor.controls().expect("controls");
        let exposure = controls
            .iter()
            .find(|c| c.name == "exposure_time")
            .expect("exposure");
        let exposure = Setting::new(exposure, 100);
        sensor.set(&exposure, 40).expect("set");
        Saved {
            sensor: sensor.identity(),
            started: "2026-01-01T00:00:00.000Z".into(),
            controls: vec![exposure],
            light: vec!["lamp".into(), "on".into()],
        }
    }

    fn exposure(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("workshop.controls")).expect("controls")
    }

    #[test]
    fn what_a_killed_intervention_left_is_put_back_once() {
        let folder = tempfile::tempdir().expect("folder");
        let (folder, saved) = (folder.path(), saved(folder.path()));
        assert!(exposure(folder).contains("0.4"));
        // The lock ends with the process; here, with the journal.
        drop(Journal::begin(folder, "belt", &saved).expect("journal"));
        let found = recover(folder, &camera(folder)).expect("put back");
        assert_eq!(found.as_ref(), Some(&saved));
        assert!(
            exposure(folder).contains("exposure = 1.0"),
            "{}",
            exposure(folder)
        );
        let words = saved.to_string();
        assert!(
            words.contains("exposure_time = 100") && words.contains("run `lamp on`"),
            "{words}"
        );
        assert_eq!(recover(folder, &camera(folder)).expect("nothing"), None);
    }

    #[test]
    fn a_running_intervention_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let (folder, saved) = (folder.path(), saved(folder.path()));
        let running = Journal::begin(folder, "belt", &saved).expect("journal");
        let error = recover(folder, &camera(folder))
            .expect_err("running")
            .to_string();
        assert!(
            error.contains("another") && error.contains("belt"),
            "{error}"
        );
        assert!(exposure(folder).contains("0.4"));
        running.end().expect("ended");
    }

    #[test]
    fn a_journal_of_another_sensor_and_a_damaged_one_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let (folder, mut saved) = (folder.path(), saved(folder.path()));
        saved.sensor = "/dev/video7".into();
        drop(Journal::begin(folder, "belt", &saved).expect("journal"));
        let error = recover(folder, &camera(folder))
            .expect_err("another")
            .to_string();
        assert!(
            error.contains("/dev/video7") && error.contains("controls-belt.json"),
            "{error}"
        );
        std::fs::write(path(folder, "belt"), "{").expect("damaged");
        let error = recover(folder, &camera(folder))
            .expect_err("damaged")
            .to_string();
        assert!(
            error.contains("controls-belt.json") && error.contains("remove the file"),
            "{error}"
        );
    }
}
