//! Offsets of another light, in a world whose light is known.

mod files;
mod light;
mod world;
