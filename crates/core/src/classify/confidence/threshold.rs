//! Thresholds on confidence from a target, by selective risk control.
//!
//! Thresholds are tested from the strictest down by Clopper and Pearson's bound, in an order that depends on confidences
//! alone and not on which answers were right. The error that a target allows is split over three of them; a test that
//! passes hands its part to the next, one that fails loses it (fallback procedure: Wiens 2003; for selective risk:
//! Angelopoulos et al. 2021, *Learn then Test*). So the least threshold that passes holds at the level for all tests
//! together. Answers of one image are counted as [`Share`] does.
//!
//! Thresholds per class each hold at the level by themselves, not all together.

use super::narrow;
use super::outcome::{Outcome, balanced_weights, share_by_image};
use super::share::{Share, upper_bound};

/// The probability with which a threshold keeps its target.
pub const DEFAULT_TARGET_LEVEL: f64 = 0.95;
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
    /// At most this share of the images of classes that the bank does not have is called known, `0..1`.
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
    /// The number of independent images that the bound rests on.
    pub images: f64,
}

/// The threshold for one class, or for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    /// Answers that name this class; `None`: all answers.
    pub class: Option<u32>,
    /// Whether calibration shows that the target is met.
    pub reached: bool,
    /// The least threshold that meets the target. If none does, the one with the best bound, which then allows for the
    /// choice among all that were tried. `None` if calibration has nothing to say.
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
    /// [`Target::Costs`] is always per class.
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
                .map(|class| Trial::new(&of_class(class), level).by_precision(1.0 - p, class))
                .collect(),
            Self::FalseAccept(rate) => asked
                .map(|class| {
                    let cases = of_class(class);
                    let trial = Trial::new(&cases, level);
                    trial.by_false_accepts(unseen, *rate, class)
                })
                .collect(),
            Self::Costs(costs) => (0u32..)
                .zip(costs)
                .map(|(c, cost)| Trial::new(&of_class(Some(c)), level).by_cost(*cost, c))
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

/// A threshold to test, and the risks that were counted there, all of which must be low. That is a test at the level of
/// each: it passes only if every one does.
#[derive(Clone)]
struct Step {
    threshold: f32,
    risks: Vec<Share>,
}

impl Step {
    /// The risk with the highest bound.
    fn worst(&self, level: f64) -> Share {
        let worst = self.risks.iter().copied();
        let worst = worst.max_by(|a, b| a.upper(level).total_cmp(&b.upper(level)));
        worst.unwrap_or_else(|| Share::of(&[]))
    }
}

/// The answers that thresholds are tested on.
struct Trial<'a> {
    cases: &'a [Case],
    level: f64,
}

impl<'a> Trial<'a> {
    fn new(cases: &'a [Case], level: f64) -> Self {
        Self { cases, level }
    }

    fn by_precision(&self, limit: f64, class: Option<u32>) -> Resolved {
        let steps: Vec<Step> = self
            .thresholds()
            .into_iter()
            .map(|threshold| Step {
                threshold,
                risks: self.in_each_light(threshold, |o| !o.right()),
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
            Some(start) => self.walk(&steps, start, limit, class),
            None => self.unreached(&steps, class),
        }
    }

    fn by_false_accepts(&self, unseen: &[Outcome], limit: f64, class: Option<u32>) -> Resolved {
        let hit = |o: &Outcome, t: f32| o.accepted(t) && class.is_none_or(|c| o.answer == c);
        let step = |i: u8| {
            let threshold = f32::from(i) / 100.0;
            let risk = share_by_image(unseen.iter().map(|o| (1.0, o.image, hit(o, threshold))));
            let risks = vec![risk];
            Step { threshold, risks }
        };
        let steps: Vec<Step> = (1..=100).rev().map(step).collect();
        self.walk(&steps, 0, limit, class)
    }

    fn by_cost(&self, cost: Cost, class: u32) -> Resolved {
        let threshold = narrow((1.0 - cost.refused / cost.wrong).clamp(0.0, 1.0));
        let risk = self.share(threshold, |o| !o.right());
        let at = self.result(
            &Step {
                threshold,
                risks: vec![risk],
            },
            self.level,
        );
        Resolved {
            class: Some(class),
            reached: true,
            at: Some(at),
        }
    }

    /// The thresholds that reach evenly spaced shares of the answers, the strictest first.
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
            .filter_map(|i| order.get(last(i)).copied())
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
    fn walk(&self, steps: &[Step], start: usize, limit: f64, class: Option<u32>) -> Resolved {
        let rest = steps.len() - start;
        let (mut passed, mut error) = (None, 0.0);
        for (i, step) in steps.iter().enumerate().skip(start) {
            let part = (0..PARTS.len()).find(|k| i == start + k * rest / PARTS.len());
            error += part.map_or(0.0, |k| PARTS[k] * (1.0 - self.level));
            if error > 0.0 && step.worst(1.0 - error).upper(1.0 - error) <= limit {
                passed = Some(self.result(step, 1.0 - error));
            } else {
                error = 0.0;
            }
        }
        match passed {
            Some(at) => Resolved {
                class,
                reached: true,
                at: Some(at),
            },
            None => self.unreached(steps, class),
        }
    }

    fn unreached(&self, steps: &[Step], class: Option<u32>) -> Resolved {
        // Bonferroni: the best of all is chosen.
        let level = 1.0 - (1.0 - self.level) / steps.len().max(1) as f64;
        let bounds = steps.iter().map(|s| self.result(s, level));
        let at = bounds.min_by(|a, b| a.bound.total_cmp(&b.bound));
        Resolved {
            class,
            reached: false,
            at,
        }
    }

    fn result(&self, step: &Step, level: f64) -> Threshold {
        let risk = step.worst(level);
        let all: f64 = self.cases.iter().map(|c| c.weight).sum();
        let reach = self
            .cases
            .iter()
            .filter(|c| c.outcome.accepted(step.threshold));
        let reach: f64 = reach.map(|c| c.weight).sum();
        Threshold {
            threshold: step.threshold,
            accepted: if all > 0.0 { reach / all } else { 0.0 },
            risk: risk.estimate,
            bound: risk.upper(level),
            images: risk.effective,
        }
    }
}
