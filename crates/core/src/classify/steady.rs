//! What a camera sees at present, without flicker: a new answer counts when enough of the last frames agree on it.

use super::Decision;
use std::collections::VecDeque;
use std::time::Duration;

/// When a new answer counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steadiness {
    /// So many of the last `of` frames must give it.
    pub agree: usize,
    pub of: usize,
    /// Least score at which the present class stays known; the classifier's own threshold unless given.
    pub stay_threshold: Option<f32>,
    /// How long an answer stays at least.
    pub dwell: Duration,
}

/// The present answer of one camera: a class, or that it is unknown.
#[derive(Debug, Default)]
pub struct Steady {
    /// The last frames' answers, the newest last.
    last: VecDeque<Option<String>>,
    present: Option<Present>,
}

#[derive(Debug)]
struct Present {
    class: Option<String>,
    since_ns: u64,
}

impl Steady {
    /// Takes a frame's decision, whose time is `monotonic_ns`; whether the present answer is another now.
    pub fn see(&mut self, decision: &Decision, monotonic_ns: u64, rules: &Steadiness) -> bool {
        let answer = self.answer(decision, rules);
        self.last.push_back(answer.clone());
        while self.last.len() > rules.of.max(1) {
            self.last.pop_front();
        }
        let agreeing = self.last.iter().filter(|a| **a == answer).count();
        let may_change = self.present.as_ref().is_none_or(|present| {
            let stayed_ns = monotonic_ns.saturating_sub(present.since_ns);
            present.class != answer && u128::from(stayed_ns) >= rules.dwell.as_nanos()
        });
        if !may_change || agreeing < rules.agree {
            return false;
        }
        self.present = Some(Present {
            class: answer,
            since_ns: monotonic_ns,
        });
        true
    }

    /// The frame's own answer; the present class has it easier.
    fn answer(&self, decision: &Decision, rules: &Steadiness) -> Option<String> {
        let best = &decision.top[0];
        let is_present = self
            .present
            .as_ref()
            .is_some_and(|p| p.class.as_ref() == Some(&best.class));
        let stays = rules
            .stay_threshold
            .is_some_and(|t| is_present && best.score >= t);
        let known = decision.known || (stays && decision.in_support != Some(false));
        known.then(|| best.class.clone())
    }

    /// The present class: `None` before there is an answer, `Some(None)` while it is unknown.
    #[must_use]
    pub fn present(&self) -> Option<Option<&str>> {
        self.present.as_ref().map(|p| p.class.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scored;
    use super::*;

    const PLAIN: Steadiness = Steadiness {
        agree: 1,
        of: 1,
        stay_threshold: None,
        dwell: Duration::ZERO,
    };

    fn decision(class: &str, score: f32, known: bool) -> Decision {
        let top = vec![Scored {
            class: class.into(),
            score,
        }];
        Decision {
            top,
            margin: 0.0,
            known,
            in_support: None,
            shift: None,
        }
    }

    /// The frames, a second apart, at which the answer changed, and to what.
    fn changes(frames: &[(&str, f32, bool)], rules: &Steadiness) -> Vec<(usize, String)> {
        let mut steady = Steady::default();
        let mut found = Vec::new();
        for (i, (class, score, known)) in frames.iter().enumerate() {
            if steady.see(
                &decision(class, *score, *known),
                i as u64 * 1_000_000_000,
                rules,
            ) {
                found.push((i, steady.present().flatten().unwrap_or("?").to_owned()));
            }
        }
        found
    }

    fn known(classes: &str) -> Vec<(&str, f32, bool)> {
        classes.split(' ').map(|c| (c, 0.9, true)).collect()
    }

    fn expect(found: &[(usize, String)], expected: &[(usize, &str)]) {
        let found: Vec<(usize, &str)> = found.iter().map(|(i, c)| (*i, c.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn without_rules_every_other_answer_counts() {
        expect(
            &changes(&known("a a b a"), &PLAIN),
            &[(0, "a"), (2, "b"), (3, "a")],
        );
        expect(
            &changes(
                &[("a", 0.9, true), ("a", 0.4, false), ("b", 0.4, false)],
                &PLAIN,
            ),
            &[(0, "a"), (1, "?")],
        );
    }

    #[test]
    fn three_of_five_must_agree() {
        let rules = Steadiness {
            agree: 3,
            of: 5,
            ..PLAIN
        };
        expect(
            &changes(&known("a a a b a b a b b b"), &rules),
            &[(2, "a"), (7, "b")],
        );
    }

    #[test]
    fn the_present_class_stays_down_to_its_own_threshold() {
        let rules = Steadiness {
            stay_threshold: Some(0.3),
            ..PLAIN
        };
        let frames = [
            ("a", 0.4, false),
            ("a", 0.6, true),
            ("a", 0.4, false),
            ("a", 0.2, false),
            ("a", 0.4, false),
        ];
        expect(&changes(&frames, &rules), &[(0, "?"), (1, "a"), (3, "?")]);
        let outside = Decision {
            in_support: Some(false),
            ..decision("a", 0.4, false)
        };
        let mut steady = Steady::default();
        steady.see(&decision("a", 0.6, true), 0, &rules);
        assert!(
            steady.see(&outside, 1, &rules),
            "what is like no example is unknown at any score"
        );
    }

    #[test]
    fn an_answer_stays_as_long_as_it_must() {
        let rules = Steadiness {
            dwell: Duration::from_secs(3),
            ..PLAIN
        };
        expect(
            &changes(&known("a b b b a b b"), &rules),
            &[(0, "a"), (3, "b")],
        );
    }
}
