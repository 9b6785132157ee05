//! The threads that read, change and embed images.

use super::{Content, EmbedError, Unreadable};
use crate::clock;
use constancy_core::frame::{Frame, PixelFormat};
use constancy_core::icm::EmbeddingError;
use constancy_core::intervene::Intervention;
use constancy_core::preprocess::{DecodeError, Preprocessor, RgbImage};
use constancy_engine::{Encoder, Manifest, ModelError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Images that an encoder sees together, so that its weights are read once for all of them.
const BATCH: usize = 8;

/// An image, and which of its views are to be embedded.
pub(super) struct Job<'a> {
    pub image: usize,
    pub path: &'a Path,
    pub content: Content,
    /// Each with its number.
    pub missing: Vec<(usize, Option<Intervention>)>,
}

/// What came of a job.
pub(super) struct Done {
    pub image: usize,
    /// Views by their number, and their embeddings.
    pub outcome: Result<Vec<(usize, Vec<f32>)>, Unreadable>,
    /// Whether the CPU stood in for the encoder's GPU meanwhile: some of the embeddings may not be of its recipe.
    pub stood_in: bool,
    pub embedding: Duration,
    pub intervening: Duration,
    pub reading: Duration,
}

/// What the files hold, in order.
pub(super) fn contents(images: &[PathBuf], threads: usize) -> Vec<std::io::Result<Content>> {
    let next = AtomicUsize::new(0);
    let mut found: Vec<Option<std::io::Result<Content>>> = images.iter().map(|_| None).collect();
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(images.len()) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some((i, path)) = take(next, images) {
                    let content = std::fs::read(path).map(|bytes| Sha256::digest(bytes).into());
                    if send.send((i, content)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (i, content) in receive {
            found[i] = Some(content);
        }
    });
    found
        .into_iter()
        .map(|content| content.unwrap_or_else(|| Err(std::io::ErrorKind::Interrupted.into())))
        .collect()
}

/// The next of `items` that nobody has taken.
fn take<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, items.get(i)?))
}

/// Does all jobs on `threads` threads; `done` hears of each on this one. The first error of the encoder ends it.
pub(super) fn run(
    encoder: &dyn ImageTower,
    jobs: &[Job<'_>],
    threads: usize,
    done: &mut dyn FnMut(Done),
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
                    take(next, jobs).filter(|_| !stop.load(Ordering::Relaxed))
                {
                    if send.send(worker.job(job)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for finished in receive {
            match finished {
                Ok(finished) => done(finished),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failed.get_or_insert(error);
                }
            }
        }
    });
    failed.map_or(Ok(()), Err)
}

/// The encoder as this module sees it; a test puts one in its place whose GPU is lost.
pub(super) trait ImageTower: Sync {
    fn manifest(&self) -> &Manifest;
    /// The embedding `[width]` of one input `[3, size, size]`.
    fn embed(&self, input: &[f32]) -> Result<Vec<f32>, ModelError>;
    /// The embeddings `[batch, width]` of inputs `[batch, 3, size, size]`.
    fn embed_batch(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError>;
    /// How often the CPU has embedded in place of the GPU.
    fn stood_in(&self) -> usize;
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
    fn stood_in(&self) -> usize {
        self.stood_in()
    }
}

/// What one thread works with.
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
        let before = self.encoder.stood_in();
        let outcome = match self.read(job) {
            Ok(crop) => Ok(self.views(job, &crop)?),
            Err(reason) => Err(reason),
        };
        let (embedding, intervening) = (self.embedding, self.intervening);
        let reading = start.elapsed().saturating_sub(embedding + intervening);
        let stood_in = self.encoder.stood_in() != before;
        Ok(Done {
            image: job.image,
            outcome,
            stood_in,
            embedding,
            intervening,
            reading,
        })
    }

    /// What the encoder will look at: interventions change that, and not the whole photograph.
    fn read(&mut self, job: &Job<'_>) -> Result<RgbImage, Unreadable> {
        let data = std::fs::read(job.path)?;
        if Content::from(Sha256::digest(&data)) != job.content {
            return Err(Unreadable::Changed);
        }
        let frame = Frame::compressed(PixelFormat::ImageFile, data, clock::now());
        Ok(self
            .preprocessor
            .crop(&frame)
            .cloned()
            .map_err(|e: DecodeError| e)?)
    }

    fn views(
        &mut self,
        job: &Job<'_>,
        crop: &RgbImage,
    ) -> Result<Vec<(usize, Vec<f32>)>, EmbedError> {
        let mut rows = Vec::with_capacity(job.missing.len());
        for views in job.missing.chunks(BATCH) {
            let mut input = Vec::new();
            for (_, intervention) in views {
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
                .embed(&input, views.len())
                .map_err(|error| self.culprit(job, views, &input, error))?;
            self.embedding += start.elapsed();
            let width = self.encoder.manifest().output.width;
            rows.extend(
                views
                    .iter()
                    .map(|(view, _)| *view)
                    .zip(embedded.chunks_exact(width).map(<[f32]>::to_vec)),
            );
        }
        Ok(rows)
    }

    /// Whole batches together; a remainder one by one, since every size of a batch needs a plan of its own.
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

    /// Which of several images has an embedding that is no number.
    fn culprit(
        &self,
        job: &Job<'_>,
        views: &[(usize, Option<Intervention>)],
        input: &[f32],
        error: ModelError,
    ) -> EmbedError {
        if !matches!(error, ModelError::NotFinite { .. }) {
            return error.into();
        }
        let images = input.chunks_exact(input.len() / views.len());
        let wrong = views
            .iter()
            .zip(images)
            .find(|(_, image)| self.encoder.embed(image).is_err());
        let under = wrong
            .and_then(|((_, intervention), _)| *intervention)
            .map(|i| format!(" under {i}"));
        let item = format!("{}{}", job.path.display(), under.unwrap_or_default());
        EmbeddingError::NotFinite { item }.into()
    }
}
