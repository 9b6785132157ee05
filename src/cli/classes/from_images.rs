//! A class bank from example images: class means, and what differs within classes and under interventions.

use super::ClassesArgs;
use crate::cli::CliError;
use crate::cli::image_embeddings::LoadedEncoder;
use crate::cli::output::{Failures, line};
use crate::embedding_cache::{EmbedError, ImageEmbeddings, InterventionPlan};
use crate::files::{Class, ImagesError, images_of_classes};
use crate::recognizer::{IDENTITY, LoadedProjection};
use constancy_core::classify::{BankOrigin, BankWhitening, ClassBank, Space, Support, class_means};
use constancy_core::icm::{Labelled, WhiteningChoice, choose_whitening};
use std::path::{Path, PathBuf};

/// The examples, in order of their classes.
struct Examples {
    labels: Vec<String>,
    /// `[class][image]`, embeddings `[D]`.
    rows: Vec<Vec<Vec<f32>>>,
    /// The same images with their versions under interventions.
    labelled: Labelled,
    failures: Failures,
}

pub(super) fn bank(
    args: &ClassesArgs,
    loaded: &LoadedEncoder,
    projection: Option<&LoadedProjection>,
    folder: &Path,
) -> Result<(ClassBank, Failures), CliError> {
    let examples = examples(args, loaded, folder)?;
    let digest = projection.map_or(IDENTITY, |p| &p.digest);
    let projected = projection.map(|p| examples.labelled.projected(&p.projection));
    let in_space = projected.as_ref().unwrap_or(&examples.labelled);
    let choice = choose_whitening(in_space, args.embedding.seed);
    if let Some(choice) = &choice {
        line(&describe(choice))?;
    }
    let whitening = choice.and_then(|choice| {
        Some(BankWhitening {
            projection: digest.to_owned(),
            strengths: choice.strengths,
            map: choice.whitening?,
        })
    });
    let space = Space {
        projection: projection.map(|p| p.projection.clone()),
        whitening: whitening.as_ref().map(|w| w.map.clone()),
    };
    let bank = ClassBank {
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: loaded.frame_encoder.encoder().sha256().to_owned(),
        rows: class_means(&examples.rows),
        support: Support::measure(&examples.rows, &space, digest),
        probe: None,
        whitening,
        confidence: None,
        labels: examples.labels,
    };
    Ok((bank, examples.failures))
}

/// What whitening does to held-out images.
fn describe(choice: &WhiteningChoice) -> String {
    let percent = |(before, after): (f64, f64)| match choice.whitening {
        Some(_) => format!("{:.1} → {:.1} %", before * 100.0, after * 100.0),
        None => format!("{:.1} %", before * 100.0),
    };
    let what = match choice.whitening {
        Some(_) => format!(
            "whitening: interventions {}, within classes {}",
            choice.strengths.interventions, choice.strengths.within_class
        ),
        None => "whitening: none, it would not help".to_owned(),
    };
    let under = choice.under.map_or_else(String::new, |under| {
        format!(", under interventions {}", percent(under))
    });
    format!(
        "{what}; held-out images right: {}{under}",
        percent(choice.as_they_are)
    )
}

fn examples(
    args: &ClassesArgs,
    loaded: &LoadedEncoder,
    folder: &Path,
) -> Result<Examples, CliError> {
    let classes = images_of_classes(folder)?;
    if classes.is_empty() {
        return Err(CliError::Usage(format!(
            "--from-images {} has no subfolders; make one for each class",
            folder.display()
        )));
    }
    let limit = args.per_class.map_or(usize::MAX, |n| n as usize);
    let (mut class_of, mut paths): (Vec<usize>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for (class, Class { images, .. }) in classes.iter().enumerate() {
        paths.extend(images.iter().take(limit).cloned());
        class_of.resize(paths.len(), class);
    }
    let plan = InterventionPlan {
        families: args.interventions.0.clone(),
        draws: 1,
        seed: args.embedding.seed,
    };
    let ImageEmbeddings {
        kept,
        interventions,
        stats,
    } = args.embedding.embed_images(loaded, &paths, &plan)?;
    let class_of: Vec<usize> = kept.iter().map(|&i| class_of[i]).collect();
    let mut rows = vec![Vec::new(); classes.len()];
    for (&class, row) in class_of.iter().zip(interventions.originals().rows()) {
        rows[class].push(row);
    }
    if let Some((class, _)) = classes.iter().zip(&rows).find(|(_, r)| r.is_empty()) {
        return Err(CliError::Images(ImagesError::NoneReadable {
            path: class.folder.clone(),
            count: class.images.len().min(limit),
        }));
    }
    let labels: Vec<String> = classes.into_iter().map(|class| class.name).collect();
    let environments = vec![0; class_of.len()];
    let labelled = Labelled::new(
        interventions,
        class_of,
        environments,
        labels.clone(),
        vec![folder.display().to_string()],
    )
    .map_err(EmbedError::Source)?;
    Ok(Examples {
        labels,
        rows,
        labelled,
        failures: Failures::new(stats.unreadable, paths.len()),
    })
}
