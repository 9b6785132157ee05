//! Embeddings of many images and of their interventions: computed on all cores, kept on disk.
//!
//! [`CachedEncoder::embed_images`] takes a list of images and an [`InterventionPlan`], looks up what the [`Cache`] has,
//! computes the rest in worker threads, and returns [`Interventions`], from which maps are fitted and selected.
//!
//! The interventions on an image depend on the seed and on the file's content, not on its name or its place in the
//! list: a folder that has grown needs only its new images embedded, and a moved file needs nothing.
//!
//! An unreadable image is reported, counted and skipped. An embedding with a non-finite value is an error.

mod cache;
mod error;
mod plan;
mod recipe;
mod work;
mod writer;

pub(crate) use cache::{Cache, CacheError};
pub(crate) use error::EmbedError;
pub(crate) use plan::{ContentHash, InterventionPlan};
pub(crate) use recipe::Recipe;

use cache::Key;
use constancy_core::icm::{self, Embeddings, Interventions};
use constancy_core::intervene::Intervention;
use constancy_engine::Encoder;
use error::Unreadable;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use writer::CacheWriter;

/// Reports while the work goes on.
#[derive(Debug)]
pub(crate) enum Progress<'a> {
    /// The number of embeddings that the cache lacks.
    Start { missing: usize },
    /// This many more embeddings were computed.
    Embedded(usize),
    /// An image was skipped.
    Unreadable {
        path: &'a Path,
        reason: &'a Unreadable,
    },
}

/// Embeddings of images and of their interventions.
#[derive(Debug, Clone)]
pub(crate) struct ImageEmbeddings {
    /// The index in the given list of each image that could be read, in order; embeddings have the same order.
    pub kept: Vec<usize>,
    pub interventions: Interventions,
    pub stats: EmbedStats,
}

/// Counts and times of [`CachedEncoder::embed_images`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct EmbedStats {
    /// Images that were skipped.
    pub unreadable: usize,
    /// Embeddings that came from the cache.
    pub cached: usize,
    /// Embeddings that were computed.
    pub computed: usize,
    /// Wall time from the first file to the last embedding.
    pub took: Duration,
    /// Time in the encoder, summed over all threads.
    pub embedding: Duration,
    /// Time in interventions, summed over all threads.
    pub intervening: Duration,
    /// Time in reading, decoding and resizing, summed over all threads.
    pub reading: Duration,
}

/// An encoder with worker threads and a cache of its embeddings.
pub(crate) struct CachedEncoder<'a> {
    encoder: &'a dyn work::ImageTower,
    cache: Option<Cache>,
    threads: usize,
}

/// One image's variants and their embeddings, as far as they are known.
struct ImageRows {
    content: ContentHash,
    variants: Vec<Option<Intervention>>,
    rows: Vec<Option<Vec<f32>>>,
}

impl<'a> CachedEncoder<'a> {
    /// Works on `threads` images at a time, so an encoder of one thread is best. Without a cache it computes
    /// everything.
    #[must_use]
    pub(crate) fn new(encoder: &'a Encoder, cache: Option<Cache>, threads: usize) -> Self {
        Self::with_tower(encoder, cache, threads)
    }

    fn with_tower(encoder: &'a dyn work::ImageTower, cache: Option<Cache>, threads: usize) -> Self {
        Self {
            encoder,
            cache,
            threads: threads.max(1),
        }
    }

    /// The embeddings of `images` and of their interventions; `report` is called as the work goes on.
    pub(crate) fn embed_images(
        &mut self,
        images: &[PathBuf],
        plan: &InterventionPlan,
        report: &mut dyn FnMut(Progress<'_>),
    ) -> Result<ImageEmbeddings, EmbedError> {
        let start = Instant::now();
        let mut stats = EmbedStats::default();
        let mut slots = self.look_up_all(images, plan, report);
        let rows = || slots.iter().flatten().flat_map(|image| &image.rows);
        stats.cached = rows().filter(|row| row.is_some()).count();
        report(Progress::Start {
            missing: rows().count() - stats.cached,
        });
        self.compute(images, &mut slots, &mut stats, report)?;
        stats.unreadable = slots.iter().filter(|slot| slot.is_none()).count();
        stats.took = start.elapsed();
        let (kept, readable): (Vec<usize>, Vec<ImageRows>) = slots
            .into_iter()
            .enumerate()
            .filter_map(|(i, slot)| Some((i, slot?)))
            .unzip();
        let width = self.encoder.manifest().output.width;
        let interventions = assemble(plan, readable, width, |i| &images[kept[i]])?;
        Ok(ImageEmbeddings {
            kept,
            interventions,
            stats,
        })
    }

    /// What the cache has of each image; `None` for an image that cannot be read.
    fn look_up_all(
        &self,
        images: &[PathBuf],
        plan: &InterventionPlan,
        report: &mut dyn FnMut(Progress<'_>),
    ) -> Vec<Option<ImageRows>> {
        let hashes = work::content_hashes(images, self.threads);
        let look_up = |(path, hash): (&PathBuf, std::io::Result<ContentHash>)| match hash {
            Ok(content) => Some(self.look_up(content, plan)),
            Err(error) => {
                report(Progress::Unreadable {
                    path,
                    reason: &error.into(),
                });
                None
            }
        };
        images.iter().zip(hashes).map(look_up).collect()
    }

    fn look_up(&self, content: ContentHash, plan: &InterventionPlan) -> ImageRows {
        let variants = plan.variants(&content);
        let cached = |variant: &Option<Intervention>| {
            self.cache
                .as_ref()?
                .get(&Key::of(&content, variant.as_ref()))
        };
        ImageRows {
            content,
            rows: variants.iter().map(cached).collect(),
            variants,
        }
    }

    /// Computes the missing rows; an image that turns out to be unreadable becomes `None`.
    fn compute(
        &mut self,
        images: &[PathBuf],
        slots: &mut [Option<ImageRows>],
        stats: &mut EmbedStats,
        report: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), EmbedError> {
        let jobs = jobs(images, slots);
        let mut writer = CacheWriter::new(&mut self.cache);
        let mut finish = |done: work::Done| {
            let path = &images[done.image];
            let Some(image) = &mut slots[done.image] else {
                return Err(EmbedError::internal(path, "a skipped image was embedded"));
            };
            let rows = match done.outcome {
                Ok(rows) => rows,
                Err(reason) => {
                    report(Progress::Unreadable {
                        path,
                        reason: &reason,
                    });
                    slots[done.image] = None;
                    return Ok(());
                }
            };
            report(Progress::Embedded(rows.len()));
            stats.computed += rows.len();
            stats.embedding += done.embedding;
            stats.intervening += done.intervening;
            stats.reading += done.reading;
            writer.keep(&image.content, &image.variants, &rows, done.stood_in);
            for (variant, row) in rows {
                image.rows[variant] = Some(row);
            }
            Ok(())
        };
        let result = work::run(self.encoder, &jobs, self.threads, &mut finish);
        // What was computed before an error is kept.
        writer.finish();
        result
    }
}

/// A job for each image with missing rows.
fn jobs<'a>(images: &'a [PathBuf], slots: &[Option<ImageRows>]) -> Vec<work::Job<'a>> {
    let job = |(index, slot): (usize, &Option<ImageRows>)| {
        let image = slot.as_ref()?;
        let missing: Vec<(usize, Option<Intervention>)> = (0..image.rows.len())
            .filter(|&v| image.rows[v].is_none())
            .map(|v| (v, image.variants[v]))
            .collect();
        (!missing.is_empty()).then(|| work::Job {
            image: index,
            path: &images[index],
            content: image.content,
            missing,
        })
    };
    slots.iter().enumerate().filter_map(job).collect()
}

/// Arranges complete images by variant: the originals, then each family's draws.
fn assemble<'p>(
    plan: &InterventionPlan,
    images: Vec<ImageRows>,
    width: usize,
    path: impl Fn(usize) -> &'p PathBuf,
) -> Result<Interventions, EmbedError> {
    let draws = plan.draws as usize;
    let count = images.len();
    let mut originals = Vec::with_capacity(count);
    let mut by_variant = vec![Vec::new(); plan.families.len() * draws];
    for (i, image) in images.into_iter().enumerate() {
        let rows: Option<Vec<Vec<f32>>> = image.rows.into_iter().collect();
        let mut rows = rows
            .filter(|rows| rows.len() == 1 + by_variant.len())
            .ok_or_else(|| EmbedError::internal(path(i), "an embedding is missing"))?
            .into_iter();
        originals.extend(rows.next());
        for (variant, row) in by_variant.iter_mut().zip(rows) {
            variant.push(row);
        }
    }
    let originals = Embeddings::new(width, &originals, |i| path(i).display().to_string())?;
    let mut by_variant = by_variant.into_iter();
    let mut families = Vec::new();
    for family in &plan.families {
        let rows: Vec<Vec<f32>> = by_variant.by_ref().take(draws).flatten().collect();
        let of: Vec<usize> = (0..rows.len()).map(|row| row % count.max(1)).collect();
        let name = |row: usize| format!("{} under {family}", path(of[row]).display());
        let changed = Embeddings::new(width, &rows, name)?;
        families.push(icm::ChangedImages {
            name: family.name().into(),
            of,
            changed,
        });
    }
    Ok(Interventions::new(originals, families)?)
}

#[cfg(test)]
mod tests;
