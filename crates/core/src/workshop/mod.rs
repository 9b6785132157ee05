//! The workshop: a camera whose causes are all known.
//!
//! A [`Scene`] holds everything that an image depends on: invariant causes (which part, in which condition) and
//! variant ones (light, background, camera). [`render`] turns it into pixels: same scene, same bytes.
//! Pure: no I/O, no clock, no threads. Only `+ - * /`, square roots and integers touch pixels, so that processors
//! agree.
//!
//! This is the camera of the demonstration and of the tests, and what the shipped model learnt from.

mod background;
mod caption;
mod damage;
mod draw;
mod environment;
mod lattice;
mod light;
mod parts;
mod render;
mod scene;
mod sensor;

pub use caption::{article, caption};
pub use environment::{ENVIRONMENTS, Environment, Range};
pub use render::render;
pub use scene::{Condition, Finish, Invariant, Light, Part, Pose, Scene, Sensor, Surface, Variant};
