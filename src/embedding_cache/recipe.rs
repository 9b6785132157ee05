//! Everything that an embedding depends on besides the image.

use constancy_core::preprocess::Transform;
use constancy_engine::{Encoder, EngineOptions, Precision, hex};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Raised when preprocessing, interventions or operators change their numbers within one version of the program.
const REVISION: u32 = 2;

/// How the embeddings of one cache were computed. Each recipe has its own file, so embeddings of different recipes
/// never mix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recipe {
    json: String,
    width: usize,
    encoder_sha256: String,
}

/// The recipe as JSON in the cache's header.
#[derive(Serialize)]
struct Fields<'a> {
    encoder_sha256: &'a str,
    output: &'a str,
    width: usize,
    input: &'a Transform,
    precision: Precision,
    /// tract's own operators instead of this program's.
    plain: bool,
    /// The kernels' instruction set: each rounds differently.
    isa: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    constancy: &'static str,
    revision: u32,
}

impl Recipe {
    /// The recipe of `encoder`, which was loaded with `options`.
    pub(crate) fn new(
        encoder: &Encoder,
        options: &EngineOptions,
    ) -> Result<Self, serde_json::Error> {
        let manifest = encoder.manifest();
        let info = encoder.info();
        let fields = Fields {
            encoder_sha256: encoder.sha256(),
            output: &manifest.output.name,
            width: manifest.output.width,
            input: &manifest.transform(),
            precision: options.precision,
            plain: options.plain,
            isa: info.isa.name(),
            gpu: info.gpu,
            constancy: env!("CARGO_PKG_VERSION"),
            revision: REVISION,
        };
        let json = serde_json::to_string(&fields)?;
        Ok(Self {
            json,
            width: manifest.output.width,
            encoder_sha256: encoder.sha256().into(),
        })
    }

    /// A recipe without an encoder, for tests.
    #[cfg(test)]
    pub(super) fn named(encoder_sha256: &str, width: usize) -> Self {
        let json = format!("{{\"encoder_sha256\":\"{encoder_sha256}\",\"width\":{width}}}");
        Self {
            json,
            width,
            encoder_sha256: encoder_sha256.into(),
        }
    }

    /// The JSON in the cache's header, on one line.
    #[must_use]
    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// The number of values of an embedding.
    #[must_use]
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// A file name that no other recipe has.
    pub(super) fn file_name(&self) -> String {
        let digest = hex(&Sha256::digest(&self.json)[..6]);
        format!(
            "{}-{digest}.embeddings",
            self.encoder_sha256
                .get(..12)
                .unwrap_or(&self.encoder_sha256)
        )
    }
}
