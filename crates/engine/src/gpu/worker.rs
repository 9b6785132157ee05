//! The process that runs the GPU: `constancy gpu-worker`, which the daemon starts.
//!
//! Its stdin is the socket by which it is asked and answers, its stdout the memory for images and embeddings. It ends
//! when the socket closes, or when CUDA fails: what has failed once in a process fails there for good.

use super::super::ModelError;
use super::super::cuda::{self, DeviceTower};
use super::super::manifest::Manifest;
use super::error::GpuError;
use super::protocol::{Layout, Order, Reply, Request, numbers, receive, send};
use memmap2::MmapMut;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Serves until the daemon has no more to ask.
pub(in super::super) fn serve() -> std::io::Result<()> {
    // A daemon that is asked to stop may still have frames; it closes the socket when it is through.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let memory = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let Request::Start(order) = receive(&socket)? else {
        return Err(std::io::Error::new(
            ErrorKind::InvalidData,
            "the first request is to start",
        ));
    };
    let mut worker = match guarded(|| Worker::new(&order, &memory)) {
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
        match guarded(|| worker.answer(&request)) {
            Ok(reply) => send(&socket, &reply)?,
            Err(e) => return send(&socket, &Reply::Failed(e)),
        }
    }
}

struct Worker {
    tower: DeviceTower,
    memory: MmapMut,
    layout: Layout,
}

impl Worker {
    fn new(order: &Order, memory: &File) -> Result<Self, GpuError> {
        tract_cuda::utils::ensure_cuda_runtime_dependencies("CUDA")
            .map_err(|e| of(&format!("{e:#}")))?;
        let manifest = Manifest::read(&order.manifest).map_err(|e| of(&e.to_string()))?;
        let layout = Layout {
            image: manifest.input_len(),
            width: manifest.output.width,
            halves: order.halves,
        };
        let lost = |reason: String| GpuError::Lost { reason };
        // SAFETY: only the daemon and this process have this memory, and they take turns by the socket.
        let mut memory = unsafe { MmapMut::map_mut(memory) }.map_err(|e| lost(e.to_string()))?;
        if memory.len() != layout.bytes() {
            return Err(lost("it was given memory for another model".into()));
        }
        let tower = DeviceTower::load(manifest, order.halves, order.plain)
            .map_err(|e| of(&e.to_string()))?;
        cuda::pin(&mut memory);
        Ok(Self {
            tower,
            memory,
            layout,
        })
    }

    fn answer(&mut self, request: &Request) -> Result<Reply, GpuError> {
        let failed = |e: ModelError| of(&e.to_string());
        let (images, embeddings) = self.memory.split_at_mut(self.layout.embeddings_at());
        match *request {
            Request::Start(_) => Err(of("it was asked to start twice")),
            Request::Embed { batch } => match self.tower.embed(images, batch) {
                Err(ModelError::NotFinite { .. }) => Ok(Reply::NotFinite),
                made => {
                    numbers(embeddings)[..batch * self.layout.width]
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

fn of(message: &str) -> GpuError {
    GpuError::of_message(message)
}

/// tract panics where CUDA refuses something; that is an answer, too.
fn guarded<T>(work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        Err(of(said
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked")))
    })
}
