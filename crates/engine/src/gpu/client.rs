//! The daemon's side of the process that runs the GPU.
//!
//! A process of its own, because a GPU that is lost takes everything with it that uses it: only a new process gets
//! it back, and a driver that hangs or crashes must not do so with the cameras.

use super::error::GpuError;
use super::protocol::{Layout, MOST, Order, Reply, Request, numbers, receive, send};
use constancy_kernels::{Pool, SharedMut};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use memmap2::MmapMut;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The first start on a machine compiles tract's kernels for its GPU, which takes a minute and more on a board.
const START_LIMIT: Duration = Duration::from_mins(10);
/// After so long it is likely to compile, and said.
const PATIENCE: Duration = Duration::from_secs(5);
/// A batch takes milliseconds; a plan for a number of images that was not met before, some seconds. Frames wait for it,
/// and the service's watchdog, which has 60 s, for them.
const RUN_LIMIT: Duration = Duration::from_secs(30);
/// A process that was killed is gone in milliseconds, unless it hangs in the driver: then nothing ends it.
const END_LIMIT: Duration = Duration::from_secs(1);

/// How many workers are being started.
static STARTING: AtomicUsize = AtomicUsize::new(0);

/// Whether this process waits for a GPU to be prepared, which may take minutes.
#[must_use]
pub fn gpu_is_starting() -> bool {
    STARTING.load(Ordering::Relaxed) > 0
}

/// A worker that has loaded its tower.
pub(super) struct Client {
    socket: UnixStream,
    memory: MmapMut,
    layout: Layout,
    /// None where the other side is no process of ours.
    process: Option<Child>,
}

/// Kind, calls and time of operators.
pub(in super::super) type Kinds = Vec<(String, usize, Duration)>;

/// What came of a run.
pub(super) enum Outcome {
    Embeddings(Vec<f32>),
    NotFinite,
}

impl Client {
    /// Starts this program again as worker on the GPU `index`, and has it load the tower.
    pub(super) fn start(index: u32, order: &Order, layout: Layout) -> Result<Self, GpuError> {
        let failed = |e: std::io::Error| GpuError::Lost {
            reason: format!("it cannot be started: {e}"),
        };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let memory = shared_memory(layout.bytes()).map_err(failed)?;
        let handed = memory.try_clone().map_err(failed)?;
        // The program that runs, also where a newer one has been installed meanwhile.
        let process = Command::new("/proc/self/exe")
            .arg("gpu-worker")
            .env(
                "CUDA_VISIBLE_DEVICES",
                visible(index, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref()),
            )
            .envs(cache(
                std::env::var_os("CACHE_DIRECTORY"),
                std::env::var_os("XDG_CACHE_HOME").as_deref(),
            ))
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(handed))
            // Ctrl-C is for the daemon, which may still have frames to finish.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Self::connect(socket, &memory, order, layout, Some(process))
    }

    pub(super) fn connect(
        socket: UnixStream,
        memory: &File,
        order: &Order,
        layout: Layout,
        process: Option<Child>,
    ) -> Result<Self, GpuError> {
        // SAFETY: only this process and its worker have this memory, and they take turns by the socket.
        let memory = unsafe { MmapMut::map_mut(memory) };
        let memory = memory.map_err(|e| GpuError::Lost {
            reason: format!("no memory to share: {e}"),
        })?;
        let mut client = Self {
            socket,
            memory,
            layout,
            process,
        };
        match client.ask_to_start(order)? {
            Reply::Started => Ok(client),
            other => Err(Self::unexpected(other)),
        }
    }

    /// The embeddings `[batch, width]` of at most [`MOST`] images; `pool` lends its threads to bring these over.
    pub(super) fn embed(
        &mut self,
        images: &[f32],
        batch: usize,
        pool: &Pool,
    ) -> Result<Outcome, GpuError> {
        let image = self.layout.image;
        assert!(
            batch <= MOST && images.len() == batch * image,
            "as many values as the images have"
        );
        let room = &mut self.memory[..self.layout.embeddings_at()];
        if self.layout.halves {
            let room = SharedMut::new(numbers::<f16>(room));
            pool.run(batch, &|i| {
                // SAFETY: every image has room of its own.
                unsafe { room.slice(i * image, image) }
                    .convert_from_f32_slice(&images[i * image..][..image]);
            });
        } else {
            let room = SharedMut::new(numbers::<f32>(room));
            pool.run(batch, &|i| {
                // SAFETY: as above.
                unsafe { room.slice(i * image, image) }
                    .copy_from_slice(&images[i * image..][..image]);
            });
        }
        match self.ask(&Request::Embed { batch }, RUN_LIMIT)? {
            Reply::Done => {
                let embeddings = numbers(&mut self.memory[self.layout.embeddings_at()..]);
                Ok(Outcome::Embeddings(
                    embeddings[..batch * self.layout.width].to_vec(),
                ))
            }
            Reply::NotFinite => Ok(Outcome::NotFinite),
            other => Err(Self::unexpected(other)),
        }
    }

    /// Kind, calls and time of the operators that one run of what was embedded last takes.
    pub(super) fn profile(&mut self, batch: usize) -> Result<Kinds, GpuError> {
        match self.ask(&Request::Profile { batch }, RUN_LIMIT)? {
            Reply::Profile(kinds) => Ok(kinds
                .into_iter()
                .map(|(kind, calls, ns)| (kind, calls, Duration::from_nanos(ns)))
                .collect()),
            other => Err(Self::unexpected(other)),
        }
    }

    fn ask_to_start(&mut self, order: &Order) -> Result<Reply, GpuError> {
        let _starting = Starting::begin();
        let _ = send(&self.socket, &Request::Start(order.clone()));
        if !is_readable_within(&self.socket, PATIENCE) {
            log::info!(
                "preparing the GPU: at the first start its kernels are compiled, which takes a minute and more; they \
                 are kept for the next"
            );
        }
        self.answer(START_LIMIT)
    }

    fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, GpuError> {
        // Where it cannot be asked it is gone, and so is its answer.
        let _ = send(&self.socket, request);
        self.answer(limit)
    }

    fn answer(&mut self, limit: Duration) -> Result<Reply, GpuError> {
        let answered = self
            .socket
            .set_read_timeout(Some(limit))
            .and_then(|()| receive(&self.socket));
        answered.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => GpuError::Lost {
                reason: format!("it gave no answer for {} s", limit.as_secs()),
            },
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                GpuError::Lost {
                    reason: self.last_words(),
                }
            }
            _ => GpuError::Lost {
                reason: e.to_string(),
            },
        })
    }

    fn unexpected(reply: Reply) -> GpuError {
        match reply {
            Reply::Failed(error) => error,
            other => GpuError::Lost {
                reason: format!("it answered {other:?}"),
            },
        }
    }

    /// How the process ended; where it holds on without its socket, that.
    fn last_words(&mut self) -> String {
        let status = self.process.as_mut().and_then(end_of);
        status.map_or_else(
            || "it closed its socket".into(),
            |s| format!("it ended by {s}"),
        )
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        // It has nothing to save. A next one finds its memory on the GPU free.
        let _ = process.kill();
        if end_of(&mut process).is_none() {
            log::warn!(
                "the process {} hangs in the GPU's driver: it was killed, and does not end",
                process.id()
            );
            // Its end, if it comes to one, is for a thread to see; without one it stays a zombie, which costs little.
            let _ = std::thread::Builder::new()
                .name("gpu-end".into())
                .spawn(move || process.wait());
        }
    }
}

/// How a process that is about to end has ended; `None` where it takes too long.
fn end_of(process: &mut Child) -> Option<ExitStatus> {
    let limit = Instant::now() + END_LIMIT;
    loop {
        match process.try_wait() {
            Ok(None) if Instant::now() < limit => std::thread::sleep(Duration::from_millis(5)),
            found => return found.ok().flatten(),
        }
    }
}

/// Counts as a start while it lives.
struct Starting;

impl Starting {
    fn begin() -> Self {
        STARTING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where compiled kernels are kept, for a service whose user has no home: the cache that systemd gives it.
fn cache(service: Option<OsString>, user: Option<&OsStr>) -> Option<(&'static str, OsString)> {
    service
        .filter(|_| user.is_none())
        .map(|folder| ("XDG_CACHE_HOME", folder))
}

/// Memory without a name, which both processes map.
pub(super) fn shared_memory(bytes: usize) -> std::io::Result<File> {
    // SAFETY: a C string; the descriptor that is returned is new, and ours alone.
    let fd = unsafe { libc::memfd_create(c"constancy-gpu".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: as above.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes as u64)?;
    Ok(file)
}

/// Whether there is something to read, or the other side is gone, before `limit`.
fn is_readable_within(socket: &UnixStream, limit: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one descriptor that is open.
    let ready = unsafe { libc::poll(&raw mut poll, 1, limit) };
    ready > 0
}

/// `CUDA_VISIBLE_DEVICES` by which a process sees the GPU `index` of those that are visible here.
fn visible(index: u32, here: Option<&str>) -> String {
    let chosen = here.and_then(|list| list.split(',').nth(index as usize));
    chosen.map_or_else(|| index.to_string(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        Client, END_LIMIT, Layout, RUN_LIMIT, Request, cache, is_readable_within, shared_memory,
        visible,
    };
    use memmap2::MmapMut;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn kernels_are_kept_in_the_services_cache_unless_the_user_has_one() {
        assert_eq!(cache(None, None), None);
        assert_eq!(
            cache(Some("/c".into()), None),
            Some(("XDG_CACHE_HOME", "/c".into()))
        );
        assert_eq!(cache(Some("/c".into()), Some("/u".as_ref())), None);
    }

    #[test]
    fn an_answer_and_an_end_are_told_from_silence() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        assert!(!is_readable_within(&ours, Duration::ZERO));
        theirs.write_all(b"x").expect("a byte");
        assert!(is_readable_within(&ours, Duration::from_secs(30)));
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        drop(theirs);
        assert!(is_readable_within(&ours, Duration::from_secs(30)));
    }

    /// A driver that hangs: the socket is open, and nothing comes.
    #[test]
    fn an_answer_that_does_not_come_is_a_loss_before_the_services_watchdog_bites() {
        let (socket, silent) = UnixStream::pair().expect("sockets");
        let layout = Layout {
            image: 1,
            width: 1,
            halves: false,
        };
        // SAFETY: nobody else has this memory.
        let memory = unsafe { MmapMut::map_mut(&shared_memory(layout.bytes()).expect("memory")) }
            .expect("memory");
        let mut client = Client {
            socket,
            memory,
            layout,
            process: None,
        };
        let (done, asked) = mpsc::channel();
        std::thread::spawn(move || {
            done.send(client.ask(&Request::Embed { batch: 1 }, Duration::from_millis(20)))
        });
        let asked = asked
            .recv_timeout(Duration::from_secs(20))
            .expect("it does not wait for ever");
        assert!(
            matches!(&asked, Err(e) if e.to_string().contains("no answer")),
            "{asked:?}"
        );
        drop(silent);
        let unit = include_str!("../../../../systemd/constancy.service");
        let watchdog = unit
            .lines()
            .find_map(|l| l.strip_prefix("WatchdogSec="))
            .expect("a watchdog");
        assert!(
            2 * RUN_LIMIT.as_secs() <= watchdog.parse().expect("seconds") && END_LIMIT < RUN_LIMIT
        );
    }

    #[test]
    fn a_worker_sees_one_gpu_of_those_that_are_visible() {
        assert_eq!(visible(1, None), "1");
        assert_eq!(visible(1, Some("2,3")), "3");
        assert_eq!(visible(0, Some("GPU-5ac1, GPU-77aa")), "GPU-5ac1");
    }
}
