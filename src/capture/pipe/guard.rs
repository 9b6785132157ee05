//! The guard: a process between the daemon and a program of `camera.pipe`, which ends the program and all its descendants
//! when the daemon ends, in whatever way.
//!
//! The guard holds one end of a socket. When the daemon is killed, panics or exits, the kernel closes the other end. The
//! guard is the subreaper of its descendants (prctl(2)): orphans become its own children, so it finds them all, those that
//! have left the process group too. They get SIGTERM, and SIGKILL after [`TERM_GRACE`]. If the guard itself is killed,
//! the kernel kills the program, and the daemon the rest of the process group. If both are killed at once, descendants
//! of the program are left; the service manager's cgroup ends those.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The hidden subcommand that runs [`run`].
pub(super) const SUBCOMMAND: &str = "pipe-guard";
/// How long a program may take to exit after SIGTERM.
pub(super) const TERM_GRACE: Duration = Duration::from_millis(500);
/// How long killed processes may take to be gone. One that hangs in a driver never is.
const KILL_LIMIT: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(5);

/// What the guard tells the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// The program runs as this process.
    Started(u32),
    /// It could not be started: `errno`.
    Failed(i32),
    /// It has exited; what wait(2) gives.
    Exited(i32),
}

impl Message {
    pub(super) const BYTES: usize = 5;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let (tag, value) = match self {
            Self::Started(id) => (b'S', id.to_le_bytes()),
            Self::Failed(errno) => (b'F', errno.to_le_bytes()),
            Self::Exited(status) => (b'E', status.to_le_bytes()),
        };
        let [a, b, c, d] = value;
        [tag, a, b, c, d]
    }

    pub(super) fn from_bytes([tag, value @ ..]: [u8; Self::BYTES]) -> Option<Self> {
        Some(match tag {
            b'S' => Self::Started(u32::from_le_bytes(value)),
            b'F' => Self::Failed(i32::from_le_bytes(value)),
            b'E' => Self::Exited(i32::from_le_bytes(value)),
            _ => return None,
        })
    }
}

/// Runs the command until it and its descendants have ended, or until the other end of the socket on stdin closes or
/// SIGTERM comes: then it ends them. Must run in a process of its own, before that has started threads or children.
pub(crate) fn run(command: &[OsString]) -> io::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    close_inherited();
    adopt_orphans();
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let signals = Signals::listen()?;
    let id = match spawn(program, arguments) {
        Ok(id) => id,
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(libc::EIO);
            return control.write_all(&Message::Failed(errno).to_bytes());
        }
    };
    leave_output()?;
    // If the daemon is gone already, the loop notices.
    let _ = control.write_all(&Message::Started(id).to_bytes());
    let mut descendants = Descendants { program: id };
    while descendants.reap(&mut control) {
        if signals.stop.load(Ordering::Relaxed) || is_closed(&control) {
            descendants.end(&mut control);
            return Ok(());
        }
        signals.wait(&control);
    }
    Ok(())
}

/// Starts the program in this process's group. Returns its number.
fn spawn(program: &OsString, arguments: &[OsString]) -> io::Result<u32> {
    let guard = std::process::id();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    // SAFETY: prctl and getppid are async-signal-safe, and nothing else is called.
    unsafe {
        command.pre_exec(move || {
            // If this process is killed, so is the program. This process forks from its main thread, which ends last.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have been killed before that.
            if u32::try_from(libc::getppid()) == Ok(guard) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
    // Its end is waited for with that of all other descendants.
    Ok(command.spawn()?.id())
}

/// Closes what the daemon's libraries opened without `O_CLOEXEC`: a camera that stays open here stays busy.
fn close_inherited() {
    // SAFETY: close_range takes no pointers, and nothing here has opened a descriptor yet. An old kernel refuses it.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

fn adopt_orphans() {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Leaves stdout and stderr to the program: the daemon sees their end when the program closes them.
fn leave_output() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    for output in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both descriptors are open. What `io::stdout` and `io::stderr` write goes nowhere from here on.
        if unsafe { libc::dup2(null.as_raw_fd(), output) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The signals that this process waits for.
struct Signals {
    stop: Arc<AtomicBool>,
    /// Readable once one has come.
    arrived: UnixStream,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
        // Meant for the daemon, which reloads or stops; sent to every process with this program's name.
        for signal in [SIGHUP, SIGINT] {
            signal_hook::flag::register(signal, Arc::default())?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
        let (arrived, sender) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, sender.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGCHLD, sender)?;
        arrived.set_nonblocking(true)?;
        Ok(Self { stop, arrived })
    }

    /// Waits for a signal, or for the end of the daemon.
    fn wait(&self, control: &UnixStream) {
        let watch = |socket: &UnixStream| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut watched = [watch(&self.arrived), watch(control)];
        // SAFETY: two descriptors, which are open.
        unsafe { libc::poll(watched.as_mut_ptr(), 2, -1) };
        let mut bytes = [0; 64];
        while matches!((&self.arrived).read(&mut bytes), Ok(1..)) {}
    }
}

/// Whether the daemon's end of the socket is closed. It never writes.
fn is_closed(control: &UnixStream) -> bool {
    let mut poll = libc::pollfd {
        fd: control.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, which is open.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
}

/// The program and all processes that come from it.
struct Descendants {
    program: u32,
}

impl Descendants {
    /// Waits for those that have ended, and reports the program's end. Returns whether any is left.
    fn reap(&mut self, control: &mut UnixStream) -> bool {
        loop {
            let mut status = 0;
            // SAFETY: `status` outlives the call, which writes it.
            match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
                0 => return true,
                id if u32::try_from(id) == Ok(self.program) => {
                    let _ = control.write_all(&Message::Exited(status).to_bytes());
                }
                1.. => {}
                _ => return false,
            }
        }
    }

    /// Ends them all.
    fn end(&mut self, control: &mut UnixStream) {
        signal_all(libc::SIGTERM);
        let start = Instant::now();
        while self.reap(control) && start.elapsed() < TERM_GRACE + KILL_LIMIT {
            // Those that are started meanwhile are found in the next round.
            if start.elapsed() >= TERM_GRACE {
                signal_all(libc::SIGKILL);
            }
            thread::sleep(TICK);
        }
    }
}

/// Sends a signal to every descendant of this process.
fn signal_all(signal: i32) {
    for id in descendants(std::process::id()) {
        if let Ok(id) = i32::try_from(id) {
            // SAFETY: kill takes no pointers. A descendant that has ended keeps its number until it is waited for, by
            // this process or by its parent, which runs; only in the moment since /proc was read may it have been.
            unsafe { libc::kill(id, signal) };
        }
    }
}

/// The numbers of all processes that come from this one.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(id) = id
            && let Ok(stat) = std::fs::read(entry.path().join("stat"))
            && let Some(parent) = parent_in(&stat)
        {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(id) = found.get(next) {
        found.extend(children.remove(id).unwrap_or_default());
        next += 1;
    }
    found.split_off(1)
}

/// The parent's number in a `/proc/…/stat`: `id (name) state parent …`. The name may hold any bytes, parentheses too.
fn parent_in(stat: &[u8]) -> Option<u32> {
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let rest = str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        for message in [
            Message::Started(4_000_000),
            Message::Failed(2),
            Message::Exited(-9),
        ] {
            assert_eq!(Message::from_bytes(message.to_bytes()), Some(message));
        }
        assert_eq!(Message::from_bytes(*b"X\0\0\0\0"), None);
    }

    #[test]
    fn the_parent_is_read_whatever_the_name_is() {
        assert_eq!(parent_in(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in(b"12 (a) S 1 (\xff) R 8 12"), Some(8));
        assert_eq!(parent_in(b""), None);
    }
}
