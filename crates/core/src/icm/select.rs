//! Chooses the map to fit, without labels if there are none, and never using the target.
//!
//! - [`by_identification`] needs no labels. After an intervention of a family that the fit has not
//!   seen, is each image's nearest neighbour still its own original? If too little is removed, the
//!   intervention still moves the image; if too much, different images become indistinguishable.
//! - [`by_environment`] needs labels and at least two environments. It scores accuracy on the
//!   environment that was left out, averaged over all the methods that will tell classes apart. One
//!   encoder has one map for all its users, and a few environments say too little about each method
//!   alone.
//! - [`by_intervention`] needs labels of at least one environment. It scores accuracy under
//!   interventions of families that the fit has not seen.
//! - [`by_agreement`] needs the classes that will be told apart, and no labels of images. It is
//!   [`by_intervention`] with the model's own answers on images as they are as labels.
//! - [`by_gentle_identification`] is for images of which nothing is known: identification, among
//!   maps that leave most of what images differ by.
//!
//! All score every candidate on the same images, and choose by the same rule:
//!
//! 1. A candidate must improve on the identity by more than [`MIN_GAIN_ERRORS`] standard errors of
//!    the paired difference. A map that does no good may do harm, so if no candidate passes, the
//!    identity is chosen. The error is that over images or, if larger, that over environments: a
//!    map that helps in one environment and hurts in another is no evidence for a third.
//! 2. Of the candidates that pass, those that fall behind the best by no more than one standard
//!    error count as equally good (Breiman et al., *Classification and Regression Trees*, section
//!    3.4.3; the error is that of the paired difference, because all are scored on the same
//!    images).
//! 3. The gentlest of these is taken: the one that removes the fewest directions.
//!
//! Reading order: [`Grid`] lists the candidates, [`Selection`] is the result. `splits` divides
//! images and families, `score_table` collects scores while candidates are tried, `scores` chooses.

mod environment;
mod error;
mod grid;
mod identification;
mod intervention;
mod score_table;
mod scores;
mod search_space;
mod selection;
mod splits;

pub(super) use environment::environment_scores;
pub use environment::{PENALTIES, by_environment, penalty_by_environment};
pub use error::SelectError;
pub use grid::Grid;
pub(super) use identification::identification_scores;
pub use identification::{by_gentle_identification, by_identification};
pub(super) use intervention::{agreement_scores, intervention_scores, stratified_halves};
pub use intervention::{by_agreement, by_intervention};
pub(super) use scores::{CandidateScores, Scores};
pub(super) use search_space::SearchSpace;
pub use selection::{
    Criterion, MAX_ACCURACY_LOSS, MAX_FAMILY_LOSS, MAX_IMAGES_REMOVED, MIN_GAIN_ERRORS,
    SelectWarning, Selection, Trial,
};
pub use splits::Sampling;
pub(super) use splits::{family_folds, split_count};
