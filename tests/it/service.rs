//! Signals, and the notifications to systemd.

use super::support::{Broker, Daemon, LIMIT, Setup, Subscriber, free_port, write_images};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// How long a test waits for the daemon to stop. It allows itself two seconds; a busy machine adds to them.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A daemon that replays five images in a loop, with these lines in its configuration.
fn setup(mqtt: &str) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 50.0\nloop = true\n{mqtt}"
    ));
    write_images(&setup.path("images"), 5);
    setup
}

/// A daemon whose broker is absent.
fn setup_without_broker() -> Setup {
    setup(&format!(
        "[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n",
        free_port()
    ))
}

/// Stops the daemon with `signal` and returns its log.
fn stop(mut daemon: Daemon, signal: i32) -> String {
    daemon.signal(signal);
    let (status, took) = daemon.wait_exit(STOP_LIMIT);
    assert!(status.success(), "{status}; log:\n{}", daemon.log());
    assert!(
        took <= Duration::from_secs(2),
        "stopped {took:?} after signal {signal}"
    );
    daemon.log()
}

#[test]
fn sigterm_and_sigint_deliver_what_waits_and_stop() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let broker = Broker::start();
        let subscriber = Subscriber::new(&broker);
        let daemon = setup(&format!("[mqtt]\nbroker = \"{}\"\n", broker.url())).start();
        subscriber.wait_events(10);
        let log = stop(daemon, signal);
        assert!(!log.contains("could not be delivered"), "{log}");
        subscriber.wait_message("bench/status", |h| h.text() == "stopped");
        Subscriber::new(&broker)
            .wait_message("bench/status", |h| h.retained && h.text() == "stopped");
    }
}

#[test]
fn an_absent_broker_does_not_delay_the_stop_and_losses_are_logged() {
    let daemon = setup_without_broker().start();
    daemon.wait_log("next attempt in");
    let log = stop(daemon, libc::SIGTERM);
    assert!(
        log.contains("messages could not be delivered before leaving and are lost"),
        "{log}"
    );
}

/// The exit code shows that it did not wait for the broker.
#[test]
fn a_second_signal_stops_at_once() {
    let mut daemon = setup_without_broker().start();
    daemon.wait_log("next attempt in");
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("asked to stop");
    daemon.signal(libc::SIGTERM);
    let (status, _) = daemon.wait_exit(STOP_LIMIT);
    assert_eq!(status.code(), Some(128 + libc::SIGTERM));
}

/// The receiving end of the notify socket, as in systemd.
struct Notifications {
    socket: UnixDatagram,
    messages: Vec<String>,
}

impl Notifications {
    /// Starts the daemon with this watchdog interval.
    fn start(setup: Setup, watchdog: Duration) -> (Self, Daemon) {
        let (notifications, setup) = Self::bind(setup, watchdog);
        (notifications, setup.start())
    }

    /// A setup of a daemon that will notify, with this watchdog interval.
    fn bind(setup: Setup, watchdog: Duration) -> (Self, Setup) {
        let path = setup.path("notify");
        let socket = UnixDatagram::bind(&path).expect("socket");
        let setup = setup
            .env("NOTIFY_SOCKET", path.to_string_lossy())
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        let messages = Vec::new();
        (Self { socket, messages }, setup)
    }

    fn count(&self, text: &str) -> usize {
        self.messages.iter().filter(|m| m.contains(text)).count()
    }

    /// Receives one message, if one arrives within `limit`.
    fn receive(&mut self, limit: Duration) -> bool {
        let limit = limit.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(limit)).expect("timeout");
        let mut buffer = [0; 4096];
        let Ok(n) = self.socket.recv(&mut buffer) else {
            return false;
        };
        let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
        self.messages.push(message);
        true
    }

    /// Receives every message that has been sent so far.
    fn receive_pending(&mut self) {
        while self.receive(Duration::ZERO) {}
    }

    /// Receives messages for this long.
    fn receive_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.receive(left);
        }
    }

    /// Waits until `count` messages contain `text`.
    fn wait_count(&mut self, text: &str, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.count(text) < count {
            assert!(
                Instant::now() < deadline,
                "{count} times {text} in {:?}",
                self.messages
            );
            self.receive(Duration::from_millis(100));
        }
    }

    /// Waits until a message contains `text`.
    fn wait(&mut self, text: &str) {
        self.wait_count(text, 1);
    }

    /// Waits until `count` further messages, sent from now on, contain `text`.
    #[cfg(feature = "gpu")]
    fn wait_more(&mut self, text: &str, count: usize) {
        self.wait_more_within(text, count, LIMIT);
    }

    /// The same with a limit, for notifications that come too late to be of use.
    fn wait_more_within(&mut self, text: &str, count: usize, limit: Duration) {
        self.receive_pending();
        let start = Instant::now();
        self.wait_count(text, self.count(text) + count);
        assert!(
            start.elapsed() < limit,
            "{count} times {text} took {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn systemd_is_notified_of_readiness_status_reload_and_stopping() {
    let (mut notifications, mut daemon) = Notifications::start(setup(""), Duration::from_secs(2));
    notifications.wait("READY=1");
    notifications.wait("STATUS=");
    notifications.wait("frames/s");
    daemon.signal(libc::SIGHUP);
    notifications.wait("RELOADING=1");
    daemon.wait_log("the new configuration is in force");
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    notifications.wait("STOPPING=1");
}

/// A CUDA library that waits for a file stands in for a GPU whose kernels are being compiled.
#[cfg(feature = "gpu")]
#[test]
fn systemd_waits_while_a_gpu_is_prepared_at_start_and_at_reload() {
    let libraries = super::gpu::driver(13000, 0, 1);
    let go = libraries.path().join("go");
    let wait = format!("while (access(\"{}\", F_OK)) usleep(10000);", go.display());
    let source = format!(
        "#include <unistd.h>\n__attribute__((constructor)) static void wait(void) {{ {wait} }}"
    );
    super::gpu::library(libraries.path(), "libcudart.so", &source);
    let setup = setup("").env("LD_LIBRARY_PATH", libraries.path().to_string_lossy());
    let (mut notifications, daemon) = Notifications::start(setup, Duration::from_secs(1));
    notifications.wait("EXTEND_TIMEOUT_USEC=90000000");
    notifications.wait("STATUS=preparing the GPU");
    assert_eq!(
        notifications.count("READY=1"),
        0,
        "{:?}",
        notifications.messages
    );
    std::fs::write(&go, "").expect("go");
    notifications.wait("READY=1");
    daemon.wait_log("the tower runs on the CPU: CUDA's libraries are not all there");
    std::fs::remove_file(&go).expect("stop");
    daemon.signal(libc::SIGHUP);
    notifications.wait("RELOADING=1");
    notifications.wait_more("EXTEND_TIMEOUT_USEC=90000000", 1);
    // systemd would have restarted the daemon after four intervals at the latest.
    notifications.wait_more_within("WATCHDOG=1", 4, Duration::from_secs(4));
    std::fs::write(&go, "").expect("go");
    daemon.wait_log("the new configuration is in force");
}

#[test]
fn frames_feed_the_watchdog() {
    let (mut notifications, daemon) = Notifications::start(setup(""), Duration::from_secs(1));
    notifications.wait("READY=1");
    daemon.wait_events(5);
    // systemd would have restarted the daemon after four intervals at the latest.
    notifications.wait_more_within("WATCHDOG=1", 4, Duration::from_secs(4));
}

/// None of these hangs, and a frame comes later than the watchdog waits.
#[test]
fn cameras_that_are_slow_as_configured_do_not_starve_the_watchdog() {
    let cameras = [
        "[camera.replay]\npath = \"images\"\nrate = 0.001\n",
        "[camera.synthetic]\nrate = 0.001\nwidth = 32\nheight = 32\n",
        "stall_s = 3600.0\n[camera.pipe]\ncommand = [\"sleep\", \"1000\"]\n",
    ];
    for camera in cameras {
        let setup = Setup::new(&format!("[[camera]]\nname = \"belt\"\n{camera}"));
        write_images(&setup.path("images"), 2);
        let (mut notifications, _daemon) = Notifications::start(setup, Duration::from_secs(1));
        notifications.wait("READY=1");
        // systemd would have restarted the daemon after four intervals at the latest.
        notifications.wait_more_within("WATCHDOG=1", 8, Duration::from_secs(8));
    }
}

/// The C library's `open64` never returns for one image: the capture thread hangs, as in a driver or on a network drive.
#[test]
fn a_camera_that_hangs_starves_the_watchdog() {
    let setup = setup("");
    let source = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdarg.h>\n#include <string.h>\n#include <unistd.h>\n\
        int open64(const char *path, int flags, ...) {\n\
        if (strstr(path, \"00003.jpg\")) for (;;) pause();\n\
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);\n\
        int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, \"open64\");\n\
        return next(path, flags, mode); }\n";
    super::gpu::library(setup.folder.path(), "hang.so", source);
    let library = setup.path("hang.so");
    let setup = setup.env("LD_PRELOAD", library.to_string_lossy());
    let (mut notifications, daemon) = Notifications::start(setup, Duration::from_secs(1));
    daemon.wait_events(3);
    // The thread may take one interval; then nothing feeds any more.
    let deadline = Instant::now() + LIMIT;
    loop {
        notifications.receive_pending();
        let fed = notifications.count("WATCHDOG=1");
        notifications.receive_for(Duration::from_secs(2));
        if notifications.count("WATCHDOG=1") == fed {
            break;
        }
        assert!(Instant::now() < deadline, "still fed: {}", daemon.log());
    }
    assert_eq!(daemon.events().len(), 3, "no frame arrives");
}

/// So many labels that the text tower takes long.
fn many_labels() -> String {
    let labels = (0..6000).map(|i| format!("\"number {i} of many\""));
    labels.collect::<Vec<_>>().join(", ")
}

#[test]
fn sigterm_stops_a_daemon_that_still_loads() {
    let setup = setup("");
    setup.replace("\"a gear\", \"a bolt\"", &many_labels());
    let daemon = setup.start();
    daemon.wait_thread("loading");
    let log = stop(daemon, libc::SIGTERM);
    assert!(
        log.contains("asked to stop while the configuration was loading"),
        "{log}"
    );
}

#[test]
fn events_go_on_during_a_reload_which_sigterm_abandons() {
    let daemon = setup("").start();
    daemon.wait_events(2);
    daemon
        .setup
        .replace("\"a gear\", \"a bolt\"", &many_labels());
    daemon.signal(libc::SIGHUP);
    daemon.wait_thread("loading");
    let so_far = daemon.events().len();
    daemon.wait_events(so_far + 3);
    let log = stop(daemon, libc::SIGTERM);
    assert!(!log.contains("is in force"), "it was not adopted: {log}");
}

#[test]
fn sigterm_stops_a_daemon_whose_events_nobody_reads() {
    let (mut notifications, setup) = Notifications::bind(setup(""), Duration::from_secs(1));
    let (daemon, _stdout) = setup.start_unread();
    notifications.wait("nobody reads stdout");
    // A restart would change nothing.
    notifications.wait_more_within("WATCHDOG=1", 4, Duration::from_secs(4));
    let log = stop(daemon, libc::SIGTERM);
    assert!(log.contains("could not be delivered"), "{log}");
}

/// A restart would not bring the camera back.
#[test]
fn an_absent_camera_does_not_starve_the_watchdog() {
    let setup = Setup::new(
        "[[camera]]\nname = \"belt\"\n[camera.v4l]\ndevice = \"/dev/v4l/by-id/not-plugged-in\"\n",
    );
    let (mut notifications, daemon) = Notifications::start(setup, Duration::from_secs(8));
    daemon.wait_log("is the camera plugged in?");
    notifications.wait_more_within("WATCHDOG=1", 1, Duration::from_secs(9));
    notifications.wait("STATUS=belt: /dev/v4l/by-id/not-plugged-in");
}
