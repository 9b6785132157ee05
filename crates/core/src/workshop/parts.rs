//! Draws the parts, each with the proportions of its specimen's random numbers.

use super::causes::Part;
use super::draw::{Canvas, Point, arc, circle, cylinder, polar, polygon, rectangle};
use super::others;
use crate::numeric::Rng;

const ORIGIN: Point = [0.0, 0.0];

/// Draws `part`. `rng` decides the specimen's proportions: the same stream draws the same part.
pub(super) fn draw(part: Part, canvas: &mut Canvas, rng: &mut Rng) {
    match part {
        Part::Bolt => bolt(canvas, rng),
        Part::Nut => nut(canvas, rng),
        Part::Washer => washer(canvas, rng),
        Part::Gear => gear(canvas, rng),
        Part::Bearing => bearing(canvas, rng),
        Part::Spring => spring(canvas, rng),
        Part::Bracket => bracket(canvas, rng),
        Part::PipeFitting => pipe_fitting(canvas, rng),
        Part::Nothing => {}
        Part::Hand => others::hand(canvas, rng),
        Part::Screwdriver => others::screwdriver(canvas, rng),
        Part::Spanner => others::spanner(canvas, rng),
        Part::Ruler => others::ruler(canvas, rng),
    }
}

/// A random point on the part's surface, away from its edges, where damage can be drawn.
pub(super) fn on_surface(part: Part, rng: &mut Rng) -> Point {
    match part {
        Part::Bolt => [rng.between(-0.1, 0.1), rng.between(-0.6, 0.45)],
        Part::Nut => polar(ORIGIN, rng.between(0.46, 0.54), rng.unit()),
        Part::Washer => polar(ORIGIN, rng.between(0.46, 0.56), rng.unit()),
        Part::Gear => polar(ORIGIN, rng.between(0.34, 0.5), rng.unit()),
        Part::Bearing => polar(ORIGIN, rng.pick(&[0.31, 0.66]), rng.unit()),
        Part::Spring => [rng.between(-0.2, 0.2), rng.between(-0.5, 0.5)],
        Part::Bracket if rng.chance(0.5) => [-0.42, rng.between(-0.5, 0.5)],
        Part::Bracket => [rng.between(-0.5, 0.5), 0.44],
        Part::PipeFitting => [rng.between(-0.12, 0.12), rng.between(-0.12, 0.45)],
        Part::Nothing | Part::Hand | Part::Screwdriver | Part::Spanner | Part::Ruler => ORIGIN,
    }
}

/// A hexagon bolt from the side: head, shank, thread.
fn bolt(canvas: &mut Canvas, rng: &mut Rng) {
    let half = rng.between(0.15, 0.19);
    let head = rng.between(0.34, 0.40);
    let neck = rng.between(-0.46, -0.40);
    let thread = rng.between(-0.22, 0.0);
    let end = 0.82;
    let shank = [
        [-half, neck],
        [half, neck],
        [half, end - 0.07],
        [half - 0.06, end],
        [0.06 - half, end],
        [-half, end - 0.07],
    ];
    canvas.solid(&[&shank], 0.9);
    cylinder(canvas, neck, end - 0.08, half);
    let pitch = rng.between(0.075, 0.095);
    let mut y = thread;
    while y < end - 0.08 {
        canvas.rod(
            &[[-half - 0.015, y], [half + 0.015, y + pitch * 0.5]],
            0.026,
            0.42,
        );
        canvas.rod(
            &[[-half, y + pitch * 0.4], [half, y + pitch * 0.9]],
            0.012,
            1.25,
        );
        y += pitch;
    }
    let top = -0.80;
    let outline = [
        [-head, top + 0.06],
        [-head + 0.07, top],
        [head - 0.07, top],
        [head, top + 0.06],
        [head, neck],
        [-head, neck],
    ];
    canvas.solid(&[&outline], 1.0);
    let facet = head * 0.5;
    let (left, right) = (canvas.facing(0.5), canvas.facing(0.0));
    canvas.metal(
        &[&rectangle(-head + 0.02, top + 0.07, -facet, neck - 0.02)],
        0.86 * left,
    );
    canvas.metal(
        &[&rectangle(facet, top + 0.07, head - 0.02, neck - 0.02)],
        0.86 * right,
    );
    canvas.rod(&[[-facet, top + 0.05], [-facet, neck - 0.02]], 0.016, 0.5);
    canvas.rod(&[[facet, top + 0.05], [facet, neck - 0.02]], 0.016, 0.5);
}

/// A hexagon nut from above.
fn nut(canvas: &mut Canvas, rng: &mut Rng) {
    let radius = rng.between(0.72, 0.80);
    let hole = rng.between(0.33, 0.39);
    let turn = rng.between(-0.02, 0.02);
    let outline = polygon(ORIGIN, radius, 6, turn);
    let bore = circle(ORIGIN, hole);
    canvas.solid(&[&outline, &bore], 1.0);
    let chamfer = circle(ORIGIN, radius * 0.84);
    for i in 0..6 {
        let from = turn + i as f32 / 6.0;
        let sector = [
            polar(ORIGIN, radius * 0.99, from),
            polar(ORIGIN, radius * 0.99, from + 1.0 / 6.0),
            ORIGIN,
        ];
        canvas.metal(&[&sector], 0.78 * canvas.facing(from + 1.0 / 12.0));
    }
    canvas.solid(&[&chamfer, &bore], 1.04);
    canvas.metal(&[&circle(ORIGIN, hole + 0.06), &bore], 0.55);
    canvas.metal(&[&circle(ORIGIN, hole + 0.03), &bore], 0.85);
    canvas.erase(&[&bore]);
}

/// A flat ring with turning marks.
fn washer(canvas: &mut Canvas, rng: &mut Rng) {
    let radius = rng.between(0.70, 0.78);
    let hole = rng.between(0.32, 0.40);
    let (outline, bore) = (circle(ORIGIN, radius), circle(ORIGIN, hole));
    canvas.solid(&[&outline, &bore], 1.03);
    for i in 1..5 {
        let at = hole + (radius - hole) * i as f32 / 5.0;
        canvas.metal(
            &[&circle(ORIGIN, at + 0.008), &circle(ORIGIN, at)],
            if i % 2 == 0 { 0.94 } else { 1.1 },
        );
    }
    sheen(canvas, hole, radius);
}

/// Two opposite bright sectors, the reflections of turned metal.
fn sheen(canvas: &mut Canvas, inner: f32, outer: f32) {
    for start in [0.08, 0.58] {
        let mut sector = arc(ORIGIN, outer - 0.03, start, start + 0.09);
        sector.extend(arc(ORIGIN, inner + 0.03, start + 0.09, start));
        canvas.paint(&sector, [255.0; 3], 0.22);
    }
}

/// A spur gear with a hub, a keyway and lightening holes.
fn gear(canvas: &mut Canvas, rng: &mut Rng) {
    let teeth = rng.count(11, 16);
    let tip = rng.between(0.80, 0.86);
    let root = tip - rng.between(0.15, 0.18);
    let mut outline = Vec::with_capacity(teeth * 4);
    for i in 0..teeth {
        for (share, radius) in [(0.0, root), (0.14, tip), (0.46, tip), (0.60, root)] {
            outline.push(polar(ORIGIN, radius, (i as f32 + share) / teeth as f32));
        }
    }
    let bore = circle(ORIGIN, rng.between(0.13, 0.17));
    let holes = rng.count(4, 6);
    let hole_radius = rng.between(0.075, 0.10);
    let mut contours = vec![outline, bore.clone()];
    let turn = rng.unit();
    for i in 0..holes {
        contours.push(circle(
            polar(ORIGIN, 0.42, turn + i as f32 / holes as f32),
            hole_radius,
        ));
    }
    let views: Vec<&[Point]> = contours.iter().map(Vec::as_slice).collect();
    canvas.solid(&views, 1.0);
    canvas.groove(&circle(ORIGIN, root - 0.06), 0.02);
    canvas.solid(&[&circle(ORIGIN, 0.27), &bore], 1.1);
    canvas.erase(&[&rectangle(-0.045, -0.23, 0.045, 0.0)]);
}

/// A ball bearing: two races and the balls between them.
fn bearing(canvas: &mut Canvas, rng: &mut Rng) {
    let outer = rng.between(0.76, 0.82);
    let bore = circle(ORIGIN, rng.between(0.20, 0.24));
    canvas.solid(&[&circle(ORIGIN, outer), &bore], 1.0);
    canvas.metal(&[&circle(ORIGIN, 0.585), &circle(ORIGIN, 0.375)], 0.24);
    canvas.groove(&circle(ORIGIN, 0.585), 0.014);
    canvas.groove(&circle(ORIGIN, 0.375), 0.014);
    let balls = rng.count(8, 10);
    let turn = rng.unit();
    for i in 0..balls {
        let at = polar(ORIGIN, 0.48, turn + i as f32 / balls as f32);
        canvas.metal(&[&circle(at, 0.105)], 0.72);
        canvas.metal(&[&circle([at[0] - 0.012, at[1] - 0.012], 0.082)], 1.05);
        canvas.metal(&[&circle([at[0] - 0.03, at[1] - 0.035], 0.032)], 1.5);
    }
    canvas.metal(
        &[
            &circle(ORIGIN, outer - 0.05),
            &circle(ORIGIN, outer - 0.065),
        ],
        0.75,
    );
}

/// A coil spring from the side.
fn spring(canvas: &mut Canvas, rng: &mut Rng) {
    let turns = rng.count(6, 8);
    let half = rng.between(0.30, 0.36);
    let wire = rng.between(0.075, 0.09);
    let (top, bottom) = (-0.74, 0.74);
    let pitch = (bottom - top) / turns as f32;
    let y = |i: usize| top + pitch * i as f32;
    for i in 0..turns {
        let back = [[half, y(i) + pitch * 0.5], [-half, y(i + 1)]];
        canvas.rod(&back, wire + 0.02, 0.2);
        canvas.rod(&back, wire - 0.01, 0.55);
    }
    for i in 0..=turns {
        // The last coil ends flat.
        let fall = if i == turns { 0.0 } else { pitch * 0.5 };
        let front = [[-half, y(i)], [half, y(i) + fall]];
        canvas.rod(&front, wire + 0.025, 0.2);
        canvas.rod(&front, wire, 0.92);
        let inner = [
            [-half * 0.9, y(i) - wire * 0.18],
            [half * 0.9, y(i) + fall - wire * 0.18],
        ];
        canvas.rod(&inner, wire * 0.3, 1.4);
    }
}

/// An L-shaped bracket with screw holes.
fn bracket(canvas: &mut Canvas, rng: &mut Rng) {
    let width = rng.between(0.34, 0.42);
    let (far, near) = (0.72, -0.64);
    let hole = rng.between(0.075, 0.095);
    let mut outline = vec![[near, -far], [near + width, -far]];
    // The inner corner is filleted.
    outline.extend(arc(
        [near + width + 0.14, far - 0.08 - width - 0.14],
        0.14,
        0.5,
        0.25,
    ));
    outline.extend([
        [far, far - 0.08 - width],
        [far, far - 0.08],
        [near, far - 0.08],
    ]);
    let arm = near + width / 2.0;
    let foot = far - 0.08 - width / 2.0;
    let holes = [[arm, -0.50], [arm, -0.08], [0.12, foot], [0.52, foot]].map(|at| circle(at, hole));
    let mut contours: Vec<&[Point]> = vec![&outline];
    contours.extend(holes.iter().map(Vec::as_slice));
    canvas.solid(&contours, 1.02);
    let crease = [
        [near + 0.07, -far + 0.07],
        [near + 0.07, far - 0.15],
        [far - 0.07, far - 0.15],
    ];
    canvas.rod(&crease, 0.022, 0.72);
    for hole in &holes {
        canvas.groove(hole, 0.022);
    }
}

/// A pipe tee or elbow with collars.
fn pipe_fitting(canvas: &mut Canvas, rng: &mut Rng) {
    let half = rng.between(0.21, 0.25);
    let collar = half + rng.between(0.08, 0.11);
    let tee = rng.chance(0.5);
    let left = if tee { -0.78 } else { -half };
    let run = rectangle(left, -half, 0.78, half);
    canvas.solid(&[&run], 0.9);
    pipe_across(canvas, left + 0.01, 0.77, half);
    canvas.solid(
        &[&rectangle(-half, if tee { 0.0 } else { -half }, half, 0.78)],
        0.9,
    );
    cylinder(
        canvas,
        if tee { half * 0.2 } else { -half + 0.01 },
        0.77,
        half,
    );
    if tee {
        pipe_across(canvas, -half, half, half);
        canvas.rod(&[[-half, half], [0.0, 0.03], [half, half]], 0.018, 0.5);
    } else {
        canvas.rod(&[[-half, -half], [half, half]], 0.018, 0.5);
    }
    canvas.solid(&[&rectangle(-collar, 0.56, collar, 0.80)], 1.0);
    cylinder(canvas, 0.58, 0.78, collar - 0.01);
    canvas.solid(&[&rectangle(0.56, -collar, 0.80, collar)], 1.0);
    pipe_across(canvas, 0.58, 0.78, collar - 0.01);
    if tee {
        canvas.solid(&[&rectangle(-0.80, -collar, -0.56, collar)], 1.0);
        pipe_across(canvas, -0.78, -0.58, collar - 0.01);
    }
}

/// Shades a horizontal cylinder between two sides in strips.
fn pipe_across(canvas: &mut Canvas, left: f32, right: f32, half: f32) {
    const STRIPS: [f32; 8] = [0.66, 0.95, 1.2, 1.12, 0.98, 0.84, 0.68, 0.5];
    let height = 2.0 * half / STRIPS.len() as f32;
    for (i, tone) in STRIPS.iter().enumerate() {
        let top = -half + height * i as f32;
        canvas.metal(&[&rectangle(left, top, right, top + height * 1.04)], *tone);
    }
}
