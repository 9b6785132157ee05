//! What the demonstration needs around it: a folder, a broker, the daemon, a subscriber; all gone at the end.

use super::{DemoArgs, SIZE};
use crate::cli::CliError;
use crate::publish::Listener;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BROKER_LIMIT: Duration = Duration::from_secs(10);
/// The daemon leaves within two seconds.
const DAEMON_LIMIT: Duration = Duration::from_secs(3);
/// Debian puts mosquitto where users' PATH does not look.
const MOSQUITTO: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

pub(super) struct Stage {
    /// Gone when the rest is.
    folder: TempDir,
    port: u16,
    broker: Child,
    daemon: Child,
    listener: Listener,
    heard: u64,
    /// By the events' own count, which has no gaps.
    published: u64,
}

impl Stage {
    /// Starts everything.
    pub(super) fn set(model: &Path, args: &DemoArgs) -> Result<Self, CliError> {
        let temporary = std::env::temp_dir();
        let write = |source| CliError::Write {
            path: temporary.clone(),
            source,
        };
        let folder = tempfile::Builder::new()
            .prefix("constancy-demo-")
            .tempdir()
            .map_err(write)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::write(
            folder.path().join("constancy.toml"),
            config(model, port, args),
        )
        .map_err(write)?;
        let mut broker = start_broker(folder.path(), port)?;
        let started = wait_for_broker(&mut broker, port).and_then(|()| {
            let listener = Listener::subscribe("127.0.0.1", port, "constancy/demo/workshop/event")?;
            Ok((listener, start_daemon(folder.path())?))
        });
        match started {
            Ok((listener, daemon)) => Ok(Self {
                folder,
                port,
                broker,
                daemon,
                listener,
                heard: 0,
                published: 0,
            }),
            Err(e) => {
                end(&mut broker, Duration::ZERO);
                Err(e)
            }
        }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("constancy.toml")
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The next event's payload.
    pub(super) fn hear(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, CliError> {
        let payload = self.listener.next(limit)?;
        if let Some(payload) = &payload {
            self.heard += 1;
            let seq = serde_json::from_slice::<serde_json::Value>(payload)?["seq"].as_u64();
            self.published = self.published.max(seq.map_or(0, |seq| seq + 1));
        }
        Ok(payload)
    }

    /// Fails if the daemon has ended, or if `lively` is false because nothing came for too long.
    pub(super) fn check(&mut self, lively: bool) -> Result<(), CliError> {
        match self.daemon.try_wait()? {
            Some(status) => Err(self.daemon_ended(status)),
            None if lively => Ok(()),
            None => {
                let last_words = self.last_words();
                Err(CliError::DaemonEnded {
                    status: "silent".into(),
                    last_words,
                })
            }
        }
    }

    /// Ends the daemon as an operator would, hears what is left, ends the broker; events published and heard.
    pub(super) fn strike(mut self) -> Result<(u64, u64), CliError> {
        if let Some(status) = end(&mut self.daemon, DAEMON_LIMIT)
            && !status.success()
        {
            return Err(self.daemon_ended(status));
        }
        while self.hear(Duration::from_millis(300))?.is_some() {}
        Ok((self.published, self.heard))
    }

    fn daemon_ended(&self, status: ExitStatus) -> CliError {
        CliError::DaemonEnded {
            status: status.to_string(),
            last_words: self.last_words(),
        }
    }

    /// The last line of the daemon's log.
    fn last_words(&self) -> String {
        let log =
            std::fs::read_to_string(self.folder.path().join("daemon.log")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        end(&mut self.daemon, DAEMON_LIMIT);
        end(&mut self.broker, Duration::from_secs(1));
    }
}

fn config(model: &Path, port: u16, args: &DemoArgs) -> String {
    let model = model.display();
    let (width, height) = SIZE;
    // Every environment once.
    let environments = constancy_core::workshop::ENVIRONMENTS.len() as u64;
    let frames_each = (args.seconds * args.rate / environments).max(1);
    let (rate, seed) = (args.rate, args.seed);
    format!(
        r#"device = "demo"
[model]
manifest = "{model}/pocket.toml"
projection = "{model}/projection.safetensors"
[classes]
bank = "{model}/classes.safetensors"
[[camera]]
name = "workshop"
[camera.synthetic]
rate = {rate}
seed = {seed}
frames_each = {frames_each}
width = {width}
height = {height}
[mqtt]
broker = "mqtt://127.0.0.1:{port}"
"#
    )
}

fn start_broker(folder: &Path, port: u16) -> Result<Child, CliError> {
    let config = folder.join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n");
    std::fs::write(&config, text).map_err(|source| CliError::Write {
        path: config.clone(),
        source,
    })?;
    let mut last = None;
    for program in MOSQUITTO {
        match quiet(Command::new(program).arg("-c").arg(&config))
            .stderr(Stdio::null())
            .spawn()
        {
            Ok(child) => return Ok(child),
            Err(e) => last = Some(e),
        }
    }
    let source = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound));
    Err(CliError::Start {
        program: "mosquitto".into(),
        source,
        hint: "install it: sudo apt-get install mosquitto",
    })
}

fn wait_for_broker(broker: &mut Child, port: u16) -> Result<(), CliError> {
    let deadline = Instant::now() + BROKER_LIMIT;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => return Ok(()),
            Err(source) if Instant::now() > deadline || broker.try_wait()?.is_some() => {
                let hint = "it ended, or does not listen; try again";
                return Err(CliError::Start {
                    program: "mosquitto".into(),
                    source,
                    hint,
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn start_daemon(folder: &Path) -> Result<Child, CliError> {
    let log = folder.join("daemon.log");
    let log = File::create(&log).map_err(|source| CliError::Write { path: log, source })?;
    let start = |source| CliError::Start {
        program: "the daemon".into(),
        source,
        hint: "is the program still there?",
    };
    let program = std::env::current_exe().map_err(start)?;
    quiet(
        Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(folder.join("constancy.toml")),
    )
    .stderr(log)
    .spawn()
    .map_err(start)
}

/// In a process group of its own, so that Ctrl-C reaches only the demonstration, which ends the others in order.
fn quiet(command: &mut Command) -> &mut Command {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
}

/// Asks a child to end, and makes it after `limit`; how it ended.
fn end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so the number is its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    child.wait().ok()
}
