//! The child process of a pipe, with the guard that ends it and all its descendants ([`super::guard`]).

use super::guard::{Message, SUBCOMMAND, TERM_GRACE};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the guard may take to start the program: a busy board reads it from an SD card.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long the guard may take to end everything.
const END_LIMIT: Duration = TERM_GRACE.saturating_mul(3);
/// What concerns this process alone: its secrets, its log, and its connection to the service manager.
const NOT_INHERITED: [&str; 5] = [
    "CREDENTIALS_DIRECTORY",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// A running program. When this is dropped, or this process ends in any way, the program ends with all its descendants.
pub(super) struct GuardedChild {
    guard: Child,
    /// The guard ends the program when this end closes.
    control: UnixStream,
    program_id: u32,
}

impl GuardedChild {
    /// Starts a program and its arguments with an empty stdin.
    pub(super) fn spawn(
        command: &[impl AsRef<OsStr>],
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let (control, guards_end) = UnixStream::pair()?;
        control.set_read_timeout(Some(START_LIMIT))?;
        let mut guard = start_guard(command, guards_end)?;
        let (stdout, stderr) = (guard.stdout.take(), guard.stderr.take());
        let mut child = Self {
            guard,
            control,
            program_id: 0,
        };
        match child.receive() {
            Some(Message::Started(id)) => child.program_id = id,
            Some(Message::Failed(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            _ => {
                return Err(io::Error::other(
                    "the process that guards it does not answer",
                ));
            }
        }
        match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => Ok((child, stdout, stderr)),
            _ => Err(io::Error::other("its output is not connected")),
        }
    }

    pub(super) fn program_id(&self) -> u32 {
        self.program_id
    }

    /// How the program ended; `None` if it has not within [`TERM_GRACE`].
    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.control.set_read_timeout(Some(TERM_GRACE)).ok()?;
        match self.receive()? {
            Message::Exited(status) => Some(ExitStatus::from_raw(status)),
            _ => None,
        }
    }

    fn receive(&mut self) -> Option<Message> {
        let mut bytes = [0; Message::BYTES];
        self.control.read_exact(&mut bytes).ok()?;
        Message::from_bytes(bytes)
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let deadline = Instant::now() + END_LIMIT;
        while !has_exited(&self.guard) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // If the guard was killed itself, its group is left; if it hangs, it goes too.
        if let Ok(group) = i32::try_from(self.guard.id()) {
            // SAFETY: kill takes no pointers. The guard leads this group and has not been waited for, so the number
            // belongs to no other group.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.guard.wait();
    }
}

/// Starts this program again as the guard. Its end of the socket is then open there alone.
fn start_guard(command: &[impl AsRef<OsStr>], guards_end: UnixStream) -> io::Result<Child> {
    let mut guard = Command::new("/proc/self/exe");
    for variable in NOT_INHERITED {
        guard.env_remove(variable);
    }
    guard
        .args([SUBCOMMAND, "--"])
        .args(command)
        .stdin(OwnedFd::from(guards_end))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, which the program shares: Ctrl-C reaches only this process.
        .process_group(0)
        .spawn()
}

/// Whether the process has exited. It is not waited for, so its number stays its own.
fn has_exited(process: &Child) -> bool {
    // SAFETY: all-zero is a valid siginfo_t: it holds integers and pointers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` outlives the call, which writes it.
    let result = unsafe { libc::waitid(libc::P_PID, process.id(), &raw mut info, options) };
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves the zeros.
    result != 0 || unsafe { info.si_pid() } != 0
}
