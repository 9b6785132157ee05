//! Reads frames from the stdout of a child process such as `rpicam-vid`, `ffmpeg` or `gst-launch-1.0`.

mod child;
mod guard;
mod stderr;

pub(crate) use guard::run as run_guard;

use super::arrived::{Arrived, Instead};
use super::error::CaptureError;
use super::mjpeg;
use super::printable::printable;
use super::source::{Next, Source};
use super::yuv4mpeg;
use crate::clock;
use crate::config::{PipeFormat, PipeSettings};
use crate::threads::wait_for_end;
use child::GuardedChild;
use constancy_core::frame::{Frame, PixelFormat};
use std::io::Read;
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the last line on stderr is waited for when stdout has closed. A program's own children may keep stderr open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A child process and the frames that it sends.
pub(super) struct PipeSource {
    program: String,
    format: PipeFormat,
    child: GuardedChild,
    frames: Receiver<Result<Next, String>>,
    arrived: Arc<Mutex<Arrived>>,
    /// The last line that the child wrote to stderr, which usually says why it exited.
    last_line: Arc<Mutex<String>>,
    /// Reads stderr.
    listener: [JoinHandle<()>; 1],
}

impl PipeSource {
    pub(super) fn open(settings: &PipeSettings) -> Result<Self, CaptureError> {
        let program = name_of(&settings.command[0]);
        let (child, stdout, stderr) =
            GuardedChild::spawn(&settings.command).map_err(|source| CaptureError::Spawn {
                program: program.clone(),
                source,
            })?;
        let (sender, frames) = sync_channel(1);
        let arrived = Arc::<Mutex<Arrived>>::default();
        let (format, count) = (settings.format, Arc::clone(&arrived));
        thread::spawn(move || match format {
            PipeFormat::Mjpeg => send_frames(stdout, &mut Mjpeg::default(), &sender, &count),
            PipeFormat::Y4m => {
                send_frames(stdout, &mut yuv4mpeg::Splitter::default(), &sender, &count);
            }
        });
        let last_line = Arc::<Mutex<String>>::default();
        let (last, name) = (Arc::clone(&last_line), program.clone());
        let listener = [thread::spawn(move || stderr::read(stderr, &name, &last))];
        Ok(Self {
            program,
            format,
            child,
            frames,
            arrived,
            last_line,
            listener,
        })
    }

    fn last_line(&self) -> MutexGuard<'_, String> {
        lock(&self.last_line)
    }

    /// The error for a child whose stdout has closed.
    fn ended(&mut self) -> CaptureError {
        let status = self
            .child
            .exit_status()
            .map_or("its stdout closed".into(), |s| s.to_string());
        wait_for_end(&self.listener, Instant::now() + LAST_WORDS);
        let last_line = self.last_line();
        let separator = if last_line.is_empty() { "" } else { ": " };
        let instead = lock(&self.arrived).foreign(self.format);
        CaptureError::Ended {
            program: self.program.clone(),
            status,
            last_line: format!("{separator}{last_line}"),
            instead,
        }
    }
}

impl Source for PipeSource {
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError> {
        match self.frames.recv_timeout(timeout) {
            Ok(Ok(next)) => Ok(next),
            Ok(Err(reason)) => Err(CaptureError::Y4m {
                program: self.program.clone(),
                reason,
            }),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    fn came_instead(&self) -> Option<Instead> {
        let instead = lock(&self.arrived).instead(self.format);
        Some(instead.with_last_line(&self.last_line()))
    }

    fn describe(&self) -> String {
        format!("`{}` (process {})", self.program, self.child.program_id())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Splits a format's byte stream.
trait Split {
    fn push(&mut self, bytes: &[u8]);
    /// The next frame or damaged frame. An error is a stream that cannot be read.
    fn next(&mut self) -> Result<Option<Next>, String>;
    /// The frame that the end of the stream ends. yuv4mpeg has none: its frames have a known size.
    fn finish(&mut self) -> Option<Next> {
        None
    }
    /// What came and belongs to no frame yet.
    fn pending(&self) -> &[u8];
}

#[derive(Default)]
struct Mjpeg(mjpeg::Splitter);

impl Split for Mjpeg {
    fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    fn next(&mut self) -> Result<Option<Next>, String> {
        Ok(self.0.next().map(next_of))
    }

    fn finish(&mut self) -> Option<Next> {
        self.0.finish().map(next_of)
    }

    fn pending(&self) -> &[u8] {
        self.0.pending()
    }
}

impl Split for yuv4mpeg::Splitter {
    fn push(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    fn next(&mut self) -> Result<Option<Next>, String> {
        Ok(self.next()?.map(|piece| match piece {
            yuv4mpeg::Piece::Frame(frame) => Next::Frame(frame),
            yuv4mpeg::Piece::Incomplete => Next::Damaged,
        }))
    }

    fn pending(&self) -> &[u8] {
        self.pending()
    }
}

/// Reads the stream to its end, or until nobody takes its frames.
fn send_frames(
    mut stdout: ChildStdout,
    splitter: &mut impl Split,
    frames: &SyncSender<Result<Next, String>>,
    arrived: &Mutex<Arrived>,
) {
    let mut block = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stdout.read(&mut block) {
        splitter.push(&block[..n]);
        lock(arrived).add(&block[..n]);
        while let Some(next) = splitter.next().transpose() {
            if matches!(next, Ok(Next::Frame(_))) {
                lock(arrived).restart(splitter.pending());
            }
            let failed = next.is_err();
            if frames.send(next).is_err() || failed {
                return;
            }
        }
    }
    if let Some(next) = splitter.finish() {
        let _ = frames.send(Ok(next));
    }
}

fn next_of(piece: mjpeg::Piece) -> Next {
    match piece {
        mjpeg::Piece::Image(image) => {
            Next::Frame(Frame::compressed(PixelFormat::Jpeg, image, clock::now()))
        }
        mjpeg::Piece::Incomplete => Next::Damaged,
    }
}

/// What a program is called in messages: of a whole command line, which somebody may have put into one string, its first
/// word, since the others may hold a password.
fn name_of(command: &str) -> String {
    let first = command.split_whitespace().next().unwrap_or(command);
    printable(first)
}
