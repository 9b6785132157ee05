//! `constancy calibrate`: learns from images how far a class bank's answers can be trusted, and calibrates a camera for
//! another light.

mod condition;

use super::CliError;
use super::bank_images::{Source, made_from};
use super::class_folders::{names_a_class, tell_unsorted, truths};
use super::image_embeddings::{EmbeddingArgs, Families, parse_interventions};
use super::output::{Failures, Target, check_targets, line, write_file};
use crate::files::{Layout, labelled_images, list_images};
use crate::publish::{CALIBRATE_FRAMES, CalibrateCommand};
use crate::recognizer::{IDENTITY, Limits};
use clap::Args;
use constancy_core::classify::calibrate::{Calibration, CalibrationImage, Truth};
use constancy_core::classify::{ClassBank, Confidence};
use constancy_core::icm::{Domains, FoldersError, Interventions};
use std::path::{Path, PathBuf};

/// With fewer images nothing can be said of answers.
const MIN_IMAGES: usize = 20;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["images", "frames", "undo", "list"]))]
pub(super) struct CalibrateArgs {
    /// Folder with one subfolder of images per class, named after the class, or a folder of unsorted images
    ///
    /// Subfolders that are no class of the bank show what the bank does not know. What the model itself answers on an
    /// unsorted image counts as right, and a different answer under an intervention as wrong. With --camera: a folder of
    /// unsorted images of another light, which the camera is calibrated for.
    images: Option<PathBuf>,
    /// Calibrate a camera of the running daemon for the present light, from its next N frames, while things of all classes
    /// pass it
    #[arg(long, value_name = "N", value_parser = frames)]
    frames: Option<usize>,
    /// Forget the camera's last calibration for another light
    #[arg(long)]
    undo: bool,
    /// List the lights that the camera was calibrated for
    #[arg(long)]
    list: bool,
    /// Name of the camera in the configuration; needed where it has several
    #[arg(long, value_name = "NAME", conflicts_with_all = ["classes", "output", "projection", "interventions"])]
    camera: Option<String>,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Projection file to apply; defaults to the one in --config, or to none
    #[arg(short, long, conflicts_with = "config")]
    projection: Option<PathBuf>,
    /// Class bank to calibrate; defaults to the one in --config
    #[arg(long, value_name = "BANK")]
    classes: Option<PathBuf>,
    /// Intervention families to apply to each image: comma-separated names, the sets `paper`, `camera` and `all`, or
    /// `none`
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_interventions)]
    interventions: Families,
    /// Class bank to write; defaults to the one that is calibrated
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Parses the number of frames that a calibration takes.
fn frames(text: &str) -> Result<usize, String> {
    let (least, most) = (CALIBRATE_FRAMES.start(), CALIBRATE_FRAMES.end());
    let number = text.parse().ok();
    let fits = number.filter(|n| CALIBRATE_FRAMES.contains(n));
    fits.ok_or_else(|| format!("expected {least} to {most} frames"))
}

pub(super) fn run(args: &CalibrateArgs) -> Result<(), CliError> {
    let camera = args.camera.as_deref();
    let ask = |command| condition::ask(&args.embedding, camera, command);
    match (&args.images, args.frames) {
        (Some(folder), _) => match camera {
            Some(camera) => condition::from_images(&args.embedding, camera, folder),
            None => confidence(args, folder),
        },
        (None, Some(frames)) => ask(CalibrateCommand::Frames(frames)),
        (None, None) if args.undo => ask(CalibrateCommand::Undo),
        (None, None) => ask(CalibrateCommand::List),
    }
}

/// Calibrates the confidence of a class bank.
fn confidence(args: &CalibrateArgs, folder: &Path) -> Result<(), CliError> {
    check_targets(args.output.iter().map(|path| Target::File(path)))?;
    let loaded = args.embedding.load()?;
    let projection = loaded.projection(args.projection.as_deref())?;
    let configured = loaded
        .settings
        .as_ref()
        .and_then(|s| s.classes.bank.as_ref());
    let Some(path) = args.classes.as_ref().or(configured) else {
        return Err(CliError::Usage(
            "no class bank is named; give --classes BANK, or a --config with `classes.bank`".into(),
        ));
    };
    let output = args.output.as_ref().unwrap_or(path);
    check_targets([Target::File(output)])?;
    let mut bank = loaded.frame_encoder.load_bank(path)?;
    let source = Source {
        embedding: &args.embedding,
        loaded: &loaded,
        projection: projection.as_ref(),
        interventions: &args.interventions,
    };
    let images = source.judged(&bank.labels, folder, &Unnamed::Refuse)?;
    source.calibrate(&mut bank, &images)?;
    write_file(output, &bank.to_bytes()?)?;
    line(&format!(
        "{}: calibrated{}",
        output.display(),
        describe(&bank)
    ))?;
    images.failures.into_result()
}

/// What calibration found, for a person; nothing without a calibration.
pub(super) fn describe(bank: &ClassBank) -> String {
    let Some(Confidence {
        basis, reference, ..
    }) = &bank.confidence
    else {
        return String::new();
    };
    let share = |of: Option<f32>, name: &str| {
        of.map_or_else(String::new, |v| {
            format!(", {:.1} % right {name}", v * 100.0)
        })
    };
    let Limits {
        threshold, unknown, ..
    } = Limits::usual(bank);
    let unknown = unknown.unwrap_or_default();
    let light = reference.as_ref().map_or_else(String::new, |reference| {
        format!("; an offset {}", reference.describe())
    });
    format!(
        " on {} images{}{}{light}. At a confidence of {threshold:.2}: {unknown}",
        basis.images,
        share(basis.accuracy_clean, "as they are"),
        share(basis.accuracy_changed, "under interventions"),
    )
}

/// Images to calibrate on.
pub(super) struct Judged {
    /// What each shows.
    truths: Vec<Truth>,
    pub embedded: Interventions,
    pub failures: Failures,
}

/// What to do with a folder none of whose subfolders is named after a class.
pub(super) enum Unnamed {
    Refuse,
    /// Take its images as unsorted.
    Unsorted,
}

impl Source<'_> {
    /// Embeds the images in a folder, whose subfolders name their classes, or of unsorted ones.
    pub(super) fn judged(
        &self,
        labels: &[String],
        folder: &Path,
        unnamed: &Unnamed,
    ) -> Result<Judged, CliError> {
        let lenient = matches!(unnamed, Unnamed::Unsorted);
        if lenient && !folder.is_dir() {
            return self.unsorted(&list_images(folder)?);
        }
        let paths = labelled_images(folder, Layout::Any)?;
        let in_root = |path: &PathBuf| path.parent() == Some(folder);
        if paths.iter().all(in_root) {
            return self.unsorted(&paths);
        }
        let domains = match Domains::arrange_any(folder, &paths) {
            Ok(domains) if !lenient || names_a_class(labels, &domains) => domains,
            Err(FoldersError::OneClass { class, .. }) if !lenient => {
                return Err(CliError::Usage(format!(
                    "{} has images of one class alone, `{class}`, which says nothing of the others; add subfolders with theirs, or give a folder without subfolders",
                    folder.display()
                )));
            }
            arranged if lenient || paths.iter().any(in_root) => {
                tell_unsorted(
                    labels,
                    folder,
                    arranged.as_ref().map_err(FoldersError::clone),
                );
                return self.unsorted(&paths);
            }
            Ok(domains) => domains,
            Err(error) => return Err(error.into()),
        };
        let or = "give a folder without subfolders";
        let classes = truths(labels, &domains, folder, or)?;
        let items = || domains.items.iter();
        let folders: Vec<usize> = items().map(|item| item.class).collect();
        let truths: Vec<Truth> = folders.iter().map(|&c| classes[c]).collect();
        let paths: Vec<PathBuf> = items().map(|item| item.path.clone()).collect();
        self.embedded(&truths, &folders, &paths)
    }

    fn unsorted(&self, paths: &[PathBuf]) -> Result<Judged, CliError> {
        self.embedded(
            &vec![Truth::Unlabelled; paths.len()],
            &vec![0; paths.len()],
            paths,
        )
    }

    fn embedded(
        &self,
        truths: &[Truth],
        folders: &[usize],
        paths: &[PathBuf],
    ) -> Result<Judged, CliError> {
        let embedded = self.embed(paths, folders)?;
        Ok(Judged {
            truths: embedded.kept.iter().map(|&i| truths[i]).collect(),
            embedded: embedded.interventions,
            failures: Failures::new(embedded.stats.unreadable, paths.len()),
        })
    }

    /// Calibrates a bank on images. Where it was made from them, each is left out where it is judged.
    pub(super) fn calibrate(&self, bank: &mut ClassBank, images: &Judged) -> Result<(), CliError> {
        let count = images.truths.len();
        if count < MIN_IMAGES {
            return Err(CliError::Usage(format!(
                "{count} images are too few to calibrate on; at least {MIN_IMAGES} are needed"
            )));
        }
        let own = made_from(bank, &images.truths, &images.embedded);
        if own {
            log::info!("the bank was made from these images; each is left out where it is judged");
        }
        self.fit(bank, &images.truths, &images.embedded, own)
    }

    /// Fits the confidence of a bank. `own` says that it was made from these images.
    pub(super) fn fit(
        &self,
        bank: &mut ClassBank,
        truths: &[Truth],
        embedded: &Interventions,
        own: bool,
    ) -> Result<(), CliError> {
        if bank.labels.len() < 2 {
            log::warn!(
                "a bank of one class is not calibrated: its answer is always the same, and how often it takes something else for `{}` is not known",
                bank.labels.first().map_or("", String::as_str)
            );
            return Ok(());
        }
        let encoder = self.loaded.frame_encoder.encoder();
        let names: Vec<String> = embedded.families().iter().map(|f| f.name.clone()).collect();
        let images = calibration_images(truths, embedded, own);
        let calibration = Calibration {
            bank,
            projection: self.projection.map(|p| &p.projection),
            projection_digest: self.projection.map_or(IDENTITY, |p| &p.digest),
            logit_scale: encoder.manifest().output.logit_scale,
            encoder_sha256: encoder.sha256(),
            images: &images,
            families: &names,
        };
        let (confidence, support) = calibration.run_with_support(None)?;
        bank.confidence = Some(confidence);
        bank.support = support.or(bank.support.take());
        Ok(())
    }
}

/// The images as calibration takes them.
fn calibration_images(
    truths: &[Truth],
    embedded: &Interventions,
    own: bool,
) -> Vec<CalibrationImage> {
    let originals = embedded.originals().rows().zip(truths);
    let mut images: Vec<CalibrationImage> = originals
        .map(|(embedding, &truth)| CalibrationImage {
            truth,
            own: own && matches!(truth, Truth::Class(_)),
            embedding,
            changed: Vec::new(),
        })
        .collect();
    for (number, family) in embedded.families().iter().enumerate() {
        for (&of, row) in family.of.iter().zip(family.changed.rows()) {
            images[of].changed.push((number, row));
        }
    }
    images
}
