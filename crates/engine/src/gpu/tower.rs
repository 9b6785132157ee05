//! [`GpuTower`]: a tower on a GPU. The CPU takes over while the GPU is lost, and a lost GPU is
//! tried again later.

use super::client::{Client, OperatorTimes, Outcome};
use super::error::GpuError;
use super::protocol::MAX_BATCH;
use constancy_kernels::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Backoff between a loss and the next attempt to connect; it doubles with each.
const MIN_BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_mins(10);

const NOT_FINITE: &str = "the GPU's embedding of an image is not a number";

/// Starts a worker and checks it against the CPU.
type Connect = Box<dyn Fn() -> Result<Client, GpuError> + Send + Sync>;

/// A tower on a GPU.
pub(crate) struct GpuTower {
    inner: Arc<Inner>,
}

struct Inner {
    /// Name of the GPU, and the number format.
    name: String,
    connect: Connect,
    /// How often the CPU had to embed. Outside the state, which is locked while the GPU embeds.
    cpu_fallbacks: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// `None` while the GPU is lost.
    client: Option<Client>,
    /// Why it was last lost.
    lost: Option<GpuError>,
    /// Whether an embedding that is not finite has been logged.
    warned_not_finite: bool,
    /// The last time that the GPU was connected or lost.
    since: Instant,
    backoff: Duration,
    connecting: bool,
}

impl GpuTower {
    /// Connects to the GPU for the first time; an error if that fails.
    pub(super) fn connect(name: String, connect: Connect) -> Result<Self, GpuError> {
        Self::with_backoff(name, connect, MIN_BACKOFF)
    }

    /// Like [`GpuTower::connect`], with another backoff after the first loss.
    pub(super) fn with_backoff(
        name: String,
        connect: Connect,
        backoff: Duration,
    ) -> Result<Self, GpuError> {
        let client = Some(connect()?);
        let state = State {
            client,
            lost: None,
            warned_not_finite: false,
            since: Instant::now(),
            backoff,
            connecting: false,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                connect,
                cpu_fallbacks: AtomicUsize::new(0),
                state: Mutex::new(state),
            }),
        })
    }

    /// Name of the GPU, and the number format.
    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// How often the CPU had to embed.
    pub(crate) fn cpu_fallbacks(&self) -> usize {
        self.inner.cpu_fallbacks.load(Ordering::Relaxed)
    }

    /// How often the CPU had to embed, and why it last did; `None` if it never had to.
    pub(crate) fn last_fallback(&self) -> Option<(usize, GpuError)> {
        let state = self.inner.lock();
        let reason = || {
            state.lost.clone().unwrap_or_else(|| GpuError::Failed {
                reason: NOT_FINITE.into(),
            })
        };
        let count = self.cpu_fallbacks();
        (count > 0).then(|| (count, reason()))
    }

    /// The embeddings of `batch` images; `None` if the CPU has to compute them.
    pub(crate) fn embed(&self, images: &[f32], batch: usize, pool: &Pool) -> Option<Vec<f32>> {
        let mut state = self.inner.lock();
        let embeddings = self.try_embed(&mut state, images, batch, pool);
        self.inner
            .cpu_fallbacks
            .fetch_add(usize::from(embeddings.is_none()), Ordering::Relaxed);
        embeddings
    }

    fn try_embed(
        &self,
        state: &mut State,
        images: &[f32],
        batch: usize,
        pool: &Pool,
    ) -> Option<Vec<f32>> {
        if state.client.is_none() {
            self.reconnect_if_due(state);
            return None;
        }
        let image_len = (images.len() / batch.max(1)).max(1);
        let mut embeddings = Vec::new();
        for images in images.chunks(MAX_BATCH * image_len) {
            let client = state.client.as_mut()?;
            match client.embed(images, images.len() / image_len, pool) {
                Ok(Outcome::Embeddings(values)) => embeddings.extend(values),
                Ok(Outcome::NotFinite) => {
                    state.warn_not_finite();
                    return None;
                }
                Err(e) => {
                    state.mark_lost(&e);
                    return None;
                }
            }
        }
        Some(embeddings)
    }

    /// See [`Client::profile`]; `None` while the GPU is lost.
    pub(crate) fn profile(&self, batch: usize) -> Option<Result<OperatorTimes, GpuError>> {
        Some(self.inner.lock().client.as_mut()?.profile(batch))
    }

    /// Connects in another thread if the backoff is over; frames do not wait for it.
    fn reconnect_if_due(&self, state: &mut State) {
        if state.connecting || state.since.elapsed() < state.backoff {
            return;
        }
        state.connecting = true;
        let inner = Arc::clone(&self.inner);
        let spawned = std::thread::Builder::new()
            .name("gpu".into())
            .spawn(move || {
                let result = (inner.connect)();
                inner.lock().finish_connecting(result);
            });
        if let Err(e) = spawned {
            state.finish_connecting(Err(GpuError::Lost {
                reason: format!("the system refuses a thread: {e}"),
            }));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn warn_not_finite(&mut self) {
        if !std::mem::replace(&mut self.warned_not_finite, true) {
            log::warn!("{NOT_FINITE}; the CPU embeds such images (this is logged once)");
        }
    }

    fn mark_lost(&mut self, error: &GpuError) {
        self.client = None;
        self.lost = Some(error.clone());
        // A connection that lasted resets the backoff.
        if self.since.elapsed() > MAX_BACKOFF {
            self.backoff = MIN_BACKOFF;
        }
        self.since = Instant::now();
        log::warn!(
            "the GPU is lost, the CPU takes over; the next attempt is in {} s: {error}",
            self.backoff.as_secs()
        );
    }

    fn finish_connecting(&mut self, result: Result<Client, GpuError>) {
        self.connecting = false;
        self.since = Instant::now();
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        match result {
            Ok(client) => {
                self.client = Some(client);
                log::info!("the GPU is back");
            }
            Err(e) => {
                log::warn!(
                    "the GPU is still lost; the next attempt is in {} s: {e}",
                    self.backoff.as_secs()
                );
                self.lost = Some(e);
            }
        }
    }
}
