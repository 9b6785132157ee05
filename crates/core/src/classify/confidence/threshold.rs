//! Thresholds on confidence from a target, by selective risk control.
//!
//! Thresholds are tested from the strictest down by Clopper and Pearson's bound, in an order that depends on confidences
//! alone and not on which answers were right. The error that a target allows is split over three of them; a test that
//! passes hands its part to the next, one that fails loses it (fallback procedure: Wiens 2003; for selective risk:
//! Angelopoulos et al. 2021, *Learn then Test*). So the least threshold that passes holds at the level for all tests
//! together. Answers of one image are counted as [`Share`] does. False accepts are those of classes that were left out, and
//! the bound is that of the mean over such classes, of images as they are or under interventions, whichever is worse.
//!
//! Thresholds per class each hold at the level by themselves, not all together.

use super::narrow;
use super::next_class::ClassRates;
use super::open_set::LeftOut;
use super::outcome::{Outcome, balanced_weights, share_by_image};
use super::share::{Share, upper_bound};

/// The probability with which a threshold keeps its target.
pub const DEFAULT_TARGET_LEVEL: f64 = 0.95;
/// No target lowers a bank's threshold below this: a class that the bank does not have would be accepted.
const FLOOR: f32 = 0.5;
/// How many thresholds are tested.
const STEPS: usize = 40;
/// The parts of the allowed error that tests begin with: the first, and those after a third and two thirds of the others.
const PARTS: [f64; 3] = [0.5, 0.25, 0.25];
/// The test begins where this many wrong answers could still pass, so that one or two do not end it at once.
const SLACK: f64 = 2.0;

/// What wrong and refused answers cost, for answers that name one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// The cost of a wrong answer that is called known, above 0.
    pub wrong: f64,
    /// The cost of an answer that is not called known, at or above 0.
    pub refused: f64,
}

/// What a threshold is chosen for.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// At least this share of the answers called known is right, `0..1`: of those to images as they are, and of those under
    /// interventions, too. In the mean over both, a light where most answers are wrong would hide behind one where hardly
    /// any is.
    Precision(f64),
    /// At most this share of the images of classes that the bank does not have is called known, `0..1`: in the mean over
    /// such classes. [`OpenSet`](super::OpenSet) says how far a single one may be from it.
    FalseAccept(f64),
    /// The least expected cost; one entry per class of the bank. With a confidence that is calibrated, answers are worth
    /// accepting from 1 − refused / wrong on (Chow 1970).
    Costs(Vec<Cost>),
}

/// A threshold, and what calibration says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The least confidence of a known answer, `0..=1`.
    pub threshold: f32,
    /// The share of calibration answers that reach it, clean and changed ones weighed equally.
    pub accepted: f64,
    /// The share of wrong ones among these; for [`Target::Precision`] among the clean or the changed ones, where there are
    /// more; for [`Target::FalseAccept`], the share of unseen classes' images accepted.
    pub risk: f64,
    /// What the risk stays below with the probability that was asked for.
    pub bound: f64,
    /// The number of independent images that the bound rests on; for [`Target::FalseAccept`], that of images of classes
    /// left out.
    pub images: f64,
}

/// The threshold for one class, or for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    /// Answers that name this class; `None`: all answers.
    pub class: Option<u32>,
    /// Whether calibration shows that the target is met.
    pub reached: bool,
    /// The least threshold that meets the target. If none does, the one with the best bound or, for
    /// [`Target::FalseAccept`], the least whose estimate meets it. The bound then allows for the choice among all that were
    /// tried. `None` if calibration has nothing to say.
    pub at: Option<Threshold>,
}

/// One answer and its weight.
#[derive(Clone, Copy)]
struct Case {
    outcome: Outcome,
    weight: f64,
}

impl Target {
    /// The threshold for all answers, or one for each of the bank's `classes`, from what calibration answered, and what it
    /// answered to images of classes that were left out. `level` is the probability with which a target is kept.
    /// [`Target::Costs`] is always per class. What a bank says of itself is [`Confidence::resolve`](super::Confidence::resolve).
    ///
    /// ```
    /// use constancy_core::classify::{Outcome, Target};
    ///
    /// // Confident answers are right, the others are wrong every other time.
    /// let outcome = |image: u32| {
    ///     let sure = image % 2 == 0;
    ///     let truth = Some(u32::from(!sure && image % 4 == 1));
    ///     Outcome { confidence: if sure { 0.98 } else { 0.5 }, image, answer: 0, truth, changed: false }
    /// };
    /// let outcomes: Vec<Outcome> = (0..400).map(outcome).collect();
    /// let resolved = Target::Precision(0.95).resolve(&outcomes, &[], 0.95, None);
    /// assert!(resolved[0].reached && resolved[0].at.is_some_and(|t| t.threshold == 0.98 && t.bound < 0.05));
    /// // Two hundred right answers do not show that one in a thousand is wrong.
    /// assert!(!Target::Precision(0.999).resolve(&outcomes, &[], 0.95, None)[0].reached);
    /// ```
    #[must_use]
    pub fn resolve(
        &self,
        outcomes: &[Outcome],
        unseen: &[Outcome],
        level: f64,
        classes: Option<u32>,
    ) -> Vec<Resolved> {
        self.resolve_from(0.0, outcomes, unseen, level, classes)
    }

    /// The same for a bank's own answers: never below [`FLOOR`], unless costs say so.
    pub(super) fn resolve_of_bank(
        &self,
        outcomes: &[Outcome],
        unseen: &[Outcome],
        level: f64,
        classes: Option<u32>,
    ) -> Vec<Resolved> {
        self.resolve_from(FLOOR, outcomes, unseen, level, classes)
    }

    fn resolve_from(
        &self,
        least: f32,
        outcomes: &[Outcome],
        unseen: &[Outcome],
        level: f64,
        classes: Option<u32>,
    ) -> Vec<Resolved> {
        let all = cases(outcomes);
        let of_class = |class: Option<u32>| -> Vec<Case> {
            let named = all
                .iter()
                .filter(|c| class.is_none_or(|class| c.outcome.answer == class));
            named.copied().collect()
        };
        let asked: Vec<Option<u32>> = classes.map_or(vec![None], |n| (0..n).map(Some).collect());
        let asked = asked.into_iter();
        match self {
            Self::Precision(p) => asked
                .map(|class| {
                    Trial::new(&of_class(class), level, least).by_precision(1.0 - p, class)
                })
                .collect(),
            Self::FalseAccept(rate) => asked
                .map(|class| {
                    let cases = of_class(class);
                    let trial = Trial::new(&cases, level, least);
                    trial.by_false_accepts(unseen, *rate, class)
                })
                .collect(),
            Self::Costs(costs) => (0u32..)
                .zip(costs)
                .map(|(c, cost)| Trial::new(&of_class(Some(c)), level, least).by_cost(*cost, c))
                .collect(),
        }
    }
}

fn cases(outcomes: &[Outcome]) -> Vec<Case> {
    let changed: Vec<bool> = outcomes.iter().map(|o| o.changed).collect();
    let weighed = outcomes.iter().zip(balanced_weights(&changed));
    weighed
        .map(|(&outcome, weight)| Case { outcome, weight })
        .collect()
}

/// A threshold to test, and the risk that was counted there.
struct Step {
    threshold: f32,
    risk: Risk,
}

enum Risk {
    /// Wrong ones among accepted answers: as they are and under interventions, as far as there are any. All must be low, which
    /// is a test at the level of each: it passes only if every one does.
    Wrong(Vec<Share>),
    /// Accepted ones of classes that were left out: as they are and under interventions, as far as there are any.
    Unseen(Vec<(LeftOut, ClassRates)>),
}

impl Risk {
    fn estimate(&self) -> f64 {
        match self {
            Self::Wrong(shares) => shares.iter().map(|s| s.estimate).fold(0.0, f64::max),
            Self::Unseen(kinds) => kinds.iter().map(|(l, _)| l.rate()).fold(0.0, f64::max),
        }
    }

    /// What it stays below with probability `level`.
    fn upper(&self, level: f64) -> f64 {
        match self {
            Self::Wrong(shares) => shares.iter().map(|s| s.upper(level)).fold(0.0, f64::max),
            Self::Unseen(kinds) => kinds
                .iter()
                .map(|(left_out, rates)| left_out.with_one_more(rates.mean_below(level)))
                .fold(0.0, f64::max),
        }
    }

    fn images(&self) -> f64 {
        match self {
            Self::Wrong(shares) => shares
                .iter()
                .map(|s| s.effective)
                .fold(f64::INFINITY, f64::min),
            Self::Unseen(kinds) => kinds.iter().map(|(l, _)| l.images).max().unwrap_or(0) as f64,
        }
    }
}

/// The answers that thresholds are tested on.
struct Trial<'a> {
    cases: &'a [Case],
    level: f64,
    /// The least threshold to test.
    least: f32,
}

impl<'a> Trial<'a> {
    fn new(cases: &'a [Case], level: f64, least: f32) -> Self {
        Self {
            cases,
            level,
            least,
        }
    }

    fn by_precision(&self, limit: f64, class: Option<u32>) -> Resolved {
        let steps: Vec<Step> = self
            .thresholds()
            .into_iter()
            .map(|threshold| Step {
                threshold,
                risk: Risk::Wrong(self.in_each_light(threshold, |o| !o.right())),
            })
            .collect();
        // Counts images alone: the start must not depend on which answers were right.
        let level = 1.0 - PARTS[0] * (1.0 - self.level);
        let enough = |errors: f64| {
            let images = |s: &Step| {
                let lights = self.in_each_light(s.threshold, |_| false);
                lights
                    .iter()
                    .map(|l| l.effective)
                    .fold(f64::INFINITY, f64::min)
            };
            steps
                .iter()
                .position(|s| upper_bound(errors, images(s), level) <= limit)
        };
        match enough(SLACK).or_else(|| enough(0.0)) {
            Some(start) => match self.walk(&steps, start, limit) {
                Some(at) => reached(class, at),
                None => self.unreached(&steps, self.best(&steps), class),
            },
            None => self.unreached(&steps, self.best(&steps), class),
        }
    }

    fn by_false_accepts(&self, unseen: &[Outcome], limit: f64, class: Option<u32>) -> Resolved {
        let hit = |o: &Outcome, t: f32| o.accepted(t) && class.is_none_or(|c| o.answer == c);
        let step = |i: u8| {
            let threshold = f32::from(i) / 100.0;
            let kinds = [false, true]
                .map(|changed| LeftOut::of(unseen, changed, |o| hit(o, threshold)))
                .into_iter()
                .filter(|left_out| !left_out.is_empty())
                .map(|left_out| {
                    let rates = left_out.rates();
                    (left_out, rates)
                });
            let risk = Risk::Unseen(kinds.collect());
            Step { threshold, risk }
        };
        if unseen.is_empty() {
            let (reached, at) = (false, None);
            return Resolved { class, reached, at };
        }
        let tested = (1..=100u8).rev();
        let tested = tested.filter(|i| f32::from(*i) / 100.0 >= self.least);
        let steps: Vec<Step> = tested.map(step).collect();
        let shown = self.walk(&steps, 0, limit);
        shown.map_or_else(
            || {
                let met = steps.iter().take_while(|s| s.risk.estimate() <= limit);
                self.unreached(&steps, met.last().or(steps.first()), class)
            },
            |at| reached(class, at),
        )
    }

    fn by_cost(&self, cost: Cost, class: u32) -> Resolved {
        let threshold = narrow((1.0 - cost.refused / cost.wrong).clamp(0.0, 1.0));
        let risk = Risk::Wrong(vec![self.share(threshold, |o| !o.right())]);
        let at = self.result(&Step { threshold, risk }, self.level);
        reached(Some(class), at)
    }

    /// The thresholds that reach evenly spaced shares of the answers, the strictest first; none below the least.
    fn thresholds(&self) -> Vec<f32> {
        let positive = self
            .cases
            .iter()
            .map(|c| c.outcome.confidence)
            .filter(|&c| c > 0.0);
        let mut order: Vec<f32> = positive.collect();
        order.sort_by(|a, b| b.total_cmp(a));
        let last = |i: usize| (i * order.len()).div_ceil(STEPS).saturating_sub(1);
        let mut found: Vec<f32> = (1..=STEPS)
            .filter_map(|i| order.get(last(i)))
            .map(|t| t.max(self.least))
            .collect();
        found.dedup();
        found
    }

    /// The share of hits among what is accepted.
    fn share(&self, threshold: f32, hit: impl Fn(&Outcome) -> bool) -> Share {
        let accepted = self.cases.iter().filter(|c| c.outcome.accepted(threshold));
        share_by_image(accepted.map(|c| (c.weight, c.outcome.image, hit(&c.outcome))))
    }

    /// The share of hits among the clean answers that are accepted, and among the changed ones.
    fn in_each_light(&self, threshold: f32, hit: impl Fn(&Outcome) -> bool) -> Vec<Share> {
        let light = |changed: bool| {
            let of_light = self
                .cases
                .iter()
                .filter(move |c| c.outcome.changed == changed);
            let mut of_light = of_light.peekable();
            of_light.peek()?;
            let accepted = of_light.filter(|c| c.outcome.accepted(threshold));
            let answers = accepted.map(|c| (c.weight, c.outcome.image, hit(&c.outcome)));
            Some(share_by_image(answers))
        };
        [false, true].into_iter().filter_map(light).collect()
    }

    /// The last step that passes.
    fn walk(&self, steps: &[Step], start: usize, limit: f64) -> Option<Threshold> {
        let rest = steps.len() - start;
        let (mut passed, mut error) = (None, 0.0);
        for (i, step) in steps.iter().enumerate().skip(start) {
            let part = (0..PARTS.len()).find(|k| i == start + k * rest / PARTS.len());
            error += part.map_or(0.0, |k| PARTS[k] * (1.0 - self.level));
            if error > 0.0 && step.risk.upper(1.0 - error) <= limit {
                passed = Some(self.result(step, 1.0 - error));
            } else {
                error = 0.0;
            }
        }
        passed
    }

    /// The level at which one of many bounds may be chosen for being the best (Bonferroni).
    fn chosen(&self, steps: &[Step]) -> f64 {
        1.0 - (1.0 - self.level) / steps.len().max(1) as f64
    }

    /// The step with the best bound.
    fn best<'s>(&self, steps: &'s [Step]) -> Option<&'s Step> {
        let level = self.chosen(steps);
        let bound = |s: &Step| s.risk.upper(level);
        steps.iter().min_by(|a, b| bound(a).total_cmp(&bound(b)))
    }

    fn unreached(&self, steps: &[Step], step: Option<&Step>, class: Option<u32>) -> Resolved {
        Resolved {
            class,
            reached: false,
            at: step.map(|step| self.result(step, self.chosen(steps))),
        }
    }

    fn result(&self, step: &Step, level: f64) -> Threshold {
        let all: f64 = self.cases.iter().map(|c| c.weight).sum();
        let reach = self
            .cases
            .iter()
            .filter(|c| c.outcome.accepted(step.threshold));
        let reach: f64 = reach.map(|c| c.weight).sum();
        Threshold {
            threshold: step.threshold,
            accepted: if all > 0.0 { reach / all } else { 0.0 },
            risk: step.risk.estimate(),
            bound: step.risk.upper(level),
            images: step.risk.images(),
        }
    }
}

fn reached(class: Option<u32>, at: Threshold) -> Resolved {
    Resolved {
        class,
        reached: true,
        at: Some(at),
    }
}
