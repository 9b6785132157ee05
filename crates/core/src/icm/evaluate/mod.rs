//! How good a map is on targets that nothing was learnt from: the protocols of a comparison, and
//! its figures.
//!
//! There are two protocols. [`LeaveOneEnvironmentOut`] takes each environment in turn as the
//! target; [`LeaveOneFamilyOut`] takes each family of interventions, on images that were not learnt
//! from. Each provides sources, which serve to choose maps, strengths and the probe's C, and a
//! [`HeldOut`](super::HeldOut) target, on which [`judge()`] counts right answers. Every row of the
//! result is compared with the raw embeddings on the same images ([`figures_of`]).
//!
//! Next to accuracy stands [`Trust`]: is a probability true, how well does each [`Ranker`] put right
//! answers above wrong ones, and how many images of unknown classes does it let pass?
//!
//! Both protocols give every target to its caller, who may spread the work over threads: this crate
//! starts none.

mod calibrated;
mod chosen_maps;
mod environments;
mod evidence;
mod families;
mod figures;
mod judge;
mod plan;
mod protocol;
mod ranker;
mod reference;
mod sample;
mod temperature;
mod trust;

pub use calibrated::CalibratedOn;
pub use chosen_maps::Answers;
pub use environments::{LeaveOneEnvironmentOut, known_classes};
pub use families::{FewShot, LeaveOneFamilyOut};
pub use figures::{Figure, Figures, Group, Scoreboard, figures_of};
pub use judge::{Choice, Outcome, Verdict, judge};
pub use plan::{Candidates, FamilySet, Plan, Predictor, Row};
pub use protocol::{ProtocolError, Section, Summary, TargetChoice};
pub use ranker::Ranker;
pub use sample::sample;
pub use trust::{Batch, COVERAGE, OpenScores, Trust};

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the hits are exact")]
mod tests;
