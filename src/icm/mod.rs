//! CLIP-ICM: keeping of an embedding what the thing itself causes, and dropping what light, weather
//! and sensor cause (Song et al., *Learning Invariant Causal Mechanism from Vision-Language Models*,
//! ICML 2025, arXiv 2405.15289).

pub mod captions;
pub mod intervene;
mod embeddings;
mod fit;
mod lbfgs;
mod logistic;
mod moments;
mod predict;
mod projection;
mod sources;
mod spec;
mod spectrum;

pub use embeddings::{EmbeddingError, Embeddings};
pub use fit::{FitError, FitWarning, Fitter, Map};
pub use logistic::{DEFAULT_C, Logistic, LogisticError};
pub use moments::{Moments, MomentsError};
pub use predict::{Head, Method};
pub use projection::{Projection, ProjectionError, ProjectionKind, Provenance, unit};
pub use sources::{Family, HeldOut, Interventions, Labelled, SourceError};
pub use spec::{Lambda, MapKind, MapSpec};
