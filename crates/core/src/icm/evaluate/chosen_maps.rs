//! The maps to compare on one target: each fitted once, and what every head answers under it.

use super::evidence::{Evidence, held_out_answers};
use super::ranker::Ranker;
use super::reference::{Nearness, Reference};
use super::temperature::temperature;
use crate::icm::fit::Fitter;
use crate::icm::head::{Examples, FittedHead, Method, rows_of};
use crate::icm::held_out::{HeldOut, hits};
use crate::icm::labelled::Labelled;
use crate::icm::map_set::{DirectionWeights, MapSet};
use crate::icm::select::SelectError;
use crate::icm::spec::MapSpec;
use nalgebra::DMatrix;
use std::borrow::Cow;

/// What the images of a target were answered.
#[derive(Debug, Clone)]
pub struct Answers {
    /// For each image, 1 if it was classified correctly, and 0 if not.
    pub hits: Vec<f64>,
    /// `[ranker][image]`, in the order of [`Ranker::ALL`].
    pub scores: Vec<Vec<f64>>,
    /// The same by a head that knows only the classes that fit and choice knew; empty where these
    /// are all.
    pub open: Vec<Vec<f64>>,
}

/// Sources to learn from and a target to judge by.
#[derive(Clone, Copy)]
pub(super) struct Judging<'a> {
    pub sources: &'a Labelled,
    pub target: &'a HeldOut,
    pub methods: &'a [Method],
    pub logit_scale: f64,
    /// The number of classes that fit and choice knew, if not all.
    pub known_classes: Option<usize>,
}

/// Maps, each once, the identity first.
pub(super) struct ChosenMaps {
    fitted: Vec<MapSet>,
    specs: Vec<MapSpec>,
}

impl ChosenMaps {
    /// Fits the identity and `maps`.
    pub(super) fn fit(
        fitter: &Fitter,
        maps: impl IntoIterator<Item = MapSpec>,
    ) -> Result<Self, SelectError> {
        let mut specs = vec![MapSpec::IDENTITY];
        for spec in maps {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        let candidates: Vec<(usize, MapSpec)> = specs.iter().copied().enumerate().collect();
        let mut failed = None;
        let fitted = MapSet::fit(fitter, &candidates, |_, error| failed = Some(error))?;
        failed.map_or(Ok(Self { fitted, specs }), |error| Err(error.into()))
    }

    /// The eigenvalues of Δ̃, largest first. The identity comes first, and its objective is −Δ / tr
    /// Δ.
    pub(super) fn spectrum(&self) -> Vec<f64> {
        let Some(set) = self.fitted.first() else {
            return Vec::new();
        };
        let width = set.eigenvalues().len() as f64;
        set.eigenvalues()
            .iter()
            .rev()
            .map(|&value| (-f64::from(value) * width).max(0.0))
            .collect()
    }

    /// Index of a map in [`Self::answers`].
    pub(super) fn index(&self, map: &MapSpec) -> Option<usize> {
        self.specs.iter().position(|spec| spec == map)
    }

    /// The answers `[map][method]`; those under the identity only if wanted.
    pub(super) fn answers(
        &self,
        judging: &Judging<'_>,
        identity: bool,
    ) -> Result<Vec<Vec<Answers>>, SelectError> {
        let mut answers: Vec<Vec<Answers>> = vec![Vec::new(); self.specs.len()];
        for set in &self.fitted {
            let columns = judging.sources.images().originals().columns_f32();
            let mut under = UnderMaps::new(set, judging, &columns);
            for (index, weights) in set.maps.iter().filter(|(index, _)| *index > 0 || identity) {
                answers[*index] = under.answers(weights)?;
            }
        }
        Ok(answers)
    }
}

/// Learning and judging under the maps of one set.
struct UnderMaps<'a> {
    judging: &'a Judging<'a>,
    /// Learns from all classes.
    all: Learner<'a>,
    /// Learns from the classes that fit and choice knew, if not all.
    known: Option<Learner<'a>>,
    /// Coordinates of the target, `[D, n]`.
    target: DMatrix<f32>,
}

/// Source images to learn from, and the head that was learnt last by each method.
struct Learner<'a> {
    set: &'a MapSet,
    /// `[D, n]`.
    columns: Cow<'a, DMatrix<f32>>,
    examples: Examples<'a>,
    methods: Cow<'a, [Method]>,
    /// Searches for a probe begin here.
    last: Vec<Option<FittedHead<f32>>>,
}

impl<'a> UnderMaps<'a> {
    fn new(set: &'a MapSet, judging: &'a Judging<'a>, columns: &'a DMatrix<f32>) -> Self {
        let examples = Examples::new(set, columns, judging.sources.classes());
        let known = judging.known_classes.map(|known| {
            let indices: Vec<usize> = (0..examples.labels().len())
                .filter(|&i| examples.labels()[i] < known)
                .collect();
            Learner {
                set,
                columns: Cow::Owned(columns.select_columns(&indices)),
                examples: examples.pick(set, columns, &indices),
                methods: judging.methods.iter().map(|m| of_known(m, known)).collect(),
                last: vec![None; judging.methods.len()],
            }
        });
        Self {
            judging,
            known,
            all: Learner {
                set,
                columns: Cow::Borrowed(columns),
                examples,
                methods: Cow::Borrowed(judging.methods),
                last: vec![None; judging.methods.len()],
            },
            target: set.coordinates(&judging.target.embeddings().columns_f32()),
        }
    }

    /// The answers of each method under one map.
    fn answers(&mut self, weights: &DirectionWeights) -> Result<Vec<Answers>, SelectError> {
        let mapped = weights.apply(&self.target);
        let scale = self.judging.logit_scale;
        let mut answers = Vec::new();
        for (named, scores) in self.all.answers(weights, &mapped, scale)? {
            answers.push(Answers {
                hits: hits(&named, self.judging.target.classes()),
                scores,
                open: Vec::new(),
            });
        }
        if let Some(known) = &mut self.known {
            let of_known = known.answers(weights, &mapped, scale)?;
            for (answers, (_, scores)) in answers.iter_mut().zip(of_known) {
                answers.open = scores;
            }
        }
        Ok(answers)
    }
}

/// The method with only the first classes.
fn of_known(method: &Method, known: usize) -> Method {
    match method {
        Method::ZeroShot(text) => {
            let classes: Vec<usize> = (0..known.min(text.len())).collect();
            Method::ZeroShot(text.pick(&classes))
        }
        other => other.clone(),
    }
}

/// The class of each image, and its number by each ranker.
type Ranked = (Vec<usize>, Vec<Vec<f64>>);

impl Learner<'_> {
    /// What each method answers for invariant embeddings `[D, n]`.
    fn answers(
        &mut self,
        weights: &DirectionWeights,
        mapped: &DMatrix<f32>,
        logit_scale: f64,
    ) -> Result<Vec<Ranked>, SelectError> {
        let (classes, rows) = rows_of(self.examples.labels());
        let reference = Reference::new(self.examples.mapped(weights), &rows, classes.len());
        let nearness = reference.ok_or(SelectError::NoScores)?.nearness(mapped);
        let methods = self.methods.iter().enumerate();
        let mut answers = Vec::new();
        for (i, method) in methods {
            let previous = self.last[i].as_ref();
            let head = self.examples.fit(self.set, weights, method, previous)?;
            let scores = self.scores(&head, method, (weights, mapped), &nearness, logit_scale);
            answers.push((head.predict(mapped), scores));
            self.last[i] = Some(head);
        }
        Ok(answers)
    }

    fn scores(
        &self,
        head: &FittedHead<f32>,
        method: &Method,
        (weights, mapped): (&DirectionWeights, &DMatrix<f32>),
        nearness: &Nearness,
        logit_scale: f64,
    ) -> Vec<Vec<f64>> {
        let known = held_out_answers(
            (self.set, weights),
            &self.examples,
            &self.columns,
            method,
            logit_scale,
        );
        let temperature = temperature(&known);
        let evidence = Evidence::new(head, mapped, nearness, logit_scale, temperature);
        Ranker::ALL.map(|ranker| ranker.scores(&evidence)).into()
    }
}
