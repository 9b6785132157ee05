//! The worker process: how it is started, what it inherits, and how it ends.

use super::error::GpuError;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A killed process is gone in milliseconds, unless it hangs in the driver: then nothing ends it.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How many workers are being started.
static STARTING: AtomicUsize = AtomicUsize::new(0);

/// Whether this process is waiting for a GPU to be prepared, which may take minutes.
#[must_use]
pub fn gpu_is_starting() -> bool {
    STARTING.load(Ordering::Relaxed) > 0
}

/// Counts as a start while it exists.
pub(super) struct StartingGuard;

impl StartingGuard {
    pub(super) fn new() -> Self {
        STARTING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for StartingGuard {
    fn drop(&mut self) {
        STARTING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts this program again as the worker on the GPU `index`, and gives the socket to it. The
/// worker gets `memory` as its stdout.
pub(super) fn spawn_worker(index: u32, memory: &File) -> std::io::Result<(UnixStream, Child)> {
    let (socket, workers_socket) = UnixStream::pair()?;
    // The program that runs, even if a newer one has been installed meanwhile.
    let process = Command::new("/proc/self/exe")
        .arg("gpu-worker")
        .env(
            "CUDA_VISIBLE_DEVICES",
            visible_devices(index, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref()),
        )
        .envs(cache_variable(
            std::env::var_os("CACHE_DIRECTORY"),
            std::env::var_os("XDG_CACHE_HOME").as_deref(),
        ))
        .stdin(OwnedFd::from(workers_socket))
        .stdout(OwnedFd::from(memory.try_clone()?))
        // Ctrl-C is meant for the daemon, which may still have frames to finish.
        .process_group(0)
        .spawn()?;
    Ok((socket, process))
}

/// Anonymous memory that both processes map.
pub(super) fn shared_memory(bytes: usize) -> std::io::Result<File> {
    // SAFETY: the name is a C string. The returned descriptor is new, and only we own it.
    let fd = unsafe { libc::memfd_create(c"constancy-gpu".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: as above.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes as u64)?;
    Ok(file)
}

/// Waits for a process that is about to end; `None` if that takes too long.
pub(super) fn wait_for_exit(process: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + EXIT_TIMEOUT;
    loop {
        match process.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            found => return found.ok().flatten(),
        }
    }
}

/// Kills a worker, which has nothing to save; the next one then finds the GPU's memory free.
pub(super) fn kill(mut process: Child) {
    let _ = process.kill();
    if wait_for_exit(&mut process).is_none() {
        log::warn!(
            "the process {} hangs in the GPU's driver: it was killed but does not end",
            process.id()
        );
        // A thread waits for its end. If it never comes, the process stays a zombie, which costs
        // little.
        let _ = std::thread::Builder::new()
            .name("gpu-end".into())
            .spawn(move || process.wait());
    }
}

/// Whether there is something to read, or the other side is gone, within `timeout`.
pub(super) fn is_readable_within(socket: &UnixStream, timeout: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one descriptor, which is open.
    let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
    ready > 0
}

/// The variable that names the cache for compiled kernels, for a service whose user has no home:
/// the cache folder that systemd gives it.
fn cache_variable(
    service: Option<OsString>,
    user: Option<&OsStr>,
) -> Option<(&'static str, OsString)> {
    service
        .filter(|_| user.is_none())
        .map(|folder| ("XDG_CACHE_HOME", folder))
}

/// The `CUDA_VISIBLE_DEVICES` that shows a process only the GPU `index` of those that are visible
/// here.
fn visible_devices(index: u32, here: Option<&str>) -> String {
    let chosen = here.and_then(|list| list.split(',').nth(index as usize));
    chosen.map_or_else(|| index.to_string(), |id| id.trim().to_owned())
}

/// The error of a worker that cannot be started.
pub(super) fn start_error(error: &std::io::Error) -> GpuError {
    GpuError::Lost {
        reason: format!("it cannot be started: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{cache_variable, is_readable_within, visible_devices};
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn kernels_are_kept_in_the_services_cache_unless_the_user_has_one() {
        assert_eq!(cache_variable(None, None), None);
        assert_eq!(
            cache_variable(Some("/c".into()), None),
            Some(("XDG_CACHE_HOME", "/c".into()))
        );
        assert_eq!(cache_variable(Some("/c".into()), Some("/u".as_ref())), None);
    }

    #[test]
    fn an_answer_and_an_end_are_distinguished_from_silence() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        assert!(!is_readable_within(&ours, Duration::ZERO));
        theirs.write_all(b"x").expect("a byte");
        assert!(is_readable_within(&ours, Duration::from_secs(30)));
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        drop(theirs);
        assert!(is_readable_within(&ours, Duration::from_secs(30)));
    }

    #[test]
    fn a_worker_sees_one_gpu_of_those_that_are_visible_devices() {
        assert_eq!(visible_devices(1, None), "1");
        assert_eq!(visible_devices(1, Some("2,3")), "3");
        assert_eq!(visible_devices(0, Some("GPU-5ac1, GPU-77aa")), "GPU-5ac1");
    }
}
