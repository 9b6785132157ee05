//! [`Quantiser`]: quantises one tower, from checking its file to naming the new one.

use super::check::check;
use super::convert::{Converted, convert};
use super::error::QuantiseError;
use super::partial::PartialFile;
use super::report::{FileReport, LayerReport, Progress, QuantiseOptions, QuantiseReport};
use super::widen::widen;
use crate::agreement::Agreement;
use crate::digest::HashedModel;
use crate::encoder::Encoder;
use crate::error::ModelError;
use crate::guard::catch_panic;
use crate::manifest::Manifest;
use crate::onnx::{MAX_MODEL_BYTES, OnnxFile};
use crate::options::EngineOptions;
use std::path::{Path, PathBuf};

/// A tower that can be quantised, and the file to write.
pub struct Quantiser {
    /// The tower to convert: the source, or the source widened to f32.
    manifest: Manifest,
    source: FileReport,
    out: PathBuf,
    options: QuantiseOptions,
    partial: PartialFile,
    /// Keeps the file of the widened tower until the work is done.
    _widened: Option<PartialFile>,
}

impl Quantiser {
    /// Prepares to quantise the tower that `source` describes to `out`. Refuses a tower that cannot
    /// be quantised, or a file that cannot be written, before anything is measured.
    pub fn open(
        source: &Manifest,
        out: &Path,
        options: QuantiseOptions,
    ) -> Result<Self, QuantiseError> {
        let path = source.encoder_file();
        let computes_in_fp16 = check(&path, options.format)?;
        let HashedModel { file, sha256 } =
            HashedModel::open(&path, source, source.encoder.sha256.as_deref())?;
        let bytes = file.bytes();
        let partial = PartialFile::create(out)?;
        let (manifest, widened) = if computes_in_fp16 {
            let (manifest, widened) = widened_tower(source, out)?;
            (manifest, Some(widened))
        } else {
            (source.clone(), None)
        };
        Ok(Self {
            manifest,
            source: FileReport {
                file: path,
                sha256,
                bytes,
            },
            out: out.into(),
            options,
            partial,
            _widened: widened,
        })
    }

    /// Writes the quantised tower, and its manifest next to it.
    ///
    /// Errors are measured on `images` (each `[1, 3, size, size]`, at least one);
    /// `images_description` goes into the metadata of the file.
    pub fn run(
        self,
        images: &[Vec<f32>],
        images_description: &str,
        report_progress: &mut dyn FnMut(Progress),
    ) -> Result<QuantiseReport, QuantiseError> {
        let path = self.source.file.clone();
        catch_panic(|| self.quantise(images, images_description, report_progress))
            .unwrap_or_else(|reason| Err(ModelError::Panicked { path, reason }.into()))
    }

    fn quantise(
        mut self,
        images: &[Vec<f32>],
        images_description: &str,
        report_progress: &mut dyn FnMut(Progress),
    ) -> Result<QuantiseReport, QuantiseError> {
        let path = self.manifest.encoder_file();
        let engine = EngineOptions {
            threads: self.options.threads,
            ..EngineOptions::default()
        };
        let before = embeddings(
            self.manifest.clone(),
            images,
            &engine,
            "original",
            report_progress,
        )?;
        let Converted {
            file,
            layers,
            fp16_tensors,
        } = convert(
            &self.manifest,
            images,
            &self.options,
            &engine,
            report_progress,
        )?;
        if file.written_len() > MAX_MODEL_BYTES {
            return Err(QuantiseError::TooLarge {
                path,
                bytes: file.written_len(),
            });
        }
        self.partial.write(&file)?;
        drop(file);
        let trial = self.partial_manifest();
        let after = embeddings(trial, images, &engine, "result", report_progress)?;
        let cosine = Agreement::of(&before, &after)
            .ok_or_else(|| QuantiseError::run(&path, "no image to measure on".into()))?;
        self.partial
            .append_metadata(&self.metadata(images_description, &cosine, &layers))?;
        let written = self.partial.report()?;
        let manifest =
            self.manifest
                .for_other_file(&self.manifest_path(), &self.out, written.sha256.clone());
        self.partial.rename(&manifest)?;
        Ok(QuantiseReport {
            format: self.options.format,
            source: self.source,
            written,
            manifest: manifest.path,
            cosine,
            layers,
            fp16_tensors,
        })
    }

    fn manifest_path(&self) -> PathBuf {
        self.out.with_extension("toml")
    }

    /// A manifest to load the partial file with, whose hash is not final.
    fn partial_manifest(&self) -> Manifest {
        let mut manifest =
            self.manifest
                .for_other_file(&self.manifest_path(), self.partial.path(), String::new());
        manifest.encoder.sha256 = None;
        manifest
    }

    /// Metadata of the file: how it was made.
    fn metadata(
        &self,
        images: &str,
        cosine: &Agreement,
        layers: &[LayerReport],
    ) -> Vec<(&'static str, String)> {
        let source = self.source.file.file_name().unwrap_or_default();
        vec![
            (
                "constancy.tool",
                concat!("constancy ", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("constancy.source", source.to_string_lossy().into_owned()),
            ("constancy.source_sha256", self.source.sha256.clone()),
            ("constancy.format", self.options.format.name().to_owned()),
            ("constancy.max_error", self.options.max_error.to_string()),
            ("constancy.images", images.to_owned()),
            ("constancy.cosine_median", format!("{:.6}", cosine.median)),
            ("constancy.cosine_least", format!("{:.6}", cosine.least)),
            (
                "constancy.layers",
                serde_json::to_string(layers).unwrap_or_default(),
            ),
        ]
    }
}

/// The tower of `source` in f32, in a temporary file next to `out`.
fn widened_tower(source: &Manifest, out: &Path) -> Result<(Manifest, PartialFile), QuantiseError> {
    let path = source.encoder_file();
    let file = OnnxFile::open(&path).map_err(|reason| QuantiseError::parse(&path, reason))?;
    let mut widened = PartialFile::create(&out.with_extension("widened"))?;
    widened.write(&widen(file))?;
    let mut manifest = source.clone();
    manifest.encoder.file =
        std::path::absolute(widened.path()).unwrap_or_else(|_| widened.path().into());
    manifest.encoder.sha256 = None;
    Ok((manifest, widened))
}

/// The embeddings of `images` by a tower that is loaded only for this.
fn embeddings(
    manifest: Manifest,
    images: &[Vec<f32>],
    engine: &EngineOptions,
    step: &'static str,
    report_progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<f32>>, ModelError> {
    let encoder = Encoder::open(manifest, engine)?;
    let one = |(done, image): (usize, &Vec<f32>)| {
        report_progress(Progress {
            step,
            done,
            total: images.len(),
        });
        encoder.embed(image)
    };
    images.iter().enumerate().map(one).collect()
}
