//! The worker process that runs the GPU: `constancy gpu-worker`, which the daemon starts.
//!
//! Its stdin is the socket for requests and replies, its stdout the shared memory for images and
//! embeddings. It ends when the socket closes or CUDA fails: after one failure, CUDA fails in that
//! process for good.

use super::tower::{DeviceTower, pin};
use crate::error::ModelError;
use crate::gpu::{GpuError, MemoryLayout, Reply, Request, WorkerConfig, as_numbers, receive, send};
use crate::manifest::Manifest;
use memmap2::MmapMut;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs a tower on the GPU for the parent process; returns when the parent closes the socket.
pub fn serve_gpu() -> std::io::Result<()> {
    // A daemon that was asked to stop may still have frames; it closes the socket after the last.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let memory = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let Request::Start(config) = receive(&socket)? else {
        return Err(std::io::Error::new(
            ErrorKind::InvalidData,
            "the first request must be to start",
        ));
    };
    let mut worker = match catch_panics(|| Worker::new(&config, &memory)) {
        Ok(worker) => worker,
        Err(e) => return send(&socket, &Reply::Failed(e)),
    };
    send(&socket, &Reply::Started)?;
    loop {
        let request = match receive(&socket) {
            Ok(request) => request,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        };
        match catch_panics(|| worker.reply(&request)) {
            Ok(reply) => send(&socket, &reply)?,
            Err(e) => return send(&socket, &Reply::Failed(e)),
        }
    }
}

struct Worker {
    tower: DeviceTower,
    memory: MmapMut,
    layout: MemoryLayout,
}

impl Worker {
    fn new(config: &WorkerConfig, memory: &File) -> Result<Self, GpuError> {
        tract_cuda::utils::ensure_cuda_runtime_dependencies("CUDA")
            .map_err(|e| message_error(&format!("{e:#}")))?;
        let manifest =
            Manifest::read(&config.manifest).map_err(|e| message_error(&e.to_string()))?;
        let layout = MemoryLayout {
            image: manifest.input_len(),
            width: manifest.output.width,
            half_precision: config.half_precision,
        };
        let lost = |reason: String| GpuError::Lost { reason };
        // SAFETY: only the daemon and this process have this memory, and the messages on the socket
        // make them take turns.
        let mut memory = unsafe { MmapMut::map_mut(memory) }.map_err(|e| lost(e.to_string()))?;
        if memory.len() != layout.bytes() {
            return Err(lost("it got shared memory for another model".into()));
        }
        let tower = DeviceTower::load(manifest, config.half_precision, config.plain)
            .map_err(|e| message_error(&e.to_string()))?;
        pin(&mut memory);
        Ok(Self {
            tower,
            memory,
            layout,
        })
    }

    fn reply(&mut self, request: &Request) -> Result<Reply, GpuError> {
        let failed = |e: ModelError| message_error(&e.to_string());
        let (images, embeddings) = self.memory.split_at_mut(self.layout.embeddings_at());
        match *request {
            Request::Start(_) => Err(message_error("it was asked to start twice")),
            Request::Embed { batch } => match self.tower.embed(images, batch) {
                Err(ModelError::NotFinite { .. }) => Ok(Reply::NotFinite),
                made => {
                    as_numbers(embeddings)[..batch * self.layout.width]
                        .copy_from_slice(&made.map_err(failed)?);
                    Ok(Reply::Done)
                }
            },
            Request::Profile { batch } => Ok(Reply::Profile(
                self.tower.profile(images, batch).map_err(failed)?,
            )),
        }
    }
}

fn message_error(message: &str) -> GpuError {
    GpuError::from_message(message)
}

/// Turns a panic into an error: tract panics where CUDA refuses something.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        Err(message_error(
            message
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked"),
        ))
    })
}
