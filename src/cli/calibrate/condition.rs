//! Condition profiles: by the running daemon, from its own frames, or from a folder of images of the new light.

use crate::cli::CliError;
use crate::cli::bank_images::Source;
use crate::cli::configured::{self, SERVICE_CONFIG};
use crate::cli::image_embeddings::{EmbeddingArgs, Families};
use crate::cli::output::{Failures, line};
use crate::config::{CommandName, Settings};
use crate::daemon::profile_files::{self, describe, make_profile};
use crate::files::list_images;
use crate::publish::{self, CalibrateCommand};
use crate::recognizer::{self, IDENTITY, Limits};
use constancy_core::classify::condition::Binding;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take for the frames; it gives up itself where the camera gives none.
const LIMIT: Duration = Duration::from_secs(1800);

/// Sends the command, and prints the answer.
pub(super) fn ask(
    embedding: &EmbeddingArgs,
    camera: Option<&str>,
    command: CalibrateCommand,
) -> Result<(), CliError> {
    let path = embedding.config().unwrap_or(Path::new(SERVICE_CONFIG));
    let settings = Settings::read(path)?;
    let camera = configured::camera(&settings, camera, path)?.name.clone();
    if settings.mqtt.broker.is_none() {
        return Err(CliError::Usage(format!(
            "the running daemon is asked over its broker, and {} has no `mqtt.broker`; give a folder of images of the new light instead",
            path.display()
        )));
    }
    if !settings.mqtt.commands.contains(&CommandName::Calibrate) {
        return Err(CliError::Usage(format!(
            "`mqtt.commands` in {} does not list \"calibrate\"; add it, and reload the daemon",
            path.display()
        )));
    }
    let (name, payload) = (CommandName::Calibrate, command.payload());
    let answer = publish::send_command(&settings, &camera, name, &payload, LIMIT);
    match answer? {
        Ok(detail) => line(&detail),
        Err(reason) => Err(CliError::Refused { camera, reason }),
    }
}

/// Makes a profile from images of the new light, and writes it where the daemon of the configuration finds it.
pub(super) fn from_images(
    embedding: &EmbeddingArgs,
    camera: &str,
    folder: &Path,
) -> Result<(), CliError> {
    let loaded = embedding.load()?;
    let Some((settings, config)) = loaded.settings.as_ref().zip(embedding.config()) else {
        return Err(CliError::Usage(
            "--camera belongs to a configuration; name it with --config".into(),
        ));
    };
    let camera = configured::camera(settings, Some(camera), config)?
        .name
        .clone();
    let state = configured::state_folder(settings, "condition profiles")?;
    let projection = loaded.projection(None)?;
    let digest = projection
        .as_ref()
        .map_or(IDENTITY, |p| &p.digest)
        .to_owned();
    let bank = loaded.frame_encoder.configured_bank(&settings.classes)?;
    let encoder = loaded.frame_encoder.encoder();
    let binding = Binding {
        camera,
        encoder_sha256: encoder.sha256().to_owned(),
        projection: digest,
        bank: recognizer::bank_digest(&bank)?,
    };
    let limits = Limits::of(&settings.classes, &bank)?;
    let source = Source {
        embedding,
        loaded: &loaded,
        projection: projection.as_ref(),
        interventions: &Families(Vec::new()),
    };
    let paths = list_images(folder)?;
    let embedded = source.embed(&paths, &vec![0; paths.len()])?;
    let frames: Vec<Vec<f32>> = embedded.interventions.originals().rows().collect();
    let classifier = recognizer::classifier(encoder, projection.clone(), bank)?
        .with_threshold(limits.threshold)
        .with_class_thresholds(limits.of_classes);
    let ids = profile_files::ids(state, &binding.camera);
    let id = profile_files::next_id(ids.iter().map(String::as_str));
    let made = make_profile(id, &frames, None, &classifier);
    let profile = made.map_err(|refusal| CliError::Refused {
        camera: binding.camera.clone(),
        reason: refusal.to_string(),
    })?;
    let path = profile_files::path(state, &binding.camera, &profile.id);
    let unwritable = |reason: String| CliError::Write {
        path: path.clone(),
        source: std::io::Error::other(reason),
    };
    profile_files::save(state, &profile, &binding).map_err(unwritable)?;
    line(&format!(
        "{}: {}; a running daemon takes it at its next reload",
        path.display(),
        describe(&profile)
    ))?;
    Failures::new(embedded.stats.unreadable, paths.len()).into_result()
}
