//! Condition profiles: by the running daemon, from its own frames, or from a folder of images of the new light.

use crate::cli::CliError;
use crate::cli::bank_images::Source;
use crate::cli::image_embeddings::{EmbeddingArgs, Families};
use crate::cli::output::{Failures, line};
use crate::config::{CommandName, Settings};
use crate::daemon::profile_files::{self, describe, make_profile};
use crate::files::list_images;
use crate::publish;
use crate::recognizer::{self, IDENTITY, Limits};
use constancy_core::classify::condition::Binding;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration of the service.
const SERVICE_CONFIG: &str = "/etc/constancy/constancy.toml";
/// How long the daemon may take for the frames; it gives up itself where the camera gives none.
const LIMIT: Duration = Duration::from_secs(1800);

/// What is asked of the running daemon.
pub(super) enum Ask {
    Frames(u32),
    Undo,
    List,
}

/// Sends the command, and prints the answer.
pub(super) fn ask(
    embedding: &EmbeddingArgs,
    camera: Option<&str>,
    ask: &Ask,
) -> Result<(), CliError> {
    let path = embedding.config().unwrap_or(Path::new(SERVICE_CONFIG));
    let settings = Settings::read(path)?;
    let camera = named_camera(&settings, camera, path)?;
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
    let payload = match ask {
        Ask::Frames(frames) => format!("{{\"frames\": {frames}}}"),
        Ask::Undo => "{\"undo\": true}".into(),
        Ask::List => "{\"list\": true}".into(),
    };
    let answer = publish::send_command(&settings, &camera, CommandName::Calibrate, &payload, LIMIT);
    match answer? {
        Ok(detail) => line(&detail),
        Err(reason) => Err(CliError::Refused { camera, reason }),
    }
}

/// The camera of this name, or the only one.
fn named_camera(
    settings: &Settings,
    name: Option<&str>,
    config: &Path,
) -> Result<String, CliError> {
    let names: Vec<&str> = settings.cameras.iter().map(|c| c.name.as_str()).collect();
    let listed = names.join(", ");
    match (name, &names[..]) {
        (Some(name), _) if names.contains(&name) => Ok(name.to_owned()),
        (Some(name), _) => Err(CliError::Usage(format!(
            "there is no camera `{name}` in {}; it names {listed}",
            config.display()
        ))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => Err(CliError::Usage(format!(
            "{} has several cameras; name one of {listed} with --camera",
            config.display()
        ))),
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
    let camera = named_camera(settings, Some(camera), config)?;
    let state = state_folder(settings)?;
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
    let ids = profile_files::ids(&state, &binding.camera);
    let id = profile_files::next_id(ids.iter().map(String::as_str));
    let made = make_profile(id, &frames, None, &classifier);
    let profile = made.map_err(|refusal| CliError::Refused {
        camera: binding.camera.clone(),
        reason: refusal.to_string(),
    })?;
    let path = profile_files::path(&state, &binding.camera, &profile.id);
    let unwritable = |reason: String| CliError::Write {
        path: path.clone(),
        source: std::io::Error::other(reason),
    };
    profile_files::save(&state, &profile, &binding).map_err(unwritable)?;
    line(&format!(
        "{}: {}; a running daemon takes it at its next reload",
        path.display(),
        describe(&profile)
    ))?;
    Failures::new(embedded.stats.unreadable, paths.len()).into_result()
}

fn state_folder(settings: &Settings) -> Result<PathBuf, CliError> {
    settings.queue.folder.clone().ok_or_else(|| {
        CliError::Usage(
            "condition profiles are kept in `queue.folder`, and there is none: set it, or STATE_DIRECTORY as the service does (/var/lib/constancy)".into(),
        )
    })
}
