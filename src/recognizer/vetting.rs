//! Loads models in a child process first, where a panic, an endless loop, a stack overflow or an
//! enormous demand for memory harms nobody.
//!
//! The child is this program again, as `constancy vet-model`. It loads what a `Job` names under
//! limits of memory and time, and reports how that went; `process` starts it and waits, `child` is
//! the other side. It is gone before this process loads an image tower itself, so a board needs the
//! memory of one. Text towers are needed only while labels are embedded: that happens in the child
//! alone, which hands over the class bank.
//!
//! A process that is not this program, such as a test, loads everything itself.

mod child;
mod limits;
mod message;
mod process;

pub use child::serve;
pub use process::{is_running, stop};

use super::error::RecognizerError;
use super::prompt_encoder::PromptEncoder;
use constancy_core::classify::{BankOrigin, ClassBank};
use constancy_engine::{EngineOptions, Manifest};
use message::{Job, RawPath, Request};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Length of a SHA-256 in hex.
const SHA256_HEX: usize = 64;

/// Whether this process is the program, which can start itself again.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Says that this process is the program, so models are loaded in a child first.
pub fn enable() {
    IS_PROGRAM.store(true, Ordering::Relaxed);
}

/// Loads the image tower of the manifest at `manifest` in a child.
pub(super) fn image_tower(manifest: &Path, engine: &EngineOptions) -> Result<(), RecognizerError> {
    let manifest = RawPath::new(manifest);
    vet(Job::Image { manifest }, engine)
}

/// Loads an image tower, named by its manifest or its ONNX file, in a child.
pub fn described_tower(model: &Path, engine: &EngineOptions) -> Result<(), RecognizerError> {
    let model = RawPath::new(model);
    vet(Job::Described { model }, engine)
}

fn vet(job: Job, engine: &EngineOptions) -> Result<(), RecognizerError> {
    if IS_PROGRAM.load(Ordering::Relaxed) {
        // The warnings come again when the tower is loaded here.
        process::run(&request(job, engine), &mut |_| {})?;
    }
    Ok(())
}

/// Makes a class bank from labels with a model's text tower, in a child.
pub fn bank_from_labels(
    manifest: &Manifest,
    engine: &EngineOptions,
    labels: &[String],
    templates: &[String],
) -> Result<ClassBank, RecognizerError> {
    manifest.text()?;
    let job = Job::Bank {
        manifest: RawPath::new(&manifest.path),
        labels: labels.to_vec(),
        templates: templates.to_vec(),
    };
    let in_child = IS_PROGRAM.load(Ordering::Relaxed);
    let bytes = in_child
        .then(|| process::run(&request(job, engine), &mut |w| log::warn!("{w}")))
        .transpose()?
        .flatten();
    match bytes.and_then(|bytes| bank_of_bytes(&bytes, labels, templates)) {
        Some(bank) => Ok(bank),
        None => PromptEncoder::load(manifest, engine)?.bank(labels, templates, &mut || {}),
    }
}

/// The bank whose encoder and embeddings a child has sent.
fn bank_of_bytes(bytes: &[u8], labels: &[String], templates: &[String]) -> Option<ClassBank> {
    let (sha256, values) = bytes.split_at_checked(SHA256_HEX)?;
    let width = values.len() / size_of::<f32>() / labels.len().max(1);
    let (values, _) = values.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let rows: Vec<Vec<f32>> = values
        .chunks_exact(width.max(1))
        .map(<[f32]>::to_vec)
        .collect();
    (rows.len() == labels.len()).then_some(ClassBank {
        labels: labels.to_vec(),
        templates: templates.to_vec(),
        origin: BankOrigin::Text,
        encoder_sha256: String::from_utf8(sha256.to_vec()).ok()?,
        rows,
        support: None,
        probe: None,
        whitening: None,
        confidence: None,
    })
}

/// Loads a model's text tower here, after a child has.
pub(super) fn prompt_encoder(
    manifest: &Manifest,
    engine: &EngineOptions,
) -> Result<PromptEncoder, RecognizerError> {
    if IS_PROGRAM.load(Ordering::Relaxed) {
        let job = Job::Bank {
            manifest: RawPath::new(&manifest.path),
            labels: vec!["a photo".into()],
            templates: Vec::new(),
        };
        process::run(&request(job, engine), &mut |_| {})?;
    }
    PromptEncoder::load(manifest, engine)
}

fn request(job: Job, engine: &EngineOptions) -> Request {
    Request {
        job,
        precision: engine.precision,
        threads: engine.threads,
        plain: engine.plain,
        parent: std::process::id(),
    }
}
