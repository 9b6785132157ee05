//! CLIP-ICM: keeps the part of an embedding that the thing itself causes, and drops the part that
//! light, weather and sensor cause (Song et al., *Learning Invariant Causal Mechanism from
//! Vision-Language Models*, ICML 2025, arXiv 2405.15289).
//!
//! # The method
//!
//! Invariant factors (what the thing is) and variant factors (light, weather, sensor, background)
//! cause an image x. A change of environment moves the variant ones only. An intervention does the
//! same on purpose: it turns x into x^do, and the difference of the unit embeddings, δ = f(x) −
//! f(x^do), points in variant directions. With z = f(x), the moments `C = E[z zᵀ]` and `Δ = E[δ
//! δᵀ]` give the columns A that maximise `tr Aᵀ(C − λΔ)A`; the invariant embedding is Aᵀz.
//!
//! # Reading order
//!
//! 1. Data: [`Embeddings`] are checked unit columns. [`Interventions`] holds those of images and of
//!    their versions under interventions; [`Labelled`] adds classes and environments, which
//!    [`Domains`] reads from folder names. [`captions`] intervenes through text.
//! 2. Fit: [`Moments`] sums z and δ, and can be merged across devices. [`MapSpec`] says which map
//!    to fit, a [`Fitter`] fits it, a [`Map`] is the result in f64.
//! 3. Application: [`Projection`] is the map in f32 as the daemon applies it, and its file.
//! 4. Choice: [`by_agreement`], [`by_identification`], [`by_environment`] and [`by_intervention`] choose the map from
//!    a [`Grid`] of candidates, and keep the identity if no map is better.
//! 5. Classification: a [`Head`] names classes under a map: zero-shot, by class means, or by a
//!    linear probe ([`Logistic`]).
//! 6. Evaluation: [`evaluate`] repeats fit and choice for [`HeldOut`] targets; a [`Bootstrap`]
//!    gives the intervals of its figures.
//!
//! Below these lie linear algebra (`linalg`, `spectrum`, `cholesky`), the minimiser `lbfgs`, and
//! `map_set`, which compares many maps at once. Imports form no cycles.

pub mod captions;
mod cholesky;
mod embeddings;
pub mod evaluate;
mod fit;
mod folders;
mod head;
mod held_out;
mod interval;
mod interventions;
mod labelled;
mod lbfgs;
mod linalg;
mod logistic;
mod losses;
mod map;
mod map_set;
mod moments;
mod moments_file;
mod pooled_moments;
mod projection;
mod select;
mod spec;
mod spectrum;
mod sums;
mod sweep;
mod whitening;

pub use crate::stats::Interval;
pub use embeddings::{EmbeddingError, Embeddings};
pub use fit::{FitError, FitWarning, Fitter, Removed};
pub use folders::{Domains, FoldersError, Item, MissingClass};
pub use head::{Head, Method};
pub use held_out::HeldOut;
pub use interval::{Bootstrap, DEFAULT_DRAWS, DEFAULT_LEVEL, mean_and_error};
pub use interventions::{ChangedImages, Interventions, SourceError};
pub use labelled::{EnvironmentMoments, Labelled};
pub(crate) use linalg::{gram, product};
pub use logistic::{DEFAULT_C, Logistic, LogisticError};
pub use map::Map;
pub use moments::{Moments, MomentsError, SAME_CLASS};
pub use projection::{Projection, ProjectionError, ProjectionKind, Provenance};
pub use select::{
    Criterion, Grid, MAX_ACCURACY_LOSS, MAX_FAMILY_LOSS, MAX_IMAGES_REMOVED, MIN_GAIN_ERRORS,
    PENALTIES, Sampling, SelectError, SelectWarning, Selection, Trial, by_agreement,
    by_environment, by_gentle_identification, by_identification, by_intervention,
    penalty_by_environment,
};
pub use spec::{Lambda, MapKind, MapSpec, UnknownMap};
pub(crate) use spectrum::Spectrum;
pub use sweep::{Sweep, SweepError};
pub use whitening::{
    Covariances, Strengths, Whitening, WhiteningChoice, by_held_out_images, choose_whitening,
};
