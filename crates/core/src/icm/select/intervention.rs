//! With labels, of one environment or of many: are images named right under interventions that the fit has not seen?
//!
//! Identification asks which image it is, this which class: where an encoder has learnt its classes and little else, as
//! a small one has that was trained on few things, the two want different maps.

use super::halves::{enough, folds, splits, under};
use super::identification::Identification;
use super::scores::{Board, Scores};
use super::{Criterion, Grid, Question, SelectError, SelectWarning, Selection};
use crate::icm::fit::Fitter;
use crate::icm::labelled::Labelled;
use crate::icm::map_set::Examples;
use crate::icm::moments::Moments;
use crate::icm::predict::Method;
use crate::icm::sources::SAME_ENCODER;
use crate::numeric::Rng;
use nalgebra::DMatrix;

/// The accuracy on images as they are that a map may cost, whatever it gains under interventions.
pub const HARM: f64 = 0.01;

/// Chooses by accuracy under left-out interventions, in the mean of `methods`: of two halves of the images, classes and
/// map are learnt from one, the map without some of the families (a fifth of them, or one), and images of the other half
/// under those are named. Halves and families take turns, and every family counts alike. A map that costs more than
/// [`HARM`] on the other half as it is, is not considered.
pub fn by_intervention(
    sources: &Labelled,
    grid: &Grid,
    methods: &[Method],
    how: &Identification,
) -> Result<Selection, SelectError> {
    let families = sources.families();
    let scores = by_interventions(
        sources,
        &[Question {
            families: &families,
            grid,
        }],
        methods,
        how,
    )?
    .pop();
    scores
        .and_then(Scores::pooled)
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// What each of several questions' candidates score with each method, `[question][method]`; they share halves and
/// moments. Candidates that cost too much are out.
pub(in crate::icm) fn by_interventions(
    sources: &Labelled,
    questions: &[Question<'_>],
    methods: &[Method],
    how: &Identification,
) -> Result<Vec<Vec<Scores>>, SelectError> {
    let count = sources.classes().len();
    enough(questions, count)?;
    let width = sources.images().originals().width();
    // Class names would have to be written in the same coordinates.
    let named = methods
        .iter()
        .any(|method| matches!(method, Method::ZeroShot(_)));
    let compact = if named { None } else { sources.compact() };
    let sources = compact.as_ref().unwrap_or(sources);
    let mut rng = Rng::new(how.seed);
    let splits = splits(count);
    // Each method twice: under interventions, and as images are.
    let groups = vec![vec![0.0; count]];
    let board = |q| Board::new(q, 2 * methods.len(), groups.clone());
    let mut boards: Vec<Board<'_>> = questions.iter().map(|q| board(q.grid)).collect();
    for _ in 0..splits {
        let (first, second) = halves(sources.classes(), &mut rng);
        for (learnt, judged) in [(&first, &second), (&second, &first)] {
            let round = Round::new(sources, (learnt, judged), width, splits);
            for (question, board) in questions.iter().zip(&mut boards) {
                round.judge(question, methods, board)?;
            }
        }
    }
    Ok(boards
        .into_iter()
        .map(|board| harmless(board, methods.len()))
        .collect())
}

/// Two halves that have the same share of every class.
fn halves(classes: &[usize], rng: &mut Rng) -> (Vec<usize>, Vec<usize>) {
    let mut order = rng.order(classes.len());
    order.sort_by_key(|&image| classes[image]);
    let every_other = |from: usize| order.iter().skip(from).step_by(2).copied().collect();
    (every_other(0), every_other(1))
}

/// The scores under interventions, without the candidates that cost too much on images as they are.
fn harmless(board: Board<'_>, methods: usize) -> Vec<Scores> {
    let mut under = board.finish(Criterion::LeftOutIntervention);
    let as_they_are = under.split_off(methods);
    let costs = Scores::pooled(as_they_are)
        .map(|scores| scores.costs())
        .unwrap_or_default();
    let costly: Vec<_> = costs
        .into_iter()
        .filter(|(_, cost)| *cost > HARM)
        .map(|(map, _)| map)
        .collect();
    if !costly.is_empty() {
        let warning = SelectWarning::Costly { maps: costly.len() };
        for scores in &mut under {
            scores.leave_out(&costly, &warning);
        }
    }
    under
}

/// A half that is learnt from, and the other, which is judged.
struct Round<'a> {
    sources: &'a Labelled,
    learnt: Labelled,
    moments: Moments,
    /// `[D, n]`, of `learnt`.
    examples: DMatrix<f32>,
    half: Labelled,
    /// `[D, m]`, of `half`.
    untouched: DMatrix<f32>,
    /// The images of `half`, by their index among all.
    judged: &'a [usize],
    /// Width of the encoder's embeddings.
    width: usize,
    splits: usize,
}

impl<'a> Round<'a> {
    fn new(
        sources: &'a Labelled,
        (learnt, judged): (&[usize], &'a [usize]),
        width: usize,
        splits: usize,
    ) -> Self {
        let (learnt, half) = (sources.pick(learnt), sources.pick(judged));
        let moments = learnt.moments(SAME_ENCODER);
        let (examples, untouched) = (
            learnt.images().originals().rough(),
            half.images().originals().rough(),
        );
        Self {
            sources,
            learnt,
            moments,
            examples,
            half,
            untouched,
            judged,
            width,
            splits,
        }
    }

    fn judge(
        &self,
        question: &Question<'_>,
        methods: &[Method],
        board: &mut Board<'_>,
    ) -> Result<(), SelectError> {
        let families = question.interventions();
        let folds = folds(&families);
        for left_out in &folds {
            let known = |name: &str| {
                question.knows(self.sources.images(), name) && !left_out.contains(&name)
            };
            let fitter = Fitter::over(&self.moments, known)?.of_width(self.width);
            let (changed, of, weights) = under(self.half.images(), left_out, |i, _| {
                self.weight(i, families.len())
            });
            for maps in board.fit(&fitter)? {
                let examples = Examples::new(&maps, &self.examples, self.learnt.classes());
                let (changed, untouched) = (
                    maps.coordinates(&changed),
                    maps.coordinates(&self.untouched),
                );
                for (number, method) in methods.iter().enumerate() {
                    let mut before = None;
                    for (index, lens) in &maps.lenses {
                        let learnt = examples.learn(&maps, lens, method, before.as_ref())?;
                        let named = learnt.predict(&lens.look(&changed));
                        let under = &mut board.groups[number][*index][0];
                        for ((named, &image), weight) in named.iter().zip(&of).zip(&weights) {
                            under[self.judged[image]] += if *named == self.half.classes()[image] {
                                *weight
                            } else {
                                0.0
                            };
                        }
                        let named = learnt.predict(&lens.look(&untouched));
                        let as_they_are = &mut board.groups[methods.len() + number][*index][0];
                        for (image, named) in named.iter().enumerate() {
                            let hit = if *named == self.half.classes()[image] {
                                1.0
                            } else {
                                0.0
                            };
                            as_they_are[self.judged[image]] +=
                                hit / (folds.len() * self.splits) as f64;
                        }
                        before = Some(learnt);
                    }
                }
            }
        }
        Ok(())
    }

    /// What an image of the `family`th counts, where `all` families are judged: every family has the same say, however
    /// many images it changes.
    fn weight(&self, family: usize, all: usize) -> f64 {
        let pairs = self.sources.images().families()[family].of.len();
        self.sources.classes().len() as f64 / (pairs * self.splits * all) as f64
    }
}
