//! Embeddings of many images and of what interventions make of them: computed on all cores, kept on disk.
//!
//! [`CachedEncoder::gather`] takes a list of images and what is wanted of each ([`Wanted`]), looks up what the [`Cache`] has,
//! computes the rest in worker threads, and gives [`Interventions`], which maps are fitted to and chosen by.
//!
//! What is done to an image depends on the seed and on what its file holds, not on its name or its place in the list:
//! a folder that has grown needs only its new images embedded, and a file that moved needs nothing.
//!
//! An image that cannot be read is reported, counted, and passed over. An embedding that is no number is an error.

mod cache;
mod recipe;
mod work;

pub(crate) use cache::{Cache, CacheError, Key};
pub(crate) use recipe::Recipe;

use constancy_core::icm::{self, EmbeddingError, Embeddings, Interventions, SourceError};
use constancy_core::intervene::{Draw, Family, Intervention};
use constancy_core::preprocess::DecodeError;
use constancy_engine::{Encoder, ModelError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Embeddings that are written to the cache together, unless [`WRITE_EVERY`] passes first.
const WRITE_AT: usize = 64;
/// What an interruption may lose.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Why embeddings could not be had.
#[derive(Debug, Error)]
pub enum EmbedError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Why one image was passed over.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the file changed while it was read")]
    Changed,
}

/// What is told while the work goes on.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// How many embeddings the cache lacks.
    Start { missing: usize },
    /// As many more are done.
    Embedded(usize),
    Unreadable {
        path: &'a Path,
        reason: &'a Unreadable,
    },
}

/// SHA-256 of what a file holds.
pub(crate) type Content = [u8; 32];

/// What is wanted of every image beside its own embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub families: Vec<Family>,
    /// Interventions of each family.
    pub draws: u32,
    pub seed: u64,
}

impl Wanted {
    /// The interventions on an image, family by family.
    #[must_use]
    pub(crate) fn interventions(&self, content: &Content) -> Vec<Intervention> {
        let draw = Draw::new(self.seed);
        let image = content
            .iter()
            .take(8)
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte));
        let of = |&family| {
            (0..u64::from(self.draws)).map(move |k| draw.one(image.wrapping_add(k), family))
        };
        self.families.iter().flat_map(of).collect()
    }

    /// The image itself (`None`), then the interventions on it.
    fn views(&self, content: &Content) -> Vec<Option<Intervention>> {
        std::iter::once(None)
            .chain(self.interventions(content).into_iter().map(Some))
            .collect()
    }
}

/// Embeddings of images and of what interventions made of them.
#[derive(Debug, Clone)]
pub(crate) struct ImageEmbeddings {
    /// The place in the list of each image that could be read, in order; embeddings are numbered alike.
    pub kept: Vec<usize>,
    pub interventions: Interventions,
    pub tally: Tally,
}

/// What gathering took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tally {
    /// Images that were passed over.
    pub unreadable: usize,
    /// Embeddings that the cache had.
    pub known: usize,
    /// Embeddings that were computed.
    pub computed: usize,
    /// From the first file to the last embedding.
    pub took: Duration,
    /// Time of all threads in the encoder, in interventions, and in reading, decoding and resizing.
    pub embedding: Duration,
    pub intervening: Duration,
    pub reading: Duration,
}

/// An encoder, the threads that share it, and the cache of what it made.
pub(crate) struct CachedEncoder<'a> {
    encoder: &'a dyn work::ImageTower,
    cache: Option<Cache>,
    threads: usize,
}

/// What is known of one image, view by view.
struct Slot {
    content: Content,
    views: Vec<Option<Intervention>>,
    rows: Vec<Option<Vec<f32>>>,
}

impl<'a> CachedEncoder<'a> {
    /// `threads` images are looked at at a time; an encoder of one thread suits this best. Without a cache everything
    /// is computed.
    #[must_use]
    pub(crate) fn new(encoder: &'a Encoder, cache: Option<Cache>, threads: usize) -> Self {
        Self::over(encoder, cache, threads)
    }

    fn over(encoder: &'a dyn work::ImageTower, cache: Option<Cache>, threads: usize) -> Self {
        Self {
            encoder,
            cache,
            threads: threads.max(1),
        }
    }

    /// The embeddings of `images`; `tell` hears how it goes.
    pub(crate) fn embed_images(
        &mut self,
        images: &[PathBuf],
        wanted: &Wanted,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<ImageEmbeddings, EmbedError> {
        let start = Instant::now();
        let mut tally = Tally::default();
        let mut slots: Vec<Option<Slot>> = Vec::with_capacity(images.len());
        for (path, content) in images.iter().zip(work::contents(images, self.threads)) {
            match content {
                Ok(content) => slots.push(Some(self.look_up(content, wanted))),
                Err(error) => {
                    slots.push(None);
                    tell(Event::Unreadable {
                        path,
                        reason: &error.into(),
                    });
                }
            }
        }
        let rows = || slots.iter().flatten().flat_map(|slot| &slot.rows);
        tally.known = rows().filter(|row| row.is_some()).count();
        tell(Event::Start {
            missing: rows().count() - tally.known,
        });
        self.compute(images, &mut slots, &mut tally, tell)?;
        tally.unreadable = slots.iter().filter(|slot| slot.is_none()).count();
        tally.took = start.elapsed();
        let (kept, slots): (Vec<usize>, Vec<Slot>) = slots
            .into_iter()
            .enumerate()
            .filter_map(|(i, slot)| Some((i, slot?)))
            .unzip();
        let interventions = arrange(wanted, slots, self.encoder.manifest().output.width, |i| {
            &images[kept[i]]
        })?;
        Ok(ImageEmbeddings {
            kept,
            interventions,
            tally,
        })
    }

    fn look_up(&self, content: Content, wanted: &Wanted) -> Slot {
        let views = wanted.views(&content);
        let known = |view: &Option<Intervention>| {
            self.cache.as_ref()?.get(&Key::of(&content, view.as_ref()))
        };
        Slot {
            content,
            rows: views.iter().map(known).collect(),
            views,
        }
    }

    /// Fills in what is missing; an image that turns out unreadable loses its slot.
    fn compute(
        &mut self,
        images: &[PathBuf],
        slots: &mut [Option<Slot>],
        tally: &mut Tally,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), EmbedError> {
        let jobs = jobs(images, slots);
        let mut keeper = Keeper {
            cache: &mut self.cache,
            unwritten: Vec::new(),
            written: Instant::now(),
            strange: 0,
        };
        let mut take = |done: work::Done| {
            let Some(slot) = &mut slots[done.image] else {
                return;
            };
            let rows = match done.outcome {
                Ok(rows) => rows,
                Err(reason) => {
                    tell(Event::Unreadable {
                        path: &images[done.image],
                        reason: &reason,
                    });
                    slots[done.image] = None;
                    return;
                }
            };
            tell(Event::Embedded(rows.len()));
            tally.computed += rows.len();
            tally.embedding += done.embedding;
            tally.intervening += done.intervening;
            tally.reading += done.reading;
            keeper.keep(slot, &rows, done.stood_in);
            for (view, row) in rows {
                slot.rows[view] = Some(row);
            }
        };
        let result = work::run(self.encoder, &jobs, self.threads, &mut take);
        // What was done before an error is worth keeping.
        keeper.write();
        if keeper.strange > 0 {
            log::warn!(
                "{} embeddings are not kept: the CPU stood in for the GPU, whose cache this is",
                keeper.strange
            );
        }
        result
    }
}

/// The images with views that are missing.
fn jobs<'a>(images: &'a [PathBuf], slots: &[Option<Slot>]) -> Vec<work::Job<'a>> {
    let job = |(image, slot): (usize, &Option<Slot>)| {
        let slot = slot.as_ref()?;
        let missing: Vec<(usize, Option<Intervention>)> = (0..slot.rows.len())
            .filter(|&v| slot.rows[v].is_none())
            .map(|v| (v, slot.views[v]))
            .collect();
        (!missing.is_empty()).then(|| work::Job {
            image,
            path: &images[image],
            content: slot.content,
            missing,
        })
    };
    slots.iter().enumerate().filter_map(job).collect()
}

/// What is computed on its way to the cache.
struct Keeper<'c> {
    cache: &'c mut Option<Cache>,
    unwritten: Vec<(Key, Vec<f32>)>,
    written: Instant,
    /// Embeddings that may not be of the cache's recipe.
    strange: usize,
}

impl Keeper<'_> {
    /// Takes what was computed of an image, unless the CPU stood in for the GPU, as whose it would be found later.
    fn keep(&mut self, slot: &Slot, rows: &[(usize, Vec<f32>)], stood_in: bool) {
        if self.cache.is_some() && stood_in {
            self.strange += rows.len();
        } else if self.cache.is_some() {
            let key = |view: usize| Key::of(&slot.content, slot.views[view].as_ref());
            self.unwritten
                .extend(rows.iter().map(|(view, row)| (key(*view), row.clone())));
        }
        if self.unwritten.len() >= WRITE_AT || self.written.elapsed() >= WRITE_EVERY {
            self.write();
        }
    }

    /// Writes to the cache; where that fails, the work goes on without one.
    fn write(&mut self) {
        self.written = Instant::now();
        let Some(open) = self.cache.as_mut() else {
            return;
        };
        if let Err(error) = open.append(&self.unwritten) {
            log::warn!(
                "{error}; going on without a cache: what is computed from now on is not kept"
            );
            *self.cache = None;
        }
        self.unwritten.clear();
    }
}

/// Every image has the same views: itself, then each family's draws.
fn arrange<'p>(
    wanted: &Wanted,
    slots: Vec<Slot>,
    width: usize,
    path: impl Fn(usize) -> &'p PathBuf,
) -> Result<Interventions, EmbedError> {
    let draws = wanted.draws as usize;
    let mut views: Vec<Vec<Vec<f32>>> = vec![Vec::new(); 1 + wanted.families.len() * draws];
    for slot in slots {
        for (view, row) in views.iter_mut().zip(slot.rows) {
            view.extend(row);
        }
    }
    let mut views = views.into_iter();
    let originals = views.next().unwrap_or_default();
    let count = originals.len();
    let originals = Embeddings::new(width, &originals, |i| path(i).display().to_string())?;
    let mut families = Vec::new();
    for family in &wanted.families {
        let rows: Vec<Vec<f32>> = views.by_ref().take(draws).flatten().collect();
        let of: Vec<usize> = (0..rows.len()).map(|row| row % count.max(1)).collect();
        let name = |row: usize| format!("{} under {family}", path(of[row]).display());
        let changed = Embeddings::new(width, &rows, name)?;
        families.push(icm::Family {
            name: family.name().into(),
            of,
            changed,
        });
    }
    Ok(Interventions::new(originals, families)?)
}

#[cfg(test)]
mod tests;
