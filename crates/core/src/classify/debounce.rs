//! A camera's state without flicker: the state changes when enough of the last frames agree on a new class.

use super::classifier::Decision;
use super::confidence::Reason;
use std::collections::VecDeque;
use std::time::Duration;

/// When the state changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DebounceRules {
    /// Frames that must agree on the new state, among the last `of`.
    pub agree: usize,
    /// Frames that are considered.
    pub of: usize,
    /// Least confidence (or score, where there is none) at which the current class stays known; defaults to the classifier's threshold.
    pub stay_threshold: Option<f32>,
    /// The least time between two changes.
    pub dwell: Duration,
}

/// The state of one camera: a class, or unknown.
///
/// ```
/// use constancy_core::classify::{DebounceRules, Debouncer, Decision, Scored};
/// use std::time::Duration;
///
/// let decision = |class: &str| Decision {
///     top: vec![Scored { class: class.into(), score: 0.9 }],
///     margin: 0.8,
///     known: true,
///     confidence: None,
///     reason: None,
///     in_support: None,
///     shift: None,
///     drift: None,
/// };
/// let rules = DebounceRules { agree: 2, of: 3, stay_threshold: None, dwell: Duration::ZERO };
/// let mut debouncer = Debouncer::default();
/// assert!(!debouncer.update(&decision("gear"), 0, &rules));
/// assert!(debouncer.update(&decision("gear"), 100_000_000, &rules));
/// assert_eq!(debouncer.current(), Some(Some("gear")));
/// // One frame of another class does not change the state.
/// assert!(!debouncer.update(&decision("nut"), 200_000_000, &rules));
/// ```
#[derive(Debug, Default)]
pub struct Debouncer {
    /// The last frames' classes, `None` for unknown, the newest last.
    recent: VecDeque<Option<String>>,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    class: Option<String>,
    since_ns: u64,
}

impl Debouncer {
    /// Adds the decision of a frame captured at `monotonic_ns`; returns whether the state changed.
    pub fn update(
        &mut self,
        decision: &Decision,
        monotonic_ns: u64,
        rules: &DebounceRules,
    ) -> bool {
        let answer = self.answer(decision, rules);
        self.recent.push_back(answer.clone());
        while self.recent.len() > rules.of.max(1) {
            self.recent.pop_front();
        }
        let agreeing = self.recent.iter().filter(|a| **a == answer).count();
        let may_change = self.state.as_ref().is_none_or(|state| {
            let stayed_ns = monotonic_ns.saturating_sub(state.since_ns);
            state.class != answer && u128::from(stayed_ns) >= rules.dwell.as_nanos()
        });
        if !may_change || agreeing < rules.agree {
            return false;
        }
        self.state = Some(State {
            class: answer,
            since_ns: monotonic_ns,
        });
        true
    }

    /// The frame's own class. The current class may have a lower threshold.
    fn answer(&self, decision: &Decision, rules: &DebounceRules) -> Option<String> {
        let best = &decision.top[0];
        let is_current = self
            .state
            .as_ref()
            .is_some_and(|p| p.class.as_ref() == Some(&best.class));
        let stays = rules
            .stay_threshold
            .is_some_and(|t| is_current && decision.confidence.unwrap_or(best.score) >= t);
        let unfamiliar = decision.reason == Some(Reason::Unfamiliar);
        let known = decision.known || (stays && !unfamiliar);
        known.then(|| best.class.clone())
    }

    /// The current class: `None` before the first state, `Some(None)` while it is unknown.
    #[must_use]
    pub fn current(&self) -> Option<Option<&str>> {
        self.state.as_ref().map(|p| p.class.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scored;
    use super::*;

    const PLAIN: DebounceRules = DebounceRules {
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
            confidence: None,
            reason: None,
            in_support: None,
            shift: None,
            drift: None,
        }
    }

    /// The frames, one second apart, at which the state changed, and the new states.
    fn changes(frames: &[(&str, f32, bool)], rules: &DebounceRules) -> Vec<(usize, String)> {
        let mut debouncer = Debouncer::default();
        let mut found = Vec::new();
        for (i, (class, score, known)) in frames.iter().enumerate() {
            if debouncer.update(
                &decision(class, *score, *known),
                i as u64 * 1_000_000_000,
                rules,
            ) {
                found.push((i, debouncer.current().flatten().unwrap_or("?").to_owned()));
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
    fn without_rules_every_new_class_counts() {
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
        let rules = DebounceRules {
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
    fn the_current_class_stays_down_to_its_own_threshold() {
        let rules = DebounceRules {
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
            reason: Some(Reason::Unfamiliar),
            ..decision("a", 0.4, false)
        };
        let mut debouncer = Debouncer::default();
        debouncer.update(&decision("a", 0.6, true), 0, &rules);
        assert!(
            debouncer.update(&outside, 1, &rules),
            "an image out of distribution is unknown at any score"
        );
    }

    #[test]
    fn a_state_lasts_at_least_its_dwell_time() {
        let rules = DebounceRules {
            dwell: Duration::from_secs(3),
            ..PLAIN
        };
        expect(
            &changes(&known("a b b b a b b"), &rules),
            &[(0, "a"), (3, "b")],
        );
    }
}
