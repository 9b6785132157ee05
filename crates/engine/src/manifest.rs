//! The manifest: a small TOML file next to a model that holds what the ONNX file does not.

use crate::regular_file::{self, MAX_TEXT_BYTES};
use crate::toml_error::describe_toml_error;
use constancy_core::preprocess::{Crop, Filter, ResizeMode, Transform};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The longest text that a tower may take, tokens. Towers take 77; a larger number is a damaged one,
/// and would only take memory.
const MAX_CONTEXT: usize = 1 << 16;

/// Why a manifest cannot be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("model manifest {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("model manifest {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("model manifest {path}: `{key}` is {value}, {expected}")]
    Value {
        path: PathBuf,
        key: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error(
        "model manifest {path}: it has no [text] section, so labels cannot be embedded; add one, or use a class bank (`constancy classes --from-images`)"
    )]
    NoText { path: PathBuf },
}

/// The description of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub encoder: EncoderManifest,
    pub input: InputManifest,
    pub output: OutputManifest,
    /// The text tower, if there is one.
    pub text: Option<TextManifest>,
    /// Where the manifest was read from; the paths in it are relative to its folder.
    #[serde(skip)]
    pub path: PathBuf,
}

/// `[encoder]`: the image tower's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderManifest {
    /// Short name, which events carry.
    pub name: String,
    /// The ONNX file, relative to the manifest.
    pub file: PathBuf,
    /// Lower-case hex; a file with another hash is refused. Without it, any file is accepted. With
    /// external data it is the hash of all files together.
    pub sha256: Option<String>,
    /// SPDX identifier, or the name of the licence.
    pub licence: Option<String>,
    /// Where the model comes from.
    pub source: Option<String>,
}

/// `[input]`: the transform that the model was trained with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputManifest {
    /// Name of the ONNX input.
    pub name: String,
    /// Whether the tower takes normalised floats (the default) or bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<InputType>,
    /// The order of the axes; needed only where the file's shape leaves it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<InputLayout>,
    /// Edge of the square input, pixels.
    pub size: u32,
    /// `shortest-edge` (CLIP) or `exact` (SigLIP).
    pub resize: ResizeMode,
    /// Edge that `shortest-edge` resizes to before the crop, pixels; defaults to `size`.
    pub resize_to: Option<u32>,
    /// `bicubic`, `bilinear` or `lanczos`.
    pub filter: Filter,
    /// `center` or `none`.
    pub crop: Crop,
    /// Per channel, for values in `0..=1`. A tower that takes bytes applies its own; parts that a
    /// mask hides get the mean colour.
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// What the ONNX input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Normalised floats.
    #[default]
    Float,
    /// The bytes of the image, 0 to 255: the tower normalises them itself.
    Uint8,
}

/// The order of the ONNX input's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputLayout {
    /// `[N, 3, H, W]`.
    Nchw,
    /// `[N, H, W, 3]`.
    Nhwc,
}

/// `[output]`: the embedding.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputManifest {
    /// Name of the ONNX output.
    pub name: String,
    /// Width of the embedding.
    pub width: usize,
    /// Factor of cosines before softmax: `exp` of CLIP's `logit_scale` parameter, 100 for most
    /// models.
    pub logit_scale: f32,
}

/// `[text]`: the text tower and its tokenizer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextManifest {
    pub file: PathBuf,
    pub sha256: Option<String>,
    /// Hugging Face's `tokenizer.json`, relative to the manifest.
    pub tokenizer: PathBuf,
    /// Number of tokens that the tower takes, 77 for CLIP.
    pub context_length: usize,
    /// Name of the ONNX input of token ids, int64 `[N, context_length]`.
    pub input: String,
    /// Name of the ONNX input for the attention mask, if the graph has one.
    pub attention_mask: Option<String>,
    /// Name of the ONNX output.
    pub output: String,
    /// Token that pads the end of a text. 0 suits CLIP, which ends a text at its first end token.
    #[serde(default)]
    pub pad_token_id: i64,
}

impl InputManifest {
    /// An error is the key, its value and what was expected.
    fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        if !(8..=2048).contains(&self.size) {
            return Err((
                "input.size",
                self.size.to_string(),
                "expected 8 to 2048 pixels",
            ));
        }
        if let Some(to) = self.resize_to
            && !(self.size..=4096).contains(&to)
        {
            return Err((
                "input.resize_to",
                to.to_string(),
                "expected `input.size` to 4096 pixels",
            ));
        }
        if self.resize == ResizeMode::ShortestEdge && self.crop == Crop::None {
            return Err((
                "input.crop",
                "\"none\"".into(),
                "but `shortest-edge` leaves a rectangle: use \"center\"",
            ));
        }
        if self.std.iter().any(|&s| !(s.is_finite() && s > 0.0)) {
            return Err((
                "input.std",
                format!("{:?}", self.std),
                "expected positive numbers",
            ));
        }
        if self.mean.iter().any(|m| !m.is_finite()) {
            return Err((
                "input.mean",
                format!("{:?}", self.mean),
                "expected finite numbers",
            ));
        }
        let is_recovered =
            |c, byte| self.byte(c, (f32::from(byte) / 255.0 - self.mean[c]) / self.std[c]) == byte;
        let takes_bytes = self.r#type == Some(InputType::Uint8);
        if takes_bytes && !(0..3).all(|c| (0..=255).all(|byte| is_recovered(c, byte))) {
            return Err((
                "input.std",
                format!("{:?}", self.std),
                "which does not fit `input.mean`: bytes cannot be recovered from normalised values",
            ));
        }
        Ok(())
    }

    /// The byte that becomes `normalised` in this channel.
    pub(crate) fn byte(&self, channel: usize, normalised: f32) -> u8 {
        let unit = normalised * self.std[channel] + self.mean[channel];
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, as noise beyond the range of pixels should"
        )]
        let byte = (unit * 255.0).round() as u8;
        byte
    }
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = regular_file::read_text(path, MAX_TEXT_BYTES).map_err(|source| {
            ManifestError::Read {
                path: path.into(),
                source,
            }
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let mut manifest: Self = toml::from_str(text).map_err(|e| ManifestError::Parse {
            path: path.into(),
            message: describe_toml_error(text, e),
        })?;
        manifest.path = path.into();
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |key, value, expected| {
            Err(ManifestError::Value {
                path: self.path.clone(),
                key,
                value,
                expected,
            })
        };
        if let Err((key, value, expected)) = self.input.check() {
            return wrong(key, value, expected);
        }
        let scale = self.output.logit_scale;
        if !(scale.is_finite() && scale > 0.0) {
            return wrong(
                "output.logit_scale",
                scale.to_string(),
                "expected a positive number",
            );
        }
        if self.output.width == 0 {
            return wrong("output.width", "0".into(), "expected the embedding's width");
        }
        match &self.text {
            Some(text) if !(3..=MAX_CONTEXT).contains(&text.context_length) => wrong(
                "text.context_length",
                text.context_length.to_string(),
                "expected 3 to 65536 tokens",
            ),
            Some(text) if text.pad_token_id < 0 => wrong(
                "text.pad_token_id",
                text.pad_token_id.to_string(),
                "expected a token of the tokenizer, 0 or more",
            ),
            _ => Ok(()),
        }
    }

    /// The manifest at `path` for another file of the same image tower: `file`, in the same folder
    /// as the manifest.
    pub(crate) fn for_other_file(&self, path: &Path, file: &Path, sha256: String) -> Self {
        let mut other = self.clone();
        other.path = path.into();
        other.encoder.file = file.file_name().map_or_else(|| file.into(), PathBuf::from);
        other.encoder.sha256 = Some(sha256);
        let (from, to) = (folder(&self.path), folder(path));
        if let Some(text) = other.text.as_mut().filter(|_| from != to) {
            for file in [&mut text.file, &mut text.tokenizer] {
                *file = relative(&to, &from.join(&*file));
            }
        }
        other
    }

    /// The preprocessing that `[input]` describes.
    #[must_use]
    pub fn transform(&self) -> Transform {
        let input = &self.input;
        Transform {
            size: input.size,
            resize: input.resize,
            resize_to: input.resize_to.unwrap_or(input.size),
            filter: input.filter,
            crop: input.crop,
            mean: input.mean,
            std: input.std,
        }
    }

    /// The shape of `batch` images: `[batch, 3, size, size]`.
    #[must_use]
    pub fn input_shape(&self, batch: usize) -> [usize; 4] {
        let size = self.input.size as usize;
        [batch, 3, size, size]
    }

    /// Number of values of one image.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.input_shape(1).iter().product()
    }

    /// `batch` images of noise in the range of normalised images; the same `seed` gives the same
    /// images.
    #[must_use]
    pub fn noise(&self, batch: usize, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..batch * self.input_len())
            .map(|_| rng.f32() * 4.0 - 2.0)
            .collect()
    }

    /// The image tower's file.
    #[must_use]
    pub fn encoder_file(&self) -> PathBuf {
        self.beside(&self.encoder.file)
    }

    /// `[text]`; an error with the way out if it is missing.
    pub fn text(&self) -> Result<&TextManifest, ManifestError> {
        self.text.as_ref().ok_or_else(|| ManifestError::NoText {
            path: self.path.clone(),
        })
    }

    /// The path of a file that the manifest names.
    #[must_use]
    pub fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(file)
    }
}

/// The folder of a file, absolute if it exists.
fn folder(file: &Path) -> PathBuf {
    let folder = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    folder.canonicalize().unwrap_or_else(|_| folder.into())
}

/// The path of `file` relative to `folder`; both are absolute.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let shared = folder
        .components()
        .zip(file.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = folder
        .components()
        .skip(shared)
        .map(|_| std::path::Component::ParentDir);
    up.chain(file.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::relative;
    use std::path::Path;

    #[test]
    fn a_path_is_made_relative_to_another_folder() {
        let named = |folder: &str, file: &str| relative(Path::new(folder), Path::new(file));
        assert_eq!(named("/a/b", "/a/c/text.onnx"), Path::new("../c/text.onnx"));
        assert_eq!(named("/a", "/a/b/text.onnx"), Path::new("b/text.onnx"));
        assert_eq!(
            named("/x/y", "/a/text.onnx"),
            Path::new("../../a/text.onnx")
        );
    }
}
