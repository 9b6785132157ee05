//! Chooses the map to fit: the one that `--map` names, or the best by a criterion.

use super::captions::CaptionArgs;
use crate::cli::CliError;
use crate::cli::image_embeddings::{CriterionArg, LoadedEncoder};
use crate::embedding_cache::EmbedError;
use clap::{Args, ValueEnum};
use constancy_core::icm::{
    DEFAULT_C, Domains, Grid, Interventions, Labelled, MapSpec, Method, Moments, Sampling,
    Selection, by_environment, by_identification, by_intervention,
};

/// Further strengths of soft maps to try with `--select interventions`: where few directions separate the classes, only
/// weak maps leave these intact.
const WEAK_STRENGTHS: [f64; 3] = [0.03, 0.1, 0.3];

#[derive(Debug, Args)]
pub(super) struct ChoiceArgs {
    /// Criterion for choosing the map
    #[arg(long, value_enum, default_value_t = CriterionArg::Identification, conflicts_with = "map")]
    select: CriterionArg,
    /// Classifier that --select environments or interventions evaluates
    #[arg(long, value_enum, default_value_t = PredictorArg::Means, conflicts_with = "map")]
    predictor: PredictorArg,
    /// Fit this map instead of choosing one: remove:20 (directions), soft:1 (strength), lambda:10,remove:50, or identity
    #[arg(long, value_name = "MAP")]
    map: Option<MapSpec>,
    /// Subtract the images' mean before the map; without --map, try each candidate both ways
    #[arg(long)]
    centre: bool,
}

/// The values of `--predictor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PredictorArg {
    /// Nearest class mean
    Means,
    /// Logistic regression (linear probe)
    Probe,
    /// Nearest text prompt, for the names of the class folders
    ZeroShot,
}

/// The embeddings that a map is fitted to and chosen by.
pub(super) enum FitData<'a> {
    Unlabelled(Interventions),
    /// With the environments and classes that folders name.
    Labelled(Labelled, &'a Domains),
}

impl<'a> FitData<'a> {
    /// `images` are the readable images, `kept` their indices into `domains`; they are labelled if `domains` is given.
    pub(super) fn new(
        images: Interventions,
        domains: Option<&'a Domains>,
        kept: &[usize],
        same_class: bool,
    ) -> Result<Self, CliError> {
        let Some(domains) = domains else {
            return Ok(Self::Unlabelled(images));
        };
        let labelled = Labelled::of_items(images, domains, kept.iter().map(|&i| &domains.items[i]));
        Ok(Self::Labelled(
            labelled
                .map_err(EmbedError::Source)?
                .with_same_class(same_class),
            domains,
        ))
    }

    pub(super) fn moments(&self, encoder_sha256: &str) -> Moments {
        match self {
            Self::Unlabelled(images) => images.moments(encoder_sha256),
            Self::Labelled(images, _) => images.moments(encoder_sha256),
        }
    }

    fn images(&self) -> &Interventions {
        match self {
            Self::Unlabelled(images) => images,
            Self::Labelled(images, _) => images.images(),
        }
    }
}

impl ChoiceArgs {
    /// The map that `--map` names.
    pub(super) fn fixed(&self) -> Option<MapSpec> {
        self.map.map(|map| map.centred(self.centre))
    }

    /// The criterion; `None` if `--map` names the map.
    pub(super) fn criterion(&self) -> Option<CriterionArg> {
        self.map.is_none().then_some(self.select)
    }

    /// The map to fit, and how it was chosen.
    pub(super) fn choose(
        &self,
        data: &FitData<'_>,
        seed: u64,
        loaded: &LoadedEncoder,
        captions: &CaptionArgs,
    ) -> Result<(MapSpec, Option<Selection>), CliError> {
        if let Some(map) = self.fixed() {
            return Ok((map, None));
        }
        let (grid, how) = (self.grid(data.images()), Sampling::new(seed));
        let method = |domains| self.method(loaded, captions, domains);
        let selection = match (self.select, data) {
            (CriterionArg::Environments, FitData::Labelled(images, domains)) => {
                by_environment(images, &grid, &[method(domains)?])?
            }
            (CriterionArg::Interventions, FitData::Labelled(images, domains)) => {
                by_intervention(images, &grid, &[method(domains)?], &how)?
            }
            _ => by_identification(data.images(), &grid, &how)?,
        };
        Ok((selection.chosen.map, Some(selection)))
    }

    /// The candidate maps.
    fn grid(&self, images: &Interventions) -> Grid {
        let mut maps = Grid::suited(images.originals().width(), images.pairs())
            .candidates()
            .to_vec();
        if self.select == CriterionArg::Interventions {
            maps.extend(WEAK_STRENGTHS.map(MapSpec::soft));
        }
        let grid = Grid::new(maps);
        if self.centre {
            grid.both_centred()
        } else {
            grid
        }
    }

    fn method(
        &self,
        loaded: &LoadedEncoder,
        captions: &CaptionArgs,
        domains: &Domains,
    ) -> Result<Method, CliError> {
        Ok(match self.predictor {
            PredictorArg::Means => Method::ClassMeans,
            PredictorArg::Probe => Method::Probe { c: DEFAULT_C },
            PredictorArg::ZeroShot => Method::ZeroShot(captions.zero_shot(loaded, domains)?),
        })
    }
}
