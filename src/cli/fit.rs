//! `constancy fit`: fits a projection to images under interventions, or to the moments of other fits.

mod captions;
mod choice;
mod pairs;
mod report;

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, FamilySelection, LoadedEncoder, parse_families};
use super::output::{Target, check_targets, created, image_files, json_line, write_file};
use crate::embedding_cache::{EmbedError, ImageEmbeddings, InterventionPlan};
use crate::files::{self, Layout, MAX_TENSOR_BYTES, labelled_images};
use captions::TextArgs;
use choice::{ChoiceArgs, FitData, is_whitened};
use clap::Args;
use constancy_core::classify::BankOrigin;
use constancy_core::icm::captions::CAPTIONS;
use constancy_core::icm::{
    Covariances, Domains, Fitter, FoldersError, Labelled, Map, MapSpec, Moments, Provenance,
    Selection,
};
use pairs::PairArgs;
use report::{FitRecord, Report, Seconds};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct FitArgs {
    /// Images or folders of images; to use labels, one folder laid out as CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE
    #[arg(required_unless_present = "merge")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Intervention families to apply to each image: comma-separated names, or the sets `paper`, `camera` and `all`
    ///
    /// Add `same-class` to pair images of the same class as well. With `all`, classes that are known by text are changed in
    /// text, too, as with --caption-edits.
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_families)]
    interventions: FamilySelection,
    /// Number of interventions of each family on each image
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    draws: u32,
    #[command(flatten)]
    captions: TextArgs,
    #[command(flatten)]
    pairs: PairArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Also write the moments that the map is fitted to; they contain no images, and --merge combines several
    #[arg(long, value_name = "FILE")]
    moments_out: Option<PathBuf>,
    /// Fit to moments of other runs instead of images; needs --map, because there are no images to choose by
    #[arg(long, value_name = "MOMENTS", num_args = 1.., conflicts_with_all = ["images", "model", "config"])]
    merge: Vec<PathBuf>,
    /// Projection to write
    #[arg(short, long, default_value = "projection.safetensors")]
    output: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The images, and the labels that their folders give them.
struct InputImages {
    paths: Vec<PathBuf>,
    /// In the order of `paths`, if their folders name environments and classes.
    domains: Option<Domains>,
}

impl FitArgs {
    /// Whether the names of folders must be labels.
    fn needs_labels(&self) -> bool {
        self.interventions.same_class || self.choice.needs_labels()
    }

    /// The readable images, with labels if these are used.
    fn fit_data<'a>(
        &self,
        embedded: ImageEmbeddings,
        domains: Option<&'a Domains>,
    ) -> Result<FitData<'a>, CliError> {
        let ImageEmbeddings {
            kept,
            interventions,
            ..
        } = embedded;
        let used = |domains: &&Domains| {
            self.needs_labels() || self.choice.may_use_labels() && domains.classes.len() > 1
        };
        let labels = domains.filter(used);
        FitData::new(interventions, labels, &kept, self.interventions.same_class)
    }

    fn write_moments(&self, moments: &Moments) -> Result<(), CliError> {
        match &self.moments_out {
            Some(path) => write_file(path, &moments.to_bytes()?),
            None => Ok(()),
        }
    }
}

pub(super) fn run(args: &FitArgs) -> Result<(), CliError> {
    let files = [Some(&args.output), args.moments_out.as_ref()];
    check_targets(files.into_iter().flatten().map(|path| Target::File(path)))?;
    if args.merge.is_empty() {
        from_images(args)
    } else {
        from_moments(args)
    }
}

fn from_images(args: &FitArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let input = input_images(args)?;
    let loaded = args.embedding.load()?;
    let classes = args.choice.classes(&loaded, &args.captions)?;
    let by_text = classes.as_ref().filter(|c| c.origin == BankOrigin::Text);
    let by_text = by_text.filter(|_| args.interventions.everything);
    let captions = args
        .captions
        .embeddings(&loaded, input.domains.as_ref(), by_text)?;
    let plan = InterventionPlan {
        families: args.interventions.interventions.clone(),
        draws: args.draws,
        seed: args.embedding.seed,
    };
    let mut embedded = args.embedding.embed_images(&loaded, &input.paths, &plan)?;
    let stats = embedded.stats;
    let some_failed = || CliError::SomeFailed {
        failed: stats.unreadable,
        total: input.paths.len(),
    };
    if embedded.kept.is_empty() {
        return Err(some_failed());
    }
    let (pairs, pair_failures) = args.pairs.embeddings(&args.embedding, &loaded)?;
    let captions = captions.map(|(originals, changed)| (CAPTIONS.into(), originals, changed));
    embedded.interventions = args
        .pairs
        .join(embedded.interventions, captions.into_iter().chain(pairs))?;
    let domains = input.domains.as_ref();
    let data = args.fit_data(embedded, domains)?;
    let moments = data.moments(loaded.frame_encoder.encoder().sha256());
    args.write_moments(&moments)?;
    let mut report = Report::new(&args.output, &moments);
    report.add_images(domains, &stats, &plan);
    let choosing = Instant::now();
    let judged = judged_images(args, &loaded, &plan)?;
    let (spec, selection) = args.choice.choose(
        &data,
        judged.as_ref(),
        classes.as_ref(),
        plan.seed,
        &loaded,
        &args.captions,
    )?;
    report.seconds.choosing = choosing.elapsed().as_secs_f64();
    let covariances = is_whitened(&spec).then(|| data.covariances()).flatten();
    let fitted = (&moments, covariances);
    finish(args, fitted, spec, selection.as_ref(), report, start)?;
    if stats.unreadable > 0 {
        return Err(some_failed());
    }
    pair_failures.into_result()
}

/// The images by class that `--for` names, under the same interventions.
fn judged_images(
    args: &FitArgs,
    loaded: &LoadedEncoder,
    plan: &InterventionPlan,
) -> Result<Option<Labelled>, CliError> {
    let Some(folder) = args.choice.folder() else {
        return Ok(None);
    };
    let domains = Domains::arrange_any(folder, &labelled_images(folder, Layout::Any)?)?;
    let paths: Vec<PathBuf> = domains.items.iter().map(|i| i.path.clone()).collect();
    let embedded = args.embedding.embed_images(loaded, &paths, plan)?;
    let items = embedded.kept.iter().map(|&i| &domains.items[i]);
    let labelled = Labelled::of_items(embedded.interventions, &domains, items);
    Ok(Some(labelled.map_err(EmbedError::Source)?))
}

fn from_moments(args: &FitArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let Some(spec) = args.choice.fixed() else {
        return Err(CliError::Usage(
            "merged moments hold no images to choose a map by; name one, such as --map remove:20 or --map soft:1".into(),
        ));
    };
    let mut merged: Option<Moments> = None;
    for path in &args.merge {
        let bytes = files::read(path, MAX_TENSOR_BYTES).map_err(|source| CliError::Read {
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
    args.write_moments(&moments)?;
    let mut report = Report::new(&args.output, &moments);
    report.add_merged(&args.merge);
    let covariances = is_whitened(&spec).then(|| Covariances::of_moments(&moments));
    finish(
        args,
        (&moments, covariances.flatten()),
        spec,
        None,
        report,
        start,
    )
}

/// Fits the map, writes the projection, and prints the report.
fn finish<'a>(
    args: &'a FitArgs,
    (moments, covariances): (&Moments, Option<Covariances>),
    spec: MapSpec,
    selection: Option<&'a Selection>,
    mut report: Report<'a>,
    start: Instant,
) -> Result<(), CliError> {
    let fitting = Instant::now();
    let mut fitter = Fitter::new(moments)?;
    if let Some(covariances) = covariances {
        fitter = fitter.with_covariances(covariances);
    }
    let map = fitter.fit(&spec)?;
    report.add_map(&map, fitter.removed(&map), selection, fitter.warning());
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
        &report.record(),
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
    record: &FitRecord<'_>,
) -> Result<(), CliError> {
    let bytes = map.to_bytes(&Provenance {
        encoder_sha256,
        created: &created(),
        fitted: record,
    })?;
    write_file(path, &bytes)
}

/// The images that the arguments name, sorted by environment and class if their folder is laid out so.
fn input_images(args: &FitArgs) -> Result<InputImages, CliError> {
    match &args.images[..] {
        [root] if root.is_dir() => images_of_folder(args, root),
        _ if args.needs_labels() => Err(CliError::Usage(
            "labels come from folder names; give one folder, laid out as CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE"
                .into(),
        )),
        _ => Ok(InputImages {
            paths: image_files(&args.images)?,
            domains: None,
        }),
    }
}

fn images_of_folder(args: &FitArgs, root: &Path) -> Result<InputImages, CliError> {
    let by_environment = args.choice.by_environment();
    let layout = match (args.needs_labels(), by_environment) {
        (false, _) => Layout::Unlabelled,
        (true, true) => Layout::Environments,
        (true, false) => Layout::Any,
    };
    let paths = labelled_images(root, layout)?;
    let arranged = if matches!(layout, Layout::Any) || args.choice.may_use_labels() {
        Domains::arrange_any(root, &paths)
    } else {
        Domains::arrange(root, &paths)
    };
    match arranged {
        Ok(domains) => {
            if by_environment {
                domains
                    .missing
                    .iter()
                    .for_each(|missing| log::warn!("{missing}"));
            }
            Ok(InputImages {
                paths: domains.items.iter().map(|item| item.path.clone()).collect(),
                domains: Some(domains),
            })
        }
        Err(error @ FoldersError::NoImages { .. }) => Err(error.into()),
        Err(error) if args.needs_labels() => Err(error.into()),
        Err(_) => Ok(InputImages {
            paths,
            domains: None,
        }),
    }
}
