//! What is loaded together and must fit together: encoder, projection, classes.
//!
//! A [`Recognizer`] is the middle of a frame's path: a frame in, a [`Decision`] out, with the time each step took.

use crate::config::{ClassSettings, Settings};
use constancy_core::classify::{
    BankError, BankOrigin, ClassBank, Classifier, Decision, TextError, Tokenizer, class_embeddings,
};
use constancy_core::frame::Frame;
use constancy_core::icm::{Projection, ProjectionError};
use constancy_core::preprocess::{DecodeError, Preprocessor, RgbImage, View};
use constancy_engine::{Encoder, EngineOptions, Manifest, ManifestError, ModelError, TextEncoder};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Instant;
use thiserror::Error;

/// The digest that stands for "no projection".
pub const IDENTITY: &str = "identity";

/// Why the parts could not be loaded, or do not fit.
#[derive(Debug, Error)]
pub enum RecognizerError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{what} {path}: {source}")]
    Read {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("projection {path}: {source}")]
    Projection {
        path: PathBuf,
        source: ProjectionError,
    },
    #[error("class bank {path}: {source}")]
    Bank { path: PathBuf, source: BankError },
    #[error("class bank: {0}")]
    Probe(BankError),
    #[error("tokenizer {path}: {source}")]
    Tokenizer { path: PathBuf, source: TextError },
    #[error(transparent)]
    Text(#[from] TextError),
}

impl From<ManifestError> for RecognizerError {
    fn from(error: ManifestError) -> Self {
        Self::Model(error.into())
    }
}

/// Why one frame got no decision.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The frame is at fault: skip it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The model is at fault.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What came of one frame of several, and the time it took.
pub type PerFrame<T> = Result<(T, StageLatency), DecodeError>;

/// A projection and the digest by which events name it.
#[derive(Debug, Clone)]
pub struct LoadedProjection {
    pub projection: Projection,
    /// First 12 hex digits of the file's SHA-256.
    pub digest: String,
}

/// Milliseconds that the steps of one recognition took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageLatency {
    pub preprocess_ms: f64,
    pub embed_ms: f64,
    pub classify_ms: f64,
}

/// Preprocessing and encoder: a frame in, an embedding out.
pub struct FrameEncoder {
    preprocessor: Preprocessor,
    encoder: Encoder,
    engine: EngineOptions,
}

impl FrameEncoder {
    /// Loads the model that the manifest describes.
    pub fn load(manifest: &Path, engine: &EngineOptions) -> Result<Self, RecognizerError> {
        let encoder = Encoder::load(manifest, engine)?;
        let preprocessor = Preprocessor::new(encoder.manifest().transform());
        Ok(Self {
            preprocessor,
            encoder,
            engine: engine.clone(),
        })
    }

    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The embedding `[width]` of a frame, not normalised, and the time it took.
    pub fn embed(&mut self, frame: &Frame) -> Result<(Vec<f32>, StageLatency), FrameError> {
        // One frame in, one result out.
        match self.embed_all(&[(frame, &View::WHOLE)])?.pop() {
            Some(result) => Ok(result?),
            None => Ok((Vec::new(), StageLatency::default())),
        }
    }

    /// The same for what is to be seen of several frames, which the encoder sees together; each one's time is what all
    /// of them took.
    pub fn embed_all(
        &mut self,
        frames: &[(&Frame, &View)],
    ) -> Result<Vec<PerFrame<Vec<f32>>>, ModelError> {
        let (mut input, mut prepared) = (Vec::new(), Vec::new());
        for (frame, view) in frames {
            let start = Instant::now();
            prepared.push(self.preprocessor.tensor_of(frame, view).map(|tensor| {
                input.extend_from_slice(&tensor);
                ms_since(start)
            }));
        }
        let batch = prepared.iter().filter(|p| p.is_ok()).count();
        let start = Instant::now();
        let embeddings = if batch == 0 {
            Vec::new()
        } else {
            self.encoder.embed_batch(&input, batch)?
        };
        let embed_ms = ms_since(start);
        let mut embeddings = embeddings.chunks_exact(self.encoder.manifest().output.width);
        let mut result = |preprocess_ms| {
            let latency = StageLatency {
                preprocess_ms,
                embed_ms,
                classify_ms: 0.0,
            };
            (embeddings.next().unwrap_or_default().to_vec(), latency)
        };
        Ok(prepared.into_iter().map(|p| p.map(&mut result)).collect())
    }

    /// Loads a projection fitted for this encoder.
    pub fn projection(&self, path: &Path) -> Result<LoadedProjection, RecognizerError> {
        let bytes = read("projection", path)?;
        let width = self.encoder.manifest().output.width;
        let projection =
            Projection::parse(&bytes, self.encoder.sha256(), width).map_err(|source| {
                RecognizerError::Projection {
                    path: path.into(),
                    source,
                }
            })?;
        Ok(LoadedProjection {
            projection,
            digest: short_digest(&bytes),
        })
    }

    /// Loads a class bank made for this model.
    pub fn bank(&self, path: &Path) -> Result<ClassBank, RecognizerError> {
        let manifest = self.encoder.manifest();
        let text_sha256 = manifest.text.as_ref().and_then(|t| t.sha256.as_deref());
        let bank = ClassBank::parse(&read("class bank", path)?).and_then(|bank| {
            bank.check(manifest.output.width, self.encoder.sha256(), text_sha256)?;
            Ok(bank)
        });
        bank.map_err(|source| RecognizerError::Bank {
            path: path.into(),
            source,
        })
    }

    /// The class bank that a configuration names, from its file or made of its labels.
    pub fn bank_of(&self, classes: &ClassSettings) -> Result<ClassBank, RecognizerError> {
        match &classes.bank {
            Some(path) => self.bank(path),
            None => self.bank_of_labels(&classes.labels, &classes.prompts),
        }
    }

    /// Makes a class bank of labels with the model's text tower.
    pub fn bank_of_labels(
        &self,
        labels: &[String],
        templates: &[String],
    ) -> Result<ClassBank, RecognizerError> {
        self.prompt_encoder()?.bank(labels, templates)
    }

    /// Loads the model's text tower.
    pub fn prompt_encoder(&self) -> Result<PromptEncoder, RecognizerError> {
        PromptEncoder::load(self.encoder.manifest(), &self.engine)
    }
}

/// Tokenizer and text tower: words in, an embedding out.
pub struct PromptEncoder {
    tokenizer: Tokenizer,
    tower: TextEncoder,
}

impl PromptEncoder {
    /// Loads the text tower of a model.
    pub fn load(manifest: &Manifest, engine: &EngineOptions) -> Result<Self, RecognizerError> {
        let text = manifest.text()?;
        let path = manifest.beside(&text.tokenizer);
        let json = read("tokenizer", &path)?;
        let tokenizer = Tokenizer::parse(&json, text.context_length, text.pad_token_id)
            .map_err(|source| RecognizerError::Tokenizer { path, source })?;
        Ok(Self {
            tokenizer,
            tower: TextEncoder::load(manifest, engine)?,
        })
    }

    /// Makes a class bank of labels.
    pub fn bank(
        &self,
        labels: &[String],
        templates: &[String],
    ) -> Result<ClassBank, RecognizerError> {
        let rows = class_embeddings(labels, templates, |prompt| self.embed(prompt))?;
        Ok(ClassBank {
            labels: labels.to_vec(),
            templates: templates.to_vec(),
            origin: BankOrigin::Text,
            encoder_sha256: self.tower.sha256().to_owned(),
            rows,
            support: None,
            probe: None,
        })
    }

    /// The embedding `[width]` of a prompt, not normalised.
    pub fn embed(&self, prompt: &str) -> Result<Vec<f32>, RecognizerError> {
        let (ids, used) = self.tokenizer.encode(prompt)?;
        Ok(self.tower.embed(&ids, used)?)
    }
}

/// One frame to look at.
#[derive(Clone, Copy)]
pub struct FrameInput<'a> {
    pub frame: &'a Frame,
    /// How much of it is looked at.
    pub view: &'a View,
    /// What the answer is chosen from, if not from the recogniser's own classes.
    pub classifier: Option<&'a Classifier>,
}

/// The whole middle of a frame's path.
pub struct Recognizer {
    frame_encoder: FrameEncoder,
    classifier: Classifier,
    /// First 12 hex digits of the encoder's SHA-256.
    pub model_digest: String,
    /// Digest of the projection, or [`IDENTITY`].
    pub projection_digest: String,
}

impl Recognizer {
    /// Puts the parts together; a bank whose probe was learnt under another projection is refused.
    pub fn new(
        frame_encoder: FrameEncoder,
        projection: Option<LoadedProjection>,
        bank: ClassBank,
    ) -> Result<Self, RecognizerError> {
        let projection_digest = projection
            .as_ref()
            .map_or(IDENTITY, |p| &p.digest)
            .to_owned();
        let width = projection
            .as_ref()
            .map_or(frame_encoder.encoder.manifest().output.width, |p| {
                p.projection.rank()
            });
        bank.check_probe(&projection_digest, width)
            .map_err(RecognizerError::Probe)?;
        let logit_scale = frame_encoder.encoder.manifest().output.logit_scale;
        let projection = projection.map(|p| p.projection);
        let classifier = Classifier::new(bank, projection, &projection_digest, logit_scale);
        let model_digest = frame_encoder.encoder.sha256()[..12].to_owned();
        Ok(Self {
            frame_encoder,
            classifier,
            model_digest,
            projection_digest,
        })
    }

    /// Loads what a configuration names.
    pub fn load(settings: &Settings) -> Result<Self, RecognizerError> {
        let frame_encoder = FrameEncoder::load(&settings.model.manifest, &settings.engine)?;
        let projection = settings
            .model
            .projection
            .as_deref()
            .map(|p| frame_encoder.projection(p))
            .transpose()?;
        let classes = &settings.classes;
        let bank = frame_encoder.bank_of(classes)?;
        Ok(Self::new(frame_encoder, projection, bank)?
            .with_limits(classes.top_k, classes.threshold))
    }

    /// How many classes a decision lists, and the least score of a known one.
    #[must_use]
    pub fn with_limits(self, top_k: usize, threshold: f32) -> Self {
        Self {
            classifier: self.classifier.with_limits(top_k, threshold),
            ..self
        }
    }

    #[must_use]
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.frame_encoder.encoder
    }

    /// What a frame shows, and the time each step took.
    pub fn recognize(&mut self, frame: &Frame) -> Result<(Decision, StageLatency), FrameError> {
        let (embedding, latency) = self.frame_encoder.embed(frame)?;
        Ok(classify(&self.classifier, &embedding, latency))
    }

    /// The same for several frames, which the encoder sees together; see [`FrameEncoder::embed_all`].
    pub fn recognize_all(
        &mut self,
        looks: &[FrameInput<'_>],
    ) -> Result<Vec<PerFrame<Decision>>, ModelError> {
        let frames: Vec<(&Frame, &View)> = looks.iter().map(|l| (l.frame, l.view)).collect();
        let embedded = self.frame_encoder.embed_all(&frames)?;
        let decide = |(look, embedded): (&FrameInput<'_>, PerFrame<Vec<f32>>)| {
            let classifier = look.classifier.unwrap_or(&self.classifier);
            embedded.map(|(embedding, latency)| classify(classifier, &embedding, latency))
        };
        Ok(looks.iter().zip(embedded).map(decide).collect())
    }

    /// What is to be seen of a frame, for people.
    pub fn picture(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, DecodeError> {
        self.frame_encoder.preprocessor.picture(frame, view)
    }

    /// The colour that hides what is not to be seen.
    #[must_use]
    pub fn hiding_colour(&self) -> [u8; 3] {
        self.frame_encoder
            .encoder
            .manifest()
            .transform()
            .mean_colour()
    }

    /// How the towers are run.
    #[must_use]
    pub fn engine(&self) -> &EngineOptions {
        &self.frame_encoder.engine
    }
}

fn classify(
    classifier: &Classifier,
    embedding: &[f32],
    mut latency: StageLatency,
) -> (Decision, StageLatency) {
    let start = Instant::now();
    let decision = classifier.classify(embedding);
    latency.classify_ms = ms_since(start);
    (decision, latency)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, RecognizerError> {
    std::fs::read(path).map_err(|source| RecognizerError::Read {
        what,
        path: path.into(),
        source,
    })
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// First 12 hex digits of the SHA-256 of `bytes`.
fn short_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .take(6)
        .map(|b| format!("{b:02x}"))
        .collect()
}
