//! A cell of a table, and figures as text.

use constancy_core::icm::Interval;

/// A cell of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Cell {
    pub text: String,
    /// Whether it is worse than what it is compared with, beyond chance.
    pub loses: bool,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, loses: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A share with its interval, in per cent.
pub(in crate::cli) fn percent(interval: Interval) -> String {
    format!(
        "{:.1} ({:.1} to {:.1})",
        interval.estimate * 100.0,
        interval.low * 100.0,
        interval.high * 100.0
    )
}

/// A number of `0..=1` with its interval.
pub(in crate::cli) fn number(interval: Interval) -> String {
    let Interval {
        estimate,
        low,
        high,
    } = interval;
    format!("{estimate:.3} ({low:.3} to {high:.3})")
}

/// A difference of shares with its interval, in points.
pub(in crate::cli) fn points(interval: Interval) -> String {
    format!(
        "{:+.1} ({:+.1} to {:+.1})",
        interval.estimate * 100.0,
        interval.low * 100.0,
        interval.high * 100.0
    )
}
