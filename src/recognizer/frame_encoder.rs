//! Embeds frames, and loads the projection and the class bank that belong to the encoder.

use super::error::{FrameError, RecognizerError, read};
use super::prompt_encoder::PromptEncoder;
use super::vetting;
use crate::config::ClassSettings;
use constancy_core::classify::ClassBank;
use constancy_core::frame::Frame;
use constancy_core::icm::Projection;
use constancy_core::preprocess::{Preprocessor, RgbImage, View};
use constancy_engine::{Encoder, EngineOptions, ModelError, catch_panic, hex};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Instant;

/// The result for one frame of a batch, with the time it took.
pub type PerFrame<T> = Result<(T, StageLatency), FrameError>;

/// A projection with the digest that names it in events.
#[derive(Debug, Clone)]
pub struct LoadedProjection {
    pub projection: Projection,
    /// First 12 hex digits of the file's SHA-256.
    pub digest: String,
}

/// Time that each step of a recognition took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageLatency {
    pub preprocess_ms: f64,
    pub embed_ms: f64,
    pub classify_ms: f64,
}

/// What a frame shows.
pub struct Shown<'a> {
    /// The visible part, in the camera's resolution.
    pub visible: &'a RgbImage,
    /// What the encoder sees of it, before normalisation.
    pub seen: &'a RgbImage,
}

/// A frame that was decoded.
struct Prepared {
    preprocess_ms: f64,
    /// The embedding, if it is known without the encoder.
    known: Option<Vec<f32>>,
}

/// Preprocessor and encoder: turns a frame into its embedding.
pub struct FrameEncoder {
    preprocessor: Preprocessor,
    encoder: Encoder,
    engine: EngineOptions,
}

impl FrameEncoder {
    /// Loads the model that the manifest describes, in a child process first: see [`vetting`].
    pub fn load(manifest: &Path, engine: &EngineOptions) -> Result<Self, RecognizerError> {
        vetting::image_tower(manifest, engine)?;
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

    /// The options that the encoder was loaded with.
    #[must_use]
    pub(super) fn engine(&self) -> &EngineOptions {
        &self.engine
    }

    /// The visible part of a frame as a picture for people.
    pub(super) fn picture(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, FrameError> {
        let decoded = catch_panic(|| self.preprocessor.decode_view(frame, view));
        Ok(decoded.map_err(FrameError::DecodePanic)??)
    }

    /// The embedding `[width]` of the whole frame, not normalised.
    pub fn embed(&mut self, frame: &Frame) -> PerFrame<Vec<f32>> {
        self.embed_all(&[(frame, &View::WHOLE)], &mut |_, _| None)
            .pop()
            .unwrap_or_else(|| {
                let reason = "the encoder returned no result for a frame";
                Err(FrameError::Internal(reason.into()))
            })
    }

    /// The embeddings of the visible parts of several frames, one result per frame in order. The encoder runs once for
    /// the batch, so `embed_ms` of each frame is the time for all of them. A frame that fails, by a panic even, fails
    /// alone. `look` gets what each frame that can be decoded shows, with the frame's index; its time is part of
    /// `preprocess_ms`. A frame that it gives an embedding for is not embedded.
    pub fn embed_all(
        &mut self,
        frames: &[(&Frame, &View)],
        look: &mut dyn FnMut(usize, &Shown<'_>) -> Option<Vec<f32>>,
    ) -> Vec<PerFrame<Vec<f32>>> {
        let (mut input, mut prepared) = (Vec::new(), Vec::new());
        for (index, (frame, view)) in frames.iter().enumerate() {
            let start = Instant::now();
            prepared.push(self.prepare(frame, view).map(|()| {
                let shown = Shown {
                    visible: self.preprocessor.decoded(),
                    seen: self.preprocessor.cropped(),
                };
                let known = look(index, &shown);
                if known.is_none() {
                    input.extend(self.preprocessor.normalise(shown.seen));
                }
                Prepared {
                    preprocess_ms: ms_since(start),
                    known,
                }
            }));
        }
        let missing = |p: &&Result<Prepared, FrameError>| matches!(p, Ok(p) if p.known.is_none());
        let batch = prepared.iter().filter(missing).count();
        let start = Instant::now();
        match self.run(&input, batch) {
            Ok(values) => {
                let width = self.encoder.manifest().output.width;
                assign_embeddings(prepared, &values, width, ms_since(start))
            }
            // All have been looked at.
            Err(_) if frames.len() > 1 => {
                let known = |p: Result<Prepared, FrameError>| p.ok().and_then(|p| p.known);
                let known: Vec<Option<Vec<f32>>> = prepared.into_iter().map(known).collect();
                let each = frames.iter().zip(known);
                each.flat_map(|(frame, known)| {
                    let again = &mut |_: usize, _: &Shown<'_>| known.clone();
                    self.embed_all(std::slice::from_ref(frame), again)
                })
                .collect()
            }
            Err(error) => vec![Err(error)],
        }
    }

    /// Makes what the encoder sees of a frame. After a panic the preprocessor's buffers hold anything; every frame
    /// overwrites them.
    fn prepare(&mut self, frame: &Frame, view: &View) -> Result<(), FrameError> {
        let cropped = catch_panic(|| self.preprocessor.crop_view(frame, view).map(|_| ()));
        Ok(cropped.map_err(FrameError::DecodePanic)??)
    }

    /// The embeddings `[batch, width]`.
    fn run(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, FrameError> {
        if batch == 0 {
            return Ok(Vec::new());
        }
        match catch_panic(|| self.encoder.embed_batch(input, batch)) {
            Err(message) => Err(FrameError::ModelPanic(message)),
            Ok(Err(ModelError::Panicked { reason, .. })) => Err(FrameError::ModelPanic(reason)),
            Ok(values) => Ok(values?),
        }
    }

    /// Loads a projection; it must have been fitted for this encoder.
    pub fn load_projection(&self, path: &Path) -> Result<LoadedProjection, RecognizerError> {
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

    /// Loads a class bank; it must have been made for this model.
    pub fn load_bank(&self, path: &Path) -> Result<ClassBank, RecognizerError> {
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

    /// The class bank of a configuration: loaded from its file, or made from its labels.
    pub fn configured_bank(&self, classes: &ClassSettings) -> Result<ClassBank, RecognizerError> {
        match &classes.bank {
            Some(path) => self.load_bank(path),
            None => self.bank_from_labels(&classes.labels, &classes.prompts),
        }
    }

    /// Makes a class bank from labels with the model's text tower.
    pub fn bank_from_labels(
        &self,
        labels: &[String],
        templates: &[String],
    ) -> Result<ClassBank, RecognizerError> {
        vetting::bank_from_labels(self.encoder.manifest(), &self.engine, labels, templates)
    }

    /// Loads the model's text tower.
    pub fn load_prompt_encoder(&self) -> Result<PromptEncoder, RecognizerError> {
        vetting::prompt_encoder(self.encoder.manifest(), &self.engine)
    }
}

/// Gives each prepared frame whose embedding is not known its own out of `values` `[batch, width]`.
fn assign_embeddings(
    prepared: Vec<Result<Prepared, FrameError>>,
    values: &[f32],
    width: usize,
    embed_ms: f64,
) -> Vec<PerFrame<Vec<f32>>> {
    let mut embeddings = values.chunks_exact(width.max(1));
    let mut assign = |Prepared {
                          preprocess_ms,
                          known,
                      }| {
        let embed_ms = if known.is_some() { 0.0 } else { embed_ms };
        let embedding = known.or_else(|| embeddings.next().map(<[f32]>::to_vec));
        let embedding = embedding.ok_or_else(|| {
            FrameError::Internal("the encoder returned no embedding for a frame".into())
        })?;
        let latency = StageLatency {
            preprocess_ms,
            embed_ms,
            classify_ms: 0.0,
        };
        Ok((embedding, latency))
    };
    prepared.into_iter().map(|p| assign(p?)).collect()
}

pub(super) fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// First 12 hex digits of the SHA-256 of `bytes`.
pub(super) fn short_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use constancy_core::preprocess::DecodeError;

    fn damaged() -> FrameError {
        DecodeError::Truncated { bytes: 7 }.into()
    }

    #[test]
    fn each_frame_that_was_decoded_gets_its_embedding() {
        let prepared = |preprocess_ms, known| Prepared {
            preprocess_ms,
            known,
        };
        let prepared = vec![
            Ok(prepared(0.25, None)),
            Err(damaged()),
            Ok(prepared(0.3, Some(vec![5.0, 6.0]))),
            Ok(prepared(0.5, None)),
        ];
        let results = assign_embeddings(prepared, &[1.0, 2.0, 3.0, 4.0], 2, 8.0);
        let [
            Ok((first, stages)),
            Err(FrameError::Decode(_)),
            Ok((known, reused)),
            Ok((third, _)),
        ] = &results[..]
        else {
            panic!("{results:?}");
        };
        assert_eq!((&first[..], &third[..]), (&[1.0, 2.0][..], &[3.0, 4.0][..]));
        assert_eq!((stages.preprocess_ms, stages.embed_ms), (0.25, 8.0));
        assert_eq!((&known[..], reused.embed_ms), (&[5.0, 6.0][..], 0.0));
    }
}
