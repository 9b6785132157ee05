//! Writes computed embeddings to the cache as the work goes on.

use super::cache::{Cache, Key};
use super::plan::ContentHash;
use constancy_core::intervene::Intervention;
use std::time::{Duration, Instant};

/// Embeddings that are written to the cache together, unless [`WRITE_EVERY`] passes first.
const WRITE_AT: usize = 64;
/// An interruption loses the embeddings of at most this time.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Writes computed embeddings to the cache, several at a time.
pub(super) struct CacheWriter<'c> {
    cache: &'c mut Option<Cache>,
    unwritten: Vec<(Key, Vec<f32>)>,
    last_write: Instant,
    /// Embeddings that were left out because the CPU may have computed them for the GPU.
    left_out: usize,
}

impl<'c> CacheWriter<'c> {
    pub(super) fn new(cache: &'c mut Option<Cache>) -> Self {
        Self {
            cache,
            unwritten: Vec::new(),
            last_write: Instant::now(),
            left_out: 0,
        }
    }

    /// Takes the rows computed for an image, each with its variant's index. They are left out if the CPU stood in for
    /// the GPU: the cache's recipe says that the GPU computed its embeddings.
    pub(super) fn keep(
        &mut self,
        content: &ContentHash,
        variants: &[Option<Intervention>],
        rows: &[(usize, Vec<f32>)],
        stood_in: bool,
    ) {
        if self.cache.is_some() && stood_in {
            self.left_out += rows.len();
        } else if self.cache.is_some() {
            let key = |variant: usize| Key::of(content, variants[variant].as_ref());
            self.unwritten.extend(
                rows.iter()
                    .map(|(variant, row)| (key(*variant), row.clone())),
            );
        }
        if self.unwritten.len() >= WRITE_AT || self.last_write.elapsed() >= WRITE_EVERY {
            self.write();
        }
    }

    /// Writes to the cache; if that fails, the work goes on without a cache.
    fn write(&mut self) {
        self.last_write = Instant::now();
        let Some(cache) = self.cache.as_mut() else {
            return;
        };
        if let Err(error) = cache.append(&self.unwritten) {
            log::warn!(
                "{error}; going on without a cache: embeddings computed from now on are not kept"
            );
            *self.cache = None;
        }
        self.unwritten.clear();
    }

    /// Writes the rest.
    pub(super) fn finish(mut self) {
        self.write();
        if self.left_out > 0 {
            log::warn!(
                "{} embeddings are not kept in the GPU's cache: the CPU stood in for the GPU",
                self.left_out
            );
        }
    }
}
