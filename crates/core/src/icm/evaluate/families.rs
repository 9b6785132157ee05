//! Leave one family out: learn from a few images, and judge by the others under a family of
//! interventions that neither fit nor choice used.

use super::figures::{Group, Scoreboard};
use super::judge::{Verdict, judge};
use super::plan::{FamilySet, Plan};
use super::protocol::{
    ProtocolError, Section, Summary, add_warnings, map_names, mean_spectra, scoreboard,
    target_choices,
};
use super::sample::draw;
use super::trust::Batch;
use crate::icm::labelled::Labelled;
use crate::icm::logistic::DEFAULT_C;
use crate::icm::select::Criterion;
use crate::numeric::Rng;
use std::collections::BTreeMap;

/// How many images to learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FewShot {
    /// Images of each class.
    pub per_class: usize,
    /// How often they are drawn; figures are means over the draws.
    pub draws: usize,
}

/// Indices of the images to learn from, and of the others.
#[derive(Debug)]
struct Split {
    examples: Vec<usize>,
    others: Vec<usize>,
}

/// The protocol for one set of images. [`Self::judge`] is independent of the others for every task,
/// so a caller may spread them over threads.
#[derive(Debug)]
pub struct LeaveOneFamilyOut<'a> {
    labelled: &'a Labelled,
    plan: Plan,
    splits: Vec<Split>,
    /// The families; `None`, the last, stands for the images as they are.
    targets: Vec<Option<&'a str>>,
}

impl<'a> LeaveOneFamilyOut<'a> {
    /// Draws the images to learn from, by [`Plan::seed`]. An empty [`Plan::criteria`] means
    /// identification and whitening, and [`Plan::c`] defaults to [`DEFAULT_C`]. Refuses a class without an image
    /// left to judge by, and a choice by environments.
    pub fn new(
        labelled: &'a Labelled,
        mut plan: Plan,
        few_shot: FewShot,
    ) -> Result<Self, ProtocolError> {
        let splits = splits(labelled, few_shot, plan.seed)?;
        if plan.criteria.contains(&Criterion::LeftOutEnvironment) {
            return Err(ProtocolError::NoSourceEnvironments);
        }
        if plan.criteria.is_empty() {
            plan.criteria.push(Criterion::Identification);
            plan.add_whitening();
        }
        plan.c = plan.c.or(Some(DEFAULT_C));
        let families = labelled.images().families().iter();
        let names = families.map(|family| Some(family.name.as_str()));
        Ok(Self {
            labelled,
            plan,
            splits,
            targets: names.chain([None]).collect(),
        })
    }

    /// How many verdicts there are: one for each target in each draw, draw by draw.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.targets.len() * self.splits.len()
    }

    /// Judges task `index`, one of [`Self::tasks`].
    pub fn judge(&self, index: usize) -> Result<Verdict, ProtocolError> {
        let split = &self.splits[index / self.targets.len()];
        let family = self.targets[index % self.targets.len()];
        let (sources, target) =
            self.labelled
                .leave_out_family(&split.examples, &split.others, family)?;
        let without = |set: &FamilySet| {
            let names = set.families.iter();
            FamilySet {
                name: set.name.clone(),
                families: names
                    .filter(|name| Some(name.as_str()) != family)
                    .cloned()
                    .collect(),
            }
        };
        let plan = Plan {
            sets: self.plan.sets.iter().map(without).collect(),
            ..self.plan.clone()
        };
        let moments = sources.moments_by_environment();
        Ok(judge(&sources, &target, &plan, &moments)?)
    }

    /// Sums up the verdicts on all tasks, in their order; the choices are those of the first draw.
    #[must_use]
    pub fn summary(&self, verdicts: &[Verdict]) -> Summary {
        let mut warnings = Vec::new();
        add_warnings(&mut warnings, verdicts);
        let first_draw = self.targets.iter().zip(verdicts);
        let section = |title, board| Section { title, board };
        Summary {
            sections: vec![
                section(
                    "interventions that the fit did not see",
                    self.board(verdicts, |family| family.is_some()),
                ),
                section(
                    "images as they are",
                    self.board(verdicts, |family| family.is_none()),
                ),
            ],
            choices: first_draw
                .flat_map(|(target, verdict)| target_choices(target.unwrap_or("none"), verdict))
                .collect(),
            penalties: BTreeMap::new(),
            spectra: mean_spectra(verdicts),
            warnings,
        }
    }

    /// One group for each target that is wanted.
    fn board(&self, verdicts: &[Verdict], wanted: impl Fn(Option<&str>) -> bool) -> Scoreboard {
        scoreboard(verdicts, true, |row| {
            (0..self.targets.len())
                .filter(|&target| wanted(self.targets[target]))
                .map(|target| self.group(verdicts, row, target))
                .collect()
        })
    }

    /// For every image, the mean over the draws in which it was judged; one batch for each draw.
    fn group(&self, verdicts: &[Verdict], row: usize, target: usize) -> Group {
        let of_draw = |draw: usize| &verdicts[draw * self.targets.len() + target].outcomes[row];
        let mut images: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (draw, split) in self.splits.iter().enumerate() {
            for (image, hit) in split.others.iter().zip(&of_draw(draw).answers.hits) {
                let (hits, times) = images.entry(*image).or_default();
                *hits += hit;
                *times += 1.0;
            }
        }
        let place: BTreeMap<usize, usize> = images.keys().copied().zip(0..).collect();
        let batch = |(draw, split): (usize, &Split)| {
            let answers = &of_draw(draw).answers;
            Batch {
                images: split.others.iter().map(|image| place[image]).collect(),
                right: answers.hits.iter().map(|&hit| hit > 0.5).collect(),
                scores: answers.scores.clone(),
            }
        };
        Group {
            name: self.targets[target].unwrap_or("as they are").into(),
            maps: map_names((0..self.splits.len()).map(of_draw)),
            batches: self.splits.iter().enumerate().map(batch).collect(),
            hits: images
                .into_values()
                .map(|(hits, times)| hits / times)
                .collect(),
            open: None,
        }
    }
}

/// Draws as many images of every class as are wanted, once for each draw.
fn splits(labelled: &Labelled, few_shot: FewShot, seed: u64) -> Result<Vec<Split>, ProtocolError> {
    let mut rng = Rng::new(seed);
    (0..few_shot.draws)
        .map(|_| split(labelled, few_shot.per_class, &mut rng))
        .collect()
}

fn split(labelled: &Labelled, per_class: usize, rng: &mut Rng) -> Result<Split, ProtocolError> {
    let (mut examples, mut others) = (Vec::new(), Vec::new());
    for (class, name) in labelled.class_names().iter().enumerate() {
        let images: Vec<usize> = (0..labelled.classes().len())
            .filter(|&i| labelled.classes()[i] == class)
            .collect();
        if images.len() <= per_class {
            return Err(ProtocolError::FewImages {
                class: name.clone(),
                images: images.len(),
                per_class,
            });
        }
        let (drawn, rest) = draw(images.len(), per_class, rng);
        examples.extend(drawn.into_iter().map(|i| images[i]));
        others.extend(rest.into_iter().map(|i| images[i]));
    }
    Ok(Split { examples, others })
}
