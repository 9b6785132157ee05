//! One queued event, and its checksummed form in the store.

use crate::clock;
use sha2::{Digest, Sha256};

/// Bytes before the topic: checksum, boot, monotonic and wall-clock time, the topic's length.
const HEADER: usize = 8 + 8 + 8 + 8 + 2;

/// When an event was queued, by clocks that together give its age even after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// The boot of the machine: a digest of the kernel's boot id.
    pub(crate) boot: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`, which counts from that boot.
    pub(crate) monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch; `None` unless the clock was synchronised.
    pub(crate) unix_ns: Option<i64>,
}

impl Stamp {
    /// The age at `now`, nanoseconds. `None` if no clock can tell: after a reboot, unless the wall clock was synchronised
    /// both times. So a clock that is set from 1970 to today ages nothing.
    pub(crate) fn age_ns(&self, now: &Self) -> Option<u64> {
        if self.boot == now.boot {
            return Some(now.monotonic_ns.saturating_sub(self.monotonic_ns));
        }
        u64::try_from(now.unix_ns?.checked_sub(self.unix_ns?)?).ok()
    }
}

/// The current boot of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boot(u64);

impl Boot {
    /// Asks the kernel. Without an answer, every start of the program counts as a boot of its own.
    pub(crate) fn read() -> Self {
        let id = std::fs::read("/proc/sys/kernel/random/boot_id")
            .unwrap_or_else(|_| fastrand::u64(..).to_le_bytes().into());
        Self(u64::from_le_bytes(checksum(0, &id)))
    }

    /// The present time.
    pub(crate) fn now(self) -> Stamp {
        let now = clock::now();
        let unix_ns = now.clock_synced.then_some(now.unix_ns);
        Stamp {
            boot: self.0,
            monotonic_ns: now.monotonic_ns,
            unix_ns,
        }
    }
}

/// An event waiting to be published with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) queued: Stamp,
}

impl Record {
    /// The bytes that the store holds under `key`.
    pub(super) fn encode(&self, key: u64) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend(self.queued.boot.to_le_bytes());
        bytes.extend(self.queued.monotonic_ns.to_le_bytes());
        bytes.extend(self.queued.unix_ns.unwrap_or(i64::MIN).to_le_bytes());
        // Topics are far shorter than this: a prefix, and names of at most 64 characters.
        let topic = &self.topic.as_bytes()[..self.topic.len().min(usize::from(u16::MAX))];
        bytes.extend(u16::try_from(topic.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(topic);
        bytes.extend(&self.payload);
        let sum = checksum(key, &bytes[8..]);
        bytes[..8].copy_from_slice(&sum);
        bytes
    }

    /// Decodes what [`Record::encode`] wrote under the same key; `None` if a single bit differs.
    pub(super) fn decode(key: u64, bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER || checksum(key, &bytes[8..]) != bytes[..8] {
            return None;
        }
        let word = |at: usize| bytes[at..].first_chunk::<8>().copied().unwrap_or_default();
        let unix_ns = i64::from_le_bytes(word(24));
        let topic_len = usize::from(u16::from_le_bytes([bytes[32], bytes[33]]));
        let (topic, payload) = bytes[HEADER..].split_at_checked(topic_len)?;
        Some(Self {
            topic: String::from_utf8(topic.to_vec()).ok()?,
            payload: payload.to_vec(),
            queued: Stamp {
                boot: u64::from_le_bytes(word(8)),
                monotonic_ns: u64::from_le_bytes(word(16)),
                unix_ns: (unix_ns != i64::MIN).then_some(unix_ns),
            },
        })
    }
}

/// The first 8 bytes of SHA-256 over the key and the rest. The key detects a record in another's place.
pub(super) fn checksum(key: u64, rest: &[u8]) -> [u8; 8] {
    let digest = Sha256::new()
        .chain_update(key.to_le_bytes())
        .chain_update(rest)
        .finalize();
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_comes_back_and_no_flipped_bit_passes(
            key: u64, topic in "[a-z/]{0,40}", payload in prop::collection::vec(any::<u8>(), 0..200),
            boot: u64, monotonic_ns: u64, unix_ns in prop::option::of(0..i64::MAX), bit: prop::sample::Index,
        ) {
            let record = Record { topic, payload, queued: Stamp { boot, monotonic_ns, unix_ns } };
            let mut bytes = record.encode(key);
            prop_assert_eq!(Record::decode(key, &bytes), Some(record));
            prop_assert_eq!(Record::decode(key ^ 1, &bytes), None);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::decode(key, &bytes), None);
        }
    }

    #[test]
    fn a_clock_that_jumps_ages_nothing() {
        const DAY: i64 = 86_400_000_000_000;
        let stamp = |boot, monotonic_ns, unix_ns| Stamp {
            boot,
            monotonic_ns,
            unix_ns,
        };
        let at_1970 = stamp(1, 1_000, None);
        assert_eq!(
            at_1970.age_ns(&stamp(1, 5_000, Some(20_000 * DAY))),
            Some(4_000),
            "the same boot: the monotonic clock"
        );
        assert_eq!(
            at_1970.age_ns(&stamp(2, 5_000, Some(20_000 * DAY))),
            None,
            "the wall clock was not synchronised then"
        );
        let known = stamp(1, 1_000, Some(20_000 * DAY));
        assert_eq!(
            known.age_ns(&stamp(2, 5_000, None)),
            None,
            "the wall clock is not synchronised now"
        );
        assert_eq!(
            known.age_ns(&stamp(2, 5_000, Some(20_001 * DAY))),
            u64::try_from(DAY).ok()
        );
        assert_eq!(
            known.age_ns(&stamp(2, 5_000, Some(19_000 * DAY))),
            None,
            "an age is never negative"
        );
    }
}
