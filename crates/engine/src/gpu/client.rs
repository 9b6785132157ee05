//! The daemon's side of the worker process that runs the GPU.
//!
//! The GPU runs in a process of its own because a lost GPU takes down every process that uses it:
//! only a new process can use it again, and a driver that hangs or crashes must not stop the
//! cameras.

use super::error::GpuError;
use super::process::{
    StartingGuard, is_readable_within, kill, shared_memory, spawn_worker, start_error,
    wait_for_exit,
};
use super::protocol::{
    MAX_BATCH, MemoryLayout, Reply, Request, WorkerConfig, as_numbers, receive, send,
};
use constancy_kernels::{Pool, SharedMut};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use memmap2::MmapMut;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Duration;

/// The first start on a machine compiles tract's kernels for its GPU, which takes a minute or more
/// on a board.
const START_TIMEOUT: Duration = Duration::from_mins(10);
/// A start that takes longer is probably compiling, which is then logged.
const COMPILING_AFTER: Duration = Duration::from_secs(5);
/// A batch takes milliseconds, the plan for a new batch size some seconds. Frames wait for the
/// answer, and the service's watchdog, which has 60 s, waits for frames.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a worker that has loaded its tower.
pub(super) struct Client {
    socket: UnixStream,
    memory: MmapMut,
    layout: MemoryLayout,
    /// `None` if the other side is not a child process (in tests).
    process: Option<Child>,
}

/// Kind, number of calls and total time of the operators.
pub(crate) type OperatorTimes = Vec<(String, usize, Duration)>;

/// The result of a run.
pub(super) enum Outcome {
    Embeddings(Vec<f32>),
    /// An embedding holds an infinite value or NaN.
    NotFinite,
}

impl Client {
    /// Starts the worker process on the GPU `index` and has it load the tower.
    pub(super) fn start(
        index: u32,
        config: &WorkerConfig,
        layout: MemoryLayout,
    ) -> Result<Self, GpuError> {
        let memory = shared_memory(layout.bytes()).map_err(|e| start_error(&e))?;
        let (socket, process) = spawn_worker(index, &memory).map_err(|e| start_error(&e))?;
        Self::connect(socket, &memory, config, layout, Some(process))
    }

    /// Has the worker at the other end of `socket` load the tower.
    pub(super) fn connect(
        socket: UnixStream,
        memory: &File,
        config: &WorkerConfig,
        layout: MemoryLayout,
        process: Option<Child>,
    ) -> Result<Self, GpuError> {
        // SAFETY: only this process and its worker have this memory, and the messages on the socket
        // make them take turns.
        let memory = unsafe { MmapMut::map_mut(memory) };
        let memory = memory.map_err(|e| GpuError::Lost {
            reason: format!("the shared memory cannot be mapped: {e}"),
        })?;
        let mut client = Self {
            socket,
            memory,
            layout,
            process,
        };
        match client.request_start(config)? {
            Reply::Started => Ok(client),
            other => Err(Self::unexpected(other)),
        }
    }

    /// The embeddings `[batch, width]` of at most [`MAX_BATCH`] images. The threads of `pool` copy
    /// the images to the shared memory.
    pub(super) fn embed(
        &mut self,
        images: &[f32],
        batch: usize,
        pool: &Pool,
    ) -> Result<Outcome, GpuError> {
        let image = self.layout.image;
        assert!(
            batch <= MAX_BATCH && images.len() == batch * image,
            "{batch} images have {} values, got {}",
            batch * image,
            images.len()
        );
        let shared = &mut self.memory[..self.layout.embeddings_at()];
        if self.layout.half_precision {
            let shared = SharedMut::new(as_numbers::<f16>(shared));
            pool.run(batch, &|i| {
                // SAFETY: every image has its own part of the memory.
                unsafe { shared.slice(i * image, image) }
                    .convert_from_f32_slice(&images[i * image..][..image]);
            });
        } else {
            let shared = SharedMut::new(as_numbers::<f32>(shared));
            pool.run(batch, &|i| {
                // SAFETY: as above.
                unsafe { shared.slice(i * image, image) }
                    .copy_from_slice(&images[i * image..][..image]);
            });
        }
        match self.request(&Request::Embed { batch }, RUN_TIMEOUT)? {
            Reply::Done => {
                let embeddings = as_numbers(&mut self.memory[self.layout.embeddings_at()..]);
                Ok(Outcome::Embeddings(
                    embeddings[..batch * self.layout.width].to_vec(),
                ))
            }
            Reply::NotFinite => Ok(Outcome::NotFinite),
            other => Err(Self::unexpected(other)),
        }
    }

    /// Times of the operators in another run on the images that were embedded last.
    pub(super) fn profile(&mut self, batch: usize) -> Result<OperatorTimes, GpuError> {
        match self.request(&Request::Profile { batch }, RUN_TIMEOUT)? {
            Reply::Profile(kinds) => Ok(kinds
                .into_iter()
                .map(|(kind, calls, ns)| (kind, calls, Duration::from_nanos(ns)))
                .collect()),
            other => Err(Self::unexpected(other)),
        }
    }

    fn request_start(&mut self, config: &WorkerConfig) -> Result<Reply, GpuError> {
        let _starting = StartingGuard::new();
        let _ = send(&self.socket, &Request::Start(config.clone()));
        if !is_readable_within(&self.socket, COMPILING_AFTER) {
            log::info!(
                "preparing the GPU: the first start compiles its kernels, which takes a minute or more; \
                 later starts reuse them"
            );
        }
        self.receive_reply(START_TIMEOUT)
    }

    fn request(&mut self, request: &Request, timeout: Duration) -> Result<Reply, GpuError> {
        // If this fails, the worker is gone, and receiving its reply also fails.
        let _ = send(&self.socket, request);
        self.receive_reply(timeout)
    }

    fn receive_reply(&mut self, timeout: Duration) -> Result<Reply, GpuError> {
        let reply = self
            .socket
            .set_read_timeout(Some(timeout))
            .and_then(|()| receive(&self.socket));
        reply.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => GpuError::Lost {
                reason: format!("it gave no answer for {} s", timeout.as_secs()),
            },
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                GpuError::Lost {
                    reason: self.exit_reason(),
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

    /// How the process ended, or that it only closed its socket.
    fn exit_reason(&mut self) -> String {
        let status = self.process.as_mut().and_then(wait_for_exit);
        status.map_or_else(
            || "it closed its socket".into(),
            |s| format!("it ended with {s}"),
        )
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            kill(process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::{EXIT_TIMEOUT, shared_memory};
    use super::{Client, MemoryLayout, RUN_TIMEOUT, Request};
    use memmap2::MmapMut;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    /// A driver that hangs: the socket is open, but no answer comes.
    #[test]
    fn a_missing_answer_is_a_loss_before_the_watchdog_restarts_the_service() {
        let (socket, silent) = UnixStream::pair().expect("sockets");
        let layout = MemoryLayout {
            image: 1,
            width: 1,
            half_precision: false,
        };
        // SAFETY: nothing else uses this memory.
        let memory = unsafe { MmapMut::map_mut(&shared_memory(layout.bytes()).expect("memory")) }
            .expect("memory");
        let mut client = Client {
            socket,
            memory,
            layout,
            process: None,
        };
        let (done, reply) = mpsc::channel();
        std::thread::spawn(move || {
            done.send(client.request(&Request::Embed { batch: 1 }, Duration::from_millis(20)))
        });
        let reply = reply
            .recv_timeout(Duration::from_secs(20))
            .expect("it does not wait forever");
        assert!(
            matches!(&reply, Err(e) if e.to_string().contains("no answer")),
            "{reply:?}"
        );
        drop(silent);
        let unit = include_str!("../../../../systemd/constancy.service");
        let watchdog = unit
            .lines()
            .find_map(|l| l.strip_prefix("WatchdogSec="))
            .expect("a watchdog");
        assert!(
            2 * RUN_TIMEOUT.as_secs() <= watchdog.parse().expect("seconds")
                && EXIT_TIMEOUT < RUN_TIMEOUT
        );
    }
}
