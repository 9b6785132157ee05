//! Recognises pictures and videos by their first bytes.

use memchr::memmem;

/// What tells a container from another, in three packets of MPEG-TS.
pub(crate) const HEAD_BYTES: usize = 4096;
/// A packet of MPEG-TS begins with this byte, and has 188 bytes.
const TS_SYNC: u8 = 0x47;
const TS_PACKET_BYTES: usize = 188;

/// The formats of video that begin with these bytes.
const VIDEOS: [(&[u8], &str); 8] = [
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"FLV\x01", "Flash video (FLV)"),
    (b"OggS", "Ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (ASF)"),
    (b"DKIF", "an IVF file (VP8, VP9 or AV1)"),
    (b"nut/multimedia container", "NUT"),
    (b"\0\0\x01\xba", "an MPEG program stream"),
    (b"\0\0\x01\xb3", "MPEG-1 or MPEG-2 video"),
];

/// The formats of pictures, but for JPEG.
const PICTURES: [(&[u8], &str); 8] = [
    (b"\x89PNG\r\n\x1a\n", "PNG images"),
    (b"GIF8", "GIF images"),
    (b"BM", "BMP images"),
    (b"II*\0", "TIFF images"),
    (b"MM\0*", "TIFF images"),
    (b"P5\n", "PGM images"),
    (b"P6\n", "PPM images"),
    (b"P7\n", "PAM images"),
];

/// The video, or the container of one, that begins with `head`.
pub(crate) fn video(head: &[u8]) -> Option<&'static str> {
    let named = |&(magic, name): &(&[u8], &'static str)| head.starts_with(magic).then_some(name);
    VIDEOS
        .iter()
        .find_map(named)
        .or_else(|| riff(head).filter(|name| *name != WEBP))
        .or_else(|| iso_media(head).filter(|name| *name != HEIF))
        .or_else(|| is_transport_stream(head).then_some("MPEG-TS"))
}

/// The picture that begins with `head`, if it is no JPEG.
pub(crate) fn picture(head: &[u8]) -> Option<&'static str> {
    let named = |&(magic, name): &(&[u8], &'static str)| head.starts_with(magic).then_some(name);
    let webp = || riff(head).filter(|name| *name == WEBP);
    let heif = || iso_media(head).filter(|name| *name == HEIF);
    PICTURES.iter().find_map(named).or_else(webp).or_else(heif)
}

const WEBP: &str = "WebP images";
const HEIF: &str = "HEIC or AVIF images";

fn riff(head: &[u8]) -> Option<&'static str> {
    let form = head.strip_prefix(b"RIFF")?.get(4..8)?;
    Some(match form {
        b"AVI " => "AVI",
        b"WEBP" => WEBP,
        b"WAVE" => "sound (WAV)",
        _ => "a RIFF file",
    })
}

/// MP4 and QuickTime consist of boxes: four bytes of length, four letters.
fn iso_media(head: &[u8]) -> Option<&'static str> {
    match (head.get(4..8)?, head.get(8..12)) {
        (b"ftyp", Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" | b"avif" | b"avis")) => {
            Some(HEIF)
        }
        (b"ftyp" | b"moov" | b"moof" | b"mdat" | b"styp" | b"sidx" | b"wide", _) => {
            Some("MP4 or QuickTime")
        }
        _ => None,
    }
}

/// Whether sync bytes stand 188 bytes apart, in at least three packets.
fn is_transport_stream(head: &[u8]) -> bool {
    let packets = |start: usize| head[start..].iter().step_by(TS_PACKET_BYTES);
    (0..TS_PACKET_BYTES.min(head.len()))
        .any(|start| packets(start).count() > 2 && packets(start).all(|&b| b == TS_SYNC))
}

/// What a file is that may be a list of paths.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// It is text.
    List,
    /// It is a picture that is read.
    Picture,
    Video(&'static str),
    /// Neither of these, by its format's name if that is known.
    Other(&'static str),
}

/// What the file is that begins with `beginning`, which is longer than one frame of MJPEG where the file is.
pub(super) fn listing(beginning: &[u8]) -> Listing {
    let head = &beginning[..beginning.len().min(HEAD_BYTES)];
    if head.starts_with(b"YUV4MPEG2 ") {
        return Listing::Video("yuv4mpeg");
    }
    if memmem::find(head, b"Content-Type: image/jpeg").is_some() {
        return Listing::Video("MJPEG in parts, as network cameras send it");
    }
    if is_text(head) {
        return Listing::List;
    }
    if head.starts_with(b"\xff\xd8\xff") {
        // A picture follows on the end of another.
        return match memmem::find(beginning, b"\xff\xd9\xff\xd8\xff") {
            Some(_) => Listing::Video("MJPEG"),
            None => Listing::Picture,
        };
    }
    if let Some(name) = video(head) {
        return Listing::Video(name);
    }
    match picture(head) {
        Some(name @ (HEIF | "GIF images" | "PGM images" | "PPM images" | "PAM images")) => {
            Listing::Other(name)
        }
        Some(_) => Listing::Picture,
        None => Listing::Other("an unknown format"),
    }
}

/// Whether this may be text in any encoding: UTF-16 with its mark, or bytes without control characters.
fn is_text(head: &[u8]) -> bool {
    let is_wide = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
    let is_strange = |b: &u8| *b < b' ' && !b.is_ascii_whitespace() && *b != 0x1b;
    is_wide || !head.iter().any(is_strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_told_from_pictures_and_videos() {
        let mjpeg = [
            &b"\xff\xd8\xff\xe0\0"[..],
            &[0; 9000],
            b"\xff\xd9\xff\xd8\xff\xe0",
        ]
        .concat();
        for (head, expected) in [
            (&b"images/1.jpg\nimages/2.jpg\n"[..], Listing::List),
            (b"BM/1.jpg\r\n", Listing::List),
            (b"gr\xfcn.jpg", Listing::List),
            (b"\xff\xfea\0.\0j\0", Listing::List),
            (b"", Listing::List),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0", Listing::Picture),
            (b"\x89PNG\r\n\x1a\n\0\0", Listing::Picture),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Listing::Picture),
            (b"BM\x36\0\0\0\0\0", Listing::Picture),
            (&mjpeg, Listing::Video("MJPEG")),
            (b"\0\0\0\x20ftypisom", Listing::Video("MP4 or QuickTime")),
            (b"RIFF\x10\0\0\0AVI LIST", Listing::Video("AVI")),
            (
                b"\x1a\x45\xdf\xa3\x9f\0",
                Listing::Video("Matroska or WebM"),
            ),
            (b"YUV4MPEG2 W2 H2\n", Listing::Video("yuv4mpeg")),
            (b"GIF89a\x01\0", Listing::Other("GIF images")),
            (b"\0\0\0\x1cftypheic", Listing::Other(HEIF)),
            (b"\0\x01\x02", Listing::Other("an unknown format")),
        ] {
            assert_eq!(listing(head), expected, "{head:?}");
        }
    }
}
