//! `constancy classes`: creates a class bank.

use super::CliError;
use super::model_args::{LabelArgs, LoadedModel, ModelArgs};
use super::output::{Failures, for_each_image, line, write_file};
use crate::files::{Class, ImagesError, images_of_classes, list_images};
use crate::recognizer::{FrameEncoder, IDENTITY, LoadedProjection};
use clap::Args;
use constancy_core::classify::{BankOrigin, ClassBank, Support, class_means};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["labels", "from_images"]))]
pub(super) struct ClassesArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// Folder with one subfolder of example images per class, named after the class
    #[arg(long, value_name = "DIR")]
    from_images: Option<PathBuf>,
    /// Use only the first N images of each class, in order of name
    #[arg(long, value_name = "N", requires = "from_images", value_parser = clap::value_parser!(u32).range(1..))]
    per_class: Option<u32>,
    /// Folder of at least 20 typical images, unsorted, that let the bank recognise images unlike
    /// them; needs --labels
    #[arg(long, value_name = "DIR", requires = "labels")]
    like: Option<PathBuf>,
    /// Class bank to write
    #[arg(short, long, default_value = "classes.safetensors")]
    output: PathBuf,
}

pub(super) fn run(args: &ClassesArgs) -> Result<(), CliError> {
    let labels = args.labels.labels()?;
    let LoadedModel {
        mut frame_encoder,
        projection,
        ..
    } = args.model.load()?;
    let (bank, failures) = match (&args.from_images, labels) {
        (Some(folder), _) => from_images(
            &mut frame_encoder,
            projection.as_ref(),
            folder,
            args.per_class,
        )?,
        (None, Some(labels)) => {
            let bank = frame_encoder.bank_from_labels(&labels, &args.labels.prompts)?;
            match &args.like {
                Some(folder) => {
                    with_support(&mut frame_encoder, bank, projection.as_ref(), folder)?
                }
                None => (bank, Failures::NONE),
            }
        }
        (None, None) => {
            return Err(CliError::Usage(
                "no classes are named; give --labels or --from-images".into(),
            ));
        }
    };
    write_file(&args.output, &bank.to_bytes()?)?;
    let support = bank.support.as_ref().map_or_else(String::new, |s| {
        format!(
            "; {} images measured, cosine to their class {:.3} in the median, {:.3} at the 1 % tail",
            s.examples, s.median_cosine, s.tail_cosine
        )
    });
    line(&format!(
        "{}: {} classes ({}){support}",
        args.output.display(),
        bank.labels.len(),
        bank.labels.join(", ")
    ))?;
    failures.into_result()
}

/// Adds a measure of what is unlike the images in a folder to a bank of labels.
fn with_support(
    frame_encoder: &mut FrameEncoder,
    bank: ClassBank,
    projection: Option<&LoadedProjection>,
    folder: &Path,
) -> Result<(ClassBank, Failures), CliError> {
    let mut embeddings = Vec::new();
    let failures = for_each_image(&list_images(folder)?, true, |_, frame| {
        embeddings.push(frame_encoder.embed(frame)?.0);
        Ok(())
    })?;
    let digest = projection.map_or(IDENTITY, |p| &p.digest);
    let support = Support::measure_nearest(
        &embeddings,
        &bank.rows,
        projection.map(|p| &p.projection),
        digest,
    );
    if support.is_none() {
        return Err(CliError::Usage(format!(
            "--like {} has too few images; at least 20 are needed",
            folder.display()
        )));
    }
    Ok((ClassBank { support, ..bank }, failures))
}

fn from_images(
    frame_encoder: &mut FrameEncoder,
    projection: Option<&LoadedProjection>,
    folder: &Path,
    per_class: Option<u32>,
) -> Result<(ClassBank, Failures), CliError> {
    let classes = images_of_classes(folder)?;
    if classes.is_empty() {
        return Err(CliError::Usage(format!(
            "--from-images {} has no subfolders; make one for each class",
            folder.display()
        )));
    }
    let limit = per_class.map_or(usize::MAX, |n| n as usize);
    let (mut class_of, mut paths): (Vec<usize>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for (class, Class { images, .. }) in classes.iter().enumerate() {
        paths.extend(images.iter().take(limit).cloned());
        class_of.resize(paths.len(), class);
    }
    let mut examples = vec![Vec::new(); classes.len()];
    let failures = for_each_image(&paths, true, |index, frame| {
        let (embedding, _) = frame_encoder.embed(frame)?;
        examples[class_of[index]].push(embedding);
        Ok(())
    })?;
    let unreadable = classes.iter().zip(&examples).find(|(_, e)| e.is_empty());
    if let Some((class, _)) = unreadable {
        return Err(CliError::Images(ImagesError::NoneReadable {
            path: class.folder.clone(),
            count: class.images.len().min(limit),
        }));
    }
    let digest = projection.map_or(IDENTITY, |p| &p.digest);
    let bank = ClassBank {
        labels: classes.into_iter().map(|class| class.name).collect(),
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: frame_encoder.encoder().sha256().to_owned(),
        rows: class_means(&examples),
        support: Support::measure(&examples, projection.map(|p| &p.projection), digest),
        probe: None,
    };
    Ok((bank, failures))
}
