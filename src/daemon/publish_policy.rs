//! Decides which decisions become events.

use crate::config::{PublishSettings, PublishWhen};
use std::time::Duration;

/// One camera's event rate limit, and the state that it needs.
#[derive(Debug, Default)]
pub(super) struct PublishPolicy {
    /// `CLOCK_MONOTONIC` of the last event's frame.
    last_ns: Option<u64>,
    /// The camera's answer has changed since the last event.
    changed: bool,
}

impl PublishPolicy {
    /// Whether the decision on a frame captured at `monotonic_ns` becomes an event, which is then counted as published.
    /// `changed` says that this frame changed the camera's answer.
    pub(super) fn is_due(
        &mut self,
        changed: bool,
        monotonic_ns: u64,
        settings: &PublishSettings,
    ) -> bool {
        self.changed |= changed;
        let Some(last_ns) = self.last_ns else {
            return self.mark_published(monotonic_ns);
        };
        let waited = Duration::from_nanos(monotonic_ns.saturating_sub(last_ns));
        let wanted = match settings.when {
            PublishWhen::Every => true,
            PublishWhen::OnChange => {
                self.changed
                    || settings
                        .heartbeat_s
                        .is_some_and(|s| waited >= Duration::from_secs_f64(s))
            }
        };
        let due = wanted && waited >= Duration::from_secs_f64(settings.at_most_every_s);
        due && self.mark_published(monotonic_ns)
    }

    fn mark_published(&mut self, monotonic_ns: u64) -> bool {
        (self.last_ns, self.changed) = (Some(monotonic_ns), false);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames that become events, of twelve that are a second apart; the answer changes at those in `changes`.
    fn events(changes: &[u64], settings: &PublishSettings) -> Vec<u64> {
        let mut policy = PublishPolicy::default();
        let due = |s: &u64| policy.is_due(changes.contains(s), s * 1_000_000_000, settings);
        (0..12).filter(due).collect()
    }

    #[test]
    fn each_rule_selects_its_frames() {
        let every = PublishSettings::default();
        assert_eq!(events(&[], &every).len(), 12);
        let limited = PublishSettings {
            at_most_every_s: 5.0,
            ..every.clone()
        };
        assert_eq!(events(&[3], &limited), [0, 5, 10]);
        let on_change = PublishSettings {
            when: PublishWhen::OnChange,
            ..every
        };
        assert_eq!(events(&[0, 3, 4], &on_change), [0, 3, 4]);
        let heartbeat = PublishSettings {
            heartbeat_s: Some(4.0),
            ..on_change.clone()
        };
        assert_eq!(events(&[3], &heartbeat), [0, 3, 7, 11]);
        let both = PublishSettings {
            at_most_every_s: 3.0,
            ..on_change
        };
        assert_eq!(
            events(&[0, 1, 8], &both),
            [0, 3, 8],
            "a change that comes too soon is published later"
        );
    }
}
