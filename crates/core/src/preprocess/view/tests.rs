//! Views on small images, drawn as characters, and arbitrary views by proptest.

use super::*;
use proptest::prelude::*;

const COLOUR: [u8; 3] = [1, 2, 3];

/// An image in which every pixel is different: 100 + x, 100 + y, 0.
fn numbered_image(width: u8, height: u8) -> RgbImage {
    let data = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [100 + x, 100 + y, 0]))
        .collect();
    RgbImage {
        width: width.into(),
        height: height.into(),
        data,
    }
}

/// The image after `view`, one string per row: `#` where it is painted over.
fn masked(view: &View, width: u8, height: u8) -> Vec<String> {
    let mut image = numbered_image(width, height);
    ViewMasker::new(COLOUR).apply(view, &mut image);
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
        masked(&view, 8, 4),
        ["....####", "....####", "#.......", "###....."]
    );
}

#[test]
fn a_region_is_cut_out_and_a_polygon_hides_the_rest_of_its_box() {
    let rectangle = View {
        region: Some(Area::Rectangle([0.25, 0.5, 0.75, 1.0])),
        ..View::default()
    };
    let mut image = numbered_image(8, 4);
    ViewMasker::new(COLOUR).apply(&rectangle, &mut image);
    assert_eq!((image.width, image.height), (4, 2));
    assert_eq!(image.data[..6], [102, 102, 0, 103, 102, 0]);
    let triangle = Area::Polygon(vec![[0.0, 1.0], [0.5, 0.0], [1.0, 1.0]]);
    let view = View {
        region: Some(triangle),
        mask: vec![Area::Rectangle([0.0, 0.75, 0.25, 1.0])],
    };
    assert_eq!(
        masked(&view, 8, 4),
        ["###.####", "##...###", "#.....##", "##.....#"].map(str::to_owned)[..]
    );
}

#[test]
fn invalid_areas_are_reported() {
    let error = |area: Area| area.check().expect_err("it is refused");
    assert!(error(Area::Rectangle([0.5, 0.0, 0.5, 1.0])).contains("left must be less than right"));
    assert!(error(Area::Rectangle([0.0, 0.0, 1.5, 1.0])).contains("has 1.5, expected fractions"));
    assert!(
        error(Area::Polygon(vec![[0.0, 0.0], [1.0, 1.0]]))
            .contains("has 2 corners, expected 3 to 64")
    );
    assert!(error(Area::Polygon(vec![[0.1, 0.0], [0.1, 1.0], [0.1, 0.5]])).contains("narrower"));
    assert!(error(Area::Rectangle([f64::NAN, 0.0, 1.0, 1.0])).contains("NaN"));
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
    fn any_view_fits_any_image_and_a_cached_plan_gives_the_same_image(
        region in prop::option::of(area()), mask in prop::collection::vec(area(), 0..4), width in 1..60u8, height in 1..60u8,
    ) {
        let view = View { region, mask };
        let mut viewer = ViewMasker::new(COLOUR);
        let mut images = [numbered_image(width, height), numbered_image(width, height)];
        for image in &mut images {
            viewer.apply(&view, image);
        }
        prop_assert_eq!(&images[0], &images[1]);
        let [image, _] = images;
        prop_assert_eq!(image.data.len(), image.width as usize * image.height as usize * 3);
        prop_assert!(image.width >= 1 && image.height >= 1 && image.width <= width.into());
    }
}
