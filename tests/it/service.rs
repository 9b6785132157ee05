//! Signals, and the line to systemd.

use super::support::{Broker, Daemon, LIMIT, Setup, Subscriber, free_port, write_images};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

fn setup(mqtt: &str) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 50.0\nloop = true\n{mqtt}"
    ));
    write_images(&setup.path("images"), 5);
    setup
}

/// Ends the daemon by `signal`; it must have left within 2 s.
fn leaves(mut daemon: Daemon, signal: i32) -> String {
    daemon.signal(signal);
    let (status, took) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{status}; log:\n{}", daemon.log());
    assert!(took <= Duration::from_secs(2), "took {took:?}");
    println!("left {took:?} after signal {signal}");
    daemon.log()
}

#[test]
fn sigterm_and_sigint_drain_and_leave_in_time() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let broker = Broker::start();
        let subscriber = Subscriber::new(&broker);
        let daemon = setup(&format!("[mqtt]\nbroker = \"{}\"\n", broker.url())).start();
        subscriber.wait_events(10);
        let log = leaves(daemon, signal);
        assert!(!log.contains("could not be delivered"), "{log}");
        subscriber.message("bench/status", |h| h.text() == "stopped");
        Subscriber::new(&broker).message("bench/status", |h| h.retained && h.text() == "stopped");
    }
}

#[test]
fn an_absent_broker_does_not_delay_leaving_and_what_is_lost_is_said() {
    let daemon = setup(&format!(
        "[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n",
        free_port()
    ))
    .start();
    daemon.wait_log("next attempt in");
    let log = leaves(daemon, libc::SIGTERM);
    assert!(
        log.contains("messages could not be delivered before leaving and are lost"),
        "{log}"
    );
}

#[test]
fn a_second_signal_leaves_at_once() {
    let mut daemon = setup(&format!(
        "[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n",
        free_port()
    ))
    .start();
    daemon.wait_log("next attempt in");
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("asked to stop");
    daemon.signal(libc::SIGTERM);
    let (status, took) = daemon.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(128 + libc::SIGTERM));
    assert!(took < Duration::from_millis(500), "took {took:?}");
}

/// A stand-in for systemd's end of the line.
struct Manager {
    socket: UnixDatagram,
    seen: Vec<String>,
}

impl Manager {
    fn of(setup: Setup, watchdog: Duration) -> (Self, Daemon) {
        let path = setup.path("notify");
        let socket = UnixDatagram::bind(&path).expect("socket");
        let daemon = setup
            .env("NOTIFY_SOCKET", path.to_string_lossy())
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .start();
        (
            Self {
                socket,
                seen: Vec::new(),
            },
            daemon,
        )
    }

    /// Reads for `length`; how often a message held `text`.
    fn count(&mut self, text: &str, length: Duration) -> usize {
        let before = self.seen.len();
        let end = Instant::now() + length;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.read(left);
        }
        self.seen[before..]
            .iter()
            .filter(|m| m.contains(text))
            .count()
    }

    fn read(&mut self, limit: Duration) {
        self.socket
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
            .expect("timeout");
        let mut buffer = [0; 4096];
        if let Ok(n) = self.socket.recv(&mut buffer) {
            self.seen
                .push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
    }

    fn wait(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.seen.iter().any(|m| m.contains(text)) {
            assert!(Instant::now() < deadline, "no {text} in {:?}", self.seen);
            self.read(Duration::from_millis(100));
        }
    }
}

#[test]
fn systemd_hears_of_readiness_status_reload_and_stopping() {
    let (mut manager, mut daemon) = Manager::of(setup(""), Duration::from_secs(2));
    manager.wait("READY=1");
    manager.wait("STATUS=");
    manager.wait("frames/s");
    daemon.signal(libc::SIGHUP);
    manager.wait("RELOADING=1");
    daemon.wait_log("the new configuration is in force");
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    manager.wait("STOPPING=1");
}

/// A library of CUDA's that waits for a file stands for kernels that are compiled.
#[cfg(feature = "gpu")]
#[test]
fn systemd_waits_while_a_gpu_is_prepared_at_a_start_and_at_a_reload() {
    let libraries = super::gpu::driver(13000, 0, 1);
    let go = libraries.path().join("go");
    let wait = format!("while (access(\"{}\", F_OK)) usleep(10000);", go.display());
    let source = format!(
        "#include <unistd.h>\n__attribute__((constructor)) static void wait(void) {{ {wait} }}"
    );
    super::gpu::library(libraries.path(), "libcudart.so", &source);
    let setup = setup("").env("LD_LIBRARY_PATH", libraries.path().to_string_lossy());
    let (mut manager, daemon) = Manager::of(setup, Duration::from_secs(1));
    manager.wait("EXTEND_TIMEOUT_USEC=90000000");
    manager.wait("STATUS=preparing the GPU");
    assert!(
        !manager.seen.iter().any(|m| m.contains("READY=1")),
        "{:?}",
        manager.seen
    );
    std::fs::write(&go, "").expect("go");
    manager.wait("READY=1");
    daemon.wait_log("the tower runs on the CPU: CUDA's libraries are not all there");
    std::fs::remove_file(&go).expect("stop");
    daemon.signal(libc::SIGHUP);
    manager.wait("RELOADING=1");
    manager.seen.clear();
    manager.wait("EXTEND_TIMEOUT_USEC=90000000");
    let fed = manager.count("WATCHDOG=1", Duration::from_secs(2));
    assert!(fed >= 4, "fed {fed} times in 2 s at an interval of 1 s");
    std::fs::write(&go, "").expect("go");
    daemon.wait_log("the new configuration is in force");
}

#[test]
fn frames_that_get_through_feed_the_watchdog() {
    let (mut manager, daemon) = Manager::of(setup(""), Duration::from_secs(1));
    manager.wait("READY=1");
    daemon.wait_events(5);
    let fed = manager.count("WATCHDOG=1", Duration::from_secs(2));
    assert!(fed >= 4, "fed {fed} times in 2 s at an interval of 1 s");
}

/// A replayed pipe that nobody writes to: the camera's thread hangs in reading it, as in a driver.
#[test]
fn a_camera_that_hangs_starves_the_watchdog() {
    let setup = Setup::new("[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images.txt\"\n");
    write_images(&setup.path("images"), 3);
    let fifo = setup.path("hangs.jpg");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo")
            .success()
    );
    std::fs::write(
        setup.path("images.txt"),
        "images/00000.jpg\nimages/00001.jpg\nhangs.jpg\n",
    )
    .expect("list");
    let (mut manager, daemon) = Manager::of(setup, Duration::from_secs(1));
    daemon.wait_events(2);
    manager.count("WATCHDOG=1", Duration::from_millis(300));
    let fed = manager.count("WATCHDOG=1", Duration::from_secs(2));
    assert_eq!(fed, 0, "no frame got through");
}

/// Being restarted would not bring the camera back, and would only lose what waits to be sent.
#[test]
fn a_camera_that_is_known_to_be_away_does_not_starve_it() {
    let setup = Setup::new(
        "[[camera]]\nname = \"belt\"\n[camera.v4l]\ndevice = \"/dev/v4l/by-id/not-plugged-in\"\n",
    );
    let (mut manager, daemon) = Manager::of(setup, Duration::from_secs(8));
    daemon.wait_log("is the camera plugged in?");
    let fed = manager.count("WATCHDOG=1", Duration::from_secs(9));
    assert!(fed >= 1, "{:?}", manager.seen);
    manager.wait("STATUS=belt: ");
}
