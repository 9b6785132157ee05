//! Reads frames from the stdout of a child process such as `rpicam-vid`, `ffmpeg` or `gst-launch-1.0`.

use super::error::CaptureError;
use super::mjpeg::{Piece, Splitter};
use super::source::{Next, Source};
use super::yuv4mpeg;
use crate::clock;
use crate::config::{PipeFormat, PipeSettings};
use constancy_core::frame::{Frame, PixelFormat};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a child may take to exit after SIGTERM.
const TERM_GRACE: Duration = Duration::from_millis(500);

/// A child process and the frames that it sends.
pub(super) struct PipeSource {
    program: String,
    child: Child,
    frames: Receiver<Result<Next, CaptureError>>,
    /// The last line that the child wrote to stderr, which usually says why it exited.
    last_line: Arc<Mutex<String>>,
}

impl PipeSource {
    pub(super) fn open(settings: &PipeSettings) -> Result<Self, CaptureError> {
        let program = settings.command[0].clone();
        let mut child = Command::new(&program)
            .args(&settings.command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own process group: the child's children are stopped with it, and Ctrl-C reaches only this process.
            .process_group(0)
            .spawn()
            .map_err(|source| CaptureError::Spawn {
                program: program.clone(),
                source,
            })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(CaptureError::Spawn {
                program,
                source: std::io::Error::other("its output is not connected"),
            });
        };
        let (sender, frames) = sync_channel(1);
        let (format, name) = (settings.format, program.clone());
        thread::spawn(move || match format {
            PipeFormat::Mjpeg => read_mjpeg(stdout, &sender),
            PipeFormat::Y4m => read_y4m(stdout, &sender, &name),
        });
        let last_line = Arc::new(Mutex::new(String::new()));
        let (last, name) = (Arc::clone(&last_line), program.clone());
        thread::spawn(move || keep_last_line(stderr, &last, &name));
        Ok(Self {
            program,
            child,
            frames,
            last_line,
        })
    }

    /// The error for a child whose stdout has closed.
    fn ended(&mut self) -> CaptureError {
        let status = wait_for_exit(&mut self.child, TERM_GRACE)
            .map_or("its stdout closed".into(), |s| s.to_string());
        let last_line = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let separator = if last_line.is_empty() { "" } else { ": " };
        CaptureError::Ended {
            program: self.program.clone(),
            status,
            last_line: format!("{separator}{last_line}"),
        }
    }
}

impl Source for PipeSource {
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError> {
        match self.frames.recv_timeout(timeout) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    fn describe(&self) -> String {
        format!("`{}` (process {})", self.program, self.child.id())
    }
}

impl Drop for PipeSource {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        signal_group(&self.child, libc::SIGTERM);
        if wait_for_exit(&mut self.child, TERM_GRACE).is_none() {
            signal_group(&self.child, libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn signal_group(child: &Child, signal: i32) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill takes no pointers. `process_group(0)` made this group for the child, which has not been waited
        // for, so its number cannot belong to another process yet.
        unsafe { libc::kill(-group, signal) };
    }
}

fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn keep_last_line(stderr: ChildStderr, last: &Mutex<String>, program: &str) {
    // Programs such as ffmpeg end their progress lines with carriage returns, and may write any bytes.
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = line
            .rsplit('\r')
            .find(|part| !part.trim().is_empty())
            .unwrap_or("")
            .trim();
        if !line.is_empty() {
            log::debug!("{program}: {line}");
            *last.lock().unwrap_or_else(PoisonError::into_inner) = line.chars().take(300).collect();
        }
    }
}

fn read_mjpeg(mut stdout: ChildStdout, frames: &SyncSender<Result<Next, CaptureError>>) {
    let mut splitter = Splitter::default();
    let mut block = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stdout.read(&mut block) {
        splitter.push(&block[..n]);
        while let Some(piece) = splitter.next() {
            let next = match piece {
                Piece::Image(image) => {
                    Next::Frame(Frame::compressed(PixelFormat::Jpeg, image, clock::now()))
                }
                Piece::Incomplete => Next::Damaged,
            };
            if frames.send(Ok(next)).is_err() {
                return;
            }
        }
    }
}

fn read_y4m(stdout: ChildStdout, frames: &SyncSender<Result<Next, CaptureError>>, program: &str) {
    let failed = |reason: String| CaptureError::Y4m {
        program: program.into(),
        reason,
    };
    let mut reader = match yuv4mpeg::Reader::open(stdout) {
        Ok(Some(reader)) => reader,
        Ok(None) => return,
        Err(reason) => return drop(frames.send(Err(failed(reason)))),
    };
    while let Some(next) = reader.next().map_err(failed).transpose() {
        let last = next.is_err();
        if frames.send(next.map(Next::Frame)).is_err() || last {
            return;
        }
    }
}
