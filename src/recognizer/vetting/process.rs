//! The parent's side: starts the child, reads what it says, ends it when it is late or no longer
//! wanted, and tells what became of it.

use super::limits::{Limits, MEMORY_VARIABLE, TIME_VARIABLE};
use super::message::{Message, Request};
use crate::recognizer::error::VettingError;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _, pipe};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How soon a request to stop is seen.
const TICK: Duration = Duration::from_millis(50);
/// The longest line of the child that is read whole. Messages hold a path and a reason.
const MAX_LINE: u64 = 1 << 20;
/// How much is kept of what the child says outside of messages, as the system does for it when it
/// dies.
const MAX_LAST_WORDS: usize = 500;

/// Whether loading is to be given up.
static STOPPING: AtomicBool = AtomicBool::new(false);
/// How many children are at work.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Ends the children and gives up whatever is being vetted, now and from now on: the process is about
/// to end.
pub fn stop() {
    STOPPING.store(true, Ordering::Relaxed);
}

/// Whether this process waits for a model to be tried. Each step of that has a time limit.
#[must_use]
pub fn is_running() -> bool {
    RUNNING.load(Ordering::Relaxed) > 0
}

/// Counts as at work while it exists.
struct Running;

impl Running {
    fn new() -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the reading thread passes on.
enum Heard {
    Message(Message),
    /// The bytes behind [`Message::Done`].
    Result(Vec<u8>),
    /// A line that is no message.
    Other(String),
}

/// Lets a child do the job. `None` if the system lets no child start; the caller then does without.
pub(super) fn run(
    request: &Request,
    warn: &mut dyn FnMut(&str),
) -> Result<Option<Vec<u8>>, VettingError> {
    let (mut child, heard) = match start(request) {
        Ok(started) => started,
        Err(e) => {
            log::warn!(
                "the system refuses a process to try the model in ({e}), so it is loaded untried"
            );
            return Ok(None);
        }
    };
    let _running = Running::new();
    let mut watch = Watch::new();
    let outcome = watch.listen(&heard, warn);
    // Whatever it is still doing is of no use. It has ended already unless it was late or stopped.
    let _ = child.kill();
    let status = child.wait();
    match outcome {
        Some(outcome) => outcome,
        // It has not come as far as the model.
        None if !watch.begun && !watch.late => {
            log::warn!(
                "the process that should try the model ends at once ({}), so it is loaded untried",
                watch.last_words.trim()
            );
            Ok(None)
        }
        None => Err(watch.death(status.ok())),
    }
}

fn start(request: &Request) -> std::io::Result<(Child, Receiver<Heard>)> {
    let bytes = serde_json::to_vec(request)?;
    let (reader, writer) = pipe()?;
    // The program that runs, even if a newer one has been installed meanwhile. Ctrl-C is meant for
    // the parent, at whose end the child ends.
    let mut child = Command::new("/proc/self/exe")
        .arg0("constancy")
        .arg("vet-model")
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    let sent = child.stdin.take().map(|mut stdin| stdin.write_all(&bytes));
    let (sender, heard) = channel();
    let read = move || read_messages(reader, &sender);
    let thread = std::thread::Builder::new()
        .name("vetting".into())
        .spawn(read);
    if let (Some(Ok(())), Ok(_)) = (&sent, &thread) {
        return Ok((child, heard));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(thread
        .err()
        .unwrap_or_else(|| std::io::Error::other("it takes no request")))
}

/// Passes on what the child says until it ends.
fn read_messages(reader: PipeReader, sender: &Sender<Heard>) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let message = serde_json::from_slice(&line);
        let result = match message {
            Ok(Message::Done { bytes }) => Some(bytes),
            _ => None,
        };
        let heard = message.map_or_else(
            |_| Heard::Other(String::from_utf8_lossy(&line).trim().to_owned()),
            Heard::Message,
        );
        if let Some(bytes) = result {
            let mut result = Vec::new();
            let whole = reader.read_to_end(&mut result).is_ok() && result.len() == bytes;
            let _ = sender.send(if whole { Heard::Result(result) } else { heard });
            return;
        }
        if sender.send(heard).is_err() {
            return;
        }
    }
}

/// Whether `text` says that memory was refused, in the words of Rust or of tract.
fn no_memory(text: &str) -> bool {
    [
        "memory allocation of",
        "failed to allocate",
        "out of memory",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// What is known of the child's work.
struct Watch {
    begun: bool,
    what: String,
    limits: Limits,
    deadline: Instant,
    last_words: String,
    late: bool,
    panic: Option<String>,
}

impl Watch {
    fn new() -> Self {
        let limits = Limits::for_bytes(0);
        Self {
            begun: false,
            what: "the model".into(),
            limits,
            deadline: Instant::now() + limits.time(),
            last_words: String::new(),
            late: false,
            panic: None,
        }
    }

    /// Listens until the child has reported; `None` if it ends, or is to be ended, without.
    fn listen(
        &mut self,
        heard: &Receiver<Heard>,
        warn: &mut dyn FnMut(&str),
    ) -> Option<Result<Option<Vec<u8>>, VettingError>> {
        loop {
            match heard.recv_timeout(TICK) {
                Ok(Heard::Result(bytes)) => return Some(Ok(Some(bytes))),
                Ok(Heard::Message(Message::Failed { message, .. })) if no_memory(&message) => {
                    self.last_words = message;
                    return None;
                }
                Ok(Heard::Message(Message::Failed { message, exit_code })) => {
                    return Some(Err(VettingError::Refused { message, exit_code }));
                }
                Ok(Heard::Message(message)) => self.note(message, warn),
                Ok(Heard::Other(line)) => {
                    if self.last_words.len() + line.len() < MAX_LAST_WORDS {
                        self.last_words += &line;
                        self.last_words.push(' ');
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if STOPPING.load(Ordering::Relaxed) {
                return Some(Err(VettingError::Stopped));
            }
            if Instant::now() > self.deadline {
                self.late = true;
                return None;
            }
        }
    }

    fn note(&mut self, message: Message, warn: &mut dyn FnMut(&str)) {
        match message {
            Message::Begin {
                what,
                seconds,
                memory_mb,
            } => {
                self.begun = true;
                self.what = what;
                self.limits = Limits { memory_mb, seconds };
            }
            Message::Warning(warning) => warn(&warning),
            Message::Panicked(reason) => self.panic = Some(reason),
            Message::Progress | Message::Done { .. } | Message::Failed { .. } => {}
        }
        self.deadline = Instant::now() + self.limits.time();
    }

    /// Why the child has died.
    fn death(&self, status: Option<ExitStatus>) -> VettingError {
        let Limits { memory_mb, seconds } = self.limits;
        let signal = status.and_then(|s| s.signal());
        let out_of_memory =
            no_memory(&self.last_words) || self.panic.as_deref().is_some_and(no_memory);
        let reason = if out_of_memory {
            format!(
                "it needs more than {memory_mb} MB of memory, the limit for a file of its size, as a damaged or hostile one may do; if it is only large, set {MEMORY_VARIABLE} to a larger number"
            )
        } else if let Some(panic) = &self.panic {
            format!(
                "the code that reads it fails on it ({panic}); the file is damaged, or of a kind that is not supported"
            )
        } else if self.late {
            format!(
                "it does not finish within {seconds} s, the limit for a file of its size, as a damaged or hostile one may do; if it is only slow, set {TIME_VARIABLE} to a larger number"
            )
        } else if self.last_words.contains("overflowed its stack") {
            "its parts are nested too deeply, or its graph is too long a chain".into()
        } else if signal == Some(libc::SIGKILL) {
            "the system ended the process that tried it, most likely because memory ran out".into()
        } else if signal == Some(libc::SIGBUS) {
            "it became shorter while it was read; replace models by renaming".into()
        } else {
            let ended = status.map_or_else(|| "unknown".to_owned(), |s| s.to_string());
            let words = self.last_words.trim();
            format!("the process that tried it ended with {ended}: {words}")
        };
        VettingError::Died {
            what: self.what.clone(),
            reason,
        }
    }
}
