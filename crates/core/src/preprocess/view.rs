//! Regions of interest and privacy masks.
//!
//! The region is cut out. Masked pixels, and pixels of the bounding box outside a polygonal region, get the colour that
//! the model's normalisation turns into 0. This happens to the decoded image, before any other step reads it.

use super::decode::decode;
use super::error::DecodeError;
use super::rgb::RgbImage;
use crate::frame::Frame;
use serde::Deserialize;
use std::ops::Range;

/// Nobody draws an outline with more corners.
const MAX_CORNERS: usize = 64;
/// Plans kept at once, one per view and image size. No device has more cameras.
const MAX_PLANS: usize = 16;

/// `camera.view`: the part of an image that is used.
///
/// ```
/// use constancy_core::preprocess::{Area, RgbImage, View, ViewMasker};
///
/// // The right half, without its lower half.
/// let view = View {
///     region: Some(Area::Rectangle([0.5, 0.0, 1.0, 1.0])),
///     mask: vec![Area::Polygon(vec![[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]])],
/// };
/// let mut image = RgbImage { width: 4, height: 2, data: vec![200; 4 * 2 * 3] };
/// ViewMasker::new([0, 0, 0]).apply(&view, &mut image);
/// assert_eq!((image.width, image.height), (2, 2));
/// assert_eq!(image.data, [200, 200, 200, 200, 200, 200, 0, 0, 0, 0, 0, 0]);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct View {
    /// The part to use; defaults to the whole image.
    pub region: Option<Area>,
    /// The parts to paint over.
    pub mask: Vec<Area>,
}

/// A part of an image, in fractions `0..=1` of its width and height from the top left corner.
///
/// ```
/// use constancy_core::preprocess::Area;
///
/// assert!(Area::Rectangle([0.1, 0.1, 0.9, 0.9]).check().is_ok());
/// let inverted = Area::Rectangle([0.9, 0.1, 0.1, 0.9]);
/// assert!(inverted.check().unwrap_err().contains("left must be less than right"));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected [left, top, right, bottom] or three or more corners [[x, y], …], in fractions of the picture"
)]
pub enum Area {
    /// Left, top, right, bottom.
    Rectangle([f64; 4]),
    /// Corners `[x, y]`; the last is joined to the first. If edges cross, the even-odd rule applies.
    Polygon(Vec<[f64; 2]>),
}

impl View {
    /// The whole image.
    pub const WHOLE: Self = Self {
        region: None,
        mask: Vec::new(),
    };
}

impl Area {
    /// Fails if a fraction is outside `0..=1`, the area has no extent, or a polygon has too few or too many corners. The
    /// message completes a sentence that begins with the area's name.
    pub fn check(&self) -> Result<(), String> {
        if let Self::Polygon(corners) = self
            && !(3..=MAX_CORNERS).contains(&corners.len())
        {
            return Err(format!(
                "has {} corners, expected 3 to {MAX_CORNERS}",
                corners.len()
            ));
        }
        let outside = self
            .corners()
            .into_iter()
            .flatten()
            .find(|f| !(0.0..=1.0).contains(f));
        if let Some(fraction) = outside {
            return Err(format!(
                "has {fraction}, expected fractions of the picture from 0 to 1"
            ));
        }
        if let Self::Rectangle([left, top, right, bottom]) = *self
            && (left >= right || top >= bottom)
        {
            return Err("is [left, top, right, bottom]: left must be less than right, and top less than bottom".into());
        }
        let [left, top, right, bottom] = self.bounds();
        if right - left < 0.001 || bottom - top < 0.001 {
            return Err("is narrower than a thousandth of the picture".into());
        }
        Ok(())
    }

    fn corners(&self) -> Vec<[f64; 2]> {
        match self {
            Self::Rectangle([left, top, right, bottom]) => {
                vec![
                    [*left, *top],
                    [*right, *top],
                    [*right, *bottom],
                    [*left, *bottom],
                ]
            }
            Self::Polygon(corners) => corners.clone(),
        }
    }

    /// Left, top, right, bottom.
    fn bounds(&self) -> [f64; 4] {
        self.corners()
            .into_iter()
            .fold([1.0, 1.0, 0.0, 0.0], |[l, t, r, b], [x, y]| {
                [
                    f64::min(l, x),
                    f64::min(t, y),
                    f64::max(r, x),
                    f64::max(b, y),
                ]
            })
    }

    /// The intervals of the horizontal line at height `y`, a fraction, that lie inside.
    fn inside(&self, y: f64) -> Vec<Range<f64>> {
        let corners = self.corners();
        let next = corners.iter().cycle().skip(1);
        let mut crossings: Vec<f64> = corners
            .iter()
            .zip(next)
            .filter(|(a, b)| (a[1] <= y) != (b[1] <= y))
            .map(|(a, b)| a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            .collect();
        crossings.sort_by(f64::total_cmp);
        crossings
            .chunks_exact(2)
            .map(|pair| pair[0]..pair[1])
            .collect()
    }
}

/// A view in pixels, for images of one size.
#[derive(Debug)]
struct Plan {
    view: View,
    size: (u32, u32),
    /// Left, top, width and height of the part that is kept.
    kept: [usize; 4],
    /// Byte ranges, within the kept part, that are painted over.
    painted: Vec<Range<usize>>,
}

impl Plan {
    fn new(view: &View, (width, height): (u32, u32)) -> Self {
        let [left, top, right, bottom] = view
            .region
            .as_ref()
            .map_or([0.0, 0.0, 1.0, 1.0], Area::bounds);
        let (x, kept_width) = pixels(left, right, width);
        let (y, kept_height) = pixels(top, bottom, height);
        let mut painted = Vec::new();
        for row in 0..kept_height {
            let line = ((y + row) as f64 + 0.5) / f64::from(height);
            // The first pixel whose centre lies at or right of a fraction.
            let pixel = |fraction: f64| {
                let at = (fraction * f64::from(width) - 0.5).ceil() - x as f64;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped to the width"
                )]
                let at = at.clamp(0.0, kept_width as f64) as usize;
                at
            };
            let mut hide = |from: usize, to: usize| {
                let start = row * kept_width;
                if from < to {
                    painted.push((start + from) * 3..(start + to) * 3);
                }
            };
            for interval in view.mask.iter().flat_map(|area| area.inside(line)) {
                hide(pixel(interval.start), pixel(interval.end));
            }
            if let Some(area @ Area::Polygon(_)) = &view.region {
                let mut from = 0;
                for interval in area.inside(line) {
                    hide(from, pixel(interval.start));
                    from = pixel(interval.end);
                }
                hide(from, kept_width);
            }
        }
        Self {
            view: view.clone(),
            size: (width, height),
            kept: [x, y, kept_width, kept_height],
            painted,
        }
    }
}

/// First pixel and number of pixels between two fractions of `size`; at least one pixel.
fn pixels(from: f64, to: f64, size: u32) -> (usize, usize) {
    let size = f64::from(size);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both lie in 0..=size"
    )]
    let (first, end) = (
        (from * size).floor().min(size - 1.0) as usize,
        (to * size).ceil() as usize,
    );
    (first, end.saturating_sub(first).max(1))
}

/// Crops and masks images by views. Caches each view's pixel ranges.
#[derive(Debug)]
pub struct ViewMasker {
    colour: [u8; 3],
    plans: Vec<Plan>,
    /// A row of pixels of the colour.
    paint: Vec<u8>,
}

impl ViewMasker {
    /// A masker that paints with this colour.
    #[must_use]
    pub fn new(colour: [u8; 3]) -> Self {
        Self {
            colour,
            plans: Vec::new(),
            paint: Vec::new(),
        }
    }

    /// Decodes a frame and applies `view`.
    pub fn decode(
        &mut self,
        frame: &Frame,
        view: &View,
        image: &mut RgbImage,
    ) -> Result<(), DecodeError> {
        decode(frame, image)?;
        self.apply(view, image);
        Ok(())
    }

    /// Crops the image to the view's region and paints over its masks.
    pub fn apply(&mut self, view: &View, image: &mut RgbImage) {
        if *view == View::WHOLE || image.data.is_empty() {
            return;
        }
        let size = (image.width, image.height);
        let known = self
            .plans
            .iter()
            .position(|p| p.size == size && p.view == *view);
        let at = known.unwrap_or_else(|| {
            self.plans.truncate(MAX_PLANS - 1);
            self.plans.insert(0, Plan::new(view, size));
            0
        });
        let plan = &self.plans[at];
        cut(image, plan.kept);
        let row = image.width as usize * 3;
        if self.paint.len() < row {
            self.paint = self.colour.repeat(image.width as usize);
        }
        for range in &plan.painted {
            let length = range.len();
            image.data[range.clone()].copy_from_slice(&self.paint[..length]);
        }
    }
}

/// Crops an image in place to left, top, width and height.
fn cut(image: &mut RgbImage, [left, top, width, height]: [usize; 4]) {
    let row = image.width as usize * 3;
    if width * 3 != row {
        for y in 0..height {
            let from = (top + y) * row + left * 3;
            image
                .data
                .copy_within(from..from + width * 3, y * width * 3);
        }
    } else if top > 0 {
        image.data.copy_within(top * row..(top + height) * row, 0);
    }
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    image.reshape(side(width), side(height));
}

#[cfg(test)]
mod tests;
