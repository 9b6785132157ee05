//! Which map is fitted: the one that was asked for, or the one that the images choose.

use super::super::CliError;
use super::super::image_embeddings::{Crowd, Select};
use super::captions::CaptionArgs;
use crate::embedding_cache::EmbedError;
use clap::{Args, ValueEnum};
use constancy_core::icm::{
    DEFAULT_C, Domains, Grid, Identification, Interventions, Labelled, MapSpec, Method, Moments,
    Selection, by_environment, by_identification, by_intervention,
};

/// Strengths of soft maps that are tried as well where interventions choose: where classes are a matter of few
/// directions, little can be taken.
const GENTLE: [f64; 3] = [0.03, 0.1, 0.3];

#[derive(Debug, Args)]
pub(super) struct ChoiceArgs {
    /// What chooses the map
    #[arg(long, value_enum, default_value_t = Select::Identification, conflicts_with = "map")]
    select: Select,
    /// How classes are told apart where environments or interventions choose
    #[arg(long, value_enum, default_value_t = Predictor::Means, conflicts_with = "map")]
    predictor: Predictor,
    /// Fit this map, and choose nothing: remove:20 (directions), soft:1 (strength), lambda:10,remove:50, or identity
    #[arg(long, value_name = "MAP")]
    map: Option<MapSpec>,
    /// With --map: take off the images' mean first. Otherwise: also try maps that do
    #[arg(long)]
    centre: bool,
}

/// What `--predictor` offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Predictor {
    /// The nearest mean of a class's images
    Means,
    /// Logistic regression
    Probe,
    /// The nearest prompt of the text tower, for the folders' names
    ZeroShot,
}

/// What a choice is made from.
pub(super) enum Evidence<'a> {
    Unlabelled(Interventions),
    /// Folders say environments and classes.
    Labelled(Labelled, &'a Domains),
}

impl<'a> Evidence<'a> {
    /// `images` are those of `domains` that could be read, `kept`; their labels are looked at where `domains` is given.
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
    /// The map that was asked for.
    pub(super) fn fixed(&self) -> Option<MapSpec> {
        self.map.map(|map| map.centred(self.centre))
    }

    /// What is to choose, if anything is.
    pub(super) fn select(&self) -> Option<Select> {
        self.map.is_none().then_some(self.select)
    }

    /// The map to fit, and how it was chosen.
    pub(super) fn choose(
        &self,
        evidence: &Evidence<'_>,
        seed: u64,
        crowd: &Crowd,
        captions: &CaptionArgs,
    ) -> Result<(MapSpec, Option<Selection>), CliError> {
        if let Some(map) = self.fixed() {
            return Ok((map, None));
        }
        let (grid, how) = (self.grid(evidence.images()), Identification::new(seed));
        let method = |domains| self.method(crowd, captions, domains);
        let selection = match (self.select, evidence) {
            (Select::Environments, Evidence::Labelled(images, domains)) => {
                by_environment(images, &grid, &[method(domains)?])?
            }
            (Select::Interventions, Evidence::Labelled(images, domains)) => {
                by_intervention(images, &grid, &[method(domains)?], &how)?
            }
            _ => by_identification(evidence.images(), &grid, &how)?,
        };
        Ok((selection.chosen.map, Some(selection)))
    }

    /// The maps that are tried.
    fn grid(&self, images: &Interventions) -> Grid {
        let mut maps = Grid::suited(images.originals().width(), images.pairs())
            .candidates()
            .to_vec();
        if self.select == Select::Interventions {
            maps.extend(GENTLE.map(MapSpec::soft));
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
        crowd: &Crowd,
        captions: &CaptionArgs,
        domains: &Domains,
    ) -> Result<Method, CliError> {
        Ok(match self.predictor {
            Predictor::Means => Method::ClassMeans,
            Predictor::Probe => Method::Probe { c: DEFAULT_C },
            Predictor::ZeroShot => Method::ZeroShot(captions.zero_shot(crowd, domains)?),
        })
    }
}
