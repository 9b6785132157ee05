//! The figures of a map as cells.

use crate::cli::reports::{Cell, percent, points};
use constancy_core::icm::evaluate::Figure;

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
