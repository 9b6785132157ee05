//! The workshop: a rendered camera whose causes are all known.
//!
//! A [`Scene`] holds everything that an image depends on: invariant causes (the part and its condition) and variant ones
//! (light, background, camera). [`render()`] turns it into pixels; the same scene gives the same bytes. Only `+ - * /`,
//! square roots and integers compute pixels, so that all processors agree.
//!
//! The demo and the tests use this camera, and the shipped model was trained on its images.

mod background;
mod caption;
mod causes;
mod controls;
mod damage;
mod draw;
mod environment;
mod lattice;
mod light;
mod others;
mod parts;
mod render;
mod scene;
mod sensor;

pub use caption::{article, caption, light_in_words};
pub use causes::{Condition, Finish, Invariant, Light, Part, Pose, Sensor, Surface, Variant};
pub use controls::Controls;
pub use environment::{ENVIRONMENTS, Environment, Range, WIDE};
pub use render::render;
pub use scene::Scene;
