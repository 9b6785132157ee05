//! Preprocessing against Pillow's, by golden images from `tests/golden/preprocess.py`.

use crate::fixture;
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::preprocess::{Crop, Filter, Preprocessor, ResizeMode, Transform};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    file: String,
    golden: String,
    size: u32,
    resize_to: Option<u32>,
    resize: ResizeMode,
    filter: Filter,
    crop: Crop,
}

fn frame(file: &str) -> Frame {
    let data = std::fs::read(fixture("preprocess").join(file)).expect("fixture");
    let taken = Timestamp {
        monotonic_ns: 0,
        unix_ns: 0,
        clock_synced: false,
    };
    Frame::compressed(PixelFormat::ImageFile, data, taken)
}

#[test]
fn crops_match_pillow() {
    let cases = std::fs::read(fixture("preprocess/cases.json")).expect("cases");
    let cases: Vec<Case> = serde_json::from_slice(&cases).expect("cases");
    assert!(cases.len() >= 12);
    let mut wrong = Vec::new();
    for case in cases {
        let transform = Transform {
            size: case.size,
            resize: case.resize,
            resize_to: case.resize_to.unwrap_or(case.size),
            filter: case.filter,
            crop: case.crop,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let mut preprocessor = Preprocessor::new(transform);
        let ours = preprocessor
            .crop(&frame(&case.file))
            .expect("a good image")
            .clone();
        let golden = image::open(fixture("preprocess").join(&case.golden))
            .expect("golden")
            .into_rgb8();
        assert_eq!(
            (ours.width, ours.height),
            golden.dimensions(),
            "{}",
            case.file
        );
        let differences: Vec<u8> = ours
            .data
            .iter()
            .zip(golden.as_raw())
            .map(|(a, b)| a.abs_diff(*b))
            .collect();
        let mean =
            differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
        let most = differences.iter().max().copied().unwrap_or_default();
        println!("{:28} mean {mean:.4}/255, most {most}/255", case.file);
        wrong.extend((mean > 1.0 || most > 4).then_some(case.file));
    }
    assert!(
        wrong.is_empty(),
        "further from Pillow than allowed: {wrong:?}"
    );
}

#[test]
fn tensors_are_planar_and_normalised() {
    let transform = Transform {
        size: 8,
        resize: ResizeMode::Exact,
        resize_to: 8,
        filter: Filter::Bicubic,
        crop: Crop::None,
        mean: [0.5, 0.25, 0.0],
        std: [0.5, 0.25, 2.0],
    };
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(20, 10, image::Rgb([255, 51, 204]));
    image
        .write_to(&mut png, image::ImageFormat::Png)
        .expect("PNG in memory");
    let taken = Timestamp {
        monotonic_ns: 0,
        unix_ns: 0,
        clock_synced: false,
    };
    let frame = Frame::compressed(PixelFormat::ImageFile, png.into_inner(), taken);
    let tensor = Preprocessor::new(transform)
        .tensor(&frame)
        .expect("a good image");
    let expected = [1.0, -0.2, 0.4];
    assert_eq!(tensor.len(), 3 * 64);
    for (i, value) in tensor.iter().enumerate() {
        assert!(
            (value - expected[i / 64]).abs() < 1e-5,
            "channel {}: {value}",
            i / 64
        );
    }
}
