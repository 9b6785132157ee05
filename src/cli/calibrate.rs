//! `constancy calibrate`: learns from images how far a class bank's answers can be trusted.

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, Families, LoadedEncoder, parse_interventions};
use super::output::{Failures, Target, check_targets, line, write_file};
use crate::embedding_cache::{ImageEmbeddings, InterventionPlan};
use crate::files::{Layout, labelled_images};
use crate::recognizer::{IDENTITY, LoadedProjection};
use clap::Args;
use constancy_core::classify::calibrate::{Calibration, CalibrationImage, Truth};
use constancy_core::classify::{BankOrigin, ClassBank, Confidence, class_means};
use constancy_core::icm::{Domains, Interventions};
use constancy_core::numeric::dot;
use std::path::{Path, PathBuf};

/// How near a class's images must be to its row for the row to be made from them.
const SAME_IMAGES: f32 = 1.0 - 1e-5;

#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// Folder with one subfolder of images per class, named after the class, or a folder of unsorted images
    ///
    /// Subfolders that are no class of the bank show what the bank does not know. What the model itself answers on an
    /// unsorted image counts as right, and a different answer under an intervention as wrong.
    images: PathBuf,
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

pub(super) fn run(args: &CalibrateArgs) -> Result<(), CliError> {
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
    let failures = source.calibrate(&mut bank, &args.images)?;
    write_file(output, &bank.to_bytes()?)?;
    line(&format!(
        "{}: calibrated{}",
        output.display(),
        describe(&bank)
    ))?;
    failures.into_result()
}

/// What calibration found, for a person; nothing without a calibration.
pub(super) fn describe(bank: &ClassBank) -> String {
    let Some(Confidence { basis, .. }) = &bank.confidence else {
        return String::new();
    };
    let share = |of: Option<f32>, name: &str| {
        of.map_or_else(String::new, |v| {
            format!(", {:.1} % right {name}", v * 100.0)
        })
    };
    format!(
        " on {} images{}{}",
        basis.images,
        share(basis.accuracy_clean, "as they are"),
        share(basis.accuracy_changed, "under interventions"),
    )
}

/// Where calibration images come from, and how they are embedded.
pub(super) struct Source<'a> {
    pub embedding: &'a EmbeddingArgs,
    pub loaded: &'a LoadedEncoder,
    pub projection: Option<&'a LoadedProjection>,
    pub interventions: &'a Families,
}

impl Source<'_> {
    /// Embeds images as they are and under each family of interventions.
    pub(super) fn embed(&self, images: &[PathBuf]) -> Result<ImageEmbeddings, CliError> {
        let plan = InterventionPlan {
            families: self.interventions.0.clone(),
            draws: 1,
            seed: self.embedding.seed,
        };
        self.embedding.embed_images(self.loaded, images, &plan)
    }

    /// Calibrates a bank on the images in a folder.
    pub(super) fn calibrate(
        &self,
        bank: &mut ClassBank,
        folder: &Path,
    ) -> Result<Failures, CliError> {
        let paths = labelled_images(folder, Layout::Any)?;
        let in_root = |path: &PathBuf| path.parent() == Some(folder);
        let (truths, paths) = if paths.iter().any(in_root) {
            (vec![Truth::Unlabelled; paths.len()], paths)
        } else {
            truths(&bank.labels, &Domains::arrange_any(folder, &paths)?, folder)?
        };
        let embedded = self.embed(&paths)?;
        let truths: Vec<Truth> = embedded.kept.iter().map(|&i| truths[i]).collect();
        let own = made_from(bank, &truths, &embedded.interventions);
        if own {
            log::info!("the bank was made from these images; each is left out where it is judged");
        }
        self.fit(bank, &truths, &embedded.interventions, own)?;
        Ok(Failures::new(embedded.stats.unreadable, paths.len()))
    }

    /// Fits the confidence of a bank. `own` says that it was made from these images.
    pub(super) fn fit(
        &self,
        bank: &mut ClassBank,
        truths: &[Truth],
        embedded: &Interventions,
        own: bool,
    ) -> Result<(), CliError> {
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
        bank.confidence = Some(calibration.run(None)?);
        Ok(())
    }
}

/// The class of each image of class folders. Folders that are no class of the bank are told.
fn truths(
    labels: &[String],
    domains: &Domains,
    folder: &Path,
) -> Result<(Vec<Truth>, Vec<PathBuf>), CliError> {
    let truth = |name: &String| {
        let spaced = name.replace('_', " ");
        let class = labels.iter().position(|l| l == name || *l == spaced);
        class.map_or(Truth::Other, Truth::Class)
    };
    let classes: Vec<Truth> = domains.classes.iter().map(truth).collect();
    let others: Vec<&str> = domains
        .classes
        .iter()
        .zip(&classes)
        .filter(|(_, truth)| **truth == Truth::Other)
        .map(|(name, _)| name.as_str())
        .collect();
    if others.len() == classes.len() {
        return Err(CliError::Usage(format!(
            "no subfolder of {} is named after a class of the bank, which has {}; rename them, or give a folder without subfolders",
            folder.display(),
            labels.join(", ")
        )));
    }
    if !others.is_empty() {
        log::warn!(
            "no class of the bank: {}; the images in these folders count as unknown to it",
            others.join(", ")
        );
    }
    let items = domains.items.iter();
    Ok(items
        .map(|item| (classes[item.class], item.path.clone()))
        .unzip())
}

/// Whether the bank's rows are the means of these images.
fn made_from(bank: &ClassBank, truths: &[Truth], embedded: &Interventions) -> bool {
    if bank.origin != BankOrigin::Images {
        return false;
    }
    let mut examples = vec![Vec::new(); bank.labels.len()];
    for (truth, row) in truths.iter().zip(embedded.originals().rows()) {
        if let Truth::Class(class) = truth {
            examples[*class].push(row);
        }
    }
    let means = class_means(&examples);
    let mut rows = means.iter().zip(&bank.rows).zip(&examples);
    rows.any(|((mean, row), images)| !images.is_empty() && dot(mean, row) > SAME_IMAGES)
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
