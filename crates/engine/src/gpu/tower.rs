//! A tower's tower on a GPU: there while it works, away while it does not, and tried again later.

use super::client::{Client, Kinds, Outcome};
use super::error::GpuError;
use super::protocol::MOST;
use constancy_kernels::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Waits between a loss and the next try; each is twice the last.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

const NO_NUMBER: &str = "the GPU makes an embedding of an image that is not a number";

/// Makes a client anew, checked against the CPU.
type Connect = Box<dyn Fn() -> Result<Client, GpuError> + Send + Sync>;

/// The tower.
pub(in super::super) struct GpuTower {
    inner: Arc<Inner>,
}

struct Inner {
    /// The GPU, and in which numbers it computes.
    name: String,
    connect: Connect,
    /// How often the CPU was left to embed; beside the state, which is locked while the GPU embeds.
    refused: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    client: Option<Client>,
    /// Why it is away, or was.
    lost: Option<GpuError>,
    /// Whether it was said that an embedding is not a number.
    told: bool,
    since: Instant,
    wait: Duration,
    trying: bool,
}

impl GpuTower {
    /// Takes the tower, or says why it cannot be had.
    pub(super) fn take(name: String, connect: Connect) -> Result<Self, GpuError> {
        Self::with_wait(name, connect, FIRST_WAIT)
    }

    /// The same with another wait before the first new try.
    pub(super) fn with_wait(
        name: String,
        connect: Connect,
        wait: Duration,
    ) -> Result<Self, GpuError> {
        let client = Some(connect()?);
        let state = State {
            client,
            lost: None,
            told: false,
            since: Instant::now(),
            wait,
            trying: false,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                connect,
                refused: AtomicUsize::new(0),
                state: Mutex::new(state),
            }),
        })
    }

    /// The GPU, and in which numbers it computes.
    pub(in super::super) fn name(&self) -> &str {
        &self.inner.name
    }

    /// How often the CPU was left to embed.
    pub(in super::super) fn stood_in(&self) -> usize {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// The same, and why it last was; `None` where it never was.
    pub(in super::super) fn refused(&self) -> Option<(usize, GpuError)> {
        let state = self.inner.lock();
        let reason = || {
            state.lost.clone().unwrap_or_else(|| GpuError::Failed {
                reason: NO_NUMBER.into(),
            })
        };
        let count = self.stood_in();
        (count > 0).then(|| (count, reason()))
    }

    /// The embeddings of `batch` images; `None` where the CPU has to make them.
    pub(in super::super) fn embed(
        &self,
        images: &[f32],
        batch: usize,
        pool: &Pool,
    ) -> Option<Vec<f32>> {
        let mut state = self.inner.lock();
        let embeddings = self.try_to_embed(&mut state, images, batch, pool);
        self.inner
            .refused
            .fetch_add(usize::from(embeddings.is_none()), Ordering::Relaxed);
        embeddings
    }

    fn try_to_embed(
        &self,
        state: &mut State,
        images: &[f32],
        batch: usize,
        pool: &Pool,
    ) -> Option<Vec<f32>> {
        if state.client.is_none() {
            self.try_again(state);
            return None;
        }
        let one = images.len() / batch.max(1);
        let mut embeddings = Vec::new();
        for images in images.chunks(MOST * one.max(1)) {
            match state
                .client
                .as_mut()?
                .embed(images, images.len() / one.max(1), pool)
            {
                Ok(Outcome::Embeddings(values)) => embeddings.extend(values),
                Ok(Outcome::NotFinite) => {
                    state.tell();
                    return None;
                }
                Err(e) => {
                    state.lose(&e);
                    return None;
                }
            }
        }
        Some(embeddings)
    }

    /// See [`Client::profile`].
    pub(in super::super) fn profile(&self, batch: usize) -> Option<Result<Kinds, GpuError>> {
        Some(self.inner.lock().client.as_mut()?.profile(batch))
    }

    /// Where it is time, has another thread try; frames do not wait for it.
    fn try_again(&self, state: &mut State) {
        if state.trying || state.since.elapsed() < state.wait {
            return;
        }
        state.trying = true;
        let inner = Arc::clone(&self.inner);
        let tried = std::thread::Builder::new()
            .name("gpu".into())
            .spawn(move || {
                let found = (inner.connect)();
                inner.lock().return_with(found);
            });
        if let Err(e) = tried {
            state.return_with(Err(GpuError::Lost {
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
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            log::warn!("{NO_NUMBER}; the CPU makes it, and others like it");
        }
    }

    fn lose(&mut self, error: &GpuError) {
        self.client = None;
        self.lost = Some(error.clone());
        // One that held for long is not on the way down.
        self.wait = if self.since.elapsed() > LONGEST_WAIT {
            FIRST_WAIT
        } else {
            self.wait
        };
        self.since = Instant::now();
        log::warn!(
            "the GPU is lost, the CPU goes on; the next try is in {} s: {error}",
            self.wait.as_secs()
        );
    }

    fn return_with(&mut self, found: Result<Client, GpuError>) {
        self.trying = false;
        self.since = Instant::now();
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        match found {
            Ok(client) => {
                self.client = Some(client);
                log::info!("the GPU is back");
            }
            Err(e) => {
                log::warn!(
                    "the GPU stays away; the next try is in {} s: {e}",
                    self.wait.as_secs()
                );
                self.lost = Some(e);
            }
        }
    }
}
