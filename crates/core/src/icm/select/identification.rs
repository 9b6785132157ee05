//! Without labels: is an image under an intervention still the nearest to its own original?

use super::halves::{MIN_HALF, enough, folds, splits, under};
use super::scores::{Board, Scores};
use super::{Criterion, Grid, Question, SelectError, Selection};
use crate::icm::fit::Fitter;
use crate::icm::moments::Moments;
use crate::icm::sources::{Family, Interventions, SAME_ENCODER};
use crate::numeric::Rng;
use nalgebra::DMatrix;

/// Images that are looked at unless told: similarities grow with their square.
const MOST_IMAGES: usize = 2_000;

/// How images are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identification {
    pub seed: u64,
    /// Of more images, as many are drawn.
    pub most_images: usize,
}

impl Identification {
    /// Up to 2,000 images, split by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            most_images: MOST_IMAGES,
        }
    }
}

/// Chooses by identification under left-out interventions: of two halves of the images, one is fitted to without some
/// of the families (a fifth of them, or one), and images of the other half under those look for their original among
/// all originals of their half. Halves take turns, and every family counts alike. Fewer than 200 images are split anew,
/// up to five times; then each half is judged under every family, and each image's scores are averaged.
pub fn by_identification(
    images: &Interventions,
    grid: &Grid,
    how: &Identification,
) -> Result<Selection, SelectError> {
    let families: Vec<&str> = images.families().iter().map(|f| f.name.as_str()).collect();
    let question = Question {
        families: &families,
        grid,
    };
    identify(images, &[question], how)?
        .pop()
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// The same for several questions, which share splits and moments.
pub(in crate::icm) fn identify(
    images: &Interventions,
    questions: &[Question<'_>],
    how: &Identification,
) -> Result<Vec<Scores>, SelectError> {
    let mut rng = Rng::new(how.seed);
    let mut order = rng.order(images.originals().len());
    order.truncate(how.most_images);
    let chosen = images.pick(&order);
    let count = chosen.originals().len();
    enough(questions, count)?;
    let width = chosen.originals().width();
    let chosen = chosen.compact().unwrap_or(chosen);
    let splits = splits(count);
    let groups = if splits == 1 {
        vec![vec![0.0; count / 2], vec![0.0; count - count / 2]]
    } else {
        vec![vec![0.0; count]]
    };
    let mut boards: Vec<Board<'_>> = questions
        .iter()
        .map(|q| Board::new(q.grid, 1, groups.clone()))
        .collect();
    for _ in 0..splits {
        let order = rng.order(count);
        let (first, second) = order.split_at(count / 2);
        for (turn, (fitted, judged)) in [(second, first), (first, second)].into_iter().enumerate() {
            let round = Round::new(
                &chosen,
                fitted,
                judged,
                width,
                (splits == 1).then_some(turn),
                splits,
            )?;
            for (question, board) in questions.iter().zip(&mut boards) {
                round.judge(question, board)?;
            }
        }
    }
    Ok(boards
        .into_iter()
        .flat_map(|board| board.finish(Criterion::Identification))
        .collect())
}

/// One half that is fitted to, and the other, which is judged.
struct Round<'a> {
    fitted: Moments,
    half: Interventions,
    gallery: DMatrix<f32>,
    /// The images of `half`, by their index among all.
    judged: &'a [usize],
    /// How many those are.
    images: usize,
    /// How many images of all each family changes.
    pairs: Vec<usize>,
    /// Width of the encoder's embeddings.
    width: usize,
    /// Whether each part of the families is judged by one half alone, and which this is.
    turn: Option<usize>,
    splits: usize,
}

impl<'a> Round<'a> {
    fn new(
        images: &Interventions,
        fitted: &[usize],
        judged: &'a [usize],
        width: usize,
        turn: Option<usize>,
        splits: usize,
    ) -> Result<Self, SelectError> {
        let half = images.pick(judged);
        let pairs: Vec<usize> = images.families().iter().map(|f| f.of.len()).collect();
        for (family, whole) in half.families().iter().zip(&pairs) {
            let found = family.of.len().min(whole - family.of.len());
            if found < MIN_HALF {
                return Err(SelectError::FamilyImages {
                    family: family.name.clone(),
                    found,
                });
            }
        }
        let fitted = images.pick(fitted).moments(SAME_ENCODER);
        let gallery = half.originals().rough();
        Ok(Self {
            fitted,
            half,
            gallery,
            judged,
            images: images.originals().len(),
            pairs,
            width,
            turn,
            splits,
        })
    }

    fn judge(&self, question: &Question<'_>, board: &mut Board<'_>) -> Result<(), SelectError> {
        let families = question.interventions();
        let folds = folds(&families).into_iter().enumerate();
        for (_, left_out) in folds.filter(|(fold, _)| self.turn.is_none_or(|turn| fold % 2 == turn))
        {
            let known = |name: &str| question.knows(&self.half, name) && !left_out.contains(&name);
            let fitter = Fitter::over(&self.fitted, known)?.of_width(self.width);
            let (queries, of, weights) = under(&self.half, &left_out, |i, family| {
                self.weight(family, self.pairs[i], families.len())
            });
            for maps in board.fit(&fitter)? {
                maps.identify(&self.gallery, &queries, &of, |candidate, query| {
                    let (group, image) = match self.turn {
                        Some(turn) => (turn, of[query]),
                        None => (0, self.judged[of[query]]),
                    };
                    board.groups[0][candidate][group][image] += weights[query];
                });
            }
        }
        Ok(())
    }

    /// What an image of a family counts, where `all` families are judged: every family has the same say, however many
    /// images it changes, and the mean of scores is that of recalls.
    fn weight(&self, family: &Family, pairs: usize, all: usize) -> f64 {
        let judged = match self.turn {
            Some(_) => 2.0 * self.judged.len() as f64 / family.of.len() as f64,
            None => self.images as f64 / (pairs * self.splits) as f64,
        };
        judged / all as f64
    }
}
