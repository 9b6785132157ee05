//! A real mosquitto on a port of its own.

use super::wait_for;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}

/// A running broker; dropping it kills it.
pub struct Broker {
    pub port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// A broker on a free port that lets everybody in.
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// A broker on `port` that lets everybody in.
    pub fn start_on(port: u16) -> Self {
        Self::with_config(port, "allow_anonymous true\n", |_| ())
    }

    /// A broker with `lines` in its configuration, where `FOLDER` stands for its own folder. `prepare` may write files
    /// there before it starts.
    pub fn with_config(port: u16, lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("the broker's folder");
        prepare(folder.path());
        let lines = lines.replace("FOLDER", &folder.path().to_string_lossy());
        // As root, mosquitto would change to a user who may not read the folder. It delivers a message before it
        // acknowledges it, so killing it loses nothing that it has acknowledged.
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\nmax_queued_messages 0\nmax_inflight_messages 0\n{lines}"
        );
        let path = folder.path().join("mosquitto.conf");
        std::fs::write(&path, config).expect("the broker's configuration");
        Self {
            port,
            child: spawn(port, &path),
            _folder: folder,
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Kills it with SIGKILL, as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts mosquitto and waits until it listens.
fn spawn(port: u16, config: &Path) -> Child {
    // Debian installs it outside an ordinary user's PATH.
    let installed = "/usr/sbin/mosquitto";
    let program = if Path::new(installed).exists() {
        installed
    } else {
        "mosquitto"
    };
    let mut child = Command::new(program)
        .arg("-c")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto: run tools/setup.sh");
    wait_for("mosquitto to listen", || {
        assert!(
            child.try_wait().ok().flatten().is_none(),
            "mosquitto ended at once"
        );
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    child
}
