//! What is fed: one function per kind of input. A finding is a panic, an abort, or a limit of time or memory.

use constancy::config::Settings;
use constancy::{fuzz_capture, fuzz_publish};
use constancy_core::camera_health::Reference;
use constancy_core::classify::{ClassBank, Tokenizer};
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::icm::{Moments, Projection};
use constancy_core::preprocess::{DecodeError, RgbImage, decode, is_complete_jpeg, is_whole_jpeg};
use constancy_engine::{Manifest, catch_panic, fuzz_onnx};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The targets, by the name of their folder in `fuzz/seeds`.
pub(crate) const TARGETS: [(&str, fn(&[u8])); 11] = [
    ("command", fuzz_publish::command),
    ("config", config),
    ("jpeg", jpeg),
    ("manifest", manifest),
    ("mjpeg", fuzz_capture::mjpeg),
    ("onnx", onnx),
    ("queue-file", fuzz_publish::queue_file),
    ("queue-record", fuzz_publish::queue_record),
    ("tensors", tensors),
    ("tokenizer", tokenizer),
    ("y4m", y4m),
];

const NOW: Timestamp = Timestamp {
    monotonic_ns: 1,
    unix_ns: 1,
    clock_synced: true,
};

fn decode_frame(frame: &Frame) {
    let mut image = RgbImage::default();
    match decode(frame, &mut image) {
        Ok(()) => assert_eq!(
            image.data.len(),
            image.width as usize * image.height as usize * 3
        ),
        // Caught, and a finding all the same.
        Err(DecodeError::Panic { message }) => panic!("{message}"),
        Err(_) => {}
    }
}

/// A camera's JPEG, and the same bytes as a file.
fn jpeg(data: &[u8]) {
    let mut frame = Frame::compressed(PixelFormat::Jpeg, data.to_vec(), NOW);
    let _ = (is_whole_jpeg(&frame), is_complete_jpeg(data));
    decode_frame(&frame);
    frame.format = PixelFormat::ImageFile;
    decode_frame(&frame);
}

fn y4m(data: &[u8]) {
    fuzz_capture::y4m(data, decode_frame);
}

fn config(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        // Where the files are that the seeds name.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/fuzzed.toml");
        let _ = Settings::parse(text, Path::new(path));
    }
}

/// Writes the input to a file of this process in memory.
fn as_file(data: &[u8], name: &str) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("a folder")
    });
    let path = folder.path().join(name);
    std::fs::write(&path, data).expect("a file");
    path
}

fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::read(&as_file(data, "model.toml")) {
        let _ = (manifest.transform(), manifest.encoder_file());
    }
}

fn onnx(data: &[u8]) {
    let path = as_file(data, "model.onnx");
    fuzz_onnx(&path);
}

/// Projections, class banks, moments and references share a format.
fn tensors(data: &[u8]) {
    let _ = Moments::parse(data);
    let _ = Reference::parse(data);
    if let Ok(bank) = ClassBank::parse(data) {
        bank.to_bytes().expect("what was read can be written");
    }
    for width in [4, 48] {
        if let Ok(projection) = Projection::parse(data, TINY_SHA256, width) {
            let _ = projection.apply(&vec![1.0; width]);
        }
    }
}

/// The encoder that `tests/fixtures/projection/tiny.safetensors` is bound to.
const TINY_SHA256: &str = "4e54a9a055d776e7a5fce91faf7c14a50b9908d86cc1d541bb2206e1357556a7";

fn tokenizer(data: &[u8]) {
    // The tokenizers' library panics on some files; the program catches that, here as everywhere.
    let Ok(Ok(tokenizer)) = catch_panic(|| Tokenizer::parse(data, 16, 0)) else {
        return;
    };
    for prompt in ["", "a photo of a cracked gear", "Ünïcode ß 齿轮 🛠\u{0}"] {
        if let Ok(Ok((ids, used))) = catch_panic(|| tokenizer.encode(prompt)) {
            assert!(ids.len() == 16 && used <= 16);
        }
    }
}
