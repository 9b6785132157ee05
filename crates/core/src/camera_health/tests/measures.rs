//! Measures of pictures whose measures are known, and the file of a reference.

use super::stage::{Camera, HEIGHT, Stage, WIDTH, blur, glance, image, level};
use super::{Watched, named};
use crate::camera_health::{Glance, Reference, ReferenceOrigin};
use crate::numeric::Rng;
use crate::preprocess::RgbImage;
use proptest::prelude::*;

/// A picture of one colour with noise of this standard deviation.
fn noisy(colour: [f32; 3], deviation: f32) -> Vec<u8> {
    let mut rng = Rng::new(1);
    let mut pixels = Vec::new();
    for _ in 0..WIDTH * HEIGHT {
        // The sum of twelve uniform numbers has variance 1. Grey noise.
        let off = (0..12).map(|_| rng.unit()).sum::<f32>() - 6.0;
        pixels.extend(colour.map(|c| level(c + deviation * off)));
    }
    pixels
}

#[test]
fn a_plain_picture_measures_what_it_is() {
    let statistics = glance(noisy([150.0, 100.0, 50.0], 0.0)).statistics;
    let luma = (77.0 * 150.0 + 150.0 * 100.0 + 29.0 * 50.0) / 256.0 / 255.0;
    assert!(
        (statistics.brightness - luma).abs() < 2e-3,
        "{statistics:?}"
    );
    for (share, expected) in statistics.colour.iter().zip([0.5, 1.0 / 3.0, 1.0 / 6.0]) {
        assert!((share - expected).abs() < 1e-3, "{statistics:?}");
    }
    assert_eq!(
        (statistics.clipped, statistics.noise, statistics.sharpness),
        (0.0, 0.0, None)
    );
    let red = glance(noisy([255.0, 0.0, 0.0], 0.0)).statistics;
    assert!((red.clipped - 1.0).abs() < 1e-6 && (red.colour[0] - 1.0).abs() < 1e-6);
}

#[test]
fn noise_is_measured_in_levels() {
    for deviation in [2.0, 5.0, 12.0] {
        let statistics = glance(noisy([120.0; 3], deviation)).statistics;
        let off = (statistics.noise - deviation).abs();
        assert!(off < 0.1 * deviation + 0.2, "{deviation}: {statistics:?}");
        assert_eq!(statistics.sharpness, None, "noise is no detail");
    }
}

#[test]
fn the_wider_the_blur_the_less_sharp() {
    let crisp = Camera::new(Stage::Redrawn, 2, named("noon")).frame(named("noon"));
    let sharpness = |radius: usize| {
        let mut pixels = crisp.clone();
        blur(&mut pixels, radius);
        glance(pixels)
            .statistics
            .sharpness
            .expect("it shows detail")
    };
    let all = [0, 1, 2, 4].map(sharpness);
    assert!(all.windows(2).all(|w| w[1] < w[0]), "{all:?}");
}

#[test]
fn what_a_mask_hides_is_not_measured() {
    const PAINT: [u8; 3] = [123, 117, 104];
    let masked = |rest: u8| {
        let mut pixels = vec![rest; WIDTH * HEIGHT * 3];
        for row in pixels.chunks_exact_mut(WIDTH * 3) {
            for pixel in row[..WIDTH * 3 / 2].as_chunks_mut::<3>().0 {
                *pixel = PAINT;
            }
        }
        Glance::at(&image(pixels), Some(PAINT))
    };
    let white = masked(255);
    assert_eq!((white.statistics.clipped, white.white), (1.0, 1.0));
    let dark = masked(10);
    assert!((dark.statistics.brightness - 10.0 / 255.0).abs() < 1e-3);
    assert!(
        dark.signs.iter().all(|s| s.abs() < 0.1),
        "its edge is none of the scene's"
    );
}

#[test]
fn light_changes_no_structure() {
    let crisp = Camera::new(Stage::Redrawn, 2, named("overcast")).frame(named("overcast"));
    let dimmed = crisp.iter().map(|&v| level(f32::from(v) * 0.5)).collect();
    let (a, b) = (glance(crisp), glance(dimmed));
    let same: f32 = a.signs.iter().zip(&b.signs).map(|(a, b)| a * b).sum();
    let all: f32 = a
        .signs
        .iter()
        .zip(&b.signs)
        .map(|(a, b)| (a * b).abs())
        .sum();
    assert!(same > 0.95 * all, "{same} of {all}");
}

#[test]
fn a_reference_comes_back_from_its_file() {
    let watched = Watched::learnt(Stage::Conveyor, 1, named("noon"));
    let origin = ReferenceOrigin {
        camera: "belt".into(),
        view: "whole".into(),
        learnt: "2026-11-30T20:00:00.000Z".into(),
    };
    let bytes = watched.reference().to_bytes(&origin).unwrap();
    assert!(bytes.len() < 10_000, "{} bytes", bytes.len());
    let (read, from) = Reference::parse(&bytes).unwrap();
    assert_eq!((&read, from), (watched.reference(), origin.clone()));
    assert!(Reference::parse(&bytes[..bytes.len() - 1]).is_err());
    let impossible = Reference { blank: 7.0, ..read };
    let error = Reference::parse(&impossible.to_bytes(&origin).unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("none that can be measured"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_picture_can_be_measured(
        width in 0u32..200,
        height in 0u32..200,
        seed: u64,
        cut in 0usize..3,
    ) {
        let mut rng = Rng::new(seed);
        let bytes = (width * height * 3) as usize;
        let data = (0..bytes.saturating_sub(cut)).map(|_| level(rng.between(0.0, 256.0))).collect();
        let glance = Glance::at(&RgbImage { width, height, data }, Some([0; 3]));
        let statistics = glance.statistics;
        prop_assert!((0.0..=1.0).contains(&statistics.brightness), "{:?}", statistics);
        prop_assert!(statistics.noise.is_finite() && glance.structure.is_finite());
        prop_assert!(statistics.colour.iter().all(|c| (0.0..=1.0).contains(c)));
        prop_assert!(glance.signs.iter().all(|s| s.abs() <= 1.0));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        prop_assert!(Reference::parse(&bytes).is_err());
    }
}
