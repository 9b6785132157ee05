//! Frames from a child process's stdout: `rpicam-vid`, `ffmpeg`, `gst-launch-1.0`.

use super::mjpeg::{Cut, Splitter};
use super::{CaptureError, Next, Source};
use crate::clock;
use crate::config::{PipeFormat, PipeSettings};
use constancy_core::frame::{ColorEncoding, Frame, PixelFormat};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a child may take to end by itself after SIGTERM.
const TERM_GRACE: Duration = Duration::from_millis(500);

/// A child process and what it sends.
pub(super) struct PipeSource {
    program: String,
    child: Child,
    frames: Receiver<Result<Next, CaptureError>>,
    /// The last line that the child wrote to stderr: mostly why it ended.
    last_words: Arc<Mutex<String>>,
}

impl PipeSource {
    pub(super) fn open(settings: &PipeSettings) -> Result<Self, CaptureError> {
        let program = settings.command[0].clone();
        let mut child = Command::new(&program)
            .args(&settings.command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: what the child starts ends with it, and Ctrl-C reaches only us.
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
        let last_words = Arc::new(Mutex::new(String::new()));
        let (words, name) = (Arc::clone(&last_words), program.clone());
        thread::spawn(move || keep_last_line(stderr, &words, &name));
        Ok(Self {
            program,
            child,
            frames,
            last_words,
        })
    }

    /// What became of a child whose stdout has ended.
    fn ended(&mut self) -> CaptureError {
        let status =
            wait(&mut self.child, TERM_GRACE).map_or("its stdout closed".into(), |s| s.to_string());
        let words = self
            .last_words
            .lock()
            .map(|w| w.clone())
            .unwrap_or_default();
        let last_words = if words.is_empty() {
            words
        } else {
            format!(": {words}")
        };
        CaptureError::Ended {
            program: self.program.clone(),
            status,
            last_words,
        }
    }
}

impl Source for PipeSource {
    fn next(&mut self, wait: Duration) -> Result<Next, CaptureError> {
        match self.frames.recv_timeout(wait) {
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
        if wait(&mut self.child, TERM_GRACE).is_none() {
            signal_group(&self.child, libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn signal_group(child: &Child, signal: i32) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill takes no pointers; the group is the one that `process_group(0)` made for this child,
        // which has not been waited for, so that its number cannot have been given to another.
        unsafe { libc::kill(-group, signal) };
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
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
    // Children such as ffmpeg write progress with carriage returns and may write any bytes.
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = line
            .rsplit('\r')
            .find(|part| !part.trim().is_empty())
            .unwrap_or("")
            .trim();
        if !line.is_empty() {
            log::debug!("{program}: {line}");
            if let Ok(mut last) = last.lock() {
                *last = line.chars().take(300).collect();
            }
        }
    }
}

fn read_mjpeg(mut stdout: ChildStdout, frames: &SyncSender<Result<Next, CaptureError>>) {
    let mut splitter = Splitter::default();
    let mut block = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stdout.read(&mut block) {
        splitter.push(&block[..n]);
        while let Some(cut) = splitter.next() {
            let next = match cut {
                Cut::Whole(image) => {
                    Next::Frame(Frame::compressed(PixelFormat::Jpeg, image, clock::now()))
                }
                Cut::Short => Next::Damaged,
            };
            if frames.send(Ok(next)).is_err() {
                return;
            }
        }
    }
}

fn read_y4m(stdout: ChildStdout, frames: &SyncSender<Result<Next, CaptureError>>, program: &str) {
    let wrong = |reason: String| {
        Err(CaptureError::Y4m {
            program: program.into(),
            reason,
        })
    };
    let mut decoder = match y4m::decode(BufReader::with_capacity(1 << 16, stdout)) {
        Ok(decoder) => decoder,
        Err(y4m::Error::EOF) => return,
        Err(e) => return drop(frames.send(wrong(e.to_string()))),
    };
    let format = match decoder.get_colorspace() {
        y4m::Colorspace::Cmono => PixelFormat::Grey,
        y4m::Colorspace::C420
        | y4m::Colorspace::C420jpeg
        | y4m::Colorspace::C420paldv
        | y4m::Colorspace::C420mpeg2 => PixelFormat::I420,
        y4m::Colorspace::C422 => PixelFormat::I422,
        y4m::Colorspace::C444 => PixelFormat::I444,
        other => {
            return drop(frames.send(wrong(format!(
                "{other:?} has more than 8 bits; use yuv420p"
            ))));
        }
    };
    let full_range = String::from_utf8_lossy(decoder.get_raw_params()).contains("COLORRANGE=FULL");
    let (width, height) = (decoder.get_width(), decoder.get_height());
    loop {
        let next = match decoder.read_frame() {
            Ok(planes) => {
                let data = [
                    planes.get_y_plane(),
                    planes.get_u_plane(),
                    planes.get_v_plane(),
                ]
                .concat();
                #[expect(clippy::cast_possible_truncation, reason = "decoding checks the size")]
                Ok(Next::Frame(Frame {
                    data,
                    format,
                    width: width as u32,
                    height: height as u32,
                    stride_bytes: width,
                    color: ColorEncoding {
                        full_range,
                        bt709: false,
                    },
                    taken: clock::now(),
                    file: None,
                    truth: None,
                }))
            }
            Err(y4m::Error::EOF | y4m::Error::IoError(_)) => return,
            Err(e) => wrong(e.to_string()),
        };
        let failed = next.is_err();
        if frames.send(next).is_err() || failed {
            return;
        }
    }
}
