//! The shell in which a page's commands run.

use super::super::support::{Broker, free_port};
use super::compare::{difference, matches};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time limit for one command, on a machine that runs other tests at the same time.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// Time allowed for output of background jobs after a command has ended.
const LATE_OUTPUT: Duration = Duration::from_secs(5);

/// A bash whose commands come one after the other, each in a file; what they and their background
/// jobs print goes to one log.
pub(super) struct Shell {
    folder: tempfile::TempDir,
    bash: Child,
    broker: Option<Broker>,
    port: u16,
    count: usize,
}

impl Shell {
    /// Starts a shell in a folder of its own, with a copy of what a clone has.
    pub(super) fn start(root: &Path) -> Self {
        let folder = tempfile::tempdir().expect("the page's folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["page", "home/.config", "bin", "state"] {
            fs::create_dir_all(path(name)).expect("the page's folders");
        }
        for name in ["models", "config"] {
            let mut copy = Command::new("cp");
            let copied = copy
                .arg("-r")
                .arg(root.join(name))
                .arg(path("page"))
                .status();
            assert!(
                copied.is_ok_and(|status| status.success()),
                "{name} is copied"
            );
        }
        symlink(env!("CARGO_BIN_EXE_constancy"), path("bin/constancy")).expect("the program");
        let port = free_port();
        for client in ["mosquitto_sub", "mosquitto_pub", "mosquitto_rr"] {
            let defaults = path("home/.config").join(client);
            fs::write(defaults, format!("-p {port}\n")).expect("the clients' defaults");
        }
        let bash = bash(folder.path());
        Self {
            folder,
            bash,
            broker: None,
            port,
            count: 0,
        }
    }

    /// Not a job of the shell: a reader's broker runs as a service.
    pub(super) fn start_broker(&mut self) {
        self.broker = Some(Broker::start_on(self.port));
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join("page").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the file's folder");
        fs::write(path, self.with_port(text)).expect("the page's file");
    }

    fn with_port(&self, text: &str) -> String {
        let port = self.port;
        let text = text.replace("localhost:1883", &format!("localhost:{port}"));
        text.replace("mqtt://localhost\"", &format!("mqtt://localhost:{port}\""))
    }

    /// Runs a command; returns what differed from the page.
    pub(super) fn run(&mut self, command: &str, shown: &[String]) -> Result<(), String> {
        let start = self.log_length();
        let code = self.submit(command)?;
        let fails = shown.iter().any(|line| line.starts_with("error:"));
        let begun = Instant::now();
        let (got, right) = loop {
            let got = self.printed_since(start);
            let right = shown.is_empty() || matches(shown, &got);
            if right || begun.elapsed() > LATE_OUTPUT {
                break (got, right);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if fails != (code != 0) {
            return Err(format!("exit code {code}, after\n{}", got.join("\n")));
        }
        if right {
            Ok(())
        } else {
            Err(difference(shown, &got))
        }
    }

    /// The exit code of a command.
    fn submit(&mut self, command: &str) -> Result<i32, String> {
        self.count += 1;
        let path = self.folder.path().join(format!("state/{}", self.count));
        fs::write(&path, self.with_port(command) + "\n").expect("the command's file");
        let stdin = self.bash.stdin.as_mut().expect("the shell's stdin");
        writeln!(stdin, "{}", path.display()).map_err(|e| format!("the shell has ended: {e}"))?;
        let begun = Instant::now();
        loop {
            let code = fs::read_to_string(path.with_extension("rc")).unwrap_or_default();
            if let Some(code) = code.strip_suffix('\n') {
                return code.parse().map_err(|e| format!("exit code {code}: {e}"));
            }
            if begun.elapsed() > COMMAND_LIMIT {
                return Err(format!("has not ended after {} s", COMMAND_LIMIT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_length(&self) -> usize {
        fs::read(self.folder.path().join("log")).map_or(0, |log| log.len())
    }

    fn printed_since(&self, start: usize) -> Vec<String> {
        let log = fs::read(self.folder.path().join("log")).expect("the log");
        let text = String::from_utf8_lossy(&log[start..]);
        let text = text.replace(&format!("localhost:{}", self.port), "localhost:1883");
        text.lines().map(String::from).collect()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.bash.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.bash.wait();
    }
}

/// A process group of its own. It runs the files that are named on its stdin.
fn bash(folder: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"));
    let log = log.expect("the log");
    let home = folder.join("home");
    let search = std::env::var("PATH").unwrap_or_default();
    Command::new("bash")
        .arg("-c")
        .arg("while IFS= read -r next; do . \"$next\" </dev/null; echo $? >\"$next.rc\"; done")
        .current_dir(folder.join("page"))
        .env("PATH", format!("{}:{search}", folder.join("bin").display()))
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("XDG_CACHE_HOME", home.join(".cache"))
        .env("XDG_DATA_HOME", home.join(".local/share"))
        .env("XDG_STATE_HOME", home.join(".local/state"))
        .env_remove("RUST_LOG")
        .env_remove("STATE_DIRECTORY")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("bash")
}
