//! Some of the images with what the interventions make of them, small, for the report.

use super::super::CliError;
use super::super::output::read_frame;
use super::EvalArgs;
use super::data::Subject;
use crate::embedding_cache::Content;
use constancy_core::preprocess::{Preprocessor, RgbImage};
use image::codecs::jpeg::JpegEncoder;
use image::{ColorType, ImageEncoder, imageops};
use sha2::{Digest, Sha256};

/// Images that are shown, each from another environment and class as far as there are any.
const EXAMPLES: usize = 3;
const SIDE: u32 = 112;
const QUALITY: u8 = 82;

/// An image and its interventions.
pub(super) struct Example {
    /// Environment and class.
    pub title: String,
    /// Label and picture, as a data URI; the image itself first.
    pub pictures: Vec<(String, String)>,
}

pub(super) fn examples(args: &EvalArgs, subject: &Subject) -> Result<Vec<Example>, CliError> {
    let mut preprocessor =
        Preprocessor::new(subject.crowd.frame_encoder.encoder().manifest().transform());
    let labelled = &subject.labelled;
    let count = subject.images.len().min(EXAMPLES);
    let example = |n: usize| {
        let image = n * subject.images.len() / count;
        let path = &subject.images[image];
        let frame = read_frame(path)?;
        let content: Content = Sha256::digest(&frame.data).into();
        let crop = preprocessor
            .crop(&frame)
            .map_err(|source| CliError::Image {
                path: path.clone(),
                source,
            })?
            .clone();
        let mut pictures = vec![("as it is".to_owned(), picture(&crop, args)?)];
        for intervention in subject.wanted.interventions(&content) {
            pictures.push((
                intervention.to_string(),
                picture(&intervention.apply(&crop), args)?,
            ));
        }
        let environment = &labelled.environment_names()[labelled.environments()[image]];
        let class = &labelled.class_names()[labelled.classes()[image]];
        Ok(Example {
            title: format!("{environment}, {class}"),
            pictures,
        })
    };
    (0..count).map(example).collect()
}

fn picture(image: &RgbImage, args: &EvalArgs) -> Result<String, CliError> {
    let failed = |reason: String| CliError::Write {
        path: args.html.clone().unwrap_or_default(),
        source: std::io::Error::other(reason),
    };
    let whole = image::RgbImage::from_raw(image.width, image.height, image.data.clone());
    let small = imageops::thumbnail(
        &whole.ok_or_else(|| failed("a picture is too short".into()))?,
        SIDE,
        SIDE,
    );
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
    fn base64_is_that_of_the_standard() {
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
