//! The worker threads, which read images, apply interventions and embed the variants.

use super::error::{EmbedError, Unreadable};
use super::plan::ContentHash;
use crate::clock;
use crate::files::{self, MAX_IMAGE_BYTES};
use constancy_core::frame::{Frame, PixelFormat};
use constancy_core::icm::EmbeddingError;
use constancy_core::intervene::Intervention;
use constancy_core::preprocess::{Preprocessor, RgbImage};
use constancy_engine::{Encoder, Manifest, ModelError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Variants in one run of the encoder, which reads its weights once for all of them.
const BATCH: usize = 8;

/// An image and its variants to embed.
pub(super) struct Job<'a> {
    /// The image's index.
    pub image: usize,
    pub path: &'a Path,
    pub content: ContentHash,
    /// Each variant with its index.
    pub missing: Vec<(usize, Option<Intervention>)>,
}

/// The result of a job.
pub(super) struct Done {
    /// The image's index.
    pub image: usize,
    /// Each variant's index with its embedding.
    pub outcome: Result<Vec<(usize, Vec<f32>)>, Unreadable>,
    /// The CPU stood in for the GPU during the job: some of the embeddings may be the CPU's.
    pub stood_in: bool,
    pub embedding: Duration,
    pub intervening: Duration,
    pub reading: Duration,
}

/// The SHA-256 of each file's content, in order.
pub(super) fn content_hashes(
    images: &[PathBuf],
    threads: usize,
) -> Vec<std::io::Result<ContentHash>> {
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(images.len()) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some((i, path)) = next_item(next, images) {
                    let hash = files::read(path, MAX_IMAGE_BYTES)
                        .map(|bytes| Sha256::digest(bytes).into());
                    if send.send((i, hash)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    drop(send);
    let mut found: Vec<(usize, std::io::Result<ContentHash>)> = receive.into_iter().collect();
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, hash)| hash).collect()
}

/// The next of `items` that no thread has taken.
fn next_item<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, items.get(i)?))
}

/// Does all jobs on `threads` threads and calls `finish` with each result on the calling thread. The first error
/// stops the work.
pub(super) fn run(
    encoder: &dyn ImageTower,
    jobs: &[Job<'_>],
    threads: usize,
    finish: &mut dyn FnMut(Done) -> Result<(), EmbedError>,
) -> Result<(), EmbedError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (send, receive) = mpsc::channel();
    let mut failed = None;
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            let (send, next, stop) = (send.clone(), &next, &stop);
            scope.spawn(move || {
                let mut worker = Worker::new(encoder);
                while let Some((_, job)) =
                    next_item(next, jobs).filter(|_| !stop.load(Ordering::Relaxed))
                {
                    if send.send(worker.job(job)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for result in receive {
            if let Err(error) = result.and_then(&mut *finish) {
                stop.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
    });
    failed.map_or(Ok(()), Err)
}

/// The encoder; a trait so that a test can replace it with one that loses its GPU or returns too little.
pub(super) trait ImageTower: Sync {
    fn manifest(&self) -> &Manifest;
    /// The embedding `[width]` of one input `[3, size, size]`.
    fn embed(&self, input: &[f32]) -> Result<Vec<f32>, ModelError>;
    /// The embeddings `[batch, width]` of inputs `[batch, 3, size, size]`.
    fn embed_batch(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError>;
    /// How often the CPU has embedded for a lost GPU.
    fn cpu_fallbacks(&self) -> usize;
}

impl ImageTower for Encoder {
    fn manifest(&self) -> &Manifest {
        self.manifest()
    }
    fn embed(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.embed(input)
    }
    fn embed_batch(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError> {
        self.embed_batch(input, batch)
    }
    fn cpu_fallbacks(&self) -> usize {
        self.cpu_fallbacks()
    }
}

/// One thread's tools, and the times of its present job.
struct Worker<'a> {
    encoder: &'a dyn ImageTower,
    preprocessor: Preprocessor,
    embedding: Duration,
    intervening: Duration,
}

impl<'a> Worker<'a> {
    fn new(encoder: &'a dyn ImageTower) -> Self {
        let preprocessor = Preprocessor::new(encoder.manifest().transform());
        Self {
            encoder,
            preprocessor,
            embedding: Duration::ZERO,
            intervening: Duration::ZERO,
        }
    }

    fn job(&mut self, job: &Job<'_>) -> Result<Done, EmbedError> {
        let start = Instant::now();
        (self.embedding, self.intervening) = (Duration::ZERO, Duration::ZERO);
        let before = self.encoder.cpu_fallbacks();
        let outcome = match self.read(job) {
            Ok(crop) => Ok(self.embed_variants(job, &crop)?),
            Err(reason) => Err(reason),
        };
        let (embedding, intervening) = (self.embedding, self.intervening);
        let reading = start.elapsed().saturating_sub(embedding + intervening);
        let stood_in = self.encoder.cpu_fallbacks() != before;
        Ok(Done {
            image: job.image,
            outcome,
            stood_in,
            embedding,
            intervening,
            reading,
        })
    }

    /// The crop that the encoder takes: interventions apply to it, not to the whole photograph.
    fn read(&mut self, job: &Job<'_>) -> Result<RgbImage, Unreadable> {
        let data = files::read(job.path, MAX_IMAGE_BYTES)?;
        if ContentHash::from(Sha256::digest(&data)) != job.content {
            return Err(Unreadable::Changed);
        }
        let frame = Frame::compressed(PixelFormat::ImageFile, data, clock::now());
        Ok(self.preprocessor.crop(&frame)?.clone())
    }

    fn embed_variants(
        &mut self,
        job: &Job<'_>,
        crop: &RgbImage,
    ) -> Result<Vec<(usize, Vec<f32>)>, EmbedError> {
        let mut rows = Vec::with_capacity(job.missing.len());
        for variants in job.missing.chunks(BATCH) {
            let mut input = Vec::new();
            for (_, intervention) in variants {
                let start = Instant::now();
                let changed = intervention.as_ref().map(|i| i.apply(crop));
                self.intervening += start.elapsed();
                input.extend(
                    self.preprocessor
                        .normalise(changed.as_ref().unwrap_or(crop)),
                );
            }
            let start = Instant::now();
            let embedded = self
                .embed(&input, variants.len())
                .map_err(|error| self.culprit(job, variants, &input, error))?;
            self.embedding += start.elapsed();
            let width = self.encoder.manifest().output.width;
            let indices = variants.iter().map(|(variant, _)| *variant);
            rows.extend(indices.zip(embedded.chunks_exact(width).map(<[f32]>::to_vec)));
        }
        Ok(rows)
    }

    /// Embeds a full batch in one run and a remainder one by one, since each batch size needs its own plan.
    fn embed(&self, input: &[f32], count: usize) -> Result<Vec<f32>, ModelError> {
        if count == BATCH {
            return self.encoder.embed_batch(input, count);
        }
        let one = input.len() / count;
        let rows = input
            .chunks_exact(one)
            .map(|image| self.encoder.embed(image))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(rows.concat())
    }

    /// Names the image and intervention whose embedding has a non-finite value.
    fn culprit(
        &self,
        job: &Job<'_>,
        variants: &[(usize, Option<Intervention>)],
        input: &[f32],
        error: ModelError,
    ) -> EmbedError {
        if !matches!(
            error,
            ModelError::NotFinite { .. } | ModelError::Zero { .. }
        ) {
            return error.into();
        }
        let images = input.chunks_exact(input.len() / variants.len());
        let wrong = variants
            .iter()
            .zip(images)
            .find(|(_, image)| self.encoder.embed(image).is_err());
        let under = wrong
            .and_then(|((_, intervention), _)| *intervention)
            .map(|i| format!(" under {i}"));
        let item = format!("{}{}", job.path.display(), under.unwrap_or_default());
        match error {
            ModelError::Zero { .. } => EmbeddingError::Zero { item }.into(),
            _ => EmbeddingError::NotFinite { item }.into(),
        }
    }
}
