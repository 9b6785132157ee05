//! What a valid configuration should not have: secrets that every user of the machine may read.

use super::settings::Settings;
use std::os::unix::fs::PermissionsExt as _;

/// Others may read or write.
const OPEN_TO_OTHERS: u32 = 0o006;

/// A key, and what its value should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub key: &'static str,
    pub text: String,
}

impl Settings {
    /// Files of passwords and private keys that are open to every user.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let secrets = [
            ("mqtt.password_file", &self.mqtt.password_file),
            ("mqtt.client_key_file", &self.mqtt.client_key_file),
        ];
        let warning = |(key, file): (&'static str, &Option<_>)| {
            let file: &std::path::PathBuf = file.as_ref()?;
            let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
            let file = file.display();
            let text =
                format!("{file} is open to every user (mode {mode:03o}); run `chmod o= {file}`");
            (mode & OPEN_TO_OTHERS != 0).then_some(Warning { key, text })
        };
        secrets.into_iter().filter_map(warning).collect()
    }
}
