//! Images for tests, made on the spot.

use image::{ColorType, ImageEncoder, RgbImage, codecs::jpeg::JpegEncoder};
use std::path::Path;

/// Soft blobs of colour with a little noise, like a camera's picture; every `seed` gives another one.
pub fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    let phase = f64::from(seed) * 0.7;
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (
            f64::from(x) / f64::from(width) * 9.0,
            f64::from(y) / f64::from(height) * 7.0,
        );
        let wave = |a: f64| (127.5 + 100.0 * a.sin()) as u8;
        let noise =
            (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503).wrapping_add(seed)) >> 28;
        let pixel = [wave(u + phase), wave(v - phase), wave(u + v + 2.0 * phase)];
        image::Rgb(pixel.map(|c| c.saturating_add(noise as u8)))
    })
}

/// [`picture`] as a JPEG file's bytes.
pub fn jpeg(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let rgb = picture(width, height, seed);
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(rgb.as_raw(), width, height, ColorType::Rgb8.into())
        .expect("JPEG in memory");
    bytes
}

/// Writes `count` different JPEG images of 160×120 to `folder`: `00000.jpg`, `00001.jpg` and so on.
pub fn write_images(folder: &Path, count: u32) {
    std::fs::create_dir_all(folder).expect("folder of images");
    for seed in 0..count {
        let path = folder.join(format!("{seed:05}.jpg"));
        std::fs::write(path, jpeg(160, 120, seed)).expect("image");
    }
}

/// Writes `count` images of each class in each environment: `folder/ENVIRONMENT/CLASS/0.jpg` and so on. Images of a
/// class resemble each other.
pub fn write_environments(folder: &Path, environments: &[&str], classes: &[&str], count: u32) {
    for (e, environment) in (0..).zip(environments) {
        for (c, class) in (0..).zip(classes) {
            let folder = folder.join(environment).join(class);
            std::fs::create_dir_all(&folder).expect("folder");
            for i in 0..count {
                let path = folder.join(format!("{i}.jpg"));
                std::fs::write(path, jpeg(120, 90, 3 * c + 40 * e + 100 * i)).expect("image");
            }
        }
    }
}
