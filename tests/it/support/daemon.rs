//! The real daemon as a child process.

use super::{LIMIT, tiny_model, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with a configuration, before the daemon runs.
pub struct Setup {
    pub folder: TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
}

impl Setup {
    /// A configuration of the tiny model with two labels, and whatever `rest` says.
    pub fn new(rest: &str) -> Self {
        let setup = Self {
            folder: tempfile::tempdir().expect("folder"),
            env: Vec::new(),
            args: Vec::new(),
        };
        setup.write(rest);
        setup
    }

    /// A configuration with nothing but what `text` says.
    pub fn raw(text: &str) -> Self {
        let setup = Self::new("");
        std::fs::write(setup.config(), text).expect("configuration");
        setup
    }

    /// Writes the configuration anew; `DIR` stands for the folder.
    pub fn write(&self, rest: &str) {
        let model = tiny_model();
        let text = format!(
            "device = \"bench\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a gear\", \"a bolt\"]\nthreshold = 0.0\n{rest}",
            model.display()
        );
        let text = text.replace("DIR", &self.folder.path().to_string_lossy());
        std::fs::write(self.config(), text).expect("configuration");
    }

    pub fn config(&self) -> PathBuf {
        self.path("constancy.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn start(self) -> Daemon {
        let mut child = Command::new(env!("CARGO_BIN_EXE_constancy"))
            .args(&self.args)
            .args(["run", "--config"])
            .arg(self.config())
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let stdout = child
            .stdout
            .take()
            .map(Lines::read)
            .expect("stdout is piped");
        let stderr = child
            .stderr
            .take()
            .map(Lines::read)
            .expect("stderr is piped");
        Daemon {
            child,
            stdout,
            stderr,
            setup: self,
        }
    }
}

/// Lines that a thread collects.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                shared
                    .lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
            shared.ended.store(true, Ordering::Release);
        });
        lines
    }

    fn get(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub struct Daemon {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    pub setup: Setup,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process number");
        // SAFETY: kill takes no pointers, and the child has not been waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }

    /// Waits until the daemon has ended, `limit` at most, and says how and after what time.
    pub fn wait_exit(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let took = start.elapsed();
                // What it wrote last may still be in the pipes.
                let ended = |lines: &Lines| lines.ended.load(Ordering::Acquire).then_some(());
                wait_for("the end of its output", || {
                    ended(&self.stdout).and(ended(&self.stderr))
                });
                return (status, took);
            }
            assert!(
                start.elapsed() < limit,
                "still running after {limit:?}; log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it, unless it has ended, and gives its folder for another start.
    pub fn take_setup(mut self) -> Setup {
        std::mem::replace(&mut self.setup, Setup::new(""))
    }

    /// Everything on stderr.
    pub fn log(&self) -> String {
        self.stderr.get().join("\n")
    }

    /// Waits for a line of the log that holds `text`, `times` times.
    pub fn wait_log_times(&self, text: &str, times: usize) {
        let deadline = Instant::now() + LIMIT;
        while self
            .stderr
            .get()
            .iter()
            .filter(|l| l.contains(text))
            .count()
            < times
        {
            assert!(
                Instant::now() < deadline,
                "no `{text}` in the log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn wait_log(&self, text: &str) {
        self.wait_log_times(text, 1);
    }

    /// The events on stdout, where no broker is configured.
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .get()
            .iter()
            .map(|l| serde_json::from_str(l).expect("a line of JSON"))
            .collect()
    }

    /// Waits for `count` events on stdout.
    pub fn wait_events(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} events; log:\n{}", self.log()), || {
            let events = self.events();
            (events.len() >= count).then_some(events)
        })
    }

    pub fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join(file)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("the daemon's log:\n{}", self.log());
        }
    }
}
