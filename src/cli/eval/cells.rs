//! Figures as text.

use constancy_core::icm::Interval;
use constancy_core::icm::evaluate::Figure;

/// A cell of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub text: String,
    /// Whether a map is worse than the raw embeddings here, beyond chance.
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

impl Cell {
    /// A figure's accuracy.
    pub(super) fn accuracy(figure: &Figure) -> Self {
        Self {
            text: percent(figure.accuracy),
            loses: figure.loses(),
        }
    }

    /// A figure's gain; empty for the raw embeddings.
    pub(super) fn gain(figure: &Figure) -> Self {
        Self {
            text: figure.gain.map_or_else(String::new, points),
            loses: figure.loses(),
        }
    }
}

/// A share with its interval, in per cent.
pub(super) fn percent(interval: Interval) -> String {
    format!(
        "{:.1} ({:.1} to {:.1})",
        interval.estimate * 100.0,
        interval.low * 100.0,
        interval.high * 100.0
    )
}

/// A number of `0..=1` with its interval.
pub(super) fn number(interval: Interval) -> String {
    let Interval {
        estimate,
        low,
        high,
    } = interval;
    format!("{estimate:.3} ({low:.3} to {high:.3})")
}

/// A difference of shares with its interval, in points.
pub(super) fn points(interval: Interval) -> String {
    format!(
        "{:+.1} ({:+.1} to {:+.1})",
        interval.estimate * 100.0,
        interval.low * 100.0,
        interval.high * 100.0
    )
}
