//! The processes of the demo: a broker, the daemon and a subscriber, in a temporary folder. All end with the demo.

use crate::cli::CliError;
use crate::publish::DemoSubscriber;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the broker may take to listen.
const BROKER_LIMIT: Duration = Duration::from_secs(10);
/// How long the daemon may take to stop; it needs two seconds at most.
const DAEMON_LIMIT: Duration = Duration::from_secs(3);
/// Debian installs mosquitto into a folder that is not in every user's PATH.
const MOSQUITTO: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

pub(super) struct Processes {
    /// Removed when this value is dropped.
    folder: TempDir,
    port: u16,
    broker: Child,
    daemon: Child,
    listener: DemoSubscriber,
    received: u64,
    /// By the events' sequence numbers, which have no gaps.
    published: u64,
}

impl Processes {
    /// Starts the broker, the subscriber and the daemon. `config` gives the daemon's configuration for a broker's port;
    /// its events must be on `topic`.
    pub(super) fn start(topic: &str, config: impl FnOnce(u16) -> String) -> Result<Self, CliError> {
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
        std::fs::write(folder.path().join("constancy.toml"), config(port)).map_err(write)?;
        let mut broker = start_broker(folder.path(), port)?;
        let started = wait_for_broker(&mut broker, port).and_then(|()| {
            let listener = DemoSubscriber::subscribe("127.0.0.1", port, topic)?;
            Ok((listener, start_daemon(folder.path())?))
        });
        match started {
            Ok((listener, daemon)) => Ok(Self {
                folder,
                port,
                broker,
                daemon,
                listener,
                received: 0,
                published: 0,
            }),
            Err(e) => {
                end(&mut broker, Duration::ZERO);
                Err(e)
            }
        }
    }

    /// The path of the daemon's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("constancy.toml")
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The payload of the next event; `None` if none arrives within `limit`.
    pub(super) fn next_event(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, CliError> {
        let payload = self.listener.next(limit)?;
        if let Some(payload) = &payload {
            self.received += 1;
            let seq = serde_json::from_slice::<serde_json::Value>(payload)?["seq"].as_u64();
            self.published = self.published.max(seq.map_or(0, |seq| seq + 1));
        }
        Ok(payload)
    }

    /// Fails if the daemon has ended, or if it is `silent`.
    pub(super) fn check(&mut self, silent: bool) -> Result<(), CliError> {
        match self.daemon.try_wait()? {
            Some(status) => Err(self.daemon_ended(status)),
            None if silent => Err(CliError::DaemonEnded {
                status: "it publishes nothing".into(),
                last_log_line: self.last_log_line(),
            }),
            None => Ok(()),
        }
    }

    /// Stops the daemon by SIGTERM, receives its last events, and stops the broker. Returns the number of events
    /// published and received.
    pub(super) fn stop(mut self) -> Result<(u64, u64), CliError> {
        if let Some(status) = end(&mut self.daemon, DAEMON_LIMIT)
            && !status.success()
        {
            return Err(self.daemon_ended(status));
        }
        while self.next_event(Duration::from_millis(300))?.is_some() {}
        Ok((self.published, self.received))
    }

    fn daemon_ended(&self, status: ExitStatus) -> CliError {
        CliError::DaemonEnded {
            status: status.to_string(),
            last_log_line: self.last_log_line(),
        }
    }

    fn last_log_line(&self) -> String {
        let log =
            std::fs::read_to_string(self.folder.path().join("daemon.log")).unwrap_or_default();
        log.lines().last().unwrap_or("it logged nothing").to_owned()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        end(&mut self.daemon, DAEMON_LIMIT);
        end(&mut self.broker, Duration::from_secs(1));
    }
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
                let hint = "it ended or does not listen on its port; try again";
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
        hint: "has the program been moved or deleted?",
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

/// Runs the command in a process group of its own: Ctrl-C then reaches only the demo, which stops the others in order.
fn quiet(command: &mut Command) -> &mut Command {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
}

/// Sends SIGTERM to a child, and kills it after `limit`. Returns how it ended.
fn end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so the process id is its own.
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
