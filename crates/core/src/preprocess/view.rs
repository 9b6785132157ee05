//! Which part of a camera's picture is looked at, and what of it nobody is to see.
//!
//! A region is cut out, and what is masked, or outside a region of another shape, gets the colour that the model's
//! normalisation turns into 0. That happens to the decoded picture, before anything else sees it.

use super::{DecodeError, RgbImage, decode};
use crate::frame::Frame;
use serde::Deserialize;
use std::ops::Range;

/// More corners are no outline that somebody drew.
const MAX_CORNERS: usize = 64;
/// Sizes of pictures, and views, that are remembered at once: there are no more cameras on one device.
const MAX_PLANS: usize = 16;

/// `camera.view`: what of a picture is looked at.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct View {
    /// All that is looked at; the whole picture unless given.
    pub region: Option<Area>,
    /// What is painted over.
    pub mask: Vec<Area>,
}

/// A part of a picture, in fractions of its width and height from the left upper corner, `0..=1`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected [left, top, right, bottom] or three or more corners [[x, y], …], in fractions of the picture"
)]
pub enum Area {
    /// Left, top, right, bottom.
    Rectangle([f64; 4]),
    /// Corners `[x, y]`; the last is joined with the first. Where lines cross, what is enclosed twice is outside.
    Polygon(Vec<[f64; 2]>),
}

impl View {
    /// All of the picture.
    pub const WHOLE: Self = Self {
        region: None,
        mask: Vec::new(),
    };
}

impl Area {
    /// What is wrong with it: a fraction outside `0..=1`, no extent, corners that are none.
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

    /// The stretches of a line at height `y`, a fraction, that lie inside.
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

/// A view of pictures of one size, in pixels.
#[derive(Debug)]
struct Plan {
    view: View,
    size: (u32, u32),
    /// Left, top, width and height of what is kept.
    kept: [usize; 4],
    /// Bytes of what is kept that are painted over.
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
            // Pixels whose centres lie within a stretch.
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
            for stretch in view.mask.iter().flat_map(|area| area.inside(line)) {
                hide(pixel(stretch.start), pixel(stretch.end));
            }
            if let Some(area @ Area::Polygon(_)) = &view.region {
                let mut from = 0;
                for stretch in area.inside(line) {
                    hide(from, pixel(stretch.start));
                    from = pixel(stretch.end);
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

/// First pixel and number of pixels that lie between two fractions of `size`; at least one.
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

/// Applies views; remembers what each means in pixels.
#[derive(Debug)]
pub struct Viewer {
    colour: [u8; 3],
    plans: Vec<Plan>,
    /// A row of the colour.
    paint: Vec<u8>,
}

impl Viewer {
    /// One that paints with this colour.
    #[must_use]
    pub fn new(colour: [u8; 3]) -> Self {
        Self {
            colour,
            plans: Vec::new(),
            paint: Vec::new(),
        }
    }

    /// Decodes a frame, and leaves of it what the view lets be seen.
    pub fn see(
        &mut self,
        frame: &Frame,
        view: &View,
        image: &mut RgbImage,
    ) -> Result<(), DecodeError> {
        decode(frame, image)?;
        self.apply(view, image);
        Ok(())
    }

    /// Cuts out and paints over what the view says.
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

/// Leaves only a rectangle of an image, in its own buffer.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COLOUR: [u8; 3] = [1, 2, 3];

    /// A picture of which each pixel is another: 100 + x, 100 + y, 0.
    fn picture(width: u8, height: u8) -> RgbImage {
        let data = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [100 + x, 100 + y, 0]))
            .collect();
        RgbImage {
            width: width.into(),
            height: height.into(),
            data,
        }
    }

    /// What is left of the picture: `#` where it is painted over.
    fn seen(view: &View, width: u8, height: u8) -> Vec<String> {
        let mut image = picture(width, height);
        Viewer::new(COLOUR).apply(view, &mut image);
        let pixels: Vec<&[u8]> = image.data.chunks_exact(3).collect();
        let show = |p: &&[u8]| if **p == COLOUR { '#' } else { '.' };
        pixels
            .chunks(image.width as usize)
            .map(|row| row.iter().map(show).collect())
            .collect()
    }

    #[test]
    fn a_mask_is_painted_over_and_nothing_else_is() {
        let mask = vec![
            Area::Rectangle([0.5, 0.0, 1.0, 0.5]),
            Area::Polygon(vec![[0.0, 1.0], [0.0, 0.5], [0.5, 1.0]]),
        ];
        let view = View {
            mask,
            ..View::default()
        };
        assert_eq!(
            seen(&view, 8, 4),
            ["....####", "....####", "#.......", "###....."]
        );
    }

    #[test]
    fn a_region_is_cut_out_and_a_polygon_hides_the_rest_of_its_box() {
        let rectangle = View {
            region: Some(Area::Rectangle([0.25, 0.5, 0.75, 1.0])),
            ..View::default()
        };
        let mut image = picture(8, 4);
        Viewer::new(COLOUR).apply(&rectangle, &mut image);
        assert_eq!((image.width, image.height), (4, 2));
        assert_eq!(image.data[..6], [102, 102, 0, 103, 102, 0]);
        let triangle = Area::Polygon(vec![[0.0, 1.0], [0.5, 0.0], [1.0, 1.0]]);
        let view = View {
            region: Some(triangle),
            mask: vec![Area::Rectangle([0.0, 0.75, 0.25, 1.0])],
        };
        assert_eq!(
            seen(&view, 8, 4),
            ["###.####", "##...###", "#.....##", "##.....#"].map(str::to_owned)[..]
        );
    }

    #[test]
    fn what_is_no_area_is_told() {
        let told = |area: Area| area.check().expect_err("it is refused");
        assert!(
            told(Area::Rectangle([0.5, 0.0, 0.5, 1.0])).contains("left must be less than right")
        );
        assert!(
            told(Area::Rectangle([0.0, 0.0, 1.5, 1.0])).contains("has 1.5, expected fractions")
        );
        assert!(
            told(Area::Polygon(vec![[0.0, 0.0], [1.0, 1.0]]))
                .contains("has 2 corners, expected 3 to 64")
        );
        assert!(told(Area::Polygon(vec![[0.1, 0.0], [0.1, 1.0], [0.1, 0.5]])).contains("narrower"));
        assert!(told(Area::Rectangle([f64::NAN, 0.0, 1.0, 1.0])).contains("NaN"));
    }

    fn area() -> impl Strategy<Value = Area> {
        let fraction = || 0.0..=1.0f64;
        let corner = (fraction(), fraction()).prop_map(|(x, y)| [x, y]);
        let rectangle = [fraction(), fraction(), fraction(), fraction()]
            .prop_map(|[a, b, c, d]| Area::Rectangle([a.min(c), b.min(d), a.max(c), b.max(d)]));
        prop_oneof![
            rectangle,
            prop::collection::vec(corner, 3..8).prop_map(Area::Polygon)
        ]
    }

    proptest! {
        #[test]
        fn any_view_fits_any_picture_and_twice_the_same_gives_the_same(
            region in prop::option::of(area()), mask in prop::collection::vec(area(), 0..4), width in 1..60u8, height in 1..60u8,
        ) {
            let view = View { region, mask };
            let mut viewer = Viewer::new(COLOUR);
            let mut images = [picture(width, height), picture(width, height)];
            for image in &mut images {
                viewer.apply(&view, image);
            }
            prop_assert_eq!(&images[0], &images[1]);
            let [image, _] = images;
            prop_assert_eq!(image.data.len(), image.width as usize * image.height as usize * 3);
            prop_assert!(image.width >= 1 && image.height >= 1 && image.width <= width.into());
        }
    }
}
