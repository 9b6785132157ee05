//! Thresholds that the held-out images speak for, as lines of a configuration.

use super::answers::Answer;
use super::thresholds::PRECISIONS;
use constancy_core::classify::{DEFAULT_TARGET_LEVEL, Outcome, Resolved, Target, Threshold};
use serde::Serialize;

/// The thresholds for a target: one for all answers, and with two classes one for each.
#[derive(Debug, Serialize)]
pub(super) struct Proposal {
    /// The least share of right answers among those called known.
    pub precision: f64,
    pub all: Proposed,
    /// Each holds by itself, not both together.
    pub classes: Vec<Proposed>,
    /// Lines to paste into a configuration.
    pub toml: String,
}

/// One threshold, and what the held-out images say of it, as they are and under interventions.
#[derive(Debug, Serialize)]
pub(super) struct Proposed {
    /// The answers that name this class; `None`: all.
    pub class: Option<String>,
    /// The least threshold whose bound holds; `None` if none does.
    pub threshold: Option<f64>,
    /// The share of answers that reach it, or the one with the best bound; both kinds of images weighed equally.
    pub known: Option<f64>,
    /// The share of wrong ones among these, of the kind of images where there are more.
    pub risk: Option<f64>,
    /// What the risk stays below with a probability of 95 %.
    pub bound: Option<f64>,
    /// The number of independent images that this rests on.
    pub images: Option<f64>,
}

/// The proposals for every target. Images that are no class of the bank count as wrong.
pub(super) fn proposals(labels: &[String], answers: &[Answer]) -> Vec<Proposal> {
    let outcomes: Vec<Outcome> = answers.iter().map(|a| a.outcome).collect();
    let proposal = |precision: f64| {
        let target = Target::Precision(precision);
        let resolve = |classes| target.resolve(&outcomes, &[], DEFAULT_TARGET_LEVEL, classes);
        let of = |resolved: Resolved| proposed(labels, &outcomes, &resolved);
        let all = resolve(None).into_iter().map(of).next()?;
        let classes = if labels.len() == 2 {
            resolve(Some(2)).into_iter().map(of).collect()
        } else {
            Vec::new()
        };
        let toml = lines(precision, &all, &classes).join("\n");
        Some(Proposal {
            precision,
            all,
            classes,
            toml,
        })
    };
    PRECISIONS.into_iter().filter_map(proposal).collect()
}

fn proposed(labels: &[String], outcomes: &[Outcome], resolved: &Resolved) -> Proposed {
    let Resolved { class, reached, at } = *resolved;
    let figure = |of: fn(Threshold) -> f64| at.map(of);
    let readable = |t: Threshold| readable(t.threshold, next_below(outcomes, class, t.threshold));
    Proposed {
        class: class.and_then(|c| labels.get(c as usize)).cloned(),
        threshold: at
            .filter(|_| reached)
            .and_then(|t| readable(t).parse().ok()),
        known: figure(|t| t.accepted),
        risk: figure(|t| t.risk),
        bound: figure(|t| t.bound),
        images: figure(|t| t.images),
    }
}

/// The highest confidence below a threshold.
fn next_below(outcomes: &[Outcome], class: Option<u32>, threshold: f32) -> f32 {
    let named = outcomes
        .iter()
        .filter(|o| class.is_none_or(|c| o.answer == c));
    let below = named.map(|o| o.confidence).filter(|c| *c < threshold);
    below.fold(0.0, f32::max)
}

/// The threshold with the fewest digits that accepts the same answers: above `below`, and not above `threshold`.
fn readable(threshold: f32, below: f32) -> String {
    let short = |digits: i32| {
        let scale = 10f64.powi(digits);
        let rounded = (f64::from(threshold) * scale).floor() / scale;
        format!("{rounded:.*}", digits.unsigned_abs() as usize)
    };
    let same = |text: &String| {
        let value: Option<f32> = text.parse().ok();
        value.is_some_and(|v| v > below && v <= threshold)
    };
    let shortest = (2..=7).map(short).find(same);
    shortest.unwrap_or_else(|| format!("{threshold:?}"))
}

fn lines(precision: f64, all: &Proposed, classes: &[Proposed]) -> Vec<String> {
    let title = format!("# {:.0} % right", precision * 100.0);
    let mut lines = Vec::new();
    match all.threshold {
        Some(threshold) => lines.extend([
            format!("{title}: {}", all.words(precision)),
            "[classes]".into(),
            format!("threshold = {threshold:?}"),
        ]),
        None => lines.push(format!("{title}: {}", all.words(precision))),
    }
    if classes.iter().any(|c| c.threshold.is_some()) {
        lines.push(format!("{title} of the answers that name a class:"));
        lines.push("[classes.thresholds]".into());
    }
    for proposed in classes {
        let name = proposed.class.as_deref().unwrap_or_default();
        let key = toml::Value::String(name.to_owned()).to_string();
        lines.push(match proposed.threshold {
            Some(threshold) => format!("{key} = {threshold:?} # {}", proposed.words(precision)),
            None => format!("# {key}: {}", proposed.words(precision)),
        });
    }
    lines
}

impl Proposed {
    fn words(&self, precision: f64) -> String {
        let percent = |share: Option<f64>| format!("{:.1} %", share.unwrap_or(1.0) * 100.0);
        let images = self.images.unwrap_or(0.0);
        if self.threshold.is_some() {
            return format!(
                "{} known, {} of these wrong, at most {} by 95 % of chances (worth {images:.0} images)",
                percent(self.known),
                percent(self.risk),
                percent(self.bound)
            );
        }
        if self.bound.is_none() || images <= 0.0 {
            return "no image was answered so".into();
        }
        // At the threshold with the best bound.
        let enough = self.risk.is_some_and(|risk| risk <= 1.0 - precision);
        let why = if enough {
            format!("too few images (worth {images:.0}); hold out more")
        } else {
            format!("even of the surest, {} are wrong", percent(self.risk))
        };
        format!(
            "not shown at any threshold: {why}. At the best, at most {} are wrong",
            percent(self.bound)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_written_short_and_accepts_the_same_answers() {
        assert_eq!(readable(0.937_46, 0.91), "0.93");
        assert_eq!(readable(0.937_46, 0.937_4), "0.93746");
        assert_eq!(readable(1.0, 0.5), "1.00");
        assert_eq!(readable(0.004, 0.0), "0.004");
        let near = f32::from_bits(0.75f32.to_bits() - 1);
        assert_eq!(readable(0.75, near), "0.75");
    }

    fn answer(image: u32, answer: u32, right: bool, confidence: f32) -> Answer {
        Answer {
            outcome: Outcome {
                confidence,
                image,
                answer,
                truth: right.then_some(answer),
                changed: false,
            },
            stated: confidence,
            family: None,
            environment: 0,
        }
    }

    #[test]
    fn proposals_are_valid_toml_that_accepts_what_was_proposed() {
        let labels = ["ok".to_owned(), "a \"dent\"".to_owned()];
        // Sure answers are right; unsure ones are wrong every other time.
        let answers: Vec<Answer> = (0..800)
            .map(|i| {
                let sure = i % 4 != 0;
                let confidence = if sure {
                    0.93 + (i % 3) as f32 * 0.01
                } else {
                    0.6
                };
                answer(i, i % 2, sure || i % 8 == 0, confidence)
            })
            .collect();
        let proposals = proposals(&labels, &answers);
        let precisions: Vec<f64> = proposals.iter().map(|p| p.precision).collect();
        assert_eq!(precisions, PRECISIONS);
        let table: toml::Table = proposals[1].toml.parse().unwrap();
        let threshold = table["classes"]["threshold"].as_float().unwrap();
        assert!((0.6..=0.93).contains(&threshold), "{}", proposals[1].toml);
        let classes = table["classes"]["thresholds"].as_table().unwrap();
        assert!(classes.contains_key("ok") && classes.contains_key("a \"dent\""));
        // 600 right answers show 5 % and not 1 %, the 400 of the class that is always right show 1 %.
        let lines = &proposals[2].toml;
        assert!(
            lines.starts_with("# 99 % right: not shown at any threshold: too few images"),
            "{lines}"
        );
        let table: toml::Table = lines.parse().unwrap();
        let classes = table["classes"].as_table().unwrap();
        let each = classes["thresholds"].as_table().unwrap();
        assert!(!classes.contains_key("threshold"), "{lines}");
        assert!(
            each.len() == 1 && each.contains_key("a \"dent\""),
            "{lines}"
        );
    }

    #[test]
    fn so_many_right_answers_show_a_target() {
        let labels = ["a", "b", "c"].map(String::from);
        for (images, shown) in [(35, 0), (36, 1), (71, 1), (72, 2), (367, 2), (368, 3)] {
            let answers: Vec<Answer> = (0..images).map(|i| answer(i, i % 3, true, 0.9)).collect();
            let found = proposals(&labels, &answers);
            let found = found.iter().filter(|p| p.all.threshold.is_some()).count();
            assert_eq!(found, shown, "{images} images");
        }
    }
}
