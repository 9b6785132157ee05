//! The surfaces under the parts: procedural textures in integer arithmetic.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "coordinates are a few thousand, colours are clamped"
)]

use super::causes::Surface;
use super::lattice::hash;
use crate::numeric::{Rng, sine};

/// Fractional bits of texture coordinates.
const FRACTION: i32 = 12;

/// One texture unit: half of the image's shorter side.
const ONE: i32 = 1 << FRACTION;

/// Paints `surface` over RGB8 `pixels` of `width` pixels per row; `grain` is the seed of its marks.
pub(super) fn paint(surface: Surface, grain: u64, pixels: &mut [u8], width: usize, height: usize) {
    let mut rng = Rng::new(grain);
    let seed = rng.next_u64() as u32;
    let texture: fn(i32, i32, u32) -> [i32; 3] = match surface {
        Surface::SteelBench => steel_bench,
        Surface::Wood => wood,
        Surface::Concrete => concrete,
        Surface::RubberMat => rubber_mat,
        Surface::Fabric => fabric,
        Surface::Cardboard => cardboard,
    };
    let unit = width.min(height).max(1) as f32 / 2.0;
    let turns = rng.between(-0.06, 0.06) + if rng.chance(0.5) { 0.25 } else { 0.0 };
    let step = [
        sine(turns + 0.25) / unit * ONE as f32,
        sine(turns) / unit * ONE as f32,
    ]
    .map(|s| (s * 256.0) as i32);
    // Far from zero, so that coordinates never change sign inside the image.
    let origin = [rng.count(8, 60) as i32 * ONE, rng.count(8, 60) as i32 * ONE];
    for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (x, y) = (x as i32, y as i32);
            let u = origin[0] + ((x * step[0] - y * step[1]) >> 8);
            let v = origin[1] + ((x * step[1] + y * step[0]) >> 8);
            let colour = texture(u, v, seed);
            for (value, c) in pixel.iter_mut().zip(colour) {
                *value = c.clamp(0, 255) as u8;
            }
        }
    }
}

/// Value noise, `-128..=127`, with `frequency` cells per unit.
fn noise(u: i32, v: i32, frequency: (i32, i32), seed: u32) -> i32 {
    let (u, v) = (u * frequency.0, v * frequency.1);
    let (x, y) = (u >> FRACTION, v >> FRACTION);
    let (fx, fy) = (u & (ONE - 1), v & (ONE - 1));
    let corner = |dx, dy| (hash(x + dx, y + dy, seed) >> 24) as i32;
    let blend = |a: i32, b: i32, f: i32| a + (((b - a) * f) >> FRACTION);
    blend(
        blend(corner(0, 0), corner(1, 0), fx),
        blend(corner(0, 1), corner(1, 1), fx),
        fy,
    ) - 128
}

/// The phase of `v` in a period of `ONE / per_unit`, `0..256`.
fn phase(v: i32, per_unit: i32) -> i32 {
    ((v * per_unit) & (ONE - 1)) >> (FRACTION - 8)
}

fn tinted(base: [i32; 3], change: i32) -> [i32; 3] {
    base.map(|c| c + ((c * change) >> 8))
}

fn steel_bench(u: i32, v: i32, seed: u32) -> [i32; 3] {
    let streaks = noise(u, v, (1, 40), seed) / 4;
    tinted([128, 134, 142], streaks + noise(u, v, (2, 2), seed ^ 1) / 5)
}

fn wood(u: i32, v: i32, seed: u32) -> [i32; 3] {
    let wavy = v + noise(u, v, (1, 2), seed) * 8;
    let ring = phase(wavy, 5);
    let ring = if ring < 200 {
        ring / 4
    } else {
        (256 - ring) * 7 / 8
    };
    let seam = if phase(v, 1) < 5 { -110 } else { 0 };
    tinted(
        [158, 116, 74],
        seam - ring + noise(u, v, (3, 60), seed ^ 1) / 5,
    )
}

fn concrete(u: i32, v: i32, seed: u32) -> [i32; 3] {
    let speckle = noise(u, v, (70, 70), seed ^ 1) / 5;
    tinted([156, 154, 148], noise(u, v, (3, 3), seed) / 4 + speckle)
}

fn rubber_mat(u: i32, v: i32, seed: u32) -> [i32; 3] {
    let rib = phase(v, 12);
    let rib = if rib < 90 { 70 } else { 0 };
    tinted([54, 55, 58], rib + noise(u, v, (20, 20), seed) / 4)
}

fn fabric(u: i32, v: i32, seed: u32) -> [i32; 3] {
    let over = (phase(u, 14) < 128) == (phase(v, 14) < 128);
    let thread = if over { phase(u, 28) } else { phase(v, 28) };
    tinted(
        [70, 92, 136],
        (thread - 128).abs() / -3 + 20 + noise(u, v, (4, 4), seed) / 5,
    )
}

fn cardboard(u: i32, v: i32, seed: u32) -> [i32; 3] {
    let flute = (phase(v, 9) - 128).abs() / 12;
    tinted(
        [178, 144, 104],
        flute + noise(u, v, (2, 30), seed) / 10 + noise(u, v, (3, 3), seed ^ 1) / 8,
    )
}
