//! Sparkplug B as a host application receives it: the real daemon, a real broker, and an independent implementation
//! that checks the messages.

use super::support::{
    Broker, Daemon, LIMIT, Message, Proxy, Setup, Subscriber, constancy, free_port, jpeg,
    judges_python, stderr, write_images,
};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A camera `belt` that replays images, and a camera `gate` that fails once a second.
fn config(port: u16) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n\
         [[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cat DIR/one.jpg; sleep 1; exit 1\"]\n\
         [mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\npayload = \"sparkplug\"\nsparkplug_group = \"plant\"\nbackoff_max_s = 1\n\
         [queue]\nfolder = \"state\"\nsync_s = 0.2\ndrain_per_s = 1000.0\ndrain_delay_s = 0.0\n"
    )
}

/// Messages of a kind, such as NBIRTH.
fn count(messages: &[Message], kind: &str) -> usize {
    messages
        .iter()
        .filter(|h| h.topic.split('/').nth(2) == Some(kind))
        .count()
}

/// Waits for `more` further messages of a kind.
fn wait_more(subscriber: &Subscriber, kind: &str, more: usize) {
    let before = count(&subscriber.messages(), kind);
    subscriber.wait(&format!("{more} more {kind}"), |h| {
        (count(h, kind) >= before + more).then_some(())
    });
}

/// `Node Control/Rebirth = true`, encoded by hand from the protobuf definition.
fn rebirth() -> Vec<u8> {
    let name = b"Node Control/Rebirth";
    let mut metric = vec![0x0a, u8::try_from(name.len()).expect("short")];
    metric.extend(name);
    metric.extend([0x20, 11, 0x70, 1]);
    [
        vec![0x08, 1, 0x12, u8::try_from(metric.len()).expect("short")],
        metric,
    ]
    .concat()
}

/// Runs `tests/sparkplug.py` on the record. Returns its report, and whether every rule is kept.
fn judge(python: &Path, record: &[Value], folder: &Path) -> (Value, bool) {
    let path = folder.join("record.jsonl");
    std::fs::write(
        &path,
        record.iter().map(|l| format!("{l}\n")).collect::<String>(),
    )
    .expect("record");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sparkplug.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&path)
        .output()
        .expect("python");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = stderr(&output);
    (
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{errors}")),
        output.status.success(),
    )
}

/// The messages as lines of `tests/sparkplug.py`'s input.
fn record(messages: &[Message]) -> Vec<Value> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let line = |h: &Message| json!({"topic": h.topic, "qos": h.qos, "retain": h.retained, "payload": hex(&h.payload)});
    messages.iter().map(line).collect()
}

/// Births, a rebirth, three broken connections and a restart; the daemon is stopped at the end.
fn run_through(subscriber: &Subscriber, proxy: &Proxy, mut daemon: Daemon) -> Daemon {
    wait_more(subscriber, "DDATA", 300);
    subscriber.publish("spBv1.0/plant/NCMD/bench", &rebirth(), false);
    wait_more(subscriber, "NBIRTH", 1);
    wait_more(subscriber, "DDEATH", 1);
    for _ in 0..3 {
        proxy.drop_connections();
        wait_more(subscriber, "NBIRTH", 1);
        wait_more(subscriber, "DDATA", 60);
    }
    for restart in [true, false] {
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit(LIMIT);
        if restart {
            daemon = daemon.take_setup().start();
            wait_more(subscriber, "DDATA", 20);
        }
    }
    daemon
}

/// The broker stores nothing: a late subscriber receives only what is published from then on.
fn assert_nothing_retained(broker: &Broker, subscriber: &Subscriber) {
    let late = Subscriber::with_filter(broker, "#");
    subscriber.publish("spBv1.0/plant/NCMD/nobody", b"", false);
    late.wait_message("NCMD/nobody", |_| true);
    assert_eq!(late.messages().len(), 1, "{:?}", late.messages());
}

/// The checker finds a missing message and a wrong QoS.
fn assert_checker_finds_faults(python: &Path, record: &[Value], folder: &Path) {
    let is_data = |l: &Value| l["topic"].as_str().is_some_and(|t| t.contains("/DDATA/"));
    let at = record.iter().rposition(is_data).expect("data");
    let mut with_gap = record.to_vec();
    with_gap.remove(at - 5);
    let (report, good) = judge(python, &with_gap, folder);
    assert!(
        !good && report["broken"]["tck-id-payloads-sequence-num-incrementing"].is_string(),
        "{report}"
    );
    let mut with_qos = record.to_vec();
    with_qos[at]["qos"] = json!(1);
    let (report, _) = judge(python, &with_qos, folder);
    assert!(
        report["broken"]["tck-id-payloads-ddata-qos"].is_string(),
        "{report}"
    );
}

#[test]
fn an_independent_implementation_finds_every_rule_kept_and_every_event() {
    let port = free_port();
    let broker = Broker::start();
    let subscriber = Subscriber::with_filter(&broker, "spBv1.0/#");
    let proxy = Proxy::to_broker(port, &broker);
    let setup = Setup::new(&config(port));
    write_images(&setup.path("images"), 5);
    std::fs::write(setup.path("one.jpg"), jpeg(160, 120, 9)).expect("image");
    std::fs::create_dir(setup.path("state")).expect("folder");
    let daemon = run_through(&subscriber, &proxy, setup.start());
    subscriber.wait("the last NDEATH", |messages| {
        let last = messages.last()?;
        last.topic.contains("/NDEATH/").then_some(())
    });
    assert_nothing_retained(&broker, &subscriber);
    let messages = subscriber.messages();
    let in_group = |m: &Message| m.topic.starts_with("spBv1.0/plant/");
    assert!(messages.iter().all(in_group));
    let Some(python) = judges_python() else {
        return;
    };
    let folder = daemon.setup.folder.path();
    let record = record(&messages);
    let (report, good) = judge(&python, &record, folder);
    println!("{} messages received: {report}", record.len());
    assert!(good, "{report}");
    assert_eq!(
        report["sessions"],
        json!([0, 1, 2, 3, 4]),
        "three broken connections and a restart"
    );
    assert!(
        report["rebirths"].as_u64() >= Some(1) && report["wrapped"].as_u64() >= Some(1),
        "{report}"
    );
    assert!(report["historical"].as_u64() >= Some(10), "{report}");
    assert_checker_finds_faults(&python, &record, folder);
}

#[test]
fn features_of_plain_messages_are_refused_with_sparkplug() {
    for (rest, hint) in [
        (
            "commands = [\"snapshot\"]\n",
            "need `mqtt.payload` at \"json\"",
        ),
        (
            "[homeassistant]\ndiscovery = true\n",
            "does not work with Sparkplug",
        ),
        ("sparkplug_group = \"a/b\"\n", "mqtt.sparkplug_group"),
    ] {
        let text = config(1883).replace("sparkplug_group = \"plant\"\n", "");
        let text = if rest.starts_with('[') {
            format!("{text}{rest}")
        } else {
            text.replace(
                "payload = \"sparkplug\"\n",
                &format!("payload = \"sparkplug\"\n{rest}"),
            )
        };
        let setup = Setup::new(&text);
        write_images(&setup.path("images"), 1);
        let output = constancy()
            .args(["run", "--config"])
            .arg(setup.config())
            .output()
            .expect("it runs");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}
