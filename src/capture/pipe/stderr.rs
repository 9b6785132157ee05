//! Reads what a child process writes to stderr: bounded lines into the log at a bounded rate, and the last one for its fault.

use super::super::printable::printable;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer lines are cut.
const MAX_LINE_BYTES: usize = 1024;
/// Of the last line, which may be published.
const MAX_LAST_CHARS: usize = 300;
/// At most this many lines are logged in each period; the rest are counted.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Reads until the other end closes. `last` always holds the last line.
pub(super) fn read(mut stderr: impl Read, program: &str, last: &Mutex<String>) {
    let mut lines = Lines::default();
    let mut budget = Budget::new(Instant::now());
    let mut block = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut block) {
        lines.push(&block[..n], |line| {
            log(program, &line, &budget.spend(Instant::now()));
            set(last, &line);
        });
    }
    if let Some(line) = lines.end() {
        log(program, &line, &budget.spend(Instant::now()));
        set(last, &line);
    }
    if let Some(skipped) = budget.settle() {
        log_rest(program, skipped);
    }
}

fn set(last: &Mutex<String>, line: &str) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) =
        line.chars().take(MAX_LAST_CHARS).collect();
}

fn log(program: &str, line: &str, spent: &Spent) {
    if let Some(skipped) = spent.skipped_before {
        log_rest(program, skipped);
    }
    if spent.fits {
        log::debug!("{program}: {line}");
    }
}

fn log_rest(program: &str, lines: u64) {
    log::debug!("{program}: {lines} more lines");
}

/// Splits bytes into printable lines. A carriage return ends a line: programs such as ffmpeg end their progress with it.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        let mut parts = bytes.split(|&b| b == b'\n' || b == b'\r').peekable();
        while let Some(part) = parts.next() {
            let room = MAX_LINE_BYTES - self.line.len();
            self.line.extend(&part[..room.min(part.len())]);
            if parts.peek().is_some()
                && let Some(line) = self.end()
            {
                each(line);
            }
        }
    }

    /// Ends the line; `None` if it is empty.
    fn end(&mut self) -> Option<String> {
        let cut = self.line.len() == MAX_LINE_BYTES;
        let text = printable(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        let text = text.trim();
        (!text.is_empty()).then(|| format!("{text}{}", if cut { "…" } else { "" }))
    }
}

/// How many lines may be logged.
struct Budget {
    period: Instant,
    spent: u32,
    skipped: u64,
}

/// What [`Budget::spend`] says about a line.
#[derive(Debug, PartialEq)]
struct Spent {
    fits: bool,
    /// The lines that the period which has just ended left out.
    skipped_before: Option<u64>,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            period: now,
            spent: 0,
            skipped: 0,
        }
    }

    fn spend(&mut self, now: Instant) -> Spent {
        let mut skipped_before = None;
        if now.duration_since(self.period) >= PERIOD {
            skipped_before = self.settle();
            (self.period, self.spent) = (now, 0);
        }
        let fits = self.spent < LINES;
        if fits {
            self.spent += 1;
        } else {
            self.skipped += 1;
        }
        Spent {
            fits,
            skipped_before,
        }
    }

    /// The lines left out since the last call, if any.
    fn settle(&mut self) -> Option<u64> {
        let skipped = std::mem::take(&mut self.skipped);
        (skipped > 0).then_some(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], piece: usize) -> Vec<String> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(piece) {
            lines.push(part, |line| seen.push(line));
        }
        seen.extend(lines.end());
        seen
    }

    #[test]
    fn carriage_returns_end_lines_and_long_ones_are_cut() {
        let bytes = b"frame=1\rframe=2\r\n\n \x1b[31mred\xff\nrtsp://a:b@c/d\nend";
        let expected = ["frame=1", "frame=2", "red\u{fffd}", "rtsp://***@c/d", "end"];
        for piece in [1, 4, 100] {
            assert_eq!(lines(bytes, piece), expected);
        }
        let long = [vec![b'x'; 1 << 20], b"\nshort".to_vec()].concat();
        let seen = lines(&long, 4096);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].chars().count(), MAX_LINE_BYTES + 1);
        assert_eq!(seen[1], "short");
    }

    #[test]
    fn lines_above_the_rate_are_counted() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let fits = (0..1000).filter(|_| budget.spend(start).fits).count();
        assert_eq!(fits, LINES as usize);
        assert_eq!(
            budget.spend(start + PERIOD),
            Spent {
                fits: true,
                skipped_before: Some(1000 - u64::from(LINES))
            }
        );
        assert_eq!(budget.settle(), None);
    }
}
