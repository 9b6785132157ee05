//! Checks that the types cannot express: ranges, names, combinations of keys, and files that must exist.

use super::camera::{CameraSettings, ReplaySettings, SourceSettings, V4lSettings};
use super::classes::ClassSettings;
use super::error::ConfigError;
use super::mqtt::{BrokerAddress, MqttSettings, PayloadFormat, is_topic_name};
use super::publish::PublishSettings;
use super::queue::QueueSettings;
use super::settings::{Settings, SnapshotSettings};
use super::synthetic::SyntheticSettings;
use crate::files;
use constancy_core::classify::check_label;
use constancy_core::preprocess::View;
use constancy_core::workshop::{ENVIRONMENTS, Environment};
use std::path::Path;

/// Limit of the synthetic source's seeds: combined with a frame's number, they must fit the 53 bits that JSON readers keep.
const SYNTHETIC_SEEDS: u32 = 1 << 21;
/// The longest text of MQTT, which a topic is, too.
const MAX_MQTT_BYTES: usize = 65_535;
/// Leaves a topic 535 bytes for the names of device and camera, 64 each, and for what follows them.
const MAX_PREFIX_BYTES: usize = 65_000;
const TOPIC_NAME: &str = "expected 1 to 64 of A–Z, a–z, 0–9, _ and -";

/// A key, and what is wrong with its value.
type Problem = (String, String);

pub(super) fn check(settings: &Settings, path: &Path) -> Result<(), ConfigError> {
    let problem = values(settings).err();
    if let Some((key, problem)) = problem {
        return Err(ConfigError::Value {
            path: path.into(),
            key,
            problem,
        });
    }
    for (key, file) in named_files(settings) {
        let or_folder = key.starts_with("camera.replay.path");
        if let Err(source) = files::check(file, or_folder) {
            return Err(ConfigError::Missing {
                path: path.into(),
                key,
                file: file.into(),
                source,
            });
        }
    }
    Ok(())
}

fn values(settings: &Settings) -> Result<(), Problem> {
    topic_name("device", &settings.device)?;
    class_source(&settings.classes)?;
    if let Some(threads) = settings.engine.threads {
        within("engine.threads", threads as f64, 1.0, 64.0)?;
    }
    class_limits(&settings.classes)?;
    cameras(&settings.cameras)?;
    mqtt(&settings.mqtt)?;
    queue(&settings.queue)?;
    sparkplug(settings)?;
    snapshots(&settings.snapshots)?;
    topic_prefix("homeassistant.prefix", &settings.homeassistant.prefix)
}

fn class_source(classes: &ClassSettings) -> Result<(), Problem> {
    match (&classes.bank, classes.labels.is_empty()) {
        (Some(_), false) => fail(
            "classes.labels",
            "stands beside `classes.bank`; keep one of them",
        )?,
        (None, true) => fail("classes", "needs `bank` or `labels`")?,
        _ => {}
    }
    let labels = classes.labels.iter();
    labels
        .map(|label| check_label(label))
        .find_map(Result::err)
        .map_or(Ok(()), |problem| {
            fail("classes.labels", &format!("is wrong: {problem}"))
        })?;
    constancy_core::classify::check_templates(&classes.prompts)
        .map_err(|e| ("classes.prompts".into(), format!("is wrong: {e}")))
}

fn class_limits(classes: &ClassSettings) -> Result<(), Problem> {
    within("classes.top_k", classes.top_k as f64, 1.0, 100.0)?;
    if let [one, other, ..] = classes.limits_given()[..] {
        fail(
            &format!("classes.{other}"),
            &format!("stands beside `classes.{one}`; keep one of them"),
        )?;
    }
    if let Some(threshold) = classes.threshold {
        within("classes.threshold", f64::from(threshold), 0.0, 1.0)?;
    }
    for (label, threshold) in &classes.thresholds {
        let key = format!("classes.thresholds.{label}");
        within(&key, f64::from(*threshold), 0.0, 1.0)?;
    }
    if let Some(precision) = classes.target_precision {
        within("classes.target_precision", precision, 0.5, 0.9999)?;
    }
    if let Some(rate) = classes.max_false_accept {
        within("classes.max_false_accept", rate, 0.0001, 0.5)?;
    }
    for (label, cost) in &classes.cost {
        let key = |k: &str| format!("classes.cost.{label}.{k}");
        within(&key("wrong"), cost.wrong, 1e-6, 1e9)?;
        within(&key("refused"), cost.refused, 0.0, cost.wrong)?;
    }
    Ok(())
}

fn snapshots(snapshots: &SnapshotSettings) -> Result<(), Problem> {
    let (files, mib) = (snapshots.max_files as f64, snapshots.max_mib as f64);
    within("snapshots.max_files", files, 1.0, 1e6)?;
    within("snapshots.max_mib", mib, 1.0, 1e6)
}

fn cameras(cameras: &[CameraSettings]) -> Result<(), Problem> {
    if cameras.is_empty() {
        fail("camera", "is missing: add a [[camera]] section")?;
    }
    for (i, camera) in cameras.iter().enumerate() {
        topic_name("camera.name", &camera.name)?;
        if cameras[..i].iter().any(|c| c.name == camera.name) {
            fail("camera.name", &format!("`{}` is given twice", camera.name))?;
        }
        let key = |k: &str| format!("camera.{k} ({})", camera.name);
        within(&key("stall_s"), camera.stall_s, 0.1, 3600.0)?;
        if camera.reuse_s != 0.0 {
            within(&key("reuse_s"), camera.reuse_s, 0.5, 3600.0)?;
        }
        publish(&camera.publish, key)?;
        view(&camera.view, key)?;
        source(&camera.source, key)?;
    }
    Ok(())
}

fn source(source: &SourceSettings, key: impl Fn(&str) -> String) -> Result<(), Problem> {
    match source {
        SourceSettings::V4l(settings) => v4l(settings, key),
        SourceSettings::Pipe(pipe) if pipe.command.is_empty() => fail(
            &key("pipe.command"),
            "is empty, expected a program and its arguments",
        ),
        SourceSettings::Replay(ReplaySettings {
            rate: Some(rate), ..
        }) => within(&key("replay.rate"), *rate, 0.001, 1000.0),
        SourceSettings::Synthetic(settings) => synthetic(settings, key),
        SourceSettings::Pipe(_) | SourceSettings::Replay(_) => Ok(()),
    }
}

fn publish(publish: &PublishSettings, key: impl Fn(&str) -> String) -> Result<(), Problem> {
    within(
        &key("publish.at_most_every_s"),
        publish.at_most_every_s,
        0.0,
        86_400.0,
    )?;
    within(
        &key("publish.heartbeat_s"),
        publish.heartbeat_s.unwrap_or(1.0),
        0.1,
        86_400.0,
    )?;
    within(&key("publish.of"), publish.of as f64, 1.0, 1000.0)?;
    within(
        &key("publish.agree"),
        publish.agree as f64,
        1.0,
        publish.of as f64,
    )?;
    within(
        &key("publish.stay_threshold"),
        publish.stay_threshold.map_or(0.0, f64::from),
        0.0,
        1.0,
    )?;
    within(&key("publish.dwell_s"), publish.dwell_s, 0.0, 86_400.0)
}

fn view(view: &View, key: impl Fn(&str) -> String) -> Result<(), Problem> {
    let region = view.region.iter().map(|area| ("view.region", area));
    region
        .chain(view.mask.iter().map(|area| ("view.mask", area)))
        .try_for_each(|(name, area)| area.check().map_err(|problem| (key(name), problem)))
}

fn v4l(v4l: &V4lSettings, key: impl Fn(&str) -> String) -> Result<(), Problem> {
    within(&key("v4l.width"), f64::from(v4l.width), 16.0, 16384.0)?;
    within(&key("v4l.height"), f64::from(v4l.height), 16.0, 16384.0)?;
    within(&key("v4l.fps"), v4l.fps.map_or(1.0, f64::from), 1.0, 1000.0)
}

fn synthetic(synthetic: &SyntheticSettings, key: impl Fn(&str) -> String) -> Result<(), Problem> {
    environments(&synthetic.environments, &key("synthetic.environments"))?;
    let frames_each = synthetic.frames_each as f64;
    within(&key("synthetic.frames_each"), frames_each, 1.0, 1e9)?;
    within(&key("synthetic.hold"), synthetic.hold as f64, 1.0, 1e9)?;
    for (name, value, (least, most)) in synthetic.controls.ranges() {
        let name = key(&format!("synthetic.controls.{name}"));
        within(&name, value.into(), least.into(), most.into())?;
    }
    let (seed, max_seed) = (synthetic.seed as f64, f64::from(SYNTHETIC_SEEDS - 1));
    within(&key("synthetic.seed"), seed, 0.0, max_seed)?;
    let rate = synthetic.rate.unwrap_or(1.0);
    within(&key("synthetic.rate"), rate, 0.001, 1000.0)?;
    let (width, height) = (f64::from(synthetic.width), f64::from(synthetic.height));
    within(&key("synthetic.width"), width, 16.0, 4096.0)?;
    within(&key("synthetic.height"), height, 16.0, 4096.0)
}

fn environments(names: &[String], key: &str) -> Result<(), Problem> {
    let unknown = names.iter().find(|name| Environment::named(name).is_none());
    if let Some(name) = unknown {
        let known: Vec<&str> = ENVIRONMENTS.iter().map(|e| e.name).collect();
        let known = known.join(", ");
        fail(key, &format!("names `{name}`, expected any of {known}"))?;
    }
    if names.is_empty() {
        fail(key, "is empty; leave it out to use all")?;
    }
    Ok(())
}

fn mqtt(mqtt: &MqttSettings) -> Result<(), Problem> {
    let tls = match &mqtt.broker {
        Some(url) => {
            BrokerAddress::parse(url)
                .map_err(|e| ("mqtt.broker".to_owned(), e))?
                .tls
        }
        None => true,
    };
    credentials(mqtt, tls)?;
    identity("mqtt.client_id", mqtt.client_id.as_deref())?;
    identity("mqtt.username", mqtt.username.as_deref())?;
    topic_prefix("mqtt.prefix", &mqtt.prefix)?;
    if !is_topic_name(&mqtt.sparkplug_group) {
        fail(
            "mqtt.sparkplug_group",
            &format!("is `{}`; {TOPIC_NAME}", mqtt.sparkplug_group),
        )?;
    }
    let keep_alive_s = f64::from(mqtt.keep_alive_s);
    within("mqtt.keep_alive_s", keep_alive_s, 5.0, 3600.0)?;
    within("mqtt.backoff_max_s", mqtt.backoff_max_s as f64, 1.0, 3600.0)
}

/// A text that identifies this device to the broker, as MQTT carries it (MQTT 3.1.1, 1.5.3).
fn identity(key: &str, text: Option<&str>) -> Result<(), Problem> {
    match text {
        Some("") => fail(key, "is empty; leave it out, or name one"),
        Some(text) if text.chars().any(char::is_control) => fail(
            key,
            "has a control character, which brokers refuse; remove it",
        ),
        Some(text) if text.len() > MAX_MQTT_BYTES => {
            let bytes = text.len();
            fail(
                key,
                &format!("has {bytes} bytes, expected at most {MAX_MQTT_BYTES}"),
            )
        }
        _ => Ok(()),
    }
}

fn credentials(mqtt: &MqttSettings, tls: bool) -> Result<(), Problem> {
    let tls_keys = [
        ("mqtt.ca_file", &mqtt.ca_file),
        ("mqtt.client_cert_file", &mqtt.client_cert_file),
        ("mqtt.client_key_file", &mqtt.client_key_file),
    ];
    if let Some((key, _)) = tls_keys.iter().find(|(_, file)| file.is_some() && !tls) {
        fail(
            key,
            "has no effect without TLS; use mqtts:// in `mqtt.broker`",
        )?;
    }
    if mqtt.client_cert_file.is_some() != mqtt.client_key_file.is_some() {
        fail(
            "mqtt.client_cert_file",
            "and `mqtt.client_key_file` belong together; set both or neither",
        )?;
    }
    if mqtt.password_file.is_some() && mqtt.username.is_none() {
        fail("mqtt.password_file", "needs `mqtt.username` too")?;
    }
    Ok(())
}

/// Refuses what works with JSON messages only.
fn sparkplug(settings: &Settings) -> Result<(), Problem> {
    if settings.mqtt.payload == PayloadFormat::Json {
        return Ok(());
    }
    if settings.homeassistant.discovery {
        fail(
            "homeassistant.discovery",
            "does not work with Sparkplug; it needs `mqtt.payload` at \"json\"",
        )?;
    }
    if !settings.mqtt.commands.is_empty() {
        fail(
            "mqtt.commands",
            "do not work with Sparkplug; they need `mqtt.payload` at \"json\"",
        )?;
    }
    Ok(())
}

fn queue(queue: &QueueSettings) -> Result<(), Problem> {
    within("queue.max_mib", queue.max_mib as f64, 1.0, 65536.0)?;
    within("queue.max_age_h", queue.max_age_h, 0.01, 87_600.0)?;
    within("queue.sync_s", queue.sync_s, 0.0, 3600.0)?;
    within("queue.sync_events", queue.sync_events as f64, 1.0, 1e5)?;
    within("queue.memory", queue.memory as f64, 1.0, 1e6)?;
    within("queue.drain_per_s", queue.drain_per_s, 0.01, 1e5)?;
    within("queue.drain_delay_s", queue.drain_delay_s, 0.0, 86_400.0)
}

/// Files that must exist when the daemon starts, and the keys that name them. A camera may be plugged in later.
fn named_files(settings: &Settings) -> Vec<(String, &Path)> {
    let mqtt = &settings.mqtt;
    let single = [
        ("model.manifest", Some(&settings.model.manifest)),
        ("model.projection", settings.model.projection.as_ref()),
        ("classes.bank", settings.classes.bank.as_ref()),
        ("mqtt.password_file", mqtt.password_file.as_ref()),
        ("mqtt.ca_file", mqtt.ca_file.as_ref()),
        ("mqtt.client_cert_file", mqtt.client_cert_file.as_ref()),
        ("mqtt.client_key_file", mqtt.client_key_file.as_ref()),
    ];
    let replays = settings.cameras.iter().filter_map(|c| {
        let SourceSettings::Replay(replay) = &c.source else {
            return None;
        };
        Some((
            format!("camera.replay.path ({})", c.name),
            replay.path.as_path(),
        ))
    });
    let single = single
        .into_iter()
        .filter_map(|(key, file)| Some((key.to_owned(), file?.as_path())));
    single.chain(replays).collect()
}

fn topic_name(key: &str, name: &str) -> Result<(), Problem> {
    if is_topic_name(name) {
        Ok(())
    } else {
        fail(key, &format!("is `{}`, {TOPIC_NAME}", shortened(name)))
    }
}

/// Names between slashes.
fn topic_prefix(key: &str, prefix: &str) -> Result<(), Problem> {
    let bytes = prefix.len();
    if bytes > MAX_PREFIX_BYTES {
        fail(
            key,
            &format!("has {bytes} bytes, expected at most {MAX_PREFIX_BYTES}"),
        )
    } else if prefix.split('/').all(is_topic_name) {
        Ok(())
    } else {
        let shown = shortened(prefix);
        fail(key, &format!("is `{shown}`; between slashes {TOPIC_NAME}"))
    }
}

/// A value as a message quotes it.
fn shortened(value: &str) -> String {
    const MOST: usize = 100;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        fail(key, &format!("is {value}, expected {least} to {most}"))
    }
}

fn fail(key: &str, problem: &str) -> Result<(), Problem> {
    Err((key.to_owned(), problem.to_owned()))
}
