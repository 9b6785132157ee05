//! Recognises what a stream carries that holds no frame, for the fault of a source that is silent.

use super::printable::printable;
use crate::files;
use memchr::memmem;

/// How much of what came is looked at: what tells containers, and a page's title.
pub(super) const HEAD_BYTES: usize = files::HEAD_BYTES;
const QUOTED_CHARS: usize = 80;

/// What a stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: Kind,
    /// In words, as in "which look like …".
    pub(super) name: String,
}

/// What decides the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Yuv4mpeg,
    /// Pictures in a form that is not read: compressed video, a container, images that are no JPEG, or unknown bytes.
    OtherVideo,
    /// An answer of a web server.
    Web,
    /// Messages for people.
    Text,
}

/// What the stream carries whose first bytes these are.
pub(super) fn look(head: &[u8]) -> Content {
    let head = &head[..head.len().min(HEAD_BYTES)];
    let other = |name: &str| Content {
        kind: Kind::OtherVideo,
        name: name.into(),
    };
    let known = |kind, name: &str| Content {
        kind,
        name: name.into(),
    };
    if let Some(name) = files::picture(head).or_else(|| files::video(head)) {
        return other(name);
    }
    if head.starts_with(&[0xff, 0xd8]) {
        return known(Kind::Jpeg, "JPEG images");
    }
    // It may follow a message of the program.
    if memmem::find(head, b"YUV4MPEG2 ").is_some() {
        return known(Kind::Yuv4mpeg, "yuv4mpeg");
    }
    if let Some(content) = text(head) {
        return content;
    }
    if let Some(name) = start_codes(head) {
        return other(name);
    }
    if memmem::find(head, b"\xff\xd8\xff").is_some() {
        return known(Kind::Jpeg, "JPEG images");
    }
    other("uncompressed video or another format without a name")
}

/// Video whose units begin with `00 00 01`: H.264 and H.265 (their Annex B), and MPEG-4 (ISO 14496-2).
fn start_codes(head: &[u8]) -> Option<&'static str> {
    let mut units = memmem::find_iter(head, b"\0\0\x01").filter_map(|at| {
        let &[first, second] = head.get(at + 3..at + 5)? else {
            return None;
        };
        // The headers that come before pictures: VPS, SPS, PPS of H.265; SPS, PPS, access unit delimiter, whole
        // picture of H.264; visual object sequence and object of MPEG-4.
        match (first, second) {
            (0x40 | 0x42 | 0x44, 0x01) => Some("H.265 (Annex B)"),
            (0x27 | 0x47 | 0x67 | 0x28 | 0x48 | 0x68 | 0x09 | 0x25 | 0x45 | 0x65, _) => {
                Some("H.264 (Annex B)")
            }
            (0xb0 | 0xb5 | 0xb6, _) => Some("MPEG-4 video"),
            _ => None,
        }
    });
    let first = units.next();
    // After a frame, the stream may be met amid pictures that refer to others.
    first.or_else(|| {
        let begins = head.starts_with(b"\0\0\0\x01") || head.starts_with(b"\0\0\x01");
        begins.then_some("H.264 or H.265 (Annex B)")
    })
}

/// Text, of people or of a web server.
fn text(head: &[u8]) -> Option<Content> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let is_strange =
        |c: &char| (c.is_control() && !c.is_whitespace() && *c != '\u{1b}') || *c == '\u{fffd}';
    // The last character may be cut, and not all text is UTF-8.
    let strange = text.chars().filter(is_strange).count();
    if text.is_empty() || strange * 32 > text.chars().count() {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let (kind, name) =
        if let Some(from) = lower.find("<html").or_else(|| lower.find("<!doctype html")) {
            (Kind::Web, page(&text[from..], &lower[from..]))
        } else if text.starts_with("HTTP/") {
            (
                Kind::Web,
                format!("a web server's answer, `{}`", quote(text)),
            )
        } else {
            (Kind::Text, format!("text, `{}`", quote(text)))
        };
    Some(Content { kind, name })
}

/// A web page, by its title if it has one.
fn page(html: &str, lower: &str) -> String {
    let title = lower.find("<title>").map(|at| at + "<title>".len());
    let end = title.and_then(|from| Some(from + lower[from..].find("</title>")?));
    match title.zip(end) {
        Some((from, end)) => format!("a web page, `{}`", quote(html[from..end].trim())),
        None => "a web page".into(),
    }
}

/// The first line.
fn quote(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    printable(line).chars().take(QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TS_SYNC: u8 = 0x47;
    const TS_PACKET_BYTES: usize = 188;

    fn name(head: &[u8]) -> String {
        look(head).name
    }

    /// Bytes without structure, as of compressed data.
    fn noise(count: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..))
            .take(count)
            .collect()
    }

    fn transport_stream(skip: usize) -> Vec<u8> {
        let packets = (0..20).flat_map(|i| [vec![TS_SYNC], noise(TS_PACKET_BYTES - 1, i)].concat());
        packets.skip(skip).collect()
    }

    #[test]
    fn streams_are_named() {
        let cases: [(&[u8], &str); 20] = [
            (b"\0\0\0\x01\x67\x42\xc0\x1e", "H.264 (Annex B)"),
            (b"\0\0\0\x01\x09\xf0\0\0\0\x01\x67\x64", "H.264 (Annex B)"),
            (b"\0\0\x01\x41\x9a\x24", "H.264 or H.265 (Annex B)"),
            (b"tail\0\0\x01\x65\x88", "H.264 (Annex B)"),
            (b"\0\0\0\x01\x40\x01\x0c\x01", "H.265 (Annex B)"),
            (b"\0\0\x01\xb0\x01\0\0\x01\xb5", "MPEG-4 video"),
            (b"\0\0\x01\xba\x44", "an MPEG program stream"),
            (b"RIFF\x10\0\0\0AVI LIST", "AVI"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP images"),
            (b"\x1a\x45\xdf\xa3\x9fB\x86", "Matroska or WebM"),
            (b"\0\0\0\x20ftypisom", "MP4 or QuickTime"),
            (b"\0\0\x02\x18moof", "MP4 or QuickTime"),
            (b"\x89PNG\r\n\x1a\n\0\0", "PNG images"),
            (b"P6\n640 480\n255\n\0\0", "PPM images"),
            (
                b"<!DOCTYPE html><html><head><title> Log  in\n</title>",
                "a web page, `Log  in`",
            ),
            (b"\n<html>\n<body>", "a web page"),
            (
                b"HTTP/1.1 401 Unauthorized\r\nX: y\r\n\r\n<html>",
                "a web page",
            ),
            (
                b"HTTP/1.1 401 Unauthorized\r\nX: y\r\n",
                "a web server's answer, `HTTP/1.1 401 Unauthorized`",
            ),
            (
                b"cannot open rtsp://a:b@c/d\nsecond",
                "text, `cannot open rtsp://***@c/d`",
            ),
            (b"\x1b[31mno camera\x1b[0m", "text, `no camera`"),
        ];
        for (head, expected) in cases {
            assert_eq!(name(head), expected);
        }
        for skip in [0, 1, 187] {
            assert_eq!(name(&transport_stream(skip)), "MPEG-TS", "{skip}");
        }
        for (head, kind) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], Kind::Jpeg),
            (
                b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xe0\0\x10\x80\x81",
                Kind::Jpeg,
            ),
            (
                b"YUV4MPEG2 W2 H2 F1:1\nFRAME\n\0\0\x01\x67\x80\x90",
                Kind::Yuv4mpeg,
            ),
            (
                b"Setting pipeline to PLAYING ...\nYUV4MPEG2 W2 H2\n",
                Kind::Yuv4mpeg,
            ),
        ] {
            assert_eq!(look(head).kind, kind, "{head:?}");
        }
    }

    #[test]
    fn what_has_no_signature_is_not_guessed() {
        for head in [noise(4096, 1), vec![0; 4096], vec![128; 300], noise(3, 2)] {
            assert_eq!(
                name(&head),
                "uncompressed video or another format without a name"
            );
        }
        assert_eq!(look(b"").kind, Kind::OtherVideo);
    }
}
