//! Draws shapes on a canvas: polygons with antialiased edges, in a part's own coordinates.
//!
//! A part lies in the square from -1 to 1, y pointing down. Curves are polygons with many corners, computed with
//! [`sine`], because the system library's sine differs between processors.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of corners are small, colours are clamped"
)]

use super::causes::Pose;
use crate::numeric::sine;
use tiny_skia::{
    BlendMode, Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Shader,
    Stroke, Transform,
};

/// A point in a part's coordinates.
pub(super) type Point = [f32; 2];

/// Red, green and blue, `0..=255`.
pub(super) type Rgb = [f32; 3];

/// Corners of a full circle; at 480 pixels no edge is longer than 16 pixels.
const CIRCLE_CORNERS: usize = 72;

/// The point at `radius` around `centre`, `turns` clockwise from the right.
pub(super) fn polar(centre: Point, radius: f32, turns: f32) -> Point {
    [
        centre[0] + radius * sine(turns + 0.25),
        centre[1] + radius * sine(turns),
    ]
}

/// Corners on a circle's arc from `from` to `to` turns.
pub(super) fn arc(centre: Point, radius: f32, from: f32, to: f32) -> Vec<Point> {
    let steps = (CIRCLE_CORNERS as f32 * (to - from).abs()) as usize + 2;
    (0..=steps)
        .map(|i| polar(centre, radius, from + (to - from) * i as f32 / steps as f32))
        .collect()
}

/// A circle as a polygon.
pub(super) fn circle(centre: Point, radius: f32) -> Vec<Point> {
    polygon(centre, radius, CIRCLE_CORNERS, 0.0)
}

/// A regular polygon whose first corner lies at `turns`.
pub(super) fn polygon(centre: Point, radius: f32, corners: usize, turns: f32) -> Vec<Point> {
    (0..corners)
        .map(|i| polar(centre, radius, turns + i as f32 / corners as f32))
        .collect()
}

/// An axis-aligned rectangle.
pub(super) fn rectangle(left: f32, top: f32, right: f32, bottom: f32) -> Vec<Point> {
    vec![[left, top], [right, top], [right, bottom], [left, bottom]]
}

/// Shades a vertical cylinder between two heights in strips.
pub(super) fn cylinder(canvas: &mut Canvas, top: f32, bottom: f32, half: f32) {
    const STRIPS: [f32; 8] = [0.55, 0.8, 1.02, 1.2, 1.12, 0.95, 0.75, 0.52];
    let width = 2.0 * half / STRIPS.len() as f32;
    for (i, tone) in STRIPS.iter().enumerate() {
        let left = -half + width * i as f32;
        canvas.metal(&[&rectangle(left, top, left + width * 1.04, bottom)], *tone);
    }
}

/// A part's layer, and its place in the image.
pub(super) struct Canvas {
    pub(super) pixmap: Pixmap,
    /// Part coordinates to pixels.
    transform: Transform,
    /// Unit vector towards the light, in the pixels' axes.
    to_light: Point,
    /// The metal's colour at full tone.
    metal: Rgb,
    /// Pixels per unit.
    unit: f32,
}

impl Canvas {
    /// An empty canvas of `width` × `height` pixels; none if a side is zero or too large.
    pub(super) fn new(
        width: u32,
        height: u32,
        pose: &Pose,
        light_turns: f32,
        metal: Rgb,
    ) -> Option<Self> {
        let pixmap = Pixmap::new(width, height)?;
        let unit = width.min(height) as f32 / 2.0;
        let centre = [width as f32 / 2.0, height as f32 / 2.0];
        let transform = placed(pose, centre, unit);
        Some(Self {
            pixmap,
            transform,
            to_light: polar([0.0, 0.0], 1.0, light_turns),
            metal,
            unit: unit * pose.scale,
        })
    }

    /// Shifts subsequent drawing and rotates it by `turns`, in part coordinates.
    pub(super) fn displace(&mut self, shift: Point, turns: f32) {
        let (sin, cos) = (sine(turns), sine(turns + 0.25));
        self.transform = self
            .transform
            .pre_concat(Transform::from_row(cos, sin, -sin, cos, shift[0], shift[1]));
    }

    /// Draws in `colour` instead of the part's metal from here on.
    pub(super) fn set_colour(&mut self, colour: Rgb) {
        self.metal = colour;
    }

    /// Fills `contours`, by the even-odd rule, with metal of `tone` (1 is the metal's colour) and draws an edge that is
    /// bright towards the light and dark away from it.
    pub(super) fn solid(&mut self, contours: &[&[Point]], tone: f32) {
        let Some(path) = path_of(contours, true) else {
            return;
        };
        // Visible at 224 pixels, yet narrow enough for an edge.
        let edge = 0.014 * self.unit;
        self.fill_shifted(&path, shade(self.metal, tone * 0.42), -edge);
        self.fill_shifted(&path, shade(self.metal, tone * 1.32), edge);
        self.fill_shifted(&path, shade(self.metal, tone), 0.0);
        self.stroke_path(
            &path,
            0.012,
            [28.0, 28.0, 32.0],
            0.75,
            BlendMode::SourceOver,
        );
    }

    /// Fills `contours` with metal of `tone`, without an edge.
    pub(super) fn metal(&mut self, contours: &[&[Point]], tone: f32) {
        let Some(path) = path_of(contours, true) else {
            return;
        };
        self.fill_shifted(&path, shade(self.metal, tone), 0.0);
    }

    /// Fills a polygon with a colour, only where the canvas is not empty.
    pub(super) fn paint(&mut self, points: &[Point], colour: Rgb, opacity: f32) {
        let Some(path) = path_of(&[points], true) else {
            return;
        };
        let paint = paint(colour, opacity, BlendMode::SourceAtop);
        self.pixmap
            .fill_path(&path, &paint, FillRule::Winding, self.transform, None);
    }

    /// Erases the inside of `contours`, by the even-odd rule.
    pub(super) fn erase(&mut self, contours: &[&[Point]]) {
        let Some(path) = path_of(contours, true) else {
            return;
        };
        let paint = paint([0.0; 3], 1.0, BlendMode::DestinationOut);
        self.pixmap
            .fill_path(&path, &paint, FillRule::EvenOdd, self.transform, None);
    }

    /// A line of metal of `tone` with round ends.
    pub(super) fn rod(&mut self, points: &[Point], width: f32, tone: f32) {
        let Some(path) = path_of(&[points], false) else {
            return;
        };
        self.stroke_path(
            &path,
            width,
            shade(self.metal, tone),
            1.0,
            BlendMode::SourceOver,
        );
    }

    /// A coloured line, only where the canvas is not empty.
    pub(super) fn mark(&mut self, points: &[Point], width: f32, colour: Rgb, opacity: f32) {
        let Some(path) = path_of(&[points], false) else {
            return;
        };
        self.stroke_path(&path, width, colour, opacity, BlendMode::SourceAtop);
    }

    /// A dark closed line.
    pub(super) fn groove(&mut self, points: &[Point], width: f32) {
        let Some(path) = path_of(&[points], true) else {
            return;
        };
        self.stroke_path(&path, width, [40.0, 40.0, 44.0], 0.7, BlendMode::SourceAtop);
    }

    /// Brightness, around 1, of a surface that faces `turns` in part coordinates.
    pub(super) fn facing(&self, turns: f32) -> f32 {
        let mut at = [tiny_skia::Point::from_xy(0.0, 0.0), {
            let p = polar([0.0, 0.0], 1.0, turns);
            tiny_skia::Point::from_xy(p[0], p[1])
        }];
        self.transform.map_points(&mut at);
        let (dx, dy) = (at[1].x - at[0].x, at[1].y - at[0].y);
        let length = (dx * dx + dy * dy).sqrt().max(f32::MIN_POSITIVE);
        1.0 + 0.22 * (dx * self.to_light[0] + dy * self.to_light[1]) / length
    }

    /// Fills `path` shifted towards the light by `towards` pixels.
    fn fill_shifted(&mut self, path: &Path, colour: Rgb, towards: f32) {
        let paint = paint(colour, 1.0, BlendMode::SourceOver);
        let transform = self
            .transform
            .post_translate(self.to_light[0] * towards, self.to_light[1] * towards);
        self.pixmap
            .fill_path(path, &paint, FillRule::EvenOdd, transform, None);
    }

    fn stroke_path(
        &mut self,
        path: &Path,
        width: f32,
        colour: Rgb,
        opacity: f32,
        blend: BlendMode,
    ) {
        let (line_cap, line_join) = (LineCap::Round, LineJoin::Round);
        let stroke = Stroke {
            width,
            line_cap,
            line_join,
            ..Stroke::default()
        };
        self.pixmap.stroke_path(
            path,
            &paint(colour, opacity, blend),
            &stroke,
            self.transform,
            None,
        );
    }
}

/// Part coordinates to pixels: tilt, rotation, scale, then shift.
fn placed(pose: &Pose, centre: Point, unit: f32) -> Transform {
    let (sin, cos) = (sine(pose.rotation), sine(pose.rotation + 0.25));
    let (ts, tc) = (sine(pose.tilt_axis), sine(pose.tilt_axis + 0.25));
    // Shortened by the factor 1 - tilt along the axis a: I - tilt · a aᵀ.
    let tilt = Transform::from_row(
        1.0 - pose.tilt * tc * tc,
        -pose.tilt * tc * ts,
        -pose.tilt * tc * ts,
        1.0 - pose.tilt * ts * ts,
        0.0,
        0.0,
    );
    let s = unit * pose.scale;
    let at = [
        centre[0] + pose.shift[0] * unit,
        centre[1] + pose.shift[1] * unit,
    ];
    Transform::from_row(s * cos, s * sin, -s * sin, s * cos, at[0], at[1]).pre_concat(tilt)
}

/// `colour` times `tone`, within `0..=255`.
pub(super) fn shade(colour: Rgb, tone: f32) -> Rgb {
    colour.map(|c| (c * tone).clamp(0.0, 255.0))
}

fn paint(colour: Rgb, opacity: f32, blend_mode: BlendMode) -> Paint<'static> {
    let [r, g, b] = colour.map(|c| c as u8);
    let alpha = (opacity.clamp(0.0, 1.0) * 255.0) as u8;
    Paint {
        shader: Shader::SolidColor(Color::from_rgba8(r, g, b, alpha)),
        blend_mode,
        anti_alias: true,
        ..Paint::default()
    }
}

fn path_of(contours: &[&[Point]], closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for contour in contours {
        let Some((first, rest)) = contour.split_first() else {
            continue;
        };
        builder.move_to(first[0], first[1]);
        for p in rest {
            builder.line_to(p[0], p[1]);
        }
        if closed {
            builder.close();
        }
    }
    builder.finish()
}
