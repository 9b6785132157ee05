//! How child processes end, what they inherit, and what they write to stderr.

use super::super::support::{Daemon, LIMIT, Setup, jpeg, wait_for, write_images};
use super::setup;
use std::path::Path;

/// A program that sends a frame again and again and survives SIGTERM, in a pipeline with another, next to one that has left
/// the process group. Each writes its number into a file of its own.
const FAMILY: &str = "trap '' TERM; echo $$ > shell.pid; \
    setsid sh -c 'trap \"\" TERM HUP; echo $$ > daemonised.pid; while :; do sleep 1; done' & \
    (sh -c 'echo $PPID > writer.pid'; while cat good.jpg; do sleep 0.05; done) | (sh -c 'echo $PPID > reader.pid'; cat)";
const MEMBERS: [&str; 4] = ["shell", "daemonised", "writer", "reader"];

/// Starts the family under the daemon; returns the process numbers, the guard's first.
fn start_family() -> (Daemon, Vec<u32>) {
    let setup = setup("mjpeg", 30.0, FAMILY);
    std::fs::write(setup.path("good.jpg"), jpeg(64, 48, 1)).expect("image");
    let daemon = setup.start();
    daemon.wait_events(1);
    let members = MEMBERS.map(|name| {
        let path = daemon.setup.path(&format!("{name}.pid"));
        wait_for(name, || {
            std::fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
    });
    let guard = parent(members[0]);
    assert_eq!(
        parent(guard),
        daemon.pid(),
        "the guard is the daemon's child"
    );
    (daemon, [vec![guard], members.to_vec()].concat())
}

/// A process's fields after its name: state, parent, …
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn parent(id: u32) -> u32 {
    let stat = stat(id).expect("a running process");
    stat[1].parse().expect("a process number")
}

/// Waits until none of the processes runs. A zombie does not: whoever adopted it waits for it.
fn wait_for_end(ids: &[u32]) {
    for &id in ids {
        let ended = || stat(id).is_none_or(|fields| fields[0] == "Z");
        wait_for(&format!("process {id} to end"), || ended().then_some(()));
    }
}

fn signal(id: u32, signal: i32) {
    let id = i32::try_from(id).expect("a process number");
    // SAFETY: kill takes no pointers. The process was just seen running and belongs to this test.
    assert_eq!(unsafe { libc::kill(id, signal) }, 0);
}

#[test]
fn a_killed_daemon_leaves_no_descendants() {
    for signal in [libc::SIGKILL, libc::SIGUSR1, libc::SIGTERM] {
        let (mut daemon, family) = start_family();
        daemon.signal(signal);
        daemon.wait_exit(LIMIT);
        wait_for_end(&family);
    }
}

#[test]
fn a_killed_guard_leaves_only_what_left_its_group() {
    let (mut daemon, family) = start_family();
    let [guard, shell, daemonised, writer, reader] = family[..] else {
        panic!("five processes");
    };
    // A reload that is sent to every process with this name ends nothing.
    signal(guard, libc::SIGHUP);
    let frames = daemon.events().len();
    daemon.wait_events(frames + 2);
    assert!(stat(guard).is_some());
    signal(guard, libc::SIGKILL);
    wait_for_end(&[guard, shell]);
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    wait_for_end(&[writer, reader]);
    signal(daemonised, libc::SIGKILL);
}

#[test]
fn a_camera_that_a_reload_removes_leaves_no_descendants() {
    let (daemon, family) = start_family();
    write_images(&daemon.setup.path("images"), 3);
    daemon.setup.write(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n",
    );
    daemon.signal(libc::SIGHUP);
    daemon.wait_log("the new configuration is in force");
    wait_for_end(&family);
}

#[test]
fn descendants_of_a_program_that_ended_are_ended_before_it_is_started_again() {
    let script = "sleep 1000 >/dev/null & echo $! >> left; exit 3";
    let daemon = setup("mjpeg", 30.0, script).start();
    daemon.wait_log("ended (exit status: 3)");
    let left = daemon.setup.path("left");
    let ids = wait_for("two starts", || {
        let text = std::fs::read_to_string(&left).ok()?;
        let ids: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
        (ids.len() >= 2).then_some(ids)
    });
    wait_for_end(&ids[..1]);
}

#[test]
fn a_programs_end_by_a_signal_is_told() {
    let daemon = setup("mjpeg", 30.0, "kill -KILL $$").start();
    daemon.wait_log("`sh` ended (signal: 9 (SIGKILL))");
}

#[test]
fn children_inherit_neither_secrets_nor_open_files() {
    let setup = setup(
        "mjpeg",
        30.0,
        "env > env.txt; ls -l /proc/self/fd > fds.txt; touch done; exec sleep 60",
    );
    let setup = ["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"]
        .iter()
        .fold(setup, |setup, name| setup.env(name, "/nowhere"))
        .env("CAMERA_TOKEN_FILE", "kept");
    let daemon = setup.start();
    wait_for("the program", || {
        daemon.setup.path("done").exists().then_some(())
    });
    let read = |name: &str| std::fs::read_to_string(daemon.setup.path(name)).expect(name);
    let env = read("env.txt");
    assert!(!env.contains("/nowhere"), "{env}");
    assert!(env.contains("CAMERA_TOKEN_FILE=kept"), "{env}");
    // stdin, stdout, stderr, and the folder that ls reads.
    let fds = read("fds.txt");
    assert_eq!(fds.matches(" -> ").count(), 4, "{fds}");
    assert!(fds.contains("0 -> /dev/null"), "{fds}");
}

#[test]
fn stderr_is_bounded_in_lines_and_in_rate() {
    // A megabyte without a line's end, many lines, progress that ends with carriage returns, and a forged line.
    let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; \
         seq 5000 >&2; printf 'frame=1\\rframe=2\\r' >&2; \
         printf '\\033[31mforged\\033[0m\\b rtsp://u:geheim@h/s?password=geheim\\n' >&2; exit 1";
    let daemon = setup("mjpeg", 30.0, script).arg("-v").start();
    daemon.wait_log("ended (exit status: 1): forged\u{fffd} rtsp://***@h/s?password=***");
    // A camera's second start logs again.
    daemon.wait_log("more lines");
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().collect();
    let first = lines
        .iter()
        .position(|l| l.contains("more lines"))
        .expect("the rest is counted");
    assert!(first < 60, "line {first}");
    assert!(lines.iter().all(|l| l.chars().count() < 1200), "long lines");
    assert!(!log.contains("geheim") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_program_on_no_path_is_told_as_before() {
    let setup = Setup::new(
        "[[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"/no/such/program\", \"--version\"]\n",
    );
    assert!(!Path::new("/no/such/program").exists());
    let daemon = setup.start();
    daemon.wait_log("`/no/such/program` cannot be started: No such file or directory (os error 2); is it installed?");
}
