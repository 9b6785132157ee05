//! JPEGs as cameras send them, from `tests/golden/cameras.py`: as a camera's frame and as a file.

use crate::fixture;
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::preprocess::{DecodeError, RgbImage, decode, is_complete_jpeg};
use std::collections::BTreeMap;

const TAKEN: Timestamp = Timestamp {
    monotonic_ns: 0,
    unix_ns: 0,
    clock_synced: false,
};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture("cameras").join(format!("{name}.jpg"))).expect("fixture")
}

fn seen(format: PixelFormat, data: Vec<u8>) -> Result<RgbImage, DecodeError> {
    let mut rgb = RgbImage::default();
    decode(&Frame::compressed(format, data, TAKEN), &mut rgb).map(|()| rgb)
}

/// Mean difference of two pictures, of 255; infinite between sizes.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    if (a.width, a.height) != (b.width, b.height) {
        return f64::INFINITY;
    }
    let apart = a
        .data
        .iter()
        .zip(&b.data)
        .map(|(a, b)| u64::from(a.abs_diff(*b)));
    apart.sum::<u64>() as f64 / a.data.len() as f64
}

fn expected() -> BTreeMap<String, String> {
    let cases = std::fs::read(fixture("cameras/cases.json")).expect("cases");
    serde_json::from_slice(&cases).expect("cases")
}

#[test]
fn every_deviation_is_seen_as_what_it_is_a_picture_of() {
    let cases = expected();
    assert!(cases.len() >= 35);
    let mut wrong = Vec::new();
    for (name, expected) in &cases {
        for format in [PixelFormat::Jpeg, PixelFormat::ImageFile] {
            let result = seen(format, read(name));
            let right = match (expected.as_str(), &result) {
                ("clean" | "grey", Ok(rgb)) => {
                    let clean = seen(PixelFormat::Jpeg, read(expected)).expect("a clean picture");
                    // Another upsampling of the chroma.
                    let allowed = if name == "separate-scans" { 4.0 } else { 0.0 };
                    difference(rgb, &clean) <= allowed
                }
                ("damaged", Err(DecodeError::Truncated { .. } | DecodeError::Jpeg { .. })) => true,
                (_, Err(e @ DecodeError::Kind { .. })) => e.to_string().contains(expected),
                _ => false,
            };
            if !right {
                let result = result.map(|rgb| (rgb.width, rgb.height));
                wrong.push(format!("{name} as {format:?} is {expected}: {result:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A scan that is cut anywhere, with an end marker, without one, and with zeros behind it.
#[test]
fn a_scan_that_ends_early_is_never_whole() {
    for name in [
        "clean",
        "restart-markers",
        "no-huffman-tables",
        "grey",
        "separate-scans",
        "progressive",
    ] {
        let data = read(name);
        let header = data
            .windows(2)
            .position(|w| w == [0xff, 0xda])
            .expect("a scan");
        let scan = header + 14..data.len() - 2;
        for step in 1..=60 {
            // The last three bytes may hold nothing but the end of the last block and padding.
            let cut = scan.start + (scan.len() - 3) * step / 61;
            for end in [&[0xff, 0xd9][..], &[], &[0; 500]] {
                let result = seen(PixelFormat::Jpeg, [&data[..cut], end].concat());
                assert!(
                    result.is_err(),
                    "{name} is not whole with {cut} of {} bytes and {} behind them",
                    data.len(),
                    end.len()
                );
            }
            assert!(!is_complete_jpeg(&data[..cut]), "{name}: {cut} bytes");
        }
        assert!(is_complete_jpeg(&data[..data.len() - 2]), "{name}");
    }
}

#[test]
fn noise_ends_in_a_picture_or_an_error_and_never_in_a_panic() {
    let mut rng = fastrand::Rng::with_seed(19);
    let names: Vec<String> = expected().into_keys().collect();
    let mut damaged = 0;
    for round in 0..4000 {
        let mut data = read(&names[round % names.len()]);
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..data.len());
            let any = rng.u8(..);
            data[at] = [0x00, 0xff, 0xd8, 0xda, 0xc4, any][rng.usize(..6)];
        }
        data.truncate(rng.usize(data.len() / 2..=data.len()));
        let result = seen(PixelFormat::ImageFile, data);
        damaged += u32::from(result.is_err());
        assert!(
            !matches!(result, Err(DecodeError::Panic { .. })),
            "{result:?}"
        );
    }
    assert!(damaged > 1000, "{damaged} of 4000");
}
