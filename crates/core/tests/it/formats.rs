//! Picture files: formats by content, limits before memory is taken.

use crate::fixture;
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::preprocess::{DecodeError, RgbImage, TooLarge, decode};
use image::{DynamicImage, ImageFormat};
use std::io::Cursor;

fn seen(data: Vec<u8>) -> Result<RgbImage, DecodeError> {
    let taken = Timestamp {
        monotonic_ns: 0,
        unix_ns: 0,
        clock_synced: false,
    };
    let mut rgb = RgbImage::default();
    decode(
        &Frame::compressed(PixelFormat::ImageFile, data, taken),
        &mut rgb,
    )
    .map(|()| rgb)
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("in memory");
    bytes.into_inner()
}

#[test]
fn lossless_formats_show_the_same_picture() {
    let picture = image::RgbImage::from_fn(31, 17, |x, y| {
        image::Rgb([(x * 8) as u8, (y * 15) as u8, (x * y) as u8])
    });
    let rgb = DynamicImage::ImageRgb8(picture.clone());
    let kinds = [
        rgb.clone(),
        rgb.to_rgba8().into(),
        rgb.to_rgb16().into(),
        rgb.to_rgba16().into(),
    ];
    for (kind, image) in kinds.iter().enumerate() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Tiff,
            ImageFormat::Bmp,
            ImageFormat::WebP,
        ] {
            if kind >= 2 && matches!(format, ImageFormat::Bmp | ImageFormat::WebP) {
                continue;
            }
            let seen = seen(encoded(image, format)).expect("a good picture");
            assert_eq!(
                (seen.width, seen.height),
                (31, 17),
                "{format:?}, kind {kind}"
            );
            assert_eq!(seen.data, *picture.as_raw(), "{format:?}, kind {kind}");
        }
    }
}

#[test]
fn pictures_of_other_formats_are_named() {
    let cases: [(&[u8], &str); 7] = [
        (
            b"GIF89a\x01\0\x01\0",
            "GIF pictures are not read; convert it to JPEG",
        ),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC pictures"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0", "HEIC pictures"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF pictures"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL pictures"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL pictures"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 pictures"),
    ];
    for (data, message) in cases {
        let error = seen(data.to_vec())
            .expect_err("a foreign format")
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// A JPEG of `tests/fixtures/cameras` whose header claims another size.
fn claiming(name: &str, width: u16, height: u16) -> Vec<u8> {
    let mut data = std::fs::read(fixture("cameras").join(name)).expect("fixture");
    let header = data
        .windows(2)
        .position(|w| matches!(w, [0xff, 0xc0..=0xc2]))
        .expect("a frame header");
    data[header + 5..header + 7].copy_from_slice(&height.to_be_bytes());
    data[header + 7..header + 9].copy_from_slice(&width.to_be_bytes());
    data
}

/// The beginning of a 16-bit RGBA PNG.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], body: &[u8]| {
        let checked = [kind, body].concat();
        let crc = checked.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
            })
        });
        [
            &(body.len() as u32).to_be_bytes()[..],
            &checked,
            &(!crc).to_be_bytes(),
        ]
        .concat()
    };
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[16, 6, 0, 0, 0],
    ]
    .concat();
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &chunk(b"IDAT", b"\x78\x01"),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

#[test]
fn sizes_that_take_too_much_memory_are_refused_by_name() {
    for (data, kind) in [
        (
            claiming("progressive.jpg", 16_384, 4096),
            "a progressive JPEG of 16384×4096",
        ),
        (png_claiming(8192, 8192), "a PNG of 8192×8192"),
    ] {
        let error = seen(data).expect_err("too large");
        assert!(
            matches!(error, DecodeError::TooLarge(TooLarge::Memory { .. })),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(kind) && text.contains("320 MiB"), "{text}");
    }
    for (width, height) in [(65_535, 65_535), (16_385, 16), (0, 16), (16, 0)] {
        for name in ["clean.jpg", "progressive.jpg", "separate-scans.jpg"] {
            let error = seen(claiming(name, width, height)).expect_err("no size");
            assert!(
                matches!(error, DecodeError::TooLarge(TooLarge::Pixels { .. })),
                "{name}: {error}"
            );
        }
    }
}

/// 20 megapixels pass the limits in every format: these are refused because nothing follows their headers.
#[test]
fn the_limits_let_large_cameras_pass() {
    for name in ["clean.jpg", "progressive.jpg", "separate-scans.jpg"] {
        let error = seen(claiming(name, 5472, 3648)).expect_err("its data ends early");
        assert!(matches!(error, DecodeError::Jpeg { .. }), "{name}: {error}");
    }
    let error = seen(png_claiming(5472, 3648)).expect_err("its data ends early");
    assert!(matches!(error, DecodeError::Image { .. }), "{error}");
}
