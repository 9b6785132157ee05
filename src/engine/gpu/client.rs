//! The daemon's side of the process that runs the GPU.
//!
//! A process of its own, because a GPU that is lost takes everything with it that uses it: only a new process gets
//! it back, and a driver that hangs or crashes must not do so with the cameras.

use super::error::GpuError;
use super::protocol::{MOST, Order, Reply, Request, memory_bytes, receive, send};
use memmap2::MmapMut;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

/// The first start on a machine compiles tract's kernels for its GPU, which takes a minute and more on a board.
const START_LIMIT: Duration = Duration::from_mins(15);
/// A batch takes milliseconds; a plan for a number of images that was not met before, some seconds.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A worker that has loaded its tower.
pub(super) struct Client {
    socket: UnixStream,
    memory: MmapMut,
    shape: Shape,
    /// None where the other side is no process of ours.
    process: Option<Child>,
}

/// Values of one image and of one embedding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) image: usize,
    pub(super) width: usize,
}

/// What came of a run.
pub(super) enum Outcome {
    Embeddings(Vec<f32>),
    NotFinite,
}

impl Client {
    /// Starts this program again as worker on the GPU `index`, and has it load the tower.
    pub(super) fn start(index: u32, order: &Order, shape: Shape) -> Result<Self, GpuError> {
        let failed = |e: std::io::Error| GpuError::Lost { reason: format!("it cannot be started: {e}") };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let memory = shared_memory(memory_bytes(shape.image, shape.width)).map_err(failed)?;
        let handed = memory.try_clone().map_err(failed)?;
        // The program that runs, also where a newer one has been installed meanwhile.
        let process = Command::new("/proc/self/exe")
            .arg("gpu-worker")
            .env("CUDA_VISIBLE_DEVICES", visible(index, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref()))
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(handed))
            // Ctrl-C is for the daemon, which may still have frames to finish.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Self::connect(socket, &memory, order, shape, Some(process))
    }

    pub(super) fn connect(
        socket: UnixStream,
        memory: &File,
        order: &Order,
        shape: Shape,
        process: Option<Child>,
    ) -> Result<Self, GpuError> {
        // SAFETY: only this process and its worker have this memory, and they take turns by the socket.
        let memory = unsafe { MmapMut::map_mut(memory) };
        let memory = memory.map_err(|e| GpuError::Lost { reason: format!("no memory to share: {e}") })?;
        let mut client = Self { socket, memory, shape, process };
        match client.ask(&Request::Start(order.clone()), START_LIMIT)? {
            Reply::Started => Ok(client),
            other => Err(client.unexpected(other)),
        }
    }

    /// The embeddings `[batch, width]` of at most [`MOST`] images.
    pub(super) fn embed(&mut self, images: &[f32], batch: usize) -> Result<Outcome, GpuError> {
        assert!(batch <= MOST && images.len() == batch * self.shape.image, "as many values as the images have");
        for (bytes, value) in self.memory.chunks_exact_mut(4).zip(images) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        match self.ask(&Request::Embed { batch }, RUN_LIMIT)? {
            Reply::Done => {
                let start = MOST * self.shape.image * 4;
                let bytes = self.memory[start..].chunks_exact(4).take(batch * self.shape.width);
                let value = |b: &[u8]| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
                Ok(Outcome::Embeddings(bytes.map(value).collect()))
            }
            Reply::NotFinite => Ok(Outcome::NotFinite),
            other => Err(self.unexpected(other)),
        }
    }

    /// Kind, calls and time of the operators that one run of what was embedded last takes.
    pub(super) fn profile(&mut self, batch: usize) -> Result<Vec<(String, usize, Duration)>, GpuError> {
        match self.ask(&Request::Profile { batch }, RUN_LIMIT)? {
            Reply::Profile(kinds) => {
                Ok(kinds.into_iter().map(|(kind, calls, ns)| (kind, calls, Duration::from_nanos(ns))).collect())
            }
            other => Err(self.unexpected(other)),
        }
    }

    fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, GpuError> {
        let answered = self.socket.set_read_timeout(Some(limit)).and_then(|()| {
            send(&self.socket, request)?;
            receive(&self.socket)
        });
        answered.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                GpuError::Lost { reason: format!("it gave no answer for {} s", limit.as_secs()) }
            }
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                GpuError::Lost { reason: self.last_words() }
            }
            _ => GpuError::Lost { reason: e.to_string() },
        })
    }

    fn unexpected(&self, reply: Reply) -> GpuError {
        match reply {
            Reply::Failed(error) => error,
            other => GpuError::Lost { reason: format!("it answered {other:?}") },
        }
    }

    /// How the process ended.
    fn last_words(&mut self) -> String {
        let status = self.process.as_mut().and_then(|p| p.wait().ok());
        status.map_or_else(|| "it closed its socket".into(), |s| format!("it ended by {s}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may hang in the driver; it has nothing to save.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
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

/// `CUDA_VISIBLE_DEVICES` by which a process sees the GPU `index` of those that are visible here.
fn visible(index: u32, here: Option<&str>) -> String {
    let chosen = here.and_then(|list| list.split(',').nth(index as usize));
    chosen.map_or_else(|| index.to_string(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_worker_sees_one_gpu_of_those_that_are_visible() {
        assert_eq!(visible(1, None), "1");
        assert_eq!(visible(1, Some("2,3")), "3");
        assert_eq!(visible(0, Some("GPU-5ac1, GPU-77aa")), "GPU-5ac1");
    }
}
