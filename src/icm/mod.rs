//! CLIP-ICM: keeping of an embedding what the thing itself causes, and dropping what light, weather
//! and sensor cause (Song et al., *Learning Invariant Causal Mechanism from Vision-Language Models*,
//! ICML 2025, arXiv 2405.15289).

pub mod captions;
pub mod intervene;
mod embeddings;
mod fit;
mod moments;
mod projection;
mod spec;
mod spectrum;

pub use embeddings::{EmbeddingError, Embeddings};
pub use fit::{FitError, FitWarning, Fitter, Map};
pub use moments::{Moments, MomentsError};
pub use projection::{Projection, ProjectionError, ProjectionKind, Provenance, unit};
pub use spec::{Lambda, MapKind, MapSpec};
