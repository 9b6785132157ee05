//! Recognises that another client has the same id.
//!
//! A broker closes a client's connection when another one connects with its id (MQTT 3.1.1, 3.1.4), without a reason. Both
//! reconnect, and close each other's connection again. What tells this from a broker that restarts, or that refuses what
//! the device publishes: it accepts the next connection at once, acknowledges what is sent, and closes it again soon.

use std::time::Duration;

/// A connection that another client ends lasts about as long as the other's reconnect wait, 0.5 to 1.5 s at first.
const SOON: Duration = Duration::from_secs(10);
/// A connection that lasts this long ends the episode: the next takeover is told again.
const PEACE: Duration = Duration::from_secs(600);
/// Takeovers until the log says so.
const UNTIL_TOLD: u32 = 2;

/// How a connection, or an attempt to connect, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The broker closed a connection that it had acknowledged something on.
    Closed,
    /// Otherwise: there was no connection, it timed out, or nothing that was sent was acknowledged.
    Other,
}

/// Connections that looked like takeovers, one after the other.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    count: u32,
    told: bool,
}

impl Takeovers {
    /// Notes the end of a connection that had `lasted` this long. Returns whether to tell that there is another client.
    pub(super) fn ended(&mut self, end: End, lasted: Option<Duration>) -> bool {
        let lasted = lasted.unwrap_or_default();
        if lasted >= PEACE {
            self.told = false;
        }
        self.count = match end {
            End::Other => 0,
            End::Closed if lasted < SOON => self.count + 1,
            // The first takeover may come after any time.
            End::Closed => 1,
        };
        let tell = self.count >= UNTIL_TOLD && !self.told;
        self.told |= tell;
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_takeover_is_told_once() {
        let (mut takeovers, s) = (Takeovers::default(), Duration::from_secs);
        let mut closed = |lasted| takeovers.ended(End::Closed, Some(s(lasted)));
        assert!(!closed(3600), "a broker may close a connection once");
        assert!(closed(1));
        assert!(!closed(2) && !closed(9), "once");
        assert!(!closed(3600), "the other was away");
        assert!(closed(3), "and came again");
    }

    #[test]
    fn a_broker_that_restarts_or_refuses_is_no_takeover() {
        let (mut takeovers, s) = (Takeovers::default(), Duration::from_secs);
        for _ in 0..5 {
            assert!(!takeovers.ended(End::Closed, Some(s(1))));
            assert!(!takeovers.ended(End::Other, None), "it restarts");
        }
        for _ in 0..5 {
            assert!(
                !takeovers.ended(End::Other, Some(s(1))),
                "it acknowledges nothing"
            );
            assert!(
                !takeovers.ended(End::Closed, Some(s(60))),
                "a network breaks"
            );
        }
    }
}
