//! How large a message may be: by this device's own limit, and by what the broker has shown.
//!
//! MQTT 3.1.1 does not let a broker tell its limit: it closes the connection when a packet is too large. A packet that is
//! sent again on every connection would then keep the device off the broker for ever. So a packet that was in flight when
//! the broker closed the connection, and that is larger than all that it has taken, is suspected: it is sent alone from
//! then on, with nothing else in flight, and given up when the broker closes the connection again and again.

use std::time::{Duration, Instant};

/// The largest packet, in both directions. An event with 100 labels of 200 characters stays far below this.
pub(super) const MAX_PACKET_BYTES: usize = 1 << 20;
/// What a picture's packet needs besides the picture: the header and a topic.
const PICTURE_OVERHEAD: usize = 1024;
/// A picture's largest size.
pub const MAX_PICTURE_BYTES: usize = MAX_PACKET_BYTES - PICTURE_OVERHEAD;
/// The smallest picture that is worth trying.
const MIN_PICTURE_BYTES: usize = 4096;
/// The longest topic that MQTT allows.
const MAX_TOPIC_BYTES: usize = u16::MAX as usize;
/// Packets below this are suspected only if the broker has taken smaller ones, and are never given up: hardly a broker's
/// limit is as low, and where access rules close the connection, which looks the same, an event can wait in the queue
/// until they are mended.
const SMALL: usize = 1024;
/// After this many resets the log names the suspect.
const RESETS_UNTIL_TOLD: u32 = 2;
/// After this many resets, all but the first with nothing else in flight, a suspect that is not small is given up.
const RESETS_UNTIL_GIVEN_UP: u32 = 3;
/// What to do about it.
const SEE: &str =
    "See the broker's limit (mosquitto: max_packet_size) and its access rules for this device";
/// How long the limit that was found holds. Then a packet may be tried again: the broker may have been configured anew.
const HOLDS: Duration = Duration::from_secs(3600);

/// Bytes of a PUBLISH packet with QoS 1 (MQTT 3.1.1, 3.3).
pub(super) fn publish_bytes(topic: &str, payload: &[u8]) -> usize {
    let remaining = 2 + topic.len() + 2 + payload.len();
    let length_bytes = match remaining {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    1 + length_bytes + remaining
}

/// A packet is suspected if it is larger than this above all that the broker has taken. Otherwise packets of about its size
/// have arrived, so its size is not the reason.
fn clearly_above(bytes: usize) -> usize {
    bytes + bytes / 4
}

/// Messages of one kind differ by a few per cent. Those down to this are refused with one of `bytes`.
fn slightly_below(bytes: usize) -> usize {
    bytes - bytes / 20
}

/// Whether a message can be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fits,
    /// It may only be sent while nothing else is in flight.
    Alone,
    /// Never, and why.
    Never(String),
}

/// A packet that the broker may have closed the connection for.
#[derive(Debug)]
struct Suspect {
    bytes: usize,
    resets: u32,
}

/// The size of packets that the broker takes.
#[derive(Debug, Default)]
pub(super) struct PacketSize {
    largest_taken: usize,
    suspect: Option<Suspect>,
    /// The size of a packet that the broker does not take, and until when to believe it.
    refused: Option<(usize, Instant)>,
}

impl PacketSize {
    /// Judges a message.
    pub(super) fn judge(&self, topic: &str, payload: &[u8], now: Instant) -> Verdict {
        let bytes = publish_bytes(topic, payload);
        // MQTT 3.1.1, 4.7: a broker closes the connection on such a topic.
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return Verdict::Never("its topic is none that messages can be sent to".into());
        }
        if topic.len() > MAX_TOPIC_BYTES {
            return Verdict::Never(format!(
                "its topic has {} bytes, MQTT allows {MAX_TOPIC_BYTES}",
                topic.len()
            ));
        }
        if bytes > MAX_PACKET_BYTES {
            return Verdict::Never(format!("at most {MAX_PACKET_BYTES} are sent"));
        }
        if let Some(refused) = self.refused(now).filter(|refused| bytes >= *refused) {
            return Verdict::Never(format!(
                "the broker has taken {}, and closed the connection at about {refused}",
                self.largest_taken
            ));
        }
        if self.is_suspected(bytes) {
            Verdict::Alone
        } else {
            Verdict::Fits
        }
    }

    fn refused(&self, now: Instant) -> Option<usize> {
        let refused = self.refused.filter(|(_, until)| now < *until);
        refused.map(|(bytes, _)| bytes)
    }

    /// Whether a packet of this size must be the only one in flight: it is about as large as the suspect, or larger.
    pub(super) fn is_suspected(&self, bytes: usize) -> bool {
        let suspect = self.suspect.as_ref();
        suspect.is_some_and(|s| clearly_above(bytes) >= s.bytes)
    }

    /// The largest picture that can be sent now.
    pub(super) fn max_picture_bytes(&self, now: Instant) -> usize {
        let refused = self.refused(now).unwrap_or(usize::MAX);
        // Half of what was refused, since nobody knows how far the limit is below it.
        let limit = MAX_PACKET_BYTES.min((refused / 2).max(self.largest_taken));
        limit
            .saturating_sub(PICTURE_OVERHEAD)
            .max(MIN_PICTURE_BYTES)
    }

    /// Notes that the broker has taken a packet of this size.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.largest_taken = self.largest_taken.max(bytes);
        if self.is_suspected(bytes) {
            self.suspect = None;
        }
        self.refused.take_if(|(refused, _)| bytes >= *refused);
    }

    /// Notes that the broker closed a connection. `in_flight` has topic and size of each packet that it had not
    /// acknowledged. Returns what to tell.
    pub(super) fn closed<'t>(
        &mut self,
        in_flight: impl Iterator<Item = (&'t str, usize)>,
        now: Instant,
    ) -> Option<String> {
        let least = match self.largest_taken {
            // It has taken nothing at all, so its reason is hardly a size.
            0 => SMALL,
            taken => clearly_above(taken),
        };
        let Some((topic, bytes)) = in_flight
            .max_by_key(|(_, bytes)| *bytes)
            .filter(|(_, bytes)| *bytes > least)
        else {
            // It closes connections that carry nothing large too.
            self.suspect = None;
            return None;
        };
        // Another message of the same kind may come first on the next connection.
        let is_similar =
            |s: &Suspect| clearly_above(bytes) >= s.bytes && bytes <= clearly_above(s.bytes);
        let known = self.suspect.take().filter(is_similar);
        let resets = known.map_or(0, |s| s.resets) + 1;
        let what = format!(
            "closed the connection {resets} times right after {topic}, {bytes} bytes, and the largest packet that it has taken has {} bytes",
            self.largest_taken
        );
        if resets >= RESETS_UNTIL_GIVEN_UP && bytes > SMALL {
            let refused = slightly_below(bytes).max(self.largest_taken + 1);
            self.refused = Some((refused, now + HOLDS));
            return Some(format!(
                "{what}: messages of {refused} bytes and more are dropped from now on. {SEE}"
            ));
        }
        self.suspect = Some(Suspect { bytes, resets });
        let tell = resets >= RESETS_UNTIL_TOLD && resets.is_power_of_two();
        let how_often = if bytes > SMALL { "once more" } else { "again" };
        tell.then(|| {
            format!("{what}: its limit seems to lie between, or its access rules forbid the topic. The message is tried {how_often}, alone. {SEE}")
        })
    }

    /// Whether the broker may have closed the last connection for a packet's size.
    pub(super) fn has_suspect(&self) -> bool {
        self.suspect.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_closes_connections_is_sent_alone_named_and_given_up() {
        let (mut size, now) = (PacketSize::default(), Instant::now());
        let payload = vec![0; 20_000];
        let bytes = publish_bytes("t/large", &payload);
        let judge = |size: &PacketSize, now| size.judge("t/large", &payload, now);
        size.taken(900);
        assert_eq!(judge(&size, now), Verdict::Fits);
        let both = [("t/small", 950), ("t/large", bytes)];
        assert_eq!(size.closed(both.into_iter(), now), None);
        assert_eq!(judge(&size, now), Verdict::Alone);
        assert_eq!(size.judge("t/small", &payload[..800], now), Verdict::Fits);
        let alone = || [("t/large", bytes)].into_iter();
        let told = size.closed(alone(), now).expect("the second is told");
        assert!(
            told.contains("2 times right after t/large, 20015 bytes"),
            "{told}"
        );
        // One of the same kind, a few bytes shorter.
        let told = size.closed([("t/large", bytes - 15)].into_iter(), now);
        let told = told.expect("the third is told");
        assert!(told.contains("are dropped from now on"), "{told}");
        let Verdict::Never(why) = judge(&size, now) else {
            panic!("it is given up");
        };
        assert_eq!(
            why,
            "the broker has taken 900, and closed the connection at about 19000"
        );
        assert_eq!(size.judge("t/small", &payload[..800], now), Verdict::Fits);
        assert_eq!(size.max_picture_bytes(now), 9_500 - PICTURE_OVERHEAD);
        assert_eq!(
            judge(&size, now + HOLDS),
            Verdict::Fits,
            "it is tried again"
        );
    }

    #[test]
    fn a_network_that_breaks_makes_no_packet_suspect() {
        let (mut size, now) = (PacketSize::default(), Instant::now());
        for _ in 0..9 {
            assert_eq!(size.closed([("t/event", 900)].into_iter(), now), None);
        }
        size.taken(9000);
        for _ in 0..9 {
            assert_eq!(size.closed([("t/event", 9100)].into_iter(), now), None);
        }
        let large = || [("t/large", 50_000)].into_iter();
        for _ in 0..9 {
            assert_eq!(size.closed(large(), now), None);
            assert_eq!(size.closed(std::iter::empty(), now), None, "without it");
        }
        size.closed(large(), now);
        size.taken(50_000);
        assert!(!size.has_suspect(), "it has arrived");
    }

    #[test]
    fn a_limit_below_small_packets_is_told_and_nothing_is_dropped() {
        let (mut size, now) = (PacketSize::default(), Instant::now());
        let payload = vec![0; 600];
        let event = || [("t/event", publish_bytes("t/event", &payload))].into_iter();
        size.taken(35);
        assert_eq!(size.closed(event(), now), None);
        let told = size.closed(event(), now).expect("the second is told");
        assert!(
            told.contains("2 times right after t/event, 614 bytes") && told.contains("35 bytes"),
            "{told}"
        );
        assert!(
            told.contains("max_packet_size) and its access rules"),
            "{told}"
        );
        let told = (0..30).filter(|_| size.closed(event(), now).is_some());
        assert_eq!(told.count(), 4, "after 4, 8, 16 and 32");
        assert_eq!(size.judge("t/event", &payload, now), Verdict::Alone);
        assert!(size.has_suspect());
        size.taken(614);
        assert_eq!(size.judge("t/event", &payload, now), Verdict::Fits);
    }

    #[test]
    fn what_the_protocol_or_this_device_cannot_send_is_refused_with_the_reason() {
        let size = PacketSize::default();
        let now = Instant::now();
        let refused = |topic: &str, payload: &[u8]| match size.judge(topic, payload, now) {
            Verdict::Never(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused("t", &vec![0; 1 << 20]).contains("at most 1048576"));
        assert!(refused("a/+/event", b"").contains("its topic is none"));
        assert!(refused(&"t".repeat(70_000), b"").contains("MQTT allows 65535"));
        assert_eq!(size.max_picture_bytes(now), MAX_PICTURE_BYTES);
        let largest = vec![0; MAX_PICTURE_BYTES];
        assert_eq!(size.judge(&"t".repeat(900), &largest, now), Verdict::Fits);
    }
}
