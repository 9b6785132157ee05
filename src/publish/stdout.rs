//! Prints events as lines of JSON on stdout, on a thread of its own: whoever reads them may stop reading, and the daemon
//! must be able to leave.

use crate::threads::wait_for_end;
use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that may wait for the reader. Frames wait after that, as they do for a slow model.
const MAX_WAITING: usize = 64;

#[derive(Debug, Default)]
struct Waiting {
    /// The first one is being written.
    lines: VecDeque<Vec<u8>>,
    error: Option<std::io::Error>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines until stdout fails, or all are written and the printer is closed.
    fn write_all(&self) {
        loop {
            let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
            let waited = self.changed.wait_while(self.lock(), idle);
            let waiting = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(line) = waiting.lines.front().cloned() else {
                return;
            };
            drop(waiting);
            let mut stdout = std::io::stdout().lock();
            let written = stdout.write_all(&line).and_then(|()| stdout.flush());
            let mut waiting = self.lock();
            match written {
                Ok(()) => _ = waiting.lines.pop_front(),
                Err(e) => waiting.error = Some(e),
            }
            let failed = waiting.error.is_some();
            drop(waiting);
            self.changed.notify_all();
            if failed {
                return;
            }
        }
    }
}

/// The lines that wait for stdout's reader. The thread starts with the first one.
#[derive(Debug, Default)]
pub struct StdoutPrinter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StdoutPrinter {
    /// Queues a line, without its end. Fails if an earlier one could not be written.
    pub(super) fn print(&self, mut line: Vec<u8>) -> std::io::Result<()> {
        self.start()?;
        self.check()?;
        line.push(b'\n');
        self.shared.lock().lines.push_back(line);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn start(&self) -> std::io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let builder = thread::Builder::new().name("stdout".into());
            *thread = Some(builder.spawn(move || shared.write_all())?);
        }
        Ok(())
    }

    /// Fails if a line could not be written.
    pub(super) fn check(&self) -> std::io::Result<()> {
        let waiting = self.shared.lock();
        let failed = waiting.error.as_ref();
        failed.map_or(Ok(()), |e| {
            Err(std::io::Error::new(e.kind(), e.to_string()))
        })
    }

    /// Waits up to `limit` for the reader, if too many lines wait; returns whether there is room.
    pub(super) fn wait_for_room(&self, limit: Duration) -> bool {
        self.wait(limit, |waiting| waiting.lines.len() < MAX_WAITING)
    }

    /// Waits up to `limit` until every line is written; returns whether they are.
    pub(super) fn wait_written(&self, limit: Duration) -> bool {
        self.wait(limit, |waiting| waiting.lines.is_empty())
    }

    fn wait(&self, limit: Duration, done: impl Fn(&Waiting) -> bool) -> bool {
        let pending = |waiting: &mut Waiting| !done(waiting) && waiting.error.is_none();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), limit, pending);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&waiting)
    }

    /// Writes what waits, within `limit`; returns how many lines could not be written.
    pub(super) fn close(self, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let thread = self
            .thread
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        wait_for_end(thread.as_slice(), deadline);
        self.shared.lock().lines.len() as u64
    }
}
