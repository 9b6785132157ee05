//! Leave one environment out: each environment in turn is the target, the others are the sources.

use super::figures::{Group, Scoreboard};
use super::judge::{Verdict, judge};
use super::plan::Plan;
use super::protocol::{
    ProtocolError, Section, Summary, add_warnings, map_names, mean_spectra, scoreboard,
    target_choices,
};
use super::trust::{Batch, OpenScores};
use crate::icm::interventions::SourceError;
use crate::icm::labelled::{EnvironmentMoments, Labelled};
use crate::icm::select::{Criterion, SelectError};
use std::borrow::Cow;

/// The protocol for one set of images. [`Self::moments`] and then [`Self::judge`] are independent
/// of each other for every target, so a caller may spread them over threads.
#[derive(Debug)]
pub struct LeaveOneEnvironmentOut<'a> {
    labelled: &'a Labelled,
    /// The images that fit and choice may use.
    known: Cow<'a, Labelled>,
    plan: Plan,
    /// The environments that are targets.
    environments: Vec<usize>,
    /// The only environment to learn from; `None` for all but the target.
    source: Option<usize>,
    warnings: Vec<String>,
}

impl<'a> LeaveOneEnvironmentOut<'a> {
    /// Prepares the protocol. An empty [`Plan::criteria`] means identification, with three
    /// environments or more also environments, and whitening. With `open_classes`, fit and choice use the first half
    /// of the classes only. Refuses a single environment, and open classes where half of them are
    /// fewer than two.
    pub fn new(
        labelled: &'a Labelled,
        mut plan: Plan,
        open_classes: bool,
    ) -> Result<Self, ProtocolError> {
        let environments = labelled.used_environments();
        if let [only] = environments[..] {
            let environment = labelled.environment_names()[only].clone();
            return Err(SelectError::OneEnvironment { environment }.into());
        }
        if open_classes {
            plan.known_classes = Some(half_of_classes(labelled)?);
        }
        let mut warnings = Vec::new();
        if plan.criteria.is_empty() && plan.maps.is_empty() {
            plan.criteria.push(Criterion::Identification);
            if environments.len() < 3 {
                warnings.push(
                    "with two environments the sources are one: maps are chosen by identification alone"
                        .to_owned(),
                );
            } else {
                plan.criteria.push(Criterion::LeftOutEnvironment);
            }
            plan.add_whitening();
        }
        Ok(Self {
            labelled,
            known: plan.seen(labelled),
            plan,
            environments,
            source: None,
            warnings,
        })
    }

    /// Learns from the environment of this name alone; every other is a target.
    pub fn from_source(mut self, name: &str) -> Result<Self, ProtocolError> {
        let names = self.labelled.environment_names();
        let source = self.environments.iter().position(|&e| names[e] == name);
        let source = source.ok_or_else(|| SourceError::NoEnvironment(name.into()))?;
        self.source = Some(self.environments.remove(source));
        let by_environments = Criterion::LeftOutEnvironment;
        if self.plan.criteria.len() > 1 {
            self.plan.criteria.retain(|&c| c != by_environments);
        }
        Ok(self)
    }

    /// The number of parts that [`Self::moments`] gives.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.source.map_or(self.environments.len(), |_| 1)
    }

    /// The environments that are left out, in order.
    #[must_use]
    pub fn targets(&self) -> Vec<&str> {
        let names = self.labelled.environment_names();
        self.environments
            .iter()
            .map(|&e| names[e].as_str())
            .collect()
    }

    /// The moments of part `index` of what is learnt from, as far as fit and choice may use it.
    #[must_use]
    pub fn moments(&self, index: usize) -> EnvironmentMoments {
        let environment = self.source.unwrap_or_else(|| self.environments[index]);
        self.known.moments_of_environment(environment)
    }

    /// Judges by target `index`; `moments` are those of all parts.
    pub fn judge(
        &self,
        index: usize,
        moments: &[EnvironmentMoments],
    ) -> Result<Verdict, ProtocolError> {
        let name = &self.labelled.environment_names()[self.environments[index]];
        let (sources, target) = self.labelled.leave_out(name)?;
        let sources = self
            .source
            .map_or(sources.clone(), |only| sources.of_environment(only));
        Ok(judge(&sources, &target, &self.plan, moments)?)
    }

    /// Sums up the verdicts on all targets, in their order.
    #[must_use]
    pub fn summary(&self, verdicts: &[Verdict]) -> Summary {
        let targets = self.targets();
        let named = || targets.iter().zip(verdicts);
        let mut warnings = self.warnings.clone();
        add_warnings(&mut warnings, verdicts);
        Summary {
            sections: self.sections(verdicts),
            choices: named()
                .flat_map(|(target, verdict)| target_choices(target, verdict))
                .collect(),
            penalties: named()
                .filter_map(|(target, verdict)| Some(((*target).to_owned(), verdict.c?)))
                .collect(),
            spectra: mean_spectra(verdicts),
            warnings,
        }
    }

    fn sections(&self, verdicts: &[Verdict]) -> Vec<Section> {
        let section = |title, board| Section { title, board };
        let Some(known) = self.plan.known_classes else {
            let all = self.board(verdicts, |_| true);
            return vec![section("environments that nothing was learnt from", all)];
        };
        vec![
            section(
                "classes that fit and choice knew",
                self.board(verdicts, |class| class < known),
            ),
            section(
                "classes that they did not know",
                self.board(verdicts, |class| class >= known),
            ),
            section("all classes", self.board(verdicts, |_| true)),
        ]
    }

    /// One group for each target, of the images whose class is wanted.
    fn board(&self, verdicts: &[Verdict], wanted: impl Fn(usize) -> bool) -> Scoreboard {
        let group = |row: usize, name: &str, verdict: &Verdict| {
            let outcome = &verdict.outcomes[row];
            let kept: Vec<usize> = (0..verdict.classes.len())
                .filter(|&i| wanted(verdict.classes[i]))
                .collect();
            let hits: Vec<f64> = kept.iter().map(|&i| outcome.answers.hits[i]).collect();
            Group {
                name: name.to_owned(),
                maps: map_names([outcome]),
                batches: vec![Batch {
                    images: (0..kept.len()).collect(),
                    right: hits.iter().map(|&hit| hit > 0.5).collect(),
                    scores: picked(&outcome.answers.scores, &kept),
                }],
                hits,
                open: self.open_scores(verdict, row, &wanted),
            }
        };
        let targets = self.targets();
        scoreboard(verdicts, false, |row| {
            let named = targets.iter().zip(verdicts);
            named
                .map(|(name, verdict)| group(row, name, verdict))
                .collect()
        })
    }

    /// How the known and the unknown classes rank, where only unknown ones are wanted.
    fn open_scores(
        &self,
        verdict: &Verdict,
        row: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<OpenScores> {
        let most = self.plan.known_classes.filter(|_| !wanted(0))?;
        let (known, unknown): (Vec<usize>, Vec<usize>) =
            (0..verdict.classes.len()).partition(|&i| verdict.classes[i] < most);
        let scores = &verdict.outcomes[row].answers.open;
        Some(OpenScores {
            known: picked(scores, &known),
            unknown: picked(scores, &unknown),
        })
    }
}

/// The columns at `kept` of `[ranker][image]`.
fn picked(scores: &[Vec<f64>], kept: &[usize]) -> Vec<Vec<f64>> {
    let row = |row: &Vec<f64>| kept.iter().map(|&i| row[i]).collect();
    scores.iter().map(row).collect()
}

/// How many of `classes`, the first ones, fit and choice may use where classes are open.
#[must_use]
pub fn known_classes(classes: usize) -> usize {
    classes.div_ceil(2)
}

fn half_of_classes(labelled: &Labelled) -> Result<usize, ProtocolError> {
    let classes = labelled.class_names().len();
    let half = known_classes(classes);
    if half < 2 {
        return Err(ProtocolError::FewClasses { classes });
    }
    Ok(half)
}
