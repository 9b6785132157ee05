//! `constancy classes`: creates a class bank.

mod from_images;

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, LoadedEncoder};
use super::model_args::LabelArgs;
use super::output::{Failures, for_each_image, line, write_file};
use crate::files::list_images;
use crate::recognizer::{IDENTITY, LoadedProjection};
use clap::Args;
use constancy_core::classify::{ClassBank, Space, Support};
use constancy_core::intervene::Family;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["labels", "from_images"]))]
pub(super) struct ClassesArgs {
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Projection file to apply; defaults to the one in --config, or to none
    #[arg(short, long, conflicts_with = "config")]
    projection: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelArgs,
    /// Folder with one subfolder of example images per class, named after the class
    #[arg(long, value_name = "DIR")]
    from_images: Option<PathBuf>,
    /// Use only the first N images of each class, in order of name
    #[arg(long, value_name = "N", requires = "from_images", value_parser = clap::value_parser!(u32).range(1..))]
    per_class: Option<u32>,
    /// Intervention families to apply to each example: comma-separated names, the sets `paper`, `camera` and `all`, or
    /// `none`
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_interventions)]
    interventions: Families,
    /// Folder of at least 20 typical images, unsorted, that let the bank recognise images unlike
    /// them; needs --labels
    #[arg(long, value_name = "DIR", requires = "labels")]
    like: Option<PathBuf>,
    /// Class bank to write
    #[arg(short, long, default_value = "classes.safetensors")]
    output: PathBuf,
}

/// The families of `--interventions`; none for `none`.
#[derive(Debug, Clone)]
struct Families(Vec<Family>);

fn parse_interventions(list: &str) -> Result<Families, String> {
    if list == "none" {
        return Ok(Families(Vec::new()));
    }
    let families = Family::parse_list(list).map_err(|e| e.to_string())?;
    if families.is_empty() {
        return Err("name at least one intervention on images, a set, or `none`".into());
    }
    Ok(Families(families))
}

pub(super) fn run(args: &ClassesArgs) -> Result<(), CliError> {
    let labels = args.labels.labels()?;
    let loaded = args.embedding.load()?;
    let projection = projection(args, &loaded)?;
    let (bank, failures) = match (&args.from_images, labels) {
        (Some(folder), _) => from_images::bank(args, &loaded, projection.as_ref(), folder)?,
        (None, Some(labels)) => {
            let bank = loaded.bank_from_labels(&labels, &args.labels.prompts)?;
            match &args.like {
                Some(folder) => with_support(loaded, bank, projection, folder)?,
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
    report(&args.output, &bank)?;
    failures.into_result()
}

/// The projection that the arguments or the configuration name.
fn projection(
    args: &ClassesArgs,
    loaded: &LoadedEncoder,
) -> Result<Option<LoadedProjection>, CliError> {
    let path = match &loaded.settings {
        Some(settings) => settings.model.projection.as_ref(),
        None => args.projection.as_ref(),
    };
    let load = |path: &PathBuf| loaded.frame_encoder.load_projection(path);
    Ok(path.map(load).transpose()?)
}

fn report(output: &Path, bank: &ClassBank) -> Result<(), CliError> {
    let support = bank.support.as_ref().map_or_else(String::new, |s| {
        format!(
            "; {} images measured, cosine to their class {:.3} in the median, {:.3} at the 1 % tail",
            s.examples, s.median_cosine, s.tail_cosine
        )
    });
    line(&format!(
        "{}: {} classes ({}){support}",
        output.display(),
        bank.labels.len(),
        bank.labels.join(", ")
    ))
}

/// Adds a measure of what is unlike the images in a folder to a bank of labels.
fn with_support(
    mut loaded: LoadedEncoder,
    bank: ClassBank,
    projection: Option<LoadedProjection>,
    folder: &Path,
) -> Result<(ClassBank, Failures), CliError> {
    let mut embeddings = Vec::new();
    let failures = for_each_image(&list_images(folder)?, true, |_, frame| {
        embeddings.push(loaded.frame_encoder.embed(frame)?.0);
        Ok(())
    })?;
    let digest = projection
        .as_ref()
        .map_or(IDENTITY, |p| &p.digest)
        .to_owned();
    let space = Space {
        projection: projection.map(|p| p.projection),
        whitening: None,
    };
    let support = Support::measure_nearest(&embeddings, &bank.rows, &space, &digest);
    if support.is_none() {
        return Err(CliError::Usage(format!(
            "--like {} has too few images; at least 20 are needed",
            folder.display()
        )));
    }
    Ok((ClassBank { support, ..bank }, failures))
}
