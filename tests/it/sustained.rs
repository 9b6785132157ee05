//! Ten thousand frames leak no memory and no file descriptors, and neither do reloads.

use super::support::process::{descriptors, resident_kib};
use super::support::{Broker, Setup, Subscriber, seqs, write_images};
use std::time::Duration;

const FRAMES: u64 = 10_000;
/// After so many frames every buffer has its final size.
const WARM: u64 = 500;

#[test]
fn ten_thousand_frames_leak_no_memory_and_no_descriptors() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nloop = true\n[mqtt]\nbroker = \"{}\"\n",
        broker.url()
    ));
    write_images(&setup.path("images"), 40);
    let daemon = setup.start();
    let arrived = |count: u64| {
        let limit = Duration::from_secs(300);
        subscriber.wait_up_to(limit, &format!("event {count}"), |messages| {
            let last = messages.iter().rev().find(|m| m.is_event())?;
            (last.json()["seq"].as_u64()? >= count).then_some(())
        });
    };
    arrived(WARM);
    let (memory, open) = (resident_kib(&daemon), descriptors(&daemon));
    arrived(FRAMES);
    let (memory_then, open_then) = (resident_kib(&daemon), descriptors(&daemon));
    let growth = memory_then as f64 / memory as f64 - 1.0;
    println!(
        "after {WARM} frames {memory} KiB, {open} descriptors; after {FRAMES} {memory_then} KiB ({:+.2} %), {open_then}",
        growth * 100.0
    );
    assert!(
        growth.abs() <= 0.05,
        "resident memory {memory} KiB, then {memory_then} KiB"
    );
    assert!(open_then <= open, "descriptors {open}, then {open_then}");
    let seqs = seqs(&subscriber.events());
    assert!(
        seqs.windows(2).all(|w| w[1] == w[0] + 1),
        "events arrive in order, without gaps"
    );
}

#[test]
fn reloads_leak_no_memory() {
    const WARM: usize = 4;
    const RELOADS: usize = 20;
    let setup = Setup::new(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nloop = true\nrate = 20.0\n",
    );
    write_images(&setup.path("images"), 5);
    let daemon = setup.start();
    daemon.wait_events(3);
    let reload_until = |count: usize, from: usize| {
        for done in from..count {
            daemon.signal(libc::SIGHUP);
            daemon.wait_log_times("the new configuration is in force", done + 1);
        }
        let so_far = daemon.events().len();
        daemon.wait_events(so_far + 3);
        resident_kib(&daemon)
    };
    let warm = reload_until(WARM, 0);
    let then = reload_until(RELOADS, WARM);
    println!("after {WARM} reloads {warm} KiB, after {RELOADS} {then} KiB");
    assert!(then <= warm + 768, "{warm} KiB, then {then} KiB");
}
