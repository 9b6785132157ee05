//! Sparkplug B as a host hears it: the real daemon, a real broker, and an independent implementation that judges.

use super::support::{
    Broker, Daemon, Heard, LIMIT, Link, Setup, Subscriber, constancy, free_port, jpeg, judges,
    stderr, write_images,
};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

fn config(port: u16) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n\
         [[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cat DIR/one.jpg; sleep 1; exit 1\"]\n\
         [mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\npayload = \"sparkplug\"\nsparkplug_group = \"plant\"\nbackoff_max_s = 1\n\
         [queue]\nfolder = \"state\"\nsync_s = 0.2\ndrain_per_s = 1000.0\ndrain_delay_s = 0.0\n"
    )
}

fn count(heard: &[Heard], kind: &str) -> usize {
    heard
        .iter()
        .filter(|h| h.topic.split('/').nth(2) == Some(kind))
        .count()
}

fn wait_more(heard: &Subscriber, kind: &str, more: usize) {
    let before = count(&heard.heard(), kind);
    heard.wait(&format!("{more} more {kind}"), |h| {
        (count(h, kind) >= before + more).then_some(())
    });
}

/// `Node Control/Rebirth = true`, written from the protocol's own description.
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

/// Lets the independent implementation judge; what it saw, and whether it is content.
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

fn record(heard: &[Heard]) -> Vec<Value> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let line = |h: &Heard| json!({"topic": h.topic, "qos": h.qos, "retain": h.retained, "payload": hex(&h.payload)});
    heard.iter().map(line).collect()
}

/// Births, a rebirth, three cuts, a start anew; stopped at the end.
fn conversation(heard: &Subscriber, link: &Link, mut daemon: Daemon) -> Daemon {
    wait_more(heard, "DDATA", 300);
    heard.publish("spBv1.0/plant/NCMD/bench", &rebirth(), false);
    wait_more(heard, "NBIRTH", 1);
    wait_more(heard, "DDEATH", 1);
    for _ in 0..3 {
        link.cut();
        wait_more(heard, "NBIRTH", 1);
        wait_more(heard, "DDATA", 60);
    }
    for again in [true, false] {
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit(LIMIT);
        if again {
            daemon = daemon.take_setup().start();
            wait_more(heard, "DDATA", 20);
        }
    }
    daemon
}

#[test]
fn a_host_that_is_another_program_finds_every_rule_kept_and_every_event() {
    let port = free_port();
    let broker = Broker::start();
    let heard = Subscriber::of(&broker, "spBv1.0/#");
    let link = Link::open(port, &broker);
    let setup = Setup::new(&config(port));
    write_images(&setup.path("images"), 5);
    std::fs::write(setup.path("one.jpg"), jpeg(160, 120, 9)).expect("image");
    std::fs::create_dir(setup.path("state")).expect("folder");
    let daemon = conversation(&heard, &link, setup.start());
    heard.wait("the last death", |h| {
        h.last()
            .filter(|h| h.topic.contains("/NDEATH/"))
            .map(|_| ())
    });
    // Nothing is kept by the broker, and nothing else is said.
    let late = Subscriber::of(&broker, "#");
    heard.publish("spBv1.0/plant/NCMD/nobody", b"", false);
    late.message("NCMD/nobody", |_| true);
    assert_eq!(late.heard().len(), 1, "{:?}", late.heard());
    let heard = heard.heard();
    assert!(heard.iter().all(|h| h.topic.starts_with("spBv1.0/plant/")));
    let Some(python) = judges() else { return };
    let folder = daemon.setup.folder.path();
    let record = record(&heard);
    let (seen, content) = judge(&python, &record, folder);
    println!("{} messages heard: {seen}", record.len());
    assert!(content, "{seen}");
    assert_eq!(
        seen["sessions"],
        json!([0, 1, 2, 3, 4]),
        "three cuts, a start anew"
    );
    assert!(
        seen["rebirths"].as_u64() >= Some(1) && seen["wrapped"].as_u64() >= Some(1),
        "{seen}"
    );
    assert!(seen["historical"].as_u64() >= Some(10), "{seen}");
    // It would notice.
    let at = record
        .iter()
        .rposition(|l| l["topic"].as_str().is_some_and(|t| t.contains("/DDATA/")))
        .expect("data");
    let mut torn = record.clone();
    torn.remove(at - 5);
    let (seen, content) = judge(&python, &torn, folder);
    assert!(
        !content && seen["broken"]["tck-id-payloads-sequence-num-incrementing"].is_string(),
        "{seen}"
    );
    let mut loud = record;
    loud[at]["qos"] = json!(1);
    let (seen, _) = judge(&python, &loud, folder);
    assert!(
        seen["broken"]["tck-id-payloads-ddata-qos"].is_string(),
        "{seen}"
    );
}

#[test]
fn what_only_plain_messages_have_is_refused_with_sparkplug() {
    for (rest, hint) in [
        (
            "commands = [\"snapshot\"]\n",
            "need `mqtt.payload` at \"json\"",
        ),
        (
            "[homeassistant]\ndiscovery = true\n",
            "cannot read Sparkplug",
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
