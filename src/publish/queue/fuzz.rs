//! Entries for the fuzz targets: records and files that another program wrote, or a failing disk.

use super::medium::Medium;
use super::record::{Record, Stamp, checksum};
use super::store::{Store, WriteBatch};
use super::totals::Bounds;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    age: Duration::from_secs(3600),
};

/// A record as it is, and with the right checksum.
pub fn queue_record(data: &[u8]) {
    let key = 7;
    assert_eq!(Record::decode(key, &[]), None);
    let _ = Record::decode(key, data);
    let signed = [&checksum(key, data)[..], data].concat();
    if let Some(record) = Record::decode(key, &signed) {
        assert_eq!(record.encode(key), signed, "nothing is lost or made up");
    }
}

/// A whole file, or (if it begins with 0) changes of a good one: each a position of three bytes and a byte.
pub fn queue_file(data: &[u8]) {
    let bytes = match data.split_first() {
        Some((0, edits)) => edited(edits),
        _ => data.to_vec(),
    };
    let mut file = tempfile::tempfile_in("/dev/shm")
        .or_else(|_| tempfile::tempfile())
        .expect("a file");
    file.write_all(&bytes).expect("written");
    use_file(file);
}

/// A file with a few events, changed.
fn edited(edits: &[u8]) -> Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    let good = GOOD.get_or_init(|| {
        let mut file = tempfile::tempfile().expect("a file");
        use_file(file.try_clone().expect("a copy"));
        use_file(file.try_clone().expect("a copy"));
        let mut bytes = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut bytes).expect("read");
        bytes
    });
    let mut bytes = good.clone();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(edit[0]) << 16 | usize::from(edit[1]) << 8 | usize::from(edit[2]);
        let len = bytes.len();
        if let Some(byte) = bytes.get_mut(at % (len + 1)) {
            *byte ^= edit[3];
        } else {
            bytes.truncate(at / 2);
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Opens a file, and does everything with it that the queue does.
fn use_file(file: File) {
    let Ok(mut store) = Medium::file(file).and_then(|medium| Store::open(medium, BOUNDS)) else {
        return;
    };
    let all = i64::MIN..i64::MAX;
    let found = store
        .read(&all, 100)
        .map(|read| read.records)
        .unwrap_or_default();
    let record = |n: i64| Record {
        topic: "constancy/bench/belt/event".into(),
        payload: vec![1; 300],
        queued: Stamp {
            monotonic_ns: n.unsigned_abs(),
            ..Stamp::default()
        },
    };
    let batch = WriteBatch {
        append: (0..4).map(|n| (n, Arc::new(record(n)))).collect(),
        remove: found.iter().map(|(id, _)| *id).take(1).collect(),
        ..WriteBatch::default()
    };
    let done = store.commit(&batch).is_ok() && store.compact().is_ok();
    if done && let Ok(store) = store.reopen() {
        let _ = store.read(&all, 100);
        store.close();
    }
}
