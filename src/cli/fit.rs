//! `constancy fit`: from images under interventions, or from the moments of other fits, to a projection.

mod captions;
mod choice;
mod report;

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, Families, Select, families};
use super::output::{expand, json_line, write_file};
use crate::capture::list_images;
use crate::clock;
use crate::embedding_cache::{EmbedError, ImageEmbeddings, Wanted};
use crate::publish::rfc3339;
use captions::CaptionArgs;
use choice::{ChoiceArgs, Evidence};
use clap::Args;
use constancy_core::icm::{
    Domains, Fitter, FoldersError, Map, MapSpec, Moments, Provenance, Selection,
};
use report::{Fitted, Report, Seconds};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct FitArgs {
    /// Images, or folders of images; one folder CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE where labels are looked at
    #[arg(required_unless_present = "merge")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Interventions on each image, separated by commas: names, or the sets `paper`, `camera` and `all`. `same-class`
    /// beside them makes pairs of images of one class as well
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = families)]
    interventions: Families,
    /// Interventions of each family on each image
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    draws: u32,
    #[command(flatten)]
    captions: CaptionArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Write the sums that the fit was made from as well: those of several runs or devices can be merged, and hold no
    /// image
    #[arg(long, value_name = "FILE")]
    moments_out: Option<PathBuf>,
    /// Fit to the sums of other runs instead of images; with --map, since there are no images to choose by
    #[arg(long, value_name = "MOMENTS", num_args = 1.., conflicts_with_all = ["images", "model", "config"])]
    merge: Vec<PathBuf>,
    /// The projection to write
    #[arg(short, long, default_value = "projection.safetensors")]
    output: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The images, and what their folders say of them.
struct Sources {
    images: Vec<PathBuf>,
    /// Where they lie in one folder ENVIRONMENT/CLASS/IMAGE, in the order of `images`.
    domains: Option<Domains>,
}

impl FitArgs {
    /// Whether the names of folders are to be classes.
    fn takes_labels(&self) -> bool {
        let chosen_by = self.choice.select();
        self.interventions.same_class
            || matches!(
                chosen_by,
                Some(Select::Environments | Select::Interventions)
            )
    }
}

pub(super) fn run(args: &FitArgs) -> Result<(), CliError> {
    if args.merge.is_empty() {
        from_images(args)
    } else {
        from_moments(args)
    }
}

fn from_images(args: &FitArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let sources = sources(args)?;
    let crowd = args.embedding.load()?;
    let captions = args.captions.embeddings(&crowd, sources.domains.as_ref())?;
    let wanted = Wanted {
        families: args.interventions.images.clone(),
        draws: args.draws,
        seed: args.embedding.seed,
    };
    let ImageEmbeddings {
        kept,
        interventions: mut images,
        tally,
    } = args
        .embedding
        .embed_images(&crowd, &sources.images, &wanted)?;
    if kept.is_empty() {
        return Err(CliError::SomeFailed {
            failed: tally.unreadable,
            total: sources.images.len(),
        });
    }
    if let Some((originals, changed)) = captions {
        images = images
            .with_pairs(captions::FAMILY, originals, changed)
            .map_err(EmbedError::Source)?;
    }
    let domains = sources.domains.as_ref();
    let labels = domains.filter(|_| args.takes_labels());
    let evidence = Evidence::new(images, labels, &kept, args.interventions.same_class)?;
    let moments = evidence.moments(crowd.frame_encoder.encoder().sha256());
    if let Some(path) = &args.moments_out {
        write_file(path, &moments.to_bytes()?)?;
    }
    let mut report = Report::new(&args.output, &moments);
    report.gathered(domains, &tally, &wanted);
    let choosing = Instant::now();
    let (spec, selection) = args
        .choice
        .choose(&evidence, wanted.seed, &crowd, &args.captions)?;
    report.seconds.choosing = choosing.elapsed().as_secs_f64();
    finish(args, &moments, spec, selection.as_ref(), report, start)?;
    match tally.unreadable {
        0 => Ok(()),
        failed => Err(CliError::SomeFailed {
            failed,
            total: sources.images.len(),
        }),
    }
}

fn from_moments(args: &FitArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let Some(spec) = args.choice.fixed() else {
        return Err(CliError::Usage(
            "merged moments hold no images to choose a map by; say which with --map, such as --map remove:20 or --map soft:1".into(),
        ));
    };
    let mut merged: Option<Moments> = None;
    for path in &args.merge {
        let bytes = std::fs::read(path).map_err(|source| CliError::Read {
            path: path.clone(),
            source,
        })?;
        let named = |source| CliError::MomentsFile {
            path: path.clone(),
            source,
        };
        let moments = Moments::parse(&bytes).map_err(named)?;
        match &mut merged {
            Some(merged) => merged.merge(&moments).map_err(named)?,
            None => merged = Some(moments),
        }
    }
    let Some(moments) = merged else {
        return Err(CliError::Usage("--merge names no file".into()));
    };
    if let Some(path) = &args.moments_out {
        write_file(path, &moments.to_bytes()?)?;
    }
    let mut report = Report::new(&args.output, &moments);
    report.merged(&args.merge);
    finish(args, &moments, spec, None, report, start)
}

/// Fits the map, writes it, and says so.
fn finish<'a>(
    args: &'a FitArgs,
    moments: &Moments,
    spec: MapSpec,
    selection: Option<&'a Selection>,
    mut report: Report<'a>,
    start: Instant,
) -> Result<(), CliError> {
    let fitting = Instant::now();
    let fitter = Fitter::new(moments)?;
    let map = fitter.fit(&spec)?;
    report.fitted(&map, fitter.removed(&map), selection, fitter.warning());
    for warning in &report.warnings {
        log::warn!("{warning}");
    }
    let (fitting, total) = (
        fitting.elapsed().as_secs_f64(),
        start.elapsed().as_secs_f64(),
    );
    report.seconds = Seconds {
        fitting,
        total,
        ..report.seconds
    };
    write(
        &args.output,
        &map,
        moments.encoder_sha256(),
        &report.provenance(),
    )?;
    if args.json {
        json_line(&report)
    } else {
        report.print()
    }
}

fn write(
    path: &Path,
    map: &Map,
    encoder_sha256: &str,
    fitted: &Fitted<'_>,
) -> Result<(), CliError> {
    let created = rfc3339(epoch_ns().unwrap_or_else(|| clock::now().unix_ns));
    let bytes = map.to_bytes(&Provenance {
        encoder_sha256,
        created: &created,
        fitted,
    })?;
    write_file(path, &bytes)
}

/// The time that a reproducible build is to write (reproducible-builds.org/specs/source-date-epoch).
fn epoch_ns() -> Option<i64> {
    std::env::var("SOURCE_DATE_EPOCH")
        .ok()?
        .parse::<i64>()
        .ok()?
        .checked_mul(1_000_000_000)
}

/// The images that were named, sorted by environment and class where their folder has these.
fn sources(args: &FitArgs) -> Result<Sources, CliError> {
    let (select, labels) = (args.choice.select(), args.takes_labels());
    let root = match &args.images[..] {
        [root] if root.is_dir() => root,
        _ if labels => {
            return Err(CliError::Usage(
                "labels are the names of folders in one folder; give one with CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE in it"
                    .into(),
            ));
        }
        _ => {
            return Ok(Sources {
                images: expand(&args.images)?,
                domains: None,
            });
        }
    };
    let images = list_images(root)?;
    let arranged = match select {
        Some(Select::Environments) => Domains::arrange(root, &images),
        _ if labels => Domains::arrange_any(root, &images),
        _ => Domains::arrange(root, &images),
    };
    match arranged {
        Ok(domains) => {
            if select == Some(Select::Environments) {
                domains
                    .missing
                    .iter()
                    .for_each(|missing| log::warn!("{missing}"));
            }
            let images = domains.items.iter().map(|item| item.path.clone()).collect();
            Ok(Sources {
                images,
                domains: Some(domains),
            })
        }
        Err(error @ FoldersError::NoImages { .. }) => Err(error.into()),
        Err(error) if labels => Err(error.into()),
        Err(_) => Ok(Sources {
            images,
            domains: None,
        }),
    }
}
