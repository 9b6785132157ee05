//! The manifest: a small TOML file beside a model that says what the ONNX file itself cannot.

use constancy_core::preprocess::{Crop, Filter, ResizeMode, Transform};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a manifest could not be used.
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

/// What a manifest says of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub encoder: EncoderManifest,
    pub input: InputManifest,
    pub output: OutputManifest,
    /// The text tower, where there is one.
    pub text: Option<TextManifest>,
    /// Where the manifest itself was read from; its files are named relative to it.
    #[serde(skip)]
    pub path: PathBuf,
}

/// `[encoder]`: the image tower's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderManifest {
    /// Short name, as events give it.
    pub name: String,
    /// The ONNX file, relative to the manifest.
    pub file: PathBuf,
    /// Lower-case hex; a file with another hash is refused. Without it any file is taken.
    pub sha256: Option<String>,
    /// SPDX identifier, or the licence's name.
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
    /// Edge of the square input, pixels.
    pub size: u32,
    /// `shortest-edge` (CLIP) or `exact` (SigLIP).
    pub resize: ResizeMode,
    /// Edge that `shortest-edge` resizes to before the crop, pixels; `size` unless given.
    pub resize_to: Option<u32>,
    /// `bicubic`, `bilinear` or `lanczos`.
    pub filter: Filter,
    /// `center` or `none`.
    pub crop: Crop,
    /// Per channel, of values in 0–1.
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// `[output]`: the embedding.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputManifest {
    /// Name of the ONNX output.
    pub name: String,
    /// Width of the embedding.
    pub width: usize,
    /// What cosines are multiplied with before softmax: `exp` of CLIP's `logit_scale` parameter, 100 for most.
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
    /// Tokens that the tower takes, 77 for CLIP.
    pub context_length: usize,
    /// Name of the ONNX input of token ids, int64 `[N, context_length]`.
    pub input: String,
    /// Name of the attention mask's input, where the graph has one.
    pub attention_mask: Option<String>,
    /// Name of the ONNX output.
    pub output: String,
    /// What fills up behind the end of the text. 0 suits CLIP, which finds the end by the first end token.
    #[serde(default)]
    pub pad_token_id: i64,
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let mut manifest: Self = toml::from_str(text).map_err(|e| ManifestError::Parse {
            path: path.into(),
            message: e.to_string().trim_end().to_owned(),
        })?;
        manifest.path = path.into();
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let input = &self.input;
        let wrong = |key, value: String, expected| {
            Err(ManifestError::Value {
                path: self.path.clone(),
                key,
                value,
                expected,
            })
        };
        if !(8..=2048).contains(&input.size) {
            return wrong(
                "input.size",
                input.size.to_string(),
                "expected 8 to 2048 pixels",
            );
        }
        if let Some(to) = input.resize_to
            && !(input.size..=4096).contains(&to)
        {
            return wrong(
                "input.resize_to",
                to.to_string(),
                "expected `input.size` to 4096 pixels",
            );
        }
        if input.resize == ResizeMode::ShortestEdge && input.crop == Crop::None {
            return wrong(
                "input.crop",
                "\"none\"".into(),
                "but `shortest-edge` leaves a rectangle: use \"center\"",
            );
        }
        if input.std.iter().any(|&s| !(s.is_finite() && s > 0.0)) {
            return wrong(
                "input.std",
                format!("{:?}", input.std),
                "expected positive numbers",
            );
        }
        if input.mean.iter().any(|m| !m.is_finite()) {
            return wrong(
                "input.mean",
                format!("{:?}", input.mean),
                "expected finite numbers",
            );
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
            Some(text) if text.context_length < 3 => wrong(
                "text.context_length",
                text.context_length.to_string(),
                "expected at least 3 tokens",
            ),
            _ => Ok(()),
        }
    }

    /// The manifest at `path` of another form of the image tower: `file`, in the same folder.
    pub(super) fn of_other_form(&self, path: &Path, file: &Path, sha256: String) -> Self {
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

    /// The transform of `[input]`.
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

    /// Values of one image.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.input_shape(1).iter().product()
    }

    /// `batch` images of noise, in the range of normalised ones; the same for the same `seed`.
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

    /// `[text]`, or what to do where it is missing.
    pub fn text(&self) -> Result<&TextManifest, ManifestError> {
        self.text.as_ref().ok_or_else(|| ManifestError::NoText {
            path: self.path.clone(),
        })
    }

    /// A file that the manifest names.
    #[must_use]
    pub fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(file)
    }
}

/// The folder of a file, absolute where it exists.
fn folder(file: &Path) -> PathBuf {
    let folder = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    folder.canonicalize().unwrap_or_else(|_| folder.into())
}

/// `file` as it is named from `folder`; both are absolute.
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
    fn a_file_is_named_from_another_folder() {
        let named = |folder: &str, file: &str| relative(Path::new(folder), Path::new(file));
        assert_eq!(named("/a/b", "/a/c/text.onnx"), Path::new("../c/text.onnx"));
        assert_eq!(named("/a", "/a/b/text.onnx"), Path::new("b/text.onnx"));
        assert_eq!(
            named("/x/y", "/a/text.onnx"),
            Path::new("../../a/text.onnx")
        );
    }
}
