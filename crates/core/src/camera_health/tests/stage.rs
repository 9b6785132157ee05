//! Rendered frames of a camera, and what can happen to it.

use crate::camera_health::Glance;
use crate::numeric::Rng;
use crate::preprocess::RgbImage;
use crate::workshop::{Environment, Scene, Variant, render};

pub(super) const WIDTH: usize = 320;
pub(super) const HEIGHT: usize = 240;

/// What stays from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    /// Nothing: every frame has another surface.
    Redrawn,
    /// The bench; every frame shows another part.
    Conveyor,
    /// The bench; each part rests for 20 s.
    Resting,
}

/// A camera's frames: those of a stage in this environment, five a second.
pub(super) struct Camera {
    pub(super) stage: Stage,
    seed: u64,
    bench: Scene,
    next: u64,
}

impl Camera {
    pub(super) fn new(stage: Stage, seed: u64, environment: &Environment) -> Self {
        Self {
            stage,
            seed,
            bench: Scene::from_seed(seed + 40, environment),
            next: 0,
        }
    }

    pub(super) fn frame(&mut self, environment: &Environment) -> Vec<u8> {
        let part = match self.stage {
            Stage::Resting => self.next / 100,
            Stage::Redrawn | Stage::Conveyor => self.next,
        };
        self.next += 1;
        let scene = Scene::sample(
            &mut Rng::new(self.seed * 1_000_003 + part * 7919),
            environment,
        );
        let scene = if self.stage == Stage::Redrawn {
            scene
        } else {
            // The grain also draws the noise, so there is a little more of that below.
            let bench = self.bench.variant;
            let variant = Variant {
                surface: bench.surface,
                grain: bench.grain,
                ..scene.variant
            };
            Scene { variant, ..scene }
        };
        let mut pixels = render(&scene, side(WIDTH), side(HEIGHT));
        add_noise(&mut pixels, &mut Rng::new(self.next));
        pixels
    }
}

fn add_noise(pixels: &mut [u8], rng: &mut Rng) {
    for value in pixels {
        *value = level(f32::from(*value) + rng.between(-2.0, 2.0));
    }
}

pub(super) fn glance(pixels: Vec<u8>) -> Glance {
    Glance::at(&image(pixels), None)
}

pub(super) fn image(pixels: Vec<u8>) -> RgbImage {
    RgbImage {
        width: side(WIDTH),
        height: side(HEIGHT),
        data: pixels,
    }
}

fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a byte"
)]
pub(super) fn level(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// What happens to the camera, done to its picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mishap {
    /// A cap.
    Capped,
    /// A hand over the lens: skin, brighter on one side.
    Hand,
    /// Knocked aside by an eighth of the picture.
    Shifted,
    /// Twisted by 20°.
    Twisted,
    /// The lens is out of focus by 1.4 % of the picture's height.
    Blurred,
    /// Two soft blots on the lens.
    Blots,
    /// A lamp shines into the lens.
    Glare,
    /// No green.
    NoGreen,
}

impl Mishap {
    pub(super) fn happen(self, pixels: &mut [u8], rng: &mut Rng) {
        match self {
            Self::Capped => pixels.fill_with(|| level(rng.between(0.0, 6.0))),
            Self::Hand => change(pixels, |x, _, c, _| {
                [150.0, 100.0, 80.0][c] * (0.6 + 0.5 * x) + rng.between(-4.0, 4.0)
            }),
            Self::Shifted => {
                displace(pixels, |x, y| {
                    (x + WIDTH as f32 / 8.0, y + HEIGHT as f32 / 12.0)
                });
            }
            Self::Twisted => displace(pixels, |x, y| {
                let (sin, cos) = 0.35f32.sin_cos();
                let (u, v) = (x - WIDTH as f32 / 2.0, y - HEIGHT as f32 / 2.0);
                let (u, v) = (u * cos - v * sin, u * sin + v * cos);
                (u + WIDTH as f32 / 2.0, v + HEIGHT as f32 / 2.0)
            }),
            Self::Blurred => blur(pixels, 3),
            Self::Blots => {
                blot(pixels, [0.25, 0.3], 0.16);
                blot(pixels, [0.7, 0.65], 0.2);
            }
            Self::Glare => change(pixels, |x, y, _, value| {
                let (u, v) = (x - 0.5, y - 0.4);
                value + 700.0 * (-4.0 * (u * u + v * v)).exp()
            }),
            Self::NoGreen => change(pixels, |_, _, c, value| if c == 1 { 0.0 } else { value }),
        }
    }
}

/// Changes values; `to` gets the place as shares of the picture, the channel and the value.
fn change(pixels: &mut [u8], mut to: impl FnMut(f32, f32, usize, f32) -> f32) {
    for (i, value) in pixels.iter_mut().enumerate() {
        let (x, y) = (i / 3 % WIDTH, i / 3 / WIDTH);
        let (x, y) = (x as f32 / WIDTH as f32, y as f32 / HEIGHT as f32);
        *value = level(to(x, y, i % 3, f32::from(*value)));
    }
}

/// Shows at each place what was elsewhere; beyond the edge, the picture goes on from the other side.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the picture"
)]
fn displace(pixels: &mut [u8], from: impl Fn(f32, f32) -> (f32, f32)) {
    let old = pixels.to_vec();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (u, v) = from(x as f32, y as f32);
            let u = u.rem_euclid(WIDTH as f32 - 1.0) as usize;
            let v = v.rem_euclid(HEIGHT as f32 - 1.0) as usize;
            let (to, from) = ((y * WIDTH + x) * 3, (v * WIDTH + u) * 3);
            pixels[to..to + 3].copy_from_slice(&old[from..from + 3]);
        }
    }
}

/// Something dark, far out of focus, at this place, its radius in heights of the picture.
fn blot(pixels: &mut [u8], at: [f32; 2], radius: f32) {
    let aspect = WIDTH as f32 / HEIGHT as f32;
    change(pixels, |x, y, _, value| {
        let away = ((x - at[0]) * aspect).hypot(y - at[1]) / radius;
        let t = ((1.3 - away) / 0.8).clamp(0.0, 1.0);
        let hidden = 0.95 * t * t * (3.0 - 2.0 * t);
        value * (1.0 - hidden) + 40.0 * hidden
    });
}

/// Three box blurs, nearly a Gaussian.
pub(super) fn blur(pixels: &mut [u8], radius: usize) {
    for _ in 0..3 {
        for c in 0..3 {
            for y in 0..HEIGHT {
                blur_line(pixels, y * WIDTH * 3 + c, 3, WIDTH, radius);
            }
            for x in 0..WIDTH {
                blur_line(pixels, x * 3 + c, WIDTH * 3, HEIGHT, radius);
            }
        }
    }
}

fn blur_line(pixels: &mut [u8], start: usize, step: usize, count: usize, radius: usize) {
    let old: Vec<f32> = (0..count)
        .map(|i| f32::from(pixels[start + i * step]))
        .collect();
    for i in 0..count {
        let around = &old[i.saturating_sub(radius)..(i + radius + 1).min(count)];
        pixels[start + i * step] = level(around.iter().sum::<f32>() / around.len() as f32);
    }
}
