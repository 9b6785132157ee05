//! `constancy camera reference`: shows or renews the reference picture that a camera's faults are told by.

use super::super::CliError;
use super::super::configured::{self, SERVICE_CONFIG};
use super::super::output::line;
use crate::config::Settings;
use crate::daemon::reference_file::{self, Known};
use clap::Args;
use std::io::ErrorKind;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct ReferenceArgs {
    /// Name of a camera in the configuration
    camera: String,
    /// Configuration file
    #[arg(short, long, default_value = SERVICE_CONFIG)]
    config: PathBuf,
    /// Remove it: the daemon notices within seconds and learns a new one from the next minute
    #[arg(long)]
    renew: bool,
}

pub(super) fn run(args: &ReferenceArgs) -> Result<(), CliError> {
    let settings = Settings::read(&args.config)?;
    let camera = configured::camera(&settings, Some(&args.camera), &args.config)?;
    let folder = configured::state_folder(&settings, "reference pictures")?;
    let path = reference_file::path(folder, &camera.name);
    if args.renew {
        return match std::fs::remove_file(&path) {
            Ok(()) => line(&format!(
                "{} is removed; a running daemon learns a new one from the next minute",
                path.display()
            )),
            Err(e) if e.kind() == ErrorKind::NotFound => nothing_yet(&camera.name),
            Err(source) => Err(CliError::Write { path, source }),
        };
    }
    match reference_file::read(folder, &camera.name, &camera.view) {
        Ok(None) => nothing_yet(&camera.name),
        Ok(Some(Known { reference, learnt })) => line(&format!(
            "camera {}: learnt at {learnt} from {} frames; {}",
            camera.name,
            reference.frames,
            if reference.has_background() {
                "its background tells if the camera moves"
            } else {
                "nothing always stays in its place, so a moved camera cannot be told"
            }
        )),
        Err(reason) => Err(CliError::Reference { path, reason }),
    }
}

fn nothing_yet(camera: &str) -> Result<(), CliError> {
    line(&format!(
        "camera {camera}: there is no reference yet; a running daemon learns one from a minute's frames"
    ))
}
