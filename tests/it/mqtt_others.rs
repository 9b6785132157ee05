//! Two devices that were given one client id, or one name.

use super::support::{Broker, Daemon, Proxy, Setup, Subscriber, free_port, write_images};

const TOPIC: &str = "homeassistant/device/constancy_bench/config";

/// A device whose camera has this name; `mqtt` are lines of `[mqtt]`.
fn start(broker: &Broker, camera: &str, mqtt: &str) -> Daemon {
    start_on(&broker.url(), camera, mqtt)
}

fn start_on(url: &str, camera: &str, mqtt: &str) -> Daemon {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"{camera}\"\n[camera.replay]\npath = \"images\"\nrate = 10.0\nloop = true\n[mqtt]\nbroker = \"{url}\"\n{mqtt}",
    ));
    write_images(&setup.path("images"), 3);
    setup.start()
}

#[test]
fn two_clients_with_one_id_are_told_so_with_the_id_and_the_mend() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let id = "client_id = \"line-3-camera\"\nbackoff_max_s = 1\n";
    let first = start(&broker, "belt", id);
    subscriber.wait_events(3);
    let second = start(&broker, "gate", id);
    let told = "another client seems to use the same client id, line-3-camera. Give each device its own `mqtt.client_id`";
    first.wait_log(told);
    second.wait_log(told);
    second.wait_log_times("next attempt in", 4);
    let told = |daemon: &Daemon| daemon.log().matches(told).count();
    assert_eq!((told(&first), told(&second)), (1, 1), "once");
}

/// As a forwarder in front of a broker that is away, which accepts a connection and closes it.
#[test]
fn connections_that_nobody_answers_are_no_other_client() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let port = free_port();
    let proxy = Proxy::to_broker(port, &broker);
    let daemon = start_on(
        &format!("mqtt://127.0.0.1:{port}"),
        "belt",
        "backoff_max_s = 1\n",
    );
    subscriber.wait_events(3);
    proxy.close();
    daemon.wait_log_times("next attempt in", 4);
    let seen = subscriber.events().len();
    proxy.connect_to(&broker);
    subscriber.wait_events(seen + 3);
    assert!(!daemon.log().contains("another client"), "{}", daemon.log());
}

#[test]
fn two_devices_with_one_name_do_not_answer_each_other() {
    let broker = Broker::start();
    let subscriber = Subscriber::with_filter(&broker, "#");
    let discovery = |id: &str| format!("client_id = \"{id}\"\n[homeassistant]\ndiscovery = true\n");
    let first = start(&broker, "belt", &discovery("one"));
    subscriber.wait_message(TOPIC, |_| true);
    let second = start(&broker, "gate", &discovery("two"));
    first.wait_log("another device publishes on homeassistant/device/constancy_bench/config, this device's topic: Home Assistant shows whichever came last. Give each device its own name (`device`)");
    subscriber.wait_message("gate/event", |_| true);
    // Home Assistant starts again and again.
    for _ in 0..500 {
        subscriber.publish("homeassistant/status", b"online", false);
    }
    let seen = subscriber.events().len();
    subscriber.wait_events(seen + 40);
    let messages = subscriber.messages();
    let sent = messages.iter().filter(|m| m.topic == TOPIC).count();
    assert!((3..=12).contains(&sent), "{sent} discovery messages");
    drop(second);
}
