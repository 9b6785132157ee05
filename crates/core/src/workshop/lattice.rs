//! Random values at lattice points, independent of the order in which they are read.

#![expect(
    clippy::cast_sign_loss,
    reason = "coordinates are hashed by their bits"
)]

/// 32 random bits, a function of a lattice point and a seed.
pub(super) fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut h = seed ^ (x as u32).wrapping_mul(0x85EB_CA6B) ^ (y as u32).wrapping_mul(0xC2B2_AE35);
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    h = (h ^ (h >> 15)).wrapping_mul(0x846C_A68B);
    h ^ (h >> 16)
}
