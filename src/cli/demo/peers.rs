//! What others answer to the frames that the daemon sees: raw CLIP, and the projection without a condition profile.

use crate::cli::CliError;
use crate::clock;
use crate::config::Settings;
use crate::recognizer::{self, FrameEncoder};
use constancy_core::classify::{ClassBank, Classifier};
use constancy_core::frame::Frame;
use constancy_core::workshop::{Environment, Scene, render};

/// Width and height of a frame, pixels.
pub(super) const SIZE: (u32, u32) = (640, 480);

pub(super) struct Peers {
    frame_encoder: FrameEncoder,
    raw: Classifier,
    projected: Classifier,
}

impl Peers {
    /// The daemon's model and classes.
    pub(super) fn load(settings: &Settings) -> Result<Self, CliError> {
        let frame_encoder = FrameEncoder::load(&settings.model.manifest, &settings.engine)?;
        let projection = settings.model.projection.as_deref();
        let projection = projection
            .map(|path| frame_encoder.load_projection(path))
            .transpose()?;
        let bank = frame_encoder.configured_bank(&settings.classes)?;
        // Its confidence is that of projected answers.
        let plain = ClassBank {
            confidence: None,
            ..bank.clone()
        };
        let encoder = frame_encoder.encoder();
        Ok(Self {
            raw: recognizer::classifier(encoder, None, plain)?,
            projected: recognizer::classifier(encoder, projection, bank)?,
            frame_encoder,
        })
    }

    /// The classes that raw CLIP and the projection name for the frame of `seed` in `environment`.
    pub(super) fn answers(
        &mut self,
        seed: u64,
        environment: &Environment,
    ) -> Result<[String; 2], CliError> {
        let (width, height) = SIZE;
        // The same scene gives the same bytes.
        let pixels = render(&Scene::from_seed(seed, environment), width, height);
        let frame = Frame::rgb(pixels, width, height, clock::now());
        let (embedding, _) = self.frame_encoder.embed(&frame)?;
        let class = |c: &Classifier| c.classify(&embedding).top[0].class.clone();
        Ok([class(&self.raw), class(&self.projected)])
    }
}
