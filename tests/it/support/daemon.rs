//! The real daemon as a child process.

use super::{LIMIT, tiny_model, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A temporary folder with a configuration, and how to start the daemon on it.
pub struct Setup {
    pub folder: TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
}

impl Setup {
    /// A configuration of device `bench` with the tiny model, the labels `a gear` and `a bolt`, and `rest`. In `rest`,
    /// `DIR` stands for the folder; relative paths start there anyway.
    pub fn new(rest: &str) -> Self {
        let setup = Self {
            folder: tempfile::tempdir().expect("folder"),
            env: Vec::new(),
            args: Vec::new(),
        };
        setup.write(rest);
        setup
    }

    /// A configuration that is `text` and nothing else.
    pub fn raw(text: &str) -> Self {
        let setup = Self::new("");
        std::fs::write(setup.config(), text).expect("configuration");
        setup
    }

    /// Replaces the configuration by that of [`new`](Self::new).
    pub fn write(&self, rest: &str) {
        let model = tiny_model();
        let text = format!(
            "device = \"bench\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a gear\", \"a bolt\"]\nthreshold = 0.0\n{rest}",
            model.display()
        );
        let text = text.replace("DIR", &self.folder.path().to_string_lossy());
        std::fs::write(self.config(), text).expect("configuration");
    }

    /// Replaces `from` by `to` in the configuration.
    pub fn replace(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).expect("configuration");
        assert!(text.contains(from), "{from} is in the configuration");
        std::fs::write(self.config(), text.replace(from, to)).expect("configuration");
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.path("constancy.toml")
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds an environment variable.
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Adds an argument before the subcommand.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts `constancy run`.
    pub fn start(self) -> Daemon {
        let (mut daemon, stdout) = self.start_unread();
        daemon.stdout = Lines::read(stdout);
        daemon
    }

    /// Starts `constancy run` with a stdout that nobody reads.
    pub fn start_unread(self) -> (Daemon, ChildStdout) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_constancy"))
            .args(&self.args)
            .args(["run", "--config"])
            .arg(self.config())
            .env_remove("RUST_LOG")
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child
            .stderr
            .take()
            .map(Lines::read)
            .expect("stderr is piped");
        let daemon = Daemon {
            child,
            stdout: Lines::ended(),
            stderr,
            setup: self,
        };
        (daemon, stdout)
    }
}

/// The lines of a pipe, collected by a thread.
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
                shared.lock().push(line);
            }
            shared.ended.store(true, Ordering::Release);
        });
        lines
    }

    /// No lines, and none to come.
    fn ended() -> Self {
        let lines = Self::default();
        lines.ended.store(true, Ordering::Release);
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running daemon; dropping it kills it. If the test fails, its log is printed.
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

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process number");
        // SAFETY: kill takes no pointers. The child has not been waited for, so its process number is not reused.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }

    /// Waits up to `limit` for the daemon's end. Returns its status and how long it took.
    pub fn wait_exit(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let took = start.elapsed();
                // Its last lines may still be in the pipes.
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

    /// Kills the daemon if it still runs, and returns its setup for another start.
    pub fn take_setup(mut self) -> Setup {
        std::mem::replace(&mut self.setup, Setup::new(""))
    }

    /// Everything on stderr so far.
    pub fn log(&self) -> String {
        self.stderr.lock().join("\n")
    }

    /// Waits until `times` lines of the log contain `text`.
    pub fn wait_log_times(&self, text: &str, times: usize) {
        let deadline = Instant::now() + LIMIT;
        let count = || {
            self.stderr
                .lock()
                .iter()
                .filter(|l| l.contains(text))
                .count()
        };
        while count() < times {
            assert!(
                Instant::now() < deadline,
                "no `{text}` in the log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a line of the log contains `text`.
    pub fn wait_log(&self, text: &str) {
        self.wait_log_times(text, 1);
    }

    /// The events on stdout so far; it prints them if no broker is configured.
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lock()
            .iter()
            .map(|l| serde_json::from_str(l).expect("a line of JSON"))
            .collect()
    }

    /// Waits for `count` events on stdout; returns all events so far.
    pub fn wait_events(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} events; log:\n{}", self.log()), || {
            let events = self.events();
            (events.len() >= count).then_some(events)
        })
    }

    /// Waits until it has a thread of this name.
    pub fn wait_thread(&self, name: &str) {
        let named = |thread: std::fs::DirEntry| {
            let comm = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            comm.trim() == name
        };
        wait_for(&format!("the thread {name}"), || {
            let mut threads = std::fs::read_dir(self.proc("task")).ok()?.flatten();
            threads.any(named).then_some(())
        });
    }

    /// A file of its folder in `/proc`.
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
