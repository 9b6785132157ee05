//! A daemon with a queue on disk, and the queue's file, read and written without the daemon's code.

use super::{Setup, wait_for, write_images};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// Bytes of a record before its topic: checksum, three numbers of 8 bytes, the topic's length.
const HEADER: usize = 34;

/// Whether the queue's tests run at full length, as in `make test-long`.
pub fn full_length() -> bool {
    std::env::var_os("CONSTANCY_TEST_LONG").is_some()
}

/// The configuration of a camera `belt` that replays images, and of a queue in `state`. `replay` and `queue` are lines
/// of `[camera.replay]` and `[queue]`.
pub fn queue_config(port: u16, replay: &str, queue: &str) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n{replay}[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n[queue]\nfolder = \"state\"\n{queue}"
    )
}

/// A folder with that configuration and five images.
pub fn queue_setup(port: u16, replay: &str, queue: &str) -> Setup {
    let setup = Setup::new(&queue_config(port, replay, queue));
    write_images(&setup.path("images"), 5);
    std::fs::create_dir(setup.path("state")).expect("folder");
    setup
}

/// The events in the queue of a daemon's folder. While the daemon runs, this may fail: the file is copied, and may
/// change meanwhile.
pub fn stored_events(folder: &Path) -> Result<Vec<Value>, redb::Error> {
    let file = folder.join("state/queue.redb");
    if !file.exists() {
        return Ok(Vec::new());
    }
    let copy = folder.join("copy.redb");
    std::fs::copy(&file, &copy).expect("copy");
    let db = Database::open(&copy)?;
    let Ok(table) = db.begin_read()?.open_table(EVENTS) else {
        return Ok(Vec::new());
    };
    let mut events = Vec::new();
    for entry in table.iter()? {
        let (_, record) = entry?;
        events.push(event(record.value()));
    }
    Ok(events)
}

/// Waits until the queue of a running daemon holds `count` events.
pub fn wait_stored(folder: &Path, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} events on disk"), || {
        stored_events(folder).ok().filter(|e| e.len() >= count)
    })
}

fn event(record: &[u8]) -> Value {
    let topic = usize::from(u16::from_le_bytes([record[32], record[33]]));
    serde_json::from_slice(&record[HEADER + topic..]).expect("an event")
}

/// A record as the daemon writes it: the checksum covers the key and the rest.
fn record(seq: u64, topic: &[u8], event: &Value) -> Vec<u8> {
    let mut rest = [
        0u64.to_le_bytes(),
        0u64.to_le_bytes(),
        i64::MIN.to_le_bytes(),
    ]
    .concat();
    rest.extend(u16::try_from(topic.len()).expect("short").to_le_bytes());
    rest.extend(topic);
    rest.extend(event.to_string().into_bytes());
    let sum = Sha256::new()
        .chain_update(seq.to_le_bytes())
        .chain_update(&rest)
        .finalize();
    [&sum[..8], &rest].concat()
}

/// Writes the queue of a daemon's folder with `count` events of an earlier run. They have a field `filler`.
pub fn write_backlog(folder: &Path, count: u64) {
    let boot = "00000000-0000-4000-8000-000000000000";
    let topic = b"constancy/bench/belt/event";
    let db = Database::create(folder.join("state/queue.redb")).expect("file");
    let mut total_bytes = 0;
    for from in (0..count).step_by(5000) {
        let mut txn = db.begin_write().expect("transaction");
        txn.set_durability(redb::Durability::Immediate)
            .expect("durability");
        {
            let mut table = txn.open_table(EVENTS).expect("table");
            for seq in from..count.min(from + 5000) {
                let event = json!({"device": "bench", "camera": "belt", "boot_id": boot, "seq": seq,
                    "id": format!("bench/{boot}/belt/{seq}"), "ts": "2026-11-24T15:56:25.265Z", "filler": "x".repeat(500)});
                let record = record(seq, topic, &event);
                total_bytes += record.len() as u64;
                table.insert(seq, record.as_slice()).expect("insert");
            }
            let mut totals = txn.open_table(TOTALS).expect("table");
            totals
                .insert("entries", count.min(from + 5000))
                .expect("insert");
            totals.insert("bytes", total_bytes).expect("insert");
        }
        txn.commit().expect("commit");
    }
}
