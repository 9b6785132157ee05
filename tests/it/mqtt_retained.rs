//! What a reload or a restart drops leaves nothing behind on the broker.

use super::support::{Broker, LIMIT, Proxy, Setup, Subscriber, free_port, wait_for, write_images};
use std::collections::BTreeSet;

fn config(port: u16, cameras: &[&str], rest: &str) -> String {
    let camera = |name: &&str| {
        format!(
            "[[camera]]\nname = \"{name}\"\n[camera.replay]\npath = \"images\"\nrate = 10.0\nloop = true\n"
        )
    };
    let cameras: String = cameras.iter().map(camera).collect();
    format!("{cameras}[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n{rest}")
}

fn setup(text: &str) -> Setup {
    let setup = Setup::new(text);
    write_images(&setup.path("images"), 3);
    std::fs::create_dir(setup.path("state")).expect("folder");
    setup
}

/// The topics that the broker retains a message for.
fn retained(broker: &Broker) -> BTreeSet<String> {
    let subscriber = Subscriber::with_filter(broker, "#");
    subscriber.catch_up();
    let messages = subscriber.messages();
    let retained = messages.into_iter().filter(|m| m.retained);
    retained.map(|m| m.topic).collect()
}

/// Waits until the broker retains messages for these topics and no other.
fn wait_retained(broker: &Broker, topics: &[&str]) {
    let expected: BTreeSet<String> = topics.iter().map(|&t| t.to_owned()).collect();
    wait_for(&format!("{topics:?} and nothing else"), || {
        (retained(broker) == expected).then_some(())
    });
}

#[test]
fn a_reload_without_a_camera_or_with_other_topics_leaves_none_behind() {
    let port = free_port();
    let broker = Broker::start();
    let proxy = Proxy::to_broker(port, &broker);
    let daemon = setup(&config(port, &["belt", "gate"], "")).start();
    let all = [
        "constancy/bench/belt/state",
        "constancy/bench/gate/state",
        "constancy/bench/queue",
        "constancy/bench/status",
    ];
    wait_retained(&broker, &all);
    daemon.setup.write(&config(port, &["belt"], ""));
    daemon.signal(libc::SIGHUP);
    let without_gate = [all[0], all[2], all[3]];
    wait_retained(&broker, &without_gate);
    // Nothing of the old comes back with the next connection.
    proxy.drop_connections();
    daemon.wait_log_times(": connected", 3);
    let subscriber = Subscriber::new(&broker);
    subscriber.wait_events(5);
    wait_retained(&broker, &without_gate);
    daemon
        .setup
        .write(&config(port, &["belt"], "prefix = \"works/hall-1\"\n"));
    daemon.signal(libc::SIGHUP);
    let moved = [
        "works/hall-1/bench/belt/state",
        "works/hall-1/bench/queue",
        "works/hall-1/bench/status",
    ];
    wait_retained(&broker, &moved);
    // Sparkplug retains nothing.
    daemon
        .setup
        .write(&config(port, &["belt"], "payload = \"sparkplug\"\n"));
    daemon.signal(libc::SIGHUP);
    wait_retained(&broker, &[]);
    drop(daemon);
}

#[test]
fn a_restart_with_another_name_deletes_what_the_old_one_left_also_after_an_outage() {
    let port = free_port();
    let broker = Broker::start();
    let rest = "[queue]\nfolder = \"state\"\n[homeassistant]\ndiscovery = true\n";
    let proxy = Proxy::to_broker(port, &broker);
    let mut daemon = setup(&config(port, &["belt", "gate"], rest)).start();
    let all = [
        "constancy/bench/belt/state",
        "constancy/bench/gate/state",
        "constancy/bench/queue",
        "constancy/bench/status",
        "homeassistant/device/constancy_bench/config",
    ];
    wait_retained(&broker, &all);
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    proxy.close();
    let setup = daemon.take_setup();
    setup.write(&config(port, &["belt"], rest));
    setup.replace("device = \"bench\"", "device = \"line-3\"");
    // It is started once without the broker, and killed.
    let mut daemon = setup.start();
    daemon.wait_log("next attempt in");
    daemon.signal(libc::SIGKILL);
    daemon.wait_exit(LIMIT);
    proxy.connect_to(&broker);
    let daemon = daemon.take_setup().start();
    let renamed = [
        "constancy/line-3/belt/state",
        "constancy/line-3/queue",
        "constancy/line-3/status",
        "homeassistant/device/constancy_line-3/config",
    ];
    wait_retained(&broker, &renamed);
    drop(daemon);
}

#[test]
fn a_copied_state_folder_deletes_nothing_of_the_original() {
    let broker = Broker::start();
    let rest = "[queue]\nfolder = \"state\"\n";
    let daemon = setup(&config(broker.port, &["belt"], rest)).start();
    let original = [
        "constancy/bench/belt/state",
        "constancy/bench/queue",
        "constancy/bench/status",
    ];
    wait_retained(&broker, &original);
    let copy = setup(&config(broker.port, &["belt"], rest));
    copy.replace("device = \"bench\"", "device = \"clone\"");
    let text = std::fs::read_to_string(daemon.setup.path("state/mqtt.json")).expect("file");
    let mut contents: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        contents["retained"].as_object().map(serde_json::Map::len),
        Some(1)
    );
    contents["hardware"] = "another board".into();
    std::fs::write(copy.path("state/mqtt.json"), contents.to_string()).expect("file");
    let copy = copy.start();
    copy.wait_log("from another machine, perhaps by a copied card");
    let all = [
        &original[..],
        &[
            "constancy/clone/belt/state",
            "constancy/clone/queue",
            "constancy/clone/status",
        ],
    ]
    .concat();
    wait_retained(&broker, &all);
    assert!(
        !copy.log().contains("is published no longer"),
        "{}",
        copy.log()
    );
}
