//! Thumbnails of a few images and of what the interventions make of them, for the HTML report.

use super::args::EvalArgs;
use super::inputs::EvalInputs;
use crate::cli::CliError;
use crate::cli::output::read_frame;
use crate::embedding_cache::ContentHash;
use constancy_core::preprocess::{Preprocessor, RgbImage};
use image::codecs::jpeg::JpegEncoder;
use image::{ColorType, ImageEncoder, imageops};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Images that are shown, spread evenly over environments and classes.
const EXAMPLES: usize = 3;
/// Width and height of a thumbnail, px.
const SIDE: u32 = 112;
const QUALITY: u8 = 82;

/// An image and its interventions.
pub(super) struct Example {
    /// Environment and class.
    pub title: String,
    /// Label and data URI of each thumbnail; the image itself comes first.
    pub thumbnails: Vec<(String, String)>,
}

pub(super) fn examples(args: &EvalArgs, inputs: &EvalInputs) -> Result<Vec<Example>, CliError> {
    let manifest = inputs.encoder.frame_encoder.encoder().manifest();
    let mut preprocessor = Preprocessor::new(manifest.transform());
    let count = inputs.images.len().min(EXAMPLES);
    (0..count)
        .map(|n| {
            example(
                args,
                inputs,
                n * inputs.images.len() / count,
                &mut preprocessor,
            )
        })
        .collect()
}

fn example(
    args: &EvalArgs,
    inputs: &EvalInputs,
    image: usize,
    preprocessor: &mut Preprocessor,
) -> Result<Example, CliError> {
    let path = &inputs.images[image];
    let frame = read_frame(path)?;
    let content: ContentHash = Sha256::digest(&frame.data).into();
    let crop = preprocessor
        .crop(&frame)
        .map_err(|source| CliError::Image {
            path: path.clone(),
            source,
        })?;
    let page = args.html.as_deref().unwrap_or(Path::new(""));
    let mut thumbnails = vec![("as it is".to_owned(), thumbnail(crop, page)?)];
    for intervention in inputs.interventions.interventions(&content) {
        let changed = intervention.apply(crop);
        thumbnails.push((intervention.to_string(), thumbnail(&changed, page)?));
    }
    let labelled = &inputs.labelled;
    let environment = &labelled.environment_names()[labelled.environments()[image]];
    let class = &labelled.class_names()[labelled.classes()[image]];
    Ok(Example {
        title: format!("{environment}, {class}"),
        thumbnails,
    })
}

/// A small JPEG as a data URI; `page` is named in errors.
fn thumbnail(image: &RgbImage, page: &Path) -> Result<String, CliError> {
    let failed = |reason: String| CliError::Write {
        path: page.into(),
        source: std::io::Error::other(reason),
    };
    let whole = image::RgbImage::from_raw(image.width, image.height, image.data.clone());
    let whole = whole.ok_or_else(|| failed("an image is shorter than its size".into()))?;
    let small = imageops::thumbnail(&whole, SIDE, SIDE);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .write_image(small.as_raw(), SIDE, SIDE, ColorType::Rgb8.into())
        .map_err(|error| failed(error.to_string()))?;
    Ok(format!("data:image/jpeg;base64,{}", base64(&bytes)))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > group.len() {
                '='
            } else {
                char::from(DIGITS[value as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_rfc_4648() {
        let cases =
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(
            cases,
            [
                "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"
            ]
        );
    }
}
