//! Another light than that of the calibration, and what to do about it.
//!
//! Light moves all embeddings of a camera alike, more or less. The mean of some frames, less the mean of the calibration's
//! images, is that move, if the frames show all classes: [`Classifier::estimate`](super::Classifier::estimate) gives it as
//! an [`Offset`], which is then subtracted from every embedding before the projection. Frames of one class would move the
//! classes instead. They are told by their scatter, and either bound to the few directions that light moves most, or
//! refused ([`Refusal`]).
//!
//! - [`ClassMix`]: what another mix of classes would do to the mean of frames, which is no light.
//! - [`Reference`]: what a calibrated class bank knows of its own light, and what simulated streams lost and gained.
//! - [`Profile`]: an offset with what it belongs to, as a file; [`Chooser`] picks one when a known light returns.
//! - [`RunningOffset`]: an offset that follows the light, within the few directions.

mod applied;
mod chooser;
mod compare;
mod coordinates;
mod mix;
mod offset;
mod profile;
mod reference;
mod running;
mod scatter;
mod storage;

pub use chooser::Chooser;
pub use compare::{Comparison, Summary};
pub(super) use coordinates::Coordinates;
pub use mix::ClassMix;
pub(super) use mix::MAX_CLASSES;
pub use offset::{MIN_FRAMES, Offset, OffsetKind, Refusal};
pub use profile::{Binding, Profile, ProfileError};
pub use reference::{MAX_AXES, Reference, Running, Stream, StreamResult};
pub use running::RunningOffset;
pub(super) use scatter::between_share;
pub(super) use storage::{Stored, read};
