//! Damage: scratches, cracks, rust, and pieces broken off.

use super::causes::{Condition, Part};
use super::draw::{Canvas, Point, Rgb, polar, rectangle};
use super::parts::on_surface;
use crate::numeric::{Rng, sine};

/// Draws the damage of `condition` on the part on `canvas`. Broken parts are cut by [`fracture`] instead.
pub(super) fn mark(part: Part, condition: Condition, canvas: &mut Canvas, rng: &mut Rng) {
    match condition {
        Condition::Intact | Condition::Broken => {}
        Condition::Scratched => scratches(part, canvas, rng),
        Condition::Cracked => cracks(part, canvas, rng),
        Condition::Rusty => rust(canvas, rng),
    }
}

/// Long bright lines, most of them in one direction.
fn scratches(part: Part, canvas: &mut Canvas, rng: &mut Rng) {
    let along = rng.unit();
    for _ in 0..rng.count(9, 13) {
        let centre = on_surface(part, rng);
        let turns = along + rng.between(-0.07, 0.07);
        let half = rng.between(0.22, 0.48);
        let bend = polar(centre, rng.between(-0.03, 0.03), turns + 0.25);
        let line = [
            polar(centre, -half, turns),
            bend,
            polar(centre, half, turns),
        ];
        let beside: Vec<Point> = line.iter().map(|p| [p[0] + 0.014, p[1] + 0.014]).collect();
        canvas.mark(&beside, 0.016, [60.0, 60.0, 64.0], 0.6);
        canvas.mark(
            &line,
            rng.between(0.020, 0.030),
            [252.0, 252.0, 255.0],
            0.95,
        );
    }
}

/// Dark jagged lines that branch.
fn cracks(part: Part, canvas: &mut Canvas, rng: &mut Rng) {
    let start = rng.unit();
    let number = rng.count(3, 4);
    for i in 0..number {
        let centre = on_surface(part, rng);
        let turns = start + i as f32 / number as f32 + rng.between(-0.05, 0.05);
        crack(canvas, centre, turns, rng.between(0.5, 0.75), rng);
        crack(canvas, centre, turns + 0.5, rng.between(0.3, 0.5), rng);
    }
}

fn crack(canvas: &mut Canvas, from: Point, turns: f32, length: f32, rng: &mut Rng) {
    const STEPS: usize = 7;
    const DARK: Rgb = [10.0, 8.0, 8.0];
    let mut at = from;
    for i in 0..STEPS {
        let zigzag = if i % 2 == 0 { 0.09 } else { -0.09 };
        let next = polar(
            at,
            length / STEPS as f32,
            turns + zigzag + rng.between(-0.05, 0.05),
        );
        let width = 0.060 * (1.0 - 0.75 * i as f32 / STEPS as f32);
        canvas.mark(&[at, next], width, DARK, 0.96);
        if i == 2 || i == 4 {
            let side = if rng.chance(0.5) { 0.13 } else { -0.13 };
            let knee = polar(next, length * 0.16, turns + side);
            canvas.mark(
                &[next, knee, polar(knee, length * 0.14, turns + side * 0.4)],
                width * 0.6,
                DARK,
                0.96,
            );
        }
        at = next;
    }
}

/// Orange to dark brown blotches over the whole surface.
fn rust(canvas: &mut Canvas, rng: &mut Rng) {
    const COLOURS: [Rgb; 5] = [
        [150.0, 74.0, 30.0],
        [118.0, 54.0, 24.0],
        [182.0, 98.0, 42.0],
        [98.0, 48.0, 28.0],
        [164.0, 84.0, 36.0],
    ];
    canvas.paint(
        &rectangle(-1.2, -1.2, 1.2, 1.2),
        [140.0, 80.0, 44.0],
        rng.between(0.30, 0.45),
    );
    for _ in 0..rng.count(75, 95) {
        let at = [rng.between(-0.9, 0.9), rng.between(-0.9, 0.9)];
        let blotch = blotch(at, rng.between(0.05, 0.17), rng);
        canvas.paint(&blotch, rng.pick(&COLOURS), rng.between(0.55, 0.9));
    }
    for _ in 0..90 {
        let at = [rng.between(-0.9, 0.9), rng.between(-0.9, 0.9)];
        canvas.paint(
            &blotch(at, rng.between(0.012, 0.03), rng),
            [66.0, 32.0, 20.0],
            0.8,
        );
    }
}

/// An irregular round patch.
fn blotch(centre: Point, radius: f32, rng: &mut Rng) -> Vec<Point> {
    const CORNERS: usize = 12;
    (0..CORNERS)
        .map(|i| {
            polar(
                centre,
                radius * rng.between(0.65, 1.25),
                i as f32 / CORNERS as f32,
            )
        })
        .collect()
}

/// How a part broke.
pub(super) struct Fracture {
    /// The piece that broke off, as a polygon.
    pub(super) piece: Vec<Point>,
    /// Shift and rotation, in turns, of the piece; none if it is lost.
    pub(super) moved: Option<(Point, f32)>,
    /// Shift and rotation of the remaining part, which keep both together centred.
    pub(super) remainder: (Point, f32),
}

/// Half the side of a square that contains any part.
const EXTENT: f32 = 1.6;

/// A random fracture of `part`: long parts snap crosswise, round ones lose a sector.
pub(super) fn fracture(part: Part, rng: &mut Rng) -> Fracture {
    match part {
        Part::Nut | Part::Washer | Part::Gear | Part::Bearing => sector(rng),
        _ => snap(part, rng),
    }
}

fn sector(rng: &mut Rng) -> Fracture {
    let middle = rng.unit();
    let half = rng.between(0.10, 0.16);
    let mut piece = vec![[0.0, 0.0]];
    piece.extend(jagged(
        [0.0, 0.0],
        polar([0.0, 0.0], EXTENT, middle - half),
        14,
        rng,
    ));
    piece.push(polar([0.0, 0.0], EXTENT * 1.6, middle));
    piece.extend(jagged(
        polar([0.0, 0.0], EXTENT, middle + half),
        [0.0, 0.0],
        14,
        rng,
    ));
    let shift = polar([0.0, 0.0], rng.between(0.16, 0.22), middle);
    let moved = rng.chance(0.4).then(|| (shift, rng.between(-0.02, 0.02)));
    Fracture {
        piece,
        moved,
        remainder: ([0.0, 0.0], 0.0),
    }
}

fn snap(part: Part, rng: &mut Rng) -> Fracture {
    let at = match part {
        Part::Bolt => rng.between(-0.1, 0.25),
        Part::Spring => rng.between(-0.2, 0.25),
        Part::Bracket => rng.between(-0.25, 0.1),
        _ => rng.between(0.3, 0.45),
    };
    let slope = rng.between(-0.12, 0.12);
    let mut piece = jagged([-EXTENT, at - slope], [EXTENT, at + slope], 26, rng);
    piece.extend([[EXTENT, -EXTENT], [-EXTENT, -EXTENT]]);
    if part == Part::PipeFitting {
        // Its collars lie below the cut, so the lower side breaks off.
        let corners = piece.len() - 2;
        piece.truncate(corners);
        piece.extend([[EXTENT, EXTENT], [-EXTENT, EXTENT]]);
    }
    // Half of the gap: piece and remainder each move by this.
    let away = if part == Part::PipeFitting { 0.1 } else { -0.1 };
    let sideways = if rng.chance(0.5) { 0.07 } else { -0.07 };
    // Without its head or end, a bolt or a spring would be unrecognisable: these pieces stay in the image.
    let kept = matches!(part, Part::Bolt | Part::Spring) || rng.chance(0.5);
    let moved = kept.then(|| {
        (
            [sideways + rng.between(-0.03, 0.03), away],
            rng.between(-0.035, 0.035),
        )
    });
    Fracture {
        piece,
        moved,
        remainder: ([-sideways, -away], 0.0),
    }
}

/// A zigzag from near `from` to near `to`.
fn jagged(from: Point, to: Point, steps: usize, rng: &mut Rng) -> Vec<Point> {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = (dx * dx + dy * dy).sqrt().max(f32::MIN_POSITIVE);
    let normal = [-dy / length, dx / length];
    (0..=steps)
        .map(|i| {
            let share = i as f32 / steps as f32;
            let side = if i % 2 == 0 { 1.0 } else { -1.0 };
            let off = side * rng.between(0.02, 0.06) + 0.03 * sine(share * 3.0);
            [
                from[0] + dx * share + normal[0] * off,
                from[1] + dy * share + normal[1] * off,
            ]
        })
        .collect()
}

/// A square around any part. Filled by the even-odd rule together with a piece, it covers everything but the piece.
pub(super) fn surrounding_square() -> Vec<Point> {
    rectangle(-2.0 * EXTENT, -2.0 * EXTENT, 2.0 * EXTENT, 2.0 * EXTENT)
}
