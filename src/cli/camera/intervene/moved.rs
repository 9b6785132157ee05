//! What an intervention has moved, and must put back: at its end, after an error, and after a panic. A journal on disk has
//! the same for the case that the process is killed.

use super::light::Light;
use crate::capture::{Sensor, Setting, restore};
use crate::cli::CliError;
use crate::daemon::control_journal::{Journal, JournalError, Saved};
use std::path::Path;

/// The sensor and the light in the hands of an intervention.
pub(super) struct Moved {
    camera: String,
    sensor: Option<Box<dyn Sensor>>,
    light: Option<Light>,
    saved: Saved,
    /// `None` once everything is put back.
    journal: Option<Journal>,
}

impl Moved {
    /// Writes the journal; from here on everything in `saved` is put back.
    pub(super) fn begin(
        folder: &Path,
        camera: &str,
        (sensor, light): (Option<Box<dyn Sensor>>, Option<Light>),
        saved: Saved,
    ) -> Result<Self, CliError> {
        let journal = Journal::begin(folder, camera, &saved)?;
        Ok(Self {
            camera: camera.into(),
            sensor,
            light,
            saved,
            journal: Some(journal),
        })
    }

    /// Where the journal lies.
    pub(super) fn journal(&self) -> Option<&Path> {
        self.journal.as_ref().map(|journal| journal.path.as_path())
    }

    /// Sets a control; returns the value that the sensor keeps.
    pub(super) fn set(&mut self, control: &Setting, value: i64) -> Result<i64, CliError> {
        match &mut self.sensor {
            Some(sensor) => Ok(sensor.set(control, value)?),
            None => Ok(control.value),
        }
    }

    pub(super) fn light(&self, level: &str) -> Result<(), CliError> {
        self.light.as_ref().map_or(Ok(()), |light| light.set(level))
    }

    /// Puts everything back. If that fails, the journal stays.
    pub(super) fn put_back(mut self) -> Result<(), CliError> {
        self.put_all_back()
    }

    fn put_all_back(&mut self) -> Result<(), CliError> {
        let Some(journal) = self.journal.take() else {
            return Ok(());
        };
        let failed = match &mut self.sensor {
            Some(sensor) => restore(sensor.as_mut(), &self.saved.controls),
            None => Vec::new(),
        };
        let lit = self
            .light
            .as_ref()
            .map_or(Ok(()), |light| light.set(&light.usual));
        if !failed.is_empty() {
            return Err(CliError::Journal(JournalError::NotRestored {
                path: journal.path,
                camera: self.camera.clone(),
                reasons: failed.join("; "),
            }));
        }
        lit?;
        Ok(journal.end()?)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        if let Err(error) = self.put_all_back() {
            log::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{CaptureError, SensorControl};
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex};

    /// A sensor that keeps what it is set to, except that it refuses a value while the automatic mode is on.
    #[derive(Clone)]
    struct Fake(Arc<Mutex<BTreeMap<u32, i64>>>);

    const AUTOMATIC: u32 = 1;

    impl Sensor for Fake {
        fn identity(&self) -> String {
            "fake".into()
        }

        fn controls(&self) -> Result<Vec<SensorControl>, CaptureError> {
            Ok(Vec::new())
        }

        fn value(&self, control: &Setting) -> Result<i64, CaptureError> {
            Ok(self.0.lock().expect("values")[&control.id])
        }

        fn set(&mut self, control: &Setting, value: i64) -> Result<i64, CaptureError> {
            let mut values = self.0.lock().expect("values");
            if control.id != AUTOMATIC && values[&AUTOMATIC] == 1 {
                return Err(CaptureError::Internal("it is automatic".into()));
            }
            values.insert(control.id, value);
            Ok(value)
        }
    }

    fn setting(id: u32, value: i64) -> Setting {
        Setting {
            id,
            name: format!("control {id}"),
            value,
        }
    }

    fn moved(folder: &Path, fake: &Fake) -> Moved {
        let saved = Saved {
            sensor: fake.identity(),
            started: "now".into(),
            controls: vec![setting(2, 10), setting(AUTOMATIC, 1)],
            light: Vec::new(),
        };
        let sensor: Option<Box<dyn Sensor>> = Some(Box::new(fake.clone()));
        Moved::begin(folder, "belt", (sensor, None), saved).expect("journal")
    }

    fn sensor() -> Fake {
        Fake(Arc::new(Mutex::new(BTreeMap::from([
            (AUTOMATIC, 1),
            (2, 10),
        ]))))
    }

    fn values(fake: &Fake) -> Vec<i64> {
        fake.0.lock().expect("values").values().copied().collect()
    }

    #[test]
    fn a_panic_puts_every_control_back_and_ends_the_journal() {
        let (folder, fake) = (tempfile::tempdir().expect("folder"), sensor());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut moved = moved(folder.path(), &fake);
            moved.set(&setting(AUTOMATIC, 1), 0).expect("set");
            moved.set(&setting(2, 10), 99).expect("set");
            assert_eq!(values(&fake), [0, 99]);
            panic!("in the middle");
        }));
        assert!(panicked.is_err());
        assert_eq!(values(&fake), [1, 10]);
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[test]
    fn the_journal_stays_when_the_camera_does_not_take_its_values_back() {
        let (folder, fake) = (tempfile::tempdir().expect("folder"), sensor());
        let mut moved = moved(folder.path(), &fake);
        moved.set(&setting(AUTOMATIC, 1), 0).expect("set");
        moved.set(&setting(2, 10), 99).expect("set");
        // Somebody else switches the automatic mode on.
        fake.0.lock().expect("values").insert(AUTOMATIC, 1);
        let error = moved.put_back().expect_err("refused").to_string();
        assert!(
            error.contains("camera belt") && error.contains("control 2") && error.contains(".json"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
    }
}
