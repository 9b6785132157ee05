//! Draws what is no factory part: a hand and tools, as they get in front of a camera.

use super::draw::{Canvas, Point, Rgb, arc, circle, cylinder, polar, rectangle};
use crate::numeric::Rng;

const STEEL: Rgb = [172.0, 172.0, 176.0];

/// An open hand from above, fingers up or down.
pub(super) fn hand(canvas: &mut Canvas, rng: &mut Rng) {
    canvas.set_colour(rng.pick(&[
        [232.0, 190.0, 164.0],
        [205.0, 152.0, 118.0],
        [150.0, 102.0, 74.0],
        [96.0, 64.0, 48.0],
    ]));
    canvas.displace([0.0, 0.0], rng.between(0.0, 1.0));
    let spread = rng.between(0.025, 0.05);
    let width = rng.between(0.15, 0.18);
    let fingers = [-1.5_f32, -0.5, 0.5, 1.5].map(|place| {
        let base = [place * (width + 0.02), -0.12];
        let length = rng.between(0.56, 0.62) - 0.05 * place * place;
        [base, polar(base, length, 0.75 + place * spread)]
    });
    let thumb = [
        [-0.24, 0.28],
        polar([-0.24, 0.28], rng.between(0.48, 0.56), 0.60),
    ];
    let palm = palm(width * 2.0 + 0.06);
    for (tone, widen) in [(0.45, 0.03), (1.0, 0.0)] {
        for finger in fingers.iter().chain([&thumb]) {
            canvas.rod(finger, width + widen, tone);
        }
        canvas.rod(&[[0.0, 0.4], [0.0, 1.6]], 0.44 + widen, tone);
    }
    canvas.metal(&[&palm], 1.0);
    for finger in &fingers {
        let [base, tip] = *finger;
        canvas.metal(&[&circle(tip, width * 0.3)], 1.18);
        let middle = [
            f32::midpoint(base[0], tip[0]),
            f32::midpoint(base[1], tip[1]),
        ];
        canvas.rod(
            &[[middle[0] - 0.05, middle[1]], [middle[0] + 0.05, middle[1]]],
            0.014,
            0.7,
        );
    }
}

/// The palm, `half` wide on either side.
fn palm(half: f32) -> Vec<Point> {
    let mut outline = arc([half - 0.12, -0.08], 0.12, 0.75, 1.0);
    outline.extend(arc([half - 0.2, 0.38], 0.2, 0.0, 0.25));
    outline.extend(arc([0.2 - half, 0.38], 0.2, 0.25, 0.5));
    outline.extend(arc([0.12 - half, -0.08], 0.12, 0.5, 0.75));
    outline
}

/// A screwdriver with a coloured handle.
pub(super) fn screwdriver(canvas: &mut Canvas, rng: &mut Rng) {
    canvas.displace([0.0, 0.0], rng.between(-0.1, 0.1));
    let half = rng.between(0.05, 0.07);
    let handle = rng.between(0.15, 0.20);
    let neck = rng.between(-0.05, 0.1);
    canvas.set_colour(STEEL);
    let blade = [
        [-half, neck],
        [-half, -0.72],
        [-half * 1.5, -0.78],
        [-half * 0.8, -0.9],
        [half * 0.8, -0.9],
        [half * 1.5, -0.78],
        [half, -0.72],
        [half, neck],
    ];
    canvas.solid(&[&blade], 1.0);
    cylinder(canvas, -0.7, neck, half);
    canvas.set_colour(handle_colour(rng));
    let mut grip = arc([0.0, 0.86 - handle], handle, 0.0, 0.5);
    grip.extend([
        [-handle, neck + 0.12],
        [-handle * 0.6, neck],
        [handle * 0.6, neck],
        [handle, neck + 0.12],
    ]);
    canvas.solid(&[&grip], 1.0);
    for i in -1_i8..=1 {
        let x = f32::from(i) * handle * 0.55;
        canvas.rod(
            &[[x, neck + 0.16], [x, 0.72]],
            0.03,
            if i == 0 { 1.35 } else { 0.6 },
        );
    }
}

fn handle_colour(rng: &mut Rng) -> Rgb {
    rng.pick(&[
        [190.0, 40.0, 34.0],
        [214.0, 160.0, 30.0],
        [36.0, 84.0, 170.0],
        [40.0, 130.0, 70.0],
        [60.0, 60.0, 64.0],
    ])
}

/// A spanner with an open jaw and a ring.
pub(super) fn spanner(canvas: &mut Canvas, rng: &mut Rng) {
    canvas.displace([0.0, 0.0], rng.between(-0.1, 0.1));
    canvas.set_colour(STEEL);
    let half = rng.between(0.09, 0.12);
    let jaw = rng.between(0.27, 0.32);
    let mouth = jaw * rng.between(0.45, 0.55);
    canvas.solid(&[&rectangle(-half, -0.55, half, 0.6)], 0.95);
    canvas.metal(&[&rectangle(-half * 0.5, -0.35, half * 0.5, 0.4)], 0.75);
    canvas.solid(&[&circle([0.0, -0.6], jaw)], 1.0);
    let ring = [0.0, 0.64];
    canvas.solid(&[&circle(ring, jaw * 0.85), &circle(ring, jaw * 0.5)], 1.0);
    canvas.erase(&[&rectangle(-mouth, -1.0, mouth, -0.6)]);
    canvas.erase(&[&circle(ring, jaw * 0.48)]);
}

/// A ruler with its marks.
pub(super) fn ruler(canvas: &mut Canvas, rng: &mut Rng) {
    canvas.displace([0.0, 0.0], rng.between(-0.12, 0.12));
    canvas.set_colour(rng.pick(&[[214.0, 178.0, 96.0], STEEL, [226.0, 226.0, 222.0]]));
    let half = rng.between(0.16, 0.22);
    canvas.solid(&[&rectangle(-half, -0.92, half, 0.92)], 1.0);
    let marks = rng.count(30, 44);
    for i in 1..marks {
        let y = -0.9 + 1.8 * i as f32 / marks as f32;
        let length = if i % 5 == 0 { 0.14 } else { 0.07 };
        canvas.rod(&[[half - length, y], [half - 0.01, y]], 0.009, 0.2);
    }
}
