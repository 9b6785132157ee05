//! CLIP-ICM: keeping of an embedding what the thing itself causes, and dropping what light, weather
//! and sensor cause (Song et al., *Learning Invariant Causal Mechanism from Vision-Language Models*,
//! ICML 2025, arXiv 2405.15289).
//!
//! From images to a map, in the order in which it happens: [`Domains`] lists what lies on disk by environment and class;
//! its embeddings, and those under interventions, are [`Interventions`] (or, with classes and environments,
//! [`Labelled`]) or are streamed into [`Moments`]; [`by_identification`], [`by_environment`] or
//! [`by_intervention`] chooses a map, a [`Fitter`] fits it, and its bytes are what [`Projection`] reads. [`Head`] names
//! classes under a map, a [`Bootstrap`] says how sure a figure is, and [`evaluate`] does all of it for targets that
//! nothing was learnt from.

pub mod captions;
mod cholesky;
mod embeddings;
pub mod evaluate;
mod fit;
mod folders;
mod interval;
mod labelled;
mod lbfgs;
mod logistic;
mod map_set;
mod moments;
mod predict;
mod projection;
mod select;
mod sources;
mod spec;
mod spectrum;

pub use embeddings::{EmbeddingError, Embeddings};
pub use fit::{FitError, FitWarning, Fitter, Map, Removed};
pub use folders::{Domains, FoldersError, Item, MissingClass};
pub use interval::{Bootstrap, DEFAULT_DRAWS, DEFAULT_LEVEL, Interval, mean_and_error};
pub use labelled::{EnvironmentMoments, HeldOut, Labelled, SAME_CLASS};
pub use logistic::{DEFAULT_C, Logistic, LogisticError};
pub use moments::{Moments, MomentsError};
pub use predict::{Head, Method};
pub use projection::{Projection, ProjectionError, ProjectionKind, Provenance};
pub use select::{
    Criterion, Grid, HARM, Identification, PENALTIES, SURE, SelectError, SelectWarning, Selection,
    Trial, by_environment, by_identification, by_intervention, penalty_by_environment,
};
pub use sources::{Family, Interventions, SourceError};
pub use spec::{Lambda, MapKind, MapSpec, UnknownMap};
