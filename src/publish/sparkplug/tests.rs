//! The conversation without a broker.

use super::*;
use serde_json::json;

fn node() -> Sparkplug {
    let address = Address {
        group: "plant".into(),
        node: "bench".into(),
    };
    Sparkplug::new(address, ["belt".to_owned(), "gate".to_owned()])
}

/// With the belt's camera, on a connection, and all births said.
fn born() -> Sparkplug {
    let mut node = node();
    node.camera("belt", None);
    node.connected(0);
    node.subscribed();
    say(&mut node, false);
    node
}

fn event(camera: &str, seq: u64) -> Vec<u8> {
    let event = json!({
        "camera": camera, "ts": "2026-11-24T15:56:25.265Z", "id": format!("bench/b/{camera}/{seq}"), "class": "a gear",
        "score": 0.75, "known": true, "in_support": null, "top": [{"class": "a gear", "score": 0.75}], "monotonic_ns": seq,
    });
    event.to_string().into_bytes()
}

/// Says everything that is due; kinds and sequence numbers.
fn say(node: &mut Sparkplug, backlog: bool) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(message) = node.due(backlog, 1000) {
        said.push(told(node, message));
    }
    said
}

fn told(node: &mut Sparkplug, message: Message) -> String {
    let payload = Payload::decode(&*message.payload).expect("a payload");
    assert_eq!(payload.timestamp, Some(1000));
    let parts: Vec<&str> = message.topic.split('/').collect();
    assert_eq!(
        (parts[0], parts[1], parts[3]),
        ("spBv1.0", "plant", "bench")
    );
    let camera = parts.get(4).map_or_else(String::new, |c| format!(" {c}"));
    let told = format!(
        "{}{camera} {}",
        parts[2],
        payload.seq.map_or_else(|| "-".into(), |s| s.to_string())
    );
    node.said(message);
    told
}

fn tell_event(node: &mut Sparkplug, camera: &str, historical: bool) -> String {
    let message = node
        .event(&event(camera, 1), historical, 1000)
        .expect("an event");
    told(node, message)
}

#[test]
fn births_come_first_and_again_when_asked_for() {
    let mut node = node();
    node.camera("belt", None);
    node.connected(3);
    assert_eq!(
        say(&mut node, false),
        Vec::<String>::new(),
        "not before commands are heard"
    );
    node.subscribed();
    assert_eq!(say(&mut node, false), ["NBIRTH 0", "DBIRTH belt 1"]);
    assert_eq!(tell_event(&mut node, "belt", false), "DDATA belt 2");
    assert_eq!(
        tell_event(&mut node, "gate", false),
        "DBIRTH gate 3",
        "its event comes after"
    );
    node.camera("gate", None);
    assert_eq!(tell_event(&mut node, "gate", false), "DDATA gate 4");
    let ask = |value| Payload {
        timestamp: Some(1),
        metrics: vec![Metric::new(
            REBIRTH,
            DataType::Boolean,
            Some(Value::Boolean(value)),
            1,
        )],
        seq: None,
    };
    node.heard(&ask(false).encode_to_vec());
    node.heard(b"\xff\xff noise");
    assert!(node.is_born());
    node.heard(&ask(true).encode_to_vec());
    assert!(!node.is_born(), "no data before the births are said");
    assert_eq!(
        say(&mut node, false),
        ["NBIRTH 0", "DBIRTH belt 1", "DBIRTH gate 2"]
    );
}

#[test]
fn a_birth_has_the_number_of_the_will_and_what_is_known() {
    let mut node = node();
    node.camera("belt", None);
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
    node.said(birth);
    let birth =
        Payload::decode(&*node.due(false, 1000).expect("a birth").payload).expect("a payload");
    assert!(
        birth.metrics.iter().all(|m| m.is_null == Some(true)),
        "nothing is known yet"
    );
    say(&mut node, false);
    tell_event(&mut node, "belt", false);
    tell_event(&mut node, "belt", true);
    node.connected(0);
    node.subscribed();
    let births: Vec<Payload> = std::iter::from_fn(|| {
        let message = node.due(false, 1000)?;
        let payload = Payload::decode(&*message.payload).expect("a payload");
        node.said(message);
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
fn data_says_what_is_past_and_leaves_types_to_births() {
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
fn a_camera_that_is_away_dies_when_its_past_is_told() {
    let mut node = born();
    node.camera("belt", Some("the cable"));
    assert_eq!(
        say(&mut node, true),
        ["NDATA 2"],
        "its fault is told at once"
    );
    assert_eq!(tell_event(&mut node, "belt", true), "DDATA belt 3");
    assert_eq!(say(&mut node, false), ["DDEATH belt 4"]);
    node.camera("belt", None);
    assert_eq!(say(&mut node, false), ["DBIRTH belt 5", "NDATA 6"]);
}

#[test]
fn numbers_go_round_and_the_farewell_has_none() {
    let mut node = born();
    let numbers: Vec<String> = (0..260)
        .map(|_| tell_event(&mut node, "belt", false))
        .collect();
    assert_eq!(
        numbers[253..256],
        ["DDATA belt 255", "DDATA belt 0", "DDATA belt 1"]
    );
    let farewell = node.farewell(1000).expect("a farewell");
    assert!(farewell.acknowledged);
    assert_eq!(told(&mut node, farewell), "NDEATH -");
    assert_eq!(node.due(false, 1000), None);
    assert_eq!(node.farewell(1000), None);
}
