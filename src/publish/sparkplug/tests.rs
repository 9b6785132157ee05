//! The sequence of messages, without a broker.

use super::*;
use serde_json::json;

fn node() -> EdgeNode {
    let address = Address {
        group: "plant".into(),
        node: "bench".into(),
    };
    EdgeNode::new(address, ["belt".to_owned(), "gate".to_owned()])
}

/// A connected node whose belt camera works, with all births sent.
fn born() -> EdgeNode {
    let mut node = node();
    node.set_camera("belt", None);
    node.connected(0);
    node.subscribed();
    send_due(&mut node, false);
    node
}

fn event(camera: &str, seq: u64) -> Vec<u8> {
    let event = json!({
        "camera": camera, "ts": "2026-11-24T15:56:25.265Z", "id": format!("bench/b/{camera}/{seq}"), "class": "a gear",
        "score": 0.75, "known": true, "in_support": null, "top": [{"class": "a gear", "score": 0.75}], "monotonic_ns": seq,
    });
    event.to_string().into_bytes()
}

/// Sends everything that is due; returns types and sequence numbers.
fn send_due(node: &mut EdgeNode, backlog: bool) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(message) = node.due(backlog, 1000) {
        all.push(send(node, message));
    }
    all
}

fn send(node: &mut EdgeNode, message: Message) -> String {
    let payload = Payload::decode(&*message.payload).expect("a payload");
    assert_eq!(payload.timestamp, Some(1000));
    let parts: Vec<&str> = message.topic.split('/').collect();
    assert_eq!(
        (parts[0], parts[1], parts[3]),
        ("spBv1.0", "plant", "bench")
    );
    let camera = parts.get(4).map_or_else(String::new, |c| format!(" {c}"));
    let described = format!(
        "{}{camera} {}",
        parts[2],
        payload.seq.map_or_else(|| "-".into(), |s| s.to_string())
    );
    node.sent(message);
    described
}

fn send_event(node: &mut EdgeNode, camera: &str, historical: bool) -> String {
    let message = node
        .event(&event(camera, 1), historical, 1000)
        .expect("an event");
    send(node, message)
}

#[test]
fn births_come_first_and_again_when_asked_for() {
    let mut node = node();
    node.set_camera("belt", None);
    node.connected(3);
    assert_eq!(
        send_due(&mut node, false),
        Vec::<String>::new(),
        "not before the subscription to commands"
    );
    node.subscribed();
    assert_eq!(send_due(&mut node, false), ["NBIRTH 0", "DBIRTH belt 1"]);
    assert_eq!(send_event(&mut node, "belt", false), "DDATA belt 2");
    assert_eq!(
        send_event(&mut node, "gate", false),
        "DBIRTH gate 3",
        "its event comes after its birth"
    );
    node.set_camera("gate", None);
    assert_eq!(send_event(&mut node, "gate", false), "DDATA gate 4");
    let rebirth = |value| Payload {
        timestamp: Some(1),
        metrics: vec![Metric::new(
            REBIRTH,
            DataType::Boolean,
            Some(Value::Boolean(value)),
            1,
        )],
        seq: None,
    };
    node.command(&rebirth(false).encode_to_vec());
    node.command(b"\xff\xff noise");
    assert!(node.is_born());
    node.command(&rebirth(true).encode_to_vec());
    assert!(!node.is_born(), "no data before the births are sent");
    assert_eq!(
        send_due(&mut node, false),
        ["NBIRTH 0", "DBIRTH belt 1", "DBIRTH gate 2"]
    );
}

#[test]
fn a_birth_has_the_number_of_the_will_and_what_is_known() {
    let mut node = node();
    node.set_camera("belt", None);
    node.connected(255);
    node.subscribed();
    let (topic, will) = node.address.death(255, 1000);
    assert_eq!(topic, "spBv1.0/plant/NDEATH/bench");
    let will = Payload::decode(&*will).expect("a payload");
    assert_eq!(will.seq, None);
    let birth = node.due(false, 1000).expect("a birth");
    let metrics = Payload::decode(&*birth.payload).expect("a payload").metrics;
    assert_eq!(metrics[0], will.metrics[0]);
    assert!(
        metrics
            .iter()
            .all(|m| m.name.is_some() && m.datatype.is_some() && m.timestamp.is_some())
    );
    assert!(
        metrics
            .iter()
            .any(|m| m.name.as_deref() == Some(REBIRTH) && m.value == Some(Value::Boolean(false)))
    );
    node.sent(birth);
    let birth =
        Payload::decode(&*node.due(false, 1000).expect("a birth").payload).expect("a payload");
    assert!(
        birth.metrics.iter().all(|m| m.is_null == Some(true)),
        "nothing is known yet"
    );
    send_due(&mut node, false);
    send_event(&mut node, "belt", false);
    send_event(&mut node, "belt", true);
    node.connected(0);
    node.subscribed();
    let births: Vec<Payload> = std::iter::from_fn(|| {
        let message = node.due(false, 1000)?;
        let payload = Payload::decode(&*message.payload).expect("a payload");
        node.sent(message);
        Some(payload)
    })
    .collect();
    let class = births[1]
        .metrics
        .iter()
        .find(|m| m.name.as_deref() == Some("class"))
        .expect("class");
    assert_eq!(class.value, Some(Value::Text("a gear".into())));
    assert_eq!(class.timestamp, Some(1_795_535_785_265));
}

#[test]
fn data_marks_historical_values_and_leaves_types_to_births() {
    let node = born();
    for historical in [false, true] {
        let message = node
            .event(&event("belt", 5), historical, 1000)
            .expect("an event");
        let payload = Payload::decode(&*message.payload).expect("a payload");
        assert!(
            payload
                .metrics
                .iter()
                .all(|m| m.is_historical.unwrap_or(false) == historical && m.datatype.is_none())
        );
        let shift = payload
            .metrics
            .iter()
            .find(|m| m.name.as_deref() == Some("shift"))
            .expect("shift");
        assert_eq!((shift.is_null, &shift.value), (Some(true), &None));
    }
    assert_eq!(node.event(b"{}", false, 1000), None);
}

#[test]
fn a_failed_camera_dies_when_its_backlog_is_sent() {
    let mut node = born();
    node.set_camera("belt", Some("the cable"));
    assert_eq!(
        send_due(&mut node, true),
        ["NDATA 2"],
        "its fault is sent at once"
    );
    assert_eq!(send_event(&mut node, "belt", true), "DDATA belt 3");
    assert_eq!(send_due(&mut node, false), ["DDEATH belt 4"]);
    node.set_camera("belt", None);
    assert_eq!(send_due(&mut node, false), ["DBIRTH belt 5", "NDATA 6"]);
}

#[test]
fn sequence_numbers_wrap_and_the_death_has_none() {
    let mut node = born();
    let numbers: Vec<String> = (0..260)
        .map(|_| send_event(&mut node, "belt", false))
        .collect();
    assert_eq!(
        numbers[253..256],
        ["DDATA belt 255", "DDATA belt 0", "DDATA belt 1"]
    );
    let death = node.death(1000).expect("a death");
    assert!(death.acknowledged);
    assert_eq!(send(&mut node, death), "NDEATH -");
    assert_eq!(node.due(false, 1000), None);
    assert_eq!(node.death(1000), None);
}
