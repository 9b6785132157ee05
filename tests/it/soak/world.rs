//! The daemon, its camera, its broker behind a network that can break, its disk and its clock.

use crate::support::clock::{libfaketime, with_fake_clock};
use crate::support::process::{descriptors, resident_kib, threads};
use crate::support::{
    Broker, Daemon, LIMIT, Message, Proxy, Setup, Subscriber, Tmpfs, free_port, jpeg, wait_for,
    write_images,
};
use std::fmt;
use std::path::PathBuf;

/// The cameras of every configuration; a reload may add a third one.
const CAMERAS: [&str; 2] = ["belt", "gate"];

/// Writes what the file `mode` says: good pictures, damaged ones, noise, nothing; or ends.
const CAMERA: &str = "\
cd \"${0%/*}\"
n=0
while :; do
    case \"$(cat mode)\" in
        good) cat images/0000$n.jpg ;;
        cut) cat cut.jpg ;;
        noise) cat noise ;;
        ends) exit 1 ;;
    esac
    n=$(((n + 1) % 5))
    sleep 0.2
done
";

/// What the daemon takes of the machine, in good health.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) resident_kib: u64,
    pub(super) descriptors: usize,
    pub(super) threads: u64,
}

impl Sample {
    /// The median of each figure.
    pub(super) fn median(samples: &[Self]) -> Self {
        fn middle<T: Ord + Copy>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
            let mut values: Vec<T> = samples.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        }
        Self {
            resident_kib: middle(samples, |s| s.resident_kib),
            descriptors: middle(samples, |s| s.descriptors),
            threads: middle(samples, |s| s.threads),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resident_kib,
            descriptors,
            threads,
        } = self;
        write!(
            f,
            "{resident_kib} KiB, {descriptors} descriptors, {threads} threads"
        )
    }
}

pub(super) struct World {
    pub(super) daemon: Daemon,
    pub(super) proxy: Proxy,
    pub(super) broker: Broker,
    subscriber: Subscriber,
    /// The disk under the queue, where this machine lets a test mount one.
    pub(super) disk: Option<Tmpfs>,
    /// Whether the daemon's wall clock can be moved.
    pub(super) has_clock: bool,
    port: u16,
}

impl World {
    pub(super) fn start() -> Self {
        let port = free_port();
        let broker = Broker::start();
        let proxy = Proxy::to_broker(port, &broker);
        let subscriber = Subscriber::new(&broker);
        let mut setup = Setup::new(&config(port, ""));
        write_images(&setup.path("images"), 5);
        let whole = jpeg(160, 120, 9);
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(setup.path(name), bytes).expect("the camera's file");
        };
        write(
            "cut.jpg",
            &[&whole[..whole.len() / 2], &[0xff, 0xd9]].concat(),
        );
        write(
            "noise",
            &(0..20_000u32)
                .map(|i| ((i * i) >> 7) as u8)
                .collect::<Vec<_>>(),
        );
        write("camera.sh", CAMERA.as_bytes());
        write("mode", b"good");
        write("clock", b"+0");
        std::fs::create_dir(setup.path("state")).expect("folder");
        let disk = Tmpfs::on(&setup.path("state"), "size=16m");
        let library = libfaketime();
        let has_clock = library.is_some();
        if let Some(library) = library {
            setup = with_fake_clock(setup, &library);
        }
        let daemon = setup.start();
        let world = Self {
            daemon,
            proxy,
            broker,
            subscriber,
            disk,
            has_clock,
            port,
        };
        world.wait_healthy();
        world
    }

    /// A file of the daemon's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.daemon.setup.path(name)
    }

    /// Writes a file that the daemon or its camera reads again and again, never half.
    pub(super) fn set(&self, name: &str, content: &str) {
        let new = self.path("new");
        std::fs::write(&new, content).expect("file");
        std::fs::rename(new, self.path(name)).expect("file");
    }

    /// Makes the daemon read a configuration with these lines at its end.
    pub(super) fn reload(&self, more: &str) {
        self.daemon.setup.write(&config(self.port, more));
        self.daemon.signal(libc::SIGHUP);
    }

    /// Waits until every camera's event of a frame taken after now has arrived, and events go to disk.
    pub(super) fn wait_healthy(&self) {
        let now = monotonic_ns();
        let what = || format!("health; log:\n{}", last_lines(&self.daemon.log()));
        let healthy = |messages: &[Message]| {
            let fresh = |camera: &&str| {
                let topic = format!("bench/{camera}/event");
                let last = messages.iter().rev().find(|m| m.topic.ends_with(&topic));
                last.is_some_and(|m| m.json()["monotonic_ns"].as_u64() > Some(now))
            };
            let queue = messages
                .iter()
                .rev()
                .find(|m| m.topic.ends_with("bench/queue"));
            let on_disk = queue.is_some_and(|m| m.json()["storage"] == "disk");
            (CAMERAS.iter().all(fresh) && on_disk).then_some(())
        };
        self.subscriber.wait_up_to(LIMIT * 3, &what(), healthy);
    }

    pub(super) fn sample(&self) -> Sample {
        Sample {
            resident_kib: resident_kib(&self.daemon),
            descriptors: descriptors(&self.daemon),
            threads: threads(&self.daemon),
        }
    }

    /// Stops the daemon. Returns everything that arrived, once nothing waits in its queue any more.
    pub(super) fn stop(mut self) -> Vec<Message> {
        for camera in CAMERAS {
            self.subscriber.publish(
                &format!("constancy/bench/{camera}/set/enabled"),
                b"false",
                false,
            );
        }
        self.subscriber
            .wait_up_to(LIMIT * 3, "an empty queue", |messages| {
                let queue = messages
                    .iter()
                    .rev()
                    .find(|m| m.topic.ends_with("bench/queue"))?;
                (queue.json()["waiting"] == 0).then_some(())
            });
        self.daemon.signal(libc::SIGTERM);
        let (status, took) = self.daemon.wait_exit(LIMIT);
        assert!(status.success(), "{status}");
        println!(
            "stopped in {:.1} s; {} lines of log",
            took.as_secs_f64(),
            self.daemon.log().lines().count()
        );
        self.subscriber.catch_up();
        wait_for("the last word", || {
            let messages = self.subscriber.messages();
            let stopped =
                |m: &Message| m.topic.ends_with("bench/status") && m.payload == b"stopped";
            messages.iter().any(stopped).then_some(messages)
        })
    }
}

fn config(port: u16, more: &str) -> String {
    format!(
        "[[camera]]
name = \"belt\"
stall_s = 1.0
[camera.pipe]
command = [\"sh\", \"DIR/camera.sh\"]
[[camera]]
name = \"gate\"
[camera.replay]
path = \"images\"
rate = 3.0
loop = true
{more}
[mqtt]
broker = \"mqtt://127.0.0.1:{port}\"
backoff_max_s = 1
keep_alive_s = 5
commands = [\"enabled\"]
[queue]
folder = \"state\"
sync_s = 0.2
drain_per_s = 2000.0
drain_delay_s = 0.0
"
    )
}

/// The machine's monotonic clock.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime writes to the structure that it is given.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
