//! Loads encoder, projection and classes, which must match, and recognises frames with them.
//!
//! A [`Recognizer`] is the middle of a frame's path: it takes a frame and returns a [`Decision`] with the time that
//! each step took. A [`FrameEncoder`] is its first half and returns the embedding. Models are tried in a child process
//! before they are loaded here: see [`vetting`].

mod error;
mod frame_encoder;
mod limits;
mod prompt_encoder;
pub mod vetting;

pub use error::{FrameError, RecognizerError, VettingError};
pub use frame_encoder::{FrameEncoder, LoadedProjection, PerFrame, StageLatency};
pub use limits::Limits;
pub use prompt_encoder::PromptEncoder;

use crate::config::{Adapt, Settings};
use constancy_core::camera_health::Glance;
use constancy_core::classify::condition::Binding;
use constancy_core::classify::{ClassBank, Classifier, Decision};
use constancy_core::frame::Frame;
use constancy_core::icm::Projection;
use constancy_core::preprocess::{RgbImage, View};
use constancy_core::still::{Cells, StillScene};
use constancy_engine::catch_panic;
use constancy_engine::{Encoder, EngineOptions};
use frame_encoder::{Shown, ms_since};
use std::time::Instant;

/// The projection digest of a recogniser without a projection.
pub const IDENTITY: &str = "identity";

/// A frame to recognise.
pub struct FrameInput<'a> {
    pub frame: &'a Frame,
    /// Its visible part.
    pub view: &'a View,
    /// The classifier; defaults to the recogniser's own.
    pub classifier: Option<&'a Classifier>,
    /// The name of its light, and what is subtracted from its unit embedding there, `[D]`.
    pub condition: Option<(&'a str, &'a [f32])>,
    /// What its camera has shown, and for how many nanoseconds an embedding may stand for a picture that stays the same.
    pub still: Option<(&'a mut StillScene, u64)>,
}

/// What a frame shows, and how well it shows it.
#[derive(Debug, Clone)]
pub struct Recognition {
    pub decision: Decision,
    pub glance: Glance,
    /// `[D]`, before anything is subtracted.
    pub embedding: Vec<f32>,
    /// The name of its light, if it is not that of the calibration.
    pub condition: Option<String>,
    /// The age of the embedding, nanoseconds, if it is an earlier frame's: the picture has stayed the same.
    pub reused_ns: Option<u64>,
}

/// What is measured of a frame before it is embedded.
struct Look {
    glance: Glance,
    /// For the camera's [`StillScene`], if it has one.
    cells: Option<Cells>,
    reused_ns: Option<u64>,
}

impl Look {
    /// Looks at a frame whose mask has the colour `hidden`. Gives the embedding of an earlier one as well if the picture has
    /// stayed the same.
    fn at(
        input: &mut FrameInput<'_>,
        shown: &Shown<'_>,
        hidden: Option<[u8; 3]>,
    ) -> (Self, Option<Vec<f32>>) {
        let now = input.frame.captured_at.monotonic_ns;
        let (mut cells, mut known) = (None, None);
        if let Some((scene, keep_ns)) = &mut input.still {
            let seen = cells.insert(Cells::of(shown.seen));
            let reused = scene.reuse(seen, now, *keep_ns);
            known = reused.map(|(embedding, age)| (embedding.to_vec(), age));
        }
        let look = Self {
            glance: Glance::at(shown.visible, hidden),
            cells,
            reused_ns: known.as_ref().map(|k| k.1),
        };
        (look, known.map(|k| k.0))
    }
}

/// Encoder and classifier: turns a frame into a decision.
pub struct Recognizer {
    frame_encoder: FrameEncoder,
    classifier: Classifier,
    limits: Limits,
    /// First 12 hex digits of the encoder's SHA-256.
    pub model_digest: String,
    /// Digest of the projection, or [`IDENTITY`].
    pub projection_digest: String,
    /// First 12 hex digits of the class bank's SHA-256, as this version writes it.
    pub bank_digest: String,
}

impl Recognizer {
    /// Combines the parts; refuses a bank whose probe was learnt under another projection.
    pub fn new(
        frame_encoder: FrameEncoder,
        projection: Option<LoadedProjection>,
        bank: ClassBank,
    ) -> Result<Self, RecognizerError> {
        let projection_digest = projection
            .as_ref()
            .map_or(IDENTITY, |p| &p.digest)
            .to_owned();
        let limits = Limits::usual(&bank);
        let bank_digest = bank_digest(&bank)?;
        let classifier = classifier(frame_encoder.encoder(), projection, bank)?;
        let model_digest = frame_encoder.encoder().sha256()[..12].to_owned();
        Ok(Self {
            frame_encoder,
            classifier,
            limits,
            model_digest,
            projection_digest,
            bank_digest,
        })
    }

    /// Loads the parts that a configuration names.
    pub fn load(settings: &Settings) -> Result<Self, RecognizerError> {
        let frame_encoder = FrameEncoder::load(&settings.model.manifest, &settings.engine)?;
        let projection = settings
            .model
            .projection
            .as_deref()
            .map(|p| frame_encoder.load_projection(p))
            .transpose()?;
        let classes = &settings.classes;
        let bank = frame_encoder.configured_bank(classes)?;
        let limits = Limits::of(classes, &bank)?;
        if settings.light.adapt == Adapt::Auto {
            check_may_follow(&bank)?;
        }
        Ok(Self::new(frame_encoder, projection, bank)?.with_limits(classes.top_k, limits))
    }

    /// What the condition profiles of a camera belong to.
    #[must_use]
    pub fn binding(&self, camera: &str) -> Binding {
        Binding {
            camera: camera.to_owned(),
            encoder_sha256: self.encoder().sha256().to_owned(),
            projection: self.projection_digest.clone(),
            bank: self.bank_digest.clone(),
        }
    }

    /// Sets how many classes a decision lists, and which answers are known. Logs the limits' warning.
    #[must_use]
    pub fn with_limits(self, top_k: usize, limits: Limits) -> Self {
        if let Some(warning) = &limits.warning {
            log::warn!("{warning}");
        }
        let classifier = self.classifier.with_limits(top_k, limits.threshold);
        Self {
            classifier: classifier.with_class_thresholds(limits.of_classes.clone()),
            limits,
            ..self
        }
    }

    /// From when on answers are known, and what that rests on.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    #[must_use]
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        self.frame_encoder.encoder()
    }

    /// The decision on a whole frame.
    pub fn recognize(&mut self, frame: &Frame) -> PerFrame<Decision> {
        let (embedding, latency) = self.frame_encoder.embed(frame)?;
        Ok(classify(&self.classifier, &embedding, None, latency))
    }

    /// What several frames show, one result per frame in order; see [`FrameEncoder::embed_all`].
    pub fn recognize_all(&mut self, inputs: &mut [FrameInput<'_>]) -> Vec<PerFrame<Recognition>> {
        let frames: Vec<(&Frame, &View)> = inputs.iter().map(|i| (i.frame, i.view)).collect();
        let mask_colour = self.mask_colour();
        let mut looks: Vec<Option<Look>> = inputs.iter().map(|_| None).collect();
        let embedded = self.frame_encoder.embed_all(&frames, &mut |index, shown| {
            let input = &mut inputs[index];
            let hidden = (*input.view != View::WHOLE).then_some(mask_colour);
            let (look, known) = catch_panic(|| Look::at(input, shown, hidden)).ok()?;
            looks[index] = Some(look);
            known
        });
        let decide = |((input, look), embedded): ((&mut FrameInput<'_>, Option<Look>), _)| {
            let classifier = input.classifier.unwrap_or(&self.classifier);
            let (embedding, latency): (Vec<f32>, StageLatency) = embedded?;
            let Look {
                glance,
                cells,
                reused_ns,
            } = look.ok_or_else(|| FrameError::Internal("a frame was not looked at".into()))?;
            let offset = input.condition.map(|(_, offset)| offset);
            let decided = catch_panic(|| classify(classifier, &embedding, offset, latency));
            let (decision, latency) = decided.map_err(FrameError::Internal)?;
            if let (Some((scene, _)), Some(cells), None) = (&mut input.still, cells, reused_ns) {
                scene.learn(&cells, &embedding, input.frame.captured_at.monotonic_ns);
                scene.settle(classifier.is_sure(&decision));
            }
            let recognition = Recognition {
                decision,
                glance,
                embedding,
                condition: input.condition.map(|(name, _)| name.to_owned()),
                reused_ns,
            };
            Ok((recognition, latency))
        };
        let looked_at = inputs.iter_mut().zip(looks);
        looked_at.zip(embedded).map(decide).collect()
    }

    /// The visible part of a frame as a picture for people.
    pub fn picture(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, FrameError> {
        self.frame_encoder.picture(frame, view)
    }

    /// The colour that covers masked areas.
    #[must_use]
    pub fn mask_colour(&self) -> [u8; 3] {
        self.frame_encoder
            .encoder()
            .manifest()
            .transform()
            .mean_colour()
    }

    /// The options that the towers were loaded with.
    #[must_use]
    pub fn engine(&self) -> &EngineOptions {
        self.frame_encoder.engine()
    }
}

/// First 12 hex digits of a class bank's SHA-256, as this version writes it.
pub fn bank_digest(bank: &ClassBank) -> Result<String, RecognizerError> {
    let bytes = bank.to_bytes().map_err(RecognizerError::Probe)?;
    Ok(frame_encoder::short_digest(&bytes))
}

/// Refuses `light.adapt = "auto"` where a simulated stream lost by it, or none was simulated.
fn check_may_follow(bank: &ClassBank) -> Result<(), RecognizerError> {
    let reference = bank.confidence.as_ref().and_then(|c| c.reference.as_ref());
    match reference {
        Some(reference) if reference.running.allowed => Ok(()),
        Some(reference) => Err(RecognizerError::MayNotFollow(reference.describe())),
        None => Err(RecognizerError::MayNotFollow(
            "does not know the light that it was calibrated in".into(),
        )),
    }
}

/// A classifier over a bank's classes; refuses a bank whose parts were made under another projection or image tower.
pub fn classifier(
    encoder: &Encoder,
    projection: Option<LoadedProjection>,
    bank: ClassBank,
) -> Result<Classifier, RecognizerError> {
    let (projection, digest) = projection.map_or((None, None), |p| {
        let LoadedProjection { projection, digest } = p;
        (Some(projection), Some(digest))
    });
    let digest = digest.as_deref().unwrap_or(IDENTITY);
    let output = &encoder.manifest().output;
    let width = projection.as_ref().map_or(output.width, Projection::rank);
    bank.check_made_under(digest, width)
        .map_err(RecognizerError::Probe)?;
    bank.check_confidence(digest, width, encoder.sha256())
        .map_err(RecognizerError::Probe)?;
    Ok(Classifier::new(
        bank,
        projection,
        digest,
        output.logit_scale,
    ))
}

fn classify(
    classifier: &Classifier,
    embedding: &[f32],
    offset: Option<&[f32]>,
    mut latency: StageLatency,
) -> (Decision, StageLatency) {
    let start = Instant::now();
    let decision = classifier.classify_in(embedding, offset);
    latency.classify_ms = ms_since(start);
    (decision, latency)
}
