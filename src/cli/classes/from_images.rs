//! A class bank from example images: class means, and what differs within classes and under interventions.

use crate::cli::CliError;
use crate::cli::bank_images::Source;
use crate::cli::class_folders::check_class_folders;
use crate::cli::output::{Failures, line};
use crate::embedding_cache::{EmbedError, ImageEmbeddings};
use crate::files::{Class, ImagesError, images_of_classes};
use crate::recognizer::IDENTITY;
use constancy_core::classify::calibrate::{CalibrationError, Truth};
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

/// Makes a bank from the folders in `folder`, of at most `per_class` images each, and calibrates it.
pub(super) fn bank(
    source: &Source<'_>,
    folder: &Path,
    per_class: Option<u32>,
) -> Result<(ClassBank, Failures), CliError> {
    let examples = examples(source, folder, per_class)?;
    let digest = source.projection.map_or(IDENTITY, |p| &p.digest);
    let projected = source
        .projection
        .map(|p| examples.labelled.projected(&p.projection));
    let in_space = projected.as_ref().unwrap_or(&examples.labelled);
    let choice = choose_whitening(in_space, source.embedding.seed);
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
        projection: source.projection.map(|p| p.projection.clone()),
        whitening: whitening.as_ref().map(|w| w.map.clone()),
    };
    let mut bank = ClassBank {
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: source.loaded.frame_encoder.encoder().sha256().to_owned(),
        rows: class_means(&examples.rows),
        support: Support::measure(&examples.rows, &space, digest),
        probe: None,
        whitening,
        confidence: None,
        labels: examples.labels,
    };
    let truths: Vec<Truth> = examples
        .labelled
        .classes()
        .iter()
        .map(|&c| Truth::Class(c))
        .collect();
    match source.fit(&mut bank, &truths, examples.labelled.images(), true) {
        Err(CliError::Calibration(CalibrationError::NoAnswers)) => log::warn!(
            "no class has two images, so the bank cannot say how far to trust an answer; give more, or calibrate on others with `constancy calibrate`"
        ),
        fitted => fitted?,
    }
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
    source: &Source<'_>,
    folder: &Path,
    per_class: Option<u32>,
) -> Result<Examples, CliError> {
    let classes = images_of_classes(folder)?;
    if classes.is_empty() {
        return Err(CliError::Usage(format!(
            "--from-images {} has no subfolders; make one for each class",
            folder.display()
        )));
    }
    check_class_folders(&classes)?;
    let limit = per_class.map_or(usize::MAX, |n| n as usize);
    let (mut class_of, mut paths): (Vec<usize>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for (class, Class { images, .. }) in classes.iter().enumerate() {
        paths.extend(images.iter().take(limit).cloned());
        class_of.resize(paths.len(), class);
    }
    let ImageEmbeddings {
        kept,
        interventions,
        stats,
    } = source.embed(&paths, &class_of)?;
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
