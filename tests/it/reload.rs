//! SIGHUP: the daemon adopts a valid configuration and refuses an invalid one.

use super::support::{
    Broker, Proxy, Setup, Subscriber, assert_numbered_from_zero, free_port, write_images,
};

const CAMERA: &str =
    "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n";

fn setup() -> Setup {
    let setup = Setup::new(CAMERA);
    write_images(&setup.path("images"), 5);
    setup
}

#[test]
fn an_invalid_configuration_leaves_the_old_one_in_force() {
    let daemon = setup().start();
    daemon.wait_events(3);
    let broken = [
        "camera = 3\n",
        &format!("{CAMERA}[mqtt]\nbroket = 1\n"),
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"gone\"\n",
        "",
    ];
    for (i, rest) in broken.iter().enumerate() {
        daemon.setup.write(rest);
        daemon.signal(libc::SIGHUP);
        daemon.wait_log_times("the new configuration is refused, the old one stays", i + 1);
        let so_far = daemon.events().len();
        daemon.wait_events(so_far + 3);
    }
    std::fs::remove_file(daemon.setup.config()).expect("configuration");
    daemon.signal(libc::SIGHUP);
    daemon.wait_log_times("the new configuration is refused", broken.len() + 1);
    daemon.setup.write(CAMERA);
    daemon.signal(libc::SIGHUP);
    daemon.wait_log("the new configuration is in force");
    // Reloading skips no number.
    assert_numbered_from_zero(&daemon.events());
}

#[test]
fn a_valid_configuration_changes_classes_cameras_and_broker() {
    let daemon = setup().start();
    daemon.wait_events(3);
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let text = format!(
        "{}[mqtt]\nbroker = \"{}\"\n",
        CAMERA.replace("belt", "gate"),
        broker.url()
    );
    daemon.setup.write(&text);
    daemon.setup.replace("a bolt", "a washer\", \"a spring");
    daemon.signal(libc::SIGHUP);
    let events = subscriber.wait_events(3);
    assert_eq!(events[0]["camera"], "gate");
    assert_eq!(events[0]["seq"], 0);
    assert_eq!(events[0]["top"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        events[0]["boot_id"],
        daemon.events()[0]["boot_id"],
        "it is the same daemon"
    );
    subscriber.wait_message("bench/status", |h| h.text() == "online");
}

/// Without a folder the queue is in memory, and a reload starts another.
#[test]
fn a_reload_while_the_broker_is_away_loses_no_event() {
    let port = free_port();
    let mqtt = |keep_alive_s: u32| {
        format!(
            "{CAMERA}[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\nkeep_alive_s = {keep_alive_s}\n"
        )
    };
    let setup = Setup::new(&mqtt(20));
    write_images(&setup.path("images"), 5);
    let daemon = setup.start();
    daemon.wait_log_times("next attempt in", 2);
    for (i, keep_alive_s) in [30, 40].into_iter().enumerate() {
        daemon.setup.write(&mqtt(keep_alive_s));
        daemon.signal(libc::SIGHUP);
        daemon.wait_log_times("the new configuration is in force", i + 1);
    }
    let log = daemon.log();
    assert!(!log.contains("are lost"), "{log}");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let _proxy = Proxy::to_broker(port, &broker);
    assert_numbered_from_zero(&subscriber.wait_events(20));
}
