//! A tower's seat on a GPU: there while it works, away while it does not, and tried again later.

use super::client::{Client, Kinds, Outcome};
use super::error::GpuError;
use super::protocol::MOST;
use constancy_kernels::Pool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Waits between a loss and the next try; each is twice the last.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// Makes a client anew, checked against the CPU.
type Connect = Box<dyn Fn() -> Result<Client, GpuError> + Send + Sync>;

/// The seat.
pub(in super::super) struct Seat {
    inner: Arc<Inner>,
}

struct Inner {
    /// The GPU, and in which numbers it computes.
    name: String,
    connect: Connect,
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

impl Seat {
    /// Takes the seat, or says why it cannot be had.
    pub(super) fn take(name: String, connect: Connect) -> Result<Self, GpuError> {
        Self::with_wait(name, connect, FIRST_WAIT)
    }

    /// The same with another wait before the first new try.
    fn with_wait(name: String, connect: Connect, wait: Duration) -> Result<Self, GpuError> {
        let client = Some(connect()?);
        let state = State { client, lost: None, told: false, since: Instant::now(), wait, trying: false };
        Ok(Self { inner: Arc::new(Inner { name, connect, state: Mutex::new(state) }) })
    }

    /// The GPU, and in which numbers it computes.
    pub(in super::super) fn name(&self) -> &str {
        &self.inner.name
    }

    /// Why the GPU is away; `None` while it is there.
    pub(in super::super) fn away(&self) -> Option<GpuError> {
        let state = self.inner.lock();
        if state.client.is_some() { None } else { state.lost.clone() }
    }

    /// The embeddings of `batch` images; `None` where the CPU has to make them.
    pub(in super::super) fn embed(&self, images: &[f32], batch: usize, pool: &Pool) -> Option<Vec<f32>> {
        let mut state = self.inner.lock();
        if state.client.is_none() {
            self.try_again(&mut state);
            return None;
        }
        let one = images.len() / batch.max(1);
        let mut embeddings = Vec::new();
        for images in images.chunks(MOST * one.max(1)) {
            match state.client.as_mut()?.embed(images, images.len() / one.max(1), pool) {
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
        let tried = std::thread::Builder::new().name("gpu".into()).spawn(move || {
            let found = (inner.connect)();
            inner.lock().return_with(found);
        });
        if let Err(e) = tried {
            state.return_with(Err(GpuError::Lost { reason: format!("the system refuses a thread: {e}") }));
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
            log::warn!(
                "the GPU makes an embedding of an image that is not a number; the CPU makes it, and others like it"
            );
        }
    }

    fn lose(&mut self, error: &GpuError) {
        self.client = None;
        self.lost = Some(error.clone());
        // One that held for long is not on the way down.
        self.wait = if self.since.elapsed() > LONGEST_WAIT { FIRST_WAIT } else { self.wait };
        self.since = Instant::now();
        log::warn!("the GPU is lost, the CPU goes on; the next try is in {} s: {error}", self.wait.as_secs());
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
                log::warn!("the GPU stays away; the next try is in {} s: {e}", self.wait.as_secs());
                self.lost = Some(e);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{Client, shared_memory};
    use super::super::error::GpuError;
    use super::super::protocol::{Layout, MOST, Order, Reply, Request, numbers, receive, send};
    use super::Seat;
    use constancy_kernels::Pool;
    use half::f16;
    use memmap2::MmapMut;
    use std::fs::File;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    const LAYOUT: Layout = Layout { image: 6, width: 2, halves: true };

    /// A worker on a thread: embeds an image as its sum and its first value, `lives` times, then does as `end` says.
    fn worker(lives: usize, end: fn(&UnixStream)) -> Result<Client, GpuError> {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let memory = shared_memory(LAYOUT.bytes()).expect("memory");
        let file = memory.try_clone().expect("memory");
        std::thread::spawn(move || serve(&theirs, &file, lives, end));
        let order = Order { manifest: "tower.toml".into(), halves: true, plain: false };
        Client::connect(ours, &memory, &order, LAYOUT, None)
    }

    fn serve(socket: &UnixStream, memory: &File, lives: usize, end: fn(&UnixStream)) {
        // SAFETY: the other side is this test, and it takes turns.
        let mut memory = unsafe { MmapMut::map_mut(memory) }.expect("memory");
        assert!(matches!(receive(socket).expect("a request"), Request::Start(order) if order.halves));
        send(socket, &Reply::Started).expect("an answer");
        for life in 0.. {
            let Ok(Request::Embed { batch }) = receive(socket) else { return };
            if life == lives {
                return end(socket);
            }
            let (images, embeddings) = memory.split_at_mut(LAYOUT.embeddings_at());
            let images = numbers::<f16>(images).chunks(LAYOUT.image).take(batch);
            for (image, out) in images.zip(numbers::<f32>(embeddings).chunks_mut(LAYOUT.width)) {
                out.copy_from_slice(&[image.iter().map(|v| v.to_f32()).sum(), image[0].to_f32()]);
            }
            send(socket, &Reply::Done).expect("an answer");
        }
    }

    fn embed(seat: &Seat, count: usize) -> Option<Vec<f32>> {
        seat.embed(&images(count), count, &Pool::new(2).expect("threads"))
    }

    fn images(count: usize) -> Vec<f32> {
        (0..count * LAYOUT.image).map(|i| i as f32).collect()
    }

    #[test]
    fn images_go_over_in_as_many_parts_as_they_need() {
        let seat = Seat::take("test".into(), Box::new(|| worker(usize::MAX, |_| ()))).expect("a seat");
        for count in [1, MOST, MOST + 3] {
            let expected: Vec<f32> = images(count).chunks(LAYOUT.image).flat_map(|i| [i.iter().sum(), i[0]]).collect();
            assert_eq!(embed(&seat, count), Some(expected), "{count}");
        }
        assert_eq!(seat.away(), None);
    }

    #[test]
    fn a_gpu_that_is_lost_is_away_and_comes_back() {
        let ends: [fn(&UnixStream); 2] = [
            |_| (),
            |socket| {
                let error = GpuError::OutOfMemory { reason: "a test".into() };
                send(socket, &Reply::Failed(error)).expect("an answer");
            },
        ];
        for (end, said) in ends.into_iter().zip(["closed its socket", "memory does not suffice"]) {
            let starts = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&starts);
            let connect = move || match counted.fetch_add(1, Ordering::SeqCst) {
                0 => worker(1, end),
                1 => Err(GpuError::NoDevice),
                _ => worker(usize::MAX, |_| ()),
            };
            let seat = Seat::with_wait("test".into(), Box::new(connect), Duration::ZERO).expect("a seat");
            assert!(embed(&seat, 1).is_some() && seat.away().is_none());
            assert_eq!(embed(&seat, 1), None, "the CPU has to do it");
            assert!(seat.away().is_some_and(|e| e.to_string().contains(said)), "{:?}", seat.away());
            let limit = Instant::now() + Duration::from_secs(30);
            while embed(&seat, 1).is_none() {
                assert!(Instant::now() < limit, "it comes back: {:?}", seat.away());
                std::thread::yield_now();
            }
            assert_eq!(starts.load(Ordering::SeqCst), 3, "once more after a try that failed");
        }
    }

    #[test]
    fn an_embedding_that_is_no_number_is_the_cpus_to_make_and_loses_nothing() {
        let connect = || {
            worker(0, |socket| {
                send(socket, &Reply::NotFinite).expect("an answer");
                let _: std::io::Result<Request> = receive(socket);
            })
        };
        let seat = Seat::take("test".into(), Box::new(connect)).expect("a seat");
        assert_eq!(embed(&seat, 1), None);
        assert_eq!(seat.away(), None);
    }
}
