//! The child's side: `constancy vet-model`.

use super::limits::{Limits, make_expendable};
use super::message::{Job, Message, Request};
use crate::recognizer::error::RecognizerError;
use crate::recognizer::prompt_encoder::PromptEncoder;
use constancy_engine::{
    Device, Encoder, EngineOptions, Manifest, catch_panic, describe, model_bytes, note_panic,
};
use std::io::{Read as _, Write as _};
use std::path::Path;

/// Seed of the image that is embedded.
const SEED: u64 = 5;
/// Less than any thread of the program has: what fits here fits there.
const STACK_BYTES: usize = 1 << 20;

/// Does the job that stdin names, and reports on stdout. `exit_code` is what the program exits with
/// for an error.
pub fn serve(exit_code: fn(&RecognizerError) -> u8) -> std::io::Result<()> {
    let mut request = Vec::new();
    std::io::stdin().read_to_end(&mut request)?;
    let request: Request = serde_json::from_slice(&request)?;
    if !make_expendable(request.parent) {
        return Ok(());
    }
    if log::set_boxed_logger(Box::new(Warnings)).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    std::panic::set_hook(Box::new(|info| {
        let _ = note_panic(info);
    }));
    let work = move || report(catch_panic(|| done(&request)), exit_code);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let ended = thread.spawn(work)?.join();
    ended.unwrap_or_else(|_| {
        Err(std::io::Error::other(
            "the thread that loads models panicked",
        ))
    })
}

fn report(
    outcome: Result<Result<Vec<u8>, RecognizerError>, String>,
    exit_code: fn(&RecognizerError) -> u8,
) -> std::io::Result<()> {
    match outcome {
        Ok(Ok(result)) => {
            say(&Message::Done {
                bytes: result.len(),
            })?;
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&result)?;
            stdout.flush()
        }
        Ok(Err(error)) => say(&Message::Failed {
            message: error.to_string(),
            exit_code: exit_code(&error),
        }),
        Err(reason) => say(&Message::Panicked(reason)),
    }
}

/// Writes one message. If the parent is gone, so is this process.
fn say(message: &Message) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Sets the limits for the `kind` of file at `path`, which has so many bytes, and says so.
fn begin(kind: &str, path: &Path, bytes: u64) {
    let limits = Limits::for_bytes(bytes);
    let _ = say(&Message::Begin {
        what: format!("{kind} {}", path.display()),
        seconds: limits.seconds,
        memory_mb: limits.memory_mb,
    });
    limits.apply();
}

fn done(request: &Request) -> Result<Vec<u8>, RecognizerError> {
    let engine = EngineOptions {
        precision: request.precision,
        threads: request.threads,
        device: Device::Cpu,
        plain: request.plain,
    };
    match &request.job {
        Job::Image { manifest } => embed_one(read_manifest(&manifest.path())?, &engine),
        Job::Described { model } => {
            let path = model.path();
            begin("model", &path, file_bytes(&path));
            embed_one(describe(&path)?.manifest, &engine)
        }
        Job::Bank {
            manifest,
            labels,
            templates,
        } => {
            let manifest = read_manifest(&manifest.path())?;
            bank(&manifest, &engine, labels, templates)
        }
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, RecognizerError> {
    begin("model manifest", path, 0);
    Ok(Manifest::read(path)?)
}

fn embed_one(manifest: Manifest, engine: &EngineOptions) -> Result<Vec<u8>, RecognizerError> {
    begin_model(&manifest.encoder_file());
    let image = manifest.noise(1, SEED);
    Encoder::open(manifest, engine)?.embed(&image)?;
    Ok(Vec::new())
}

/// The hash of the text tower, 64 characters, and the classes' embeddings as little-endian f32.
fn bank(
    manifest: &Manifest,
    engine: &EngineOptions,
    labels: &[String],
    templates: &[String],
) -> Result<Vec<u8>, RecognizerError> {
    let text = manifest.text()?;
    let tokenizer = manifest.beside(&text.tokenizer);
    begin("tokenizer", &tokenizer, file_bytes(&tokenizer));
    let tokenizer = PromptEncoder::load_tokenizer(manifest)?;
    begin_model(&manifest.beside(&text.file));
    let encoder = PromptEncoder::with_tokenizer(tokenizer, manifest, engine)?;
    let bank = encoder.bank(labels, templates, &mut || {
        let _ = say(&Message::Progress);
    })?;
    let mut result = bank.encoder_sha256.into_bytes();
    result.extend(bank.rows.iter().flatten().flat_map(|v| v.to_le_bytes()));
    Ok(result)
}

/// Begins with the model at `path`: with its own file first, which names its other files.
fn begin_model(path: &Path) {
    begin("model", path, file_bytes(path));
    // What is wrong with the file is told when it is loaded.
    if let Ok(bytes) = model_bytes(path) {
        begin("model", path, bytes);
    }
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

/// Sends warnings of this program to the parent, which logs them.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn && metadata.target().starts_with("constancy")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = say(&Message::Warning(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}
