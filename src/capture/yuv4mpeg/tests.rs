use super::*;
use constancy_core::frame::PixelFormat;
use proptest::prelude::*;

/// The frames' sizes, formats and bytes; `None` is an incomplete one.
type Seen = Vec<Option<(u32, u32, PixelFormat, Vec<u8>)>>;

fn split(stream: &[u8], piece: usize) -> Result<Seen, String> {
    let mut splitter = Splitter::default();
    let mut seen = Vec::new();
    for bytes in stream.chunks(piece) {
        splitter.push(bytes);
        while let Some(piece) = splitter.next()? {
            seen.push(match piece {
                Piece::Frame(f) => Some((f.width, f.height, f.format, f.data)),
                Piece::Incomplete => None,
            });
        }
    }
    Ok(seen)
}

fn one(header: &str, samples: &[u8]) -> (u32, u32, PixelFormat, Vec<u8>) {
    let stream = [
        format!("YUV4MPEG2 {header}\nFRAME\n").as_bytes(),
        samples,
        b"FRAME\n\0",
    ]
    .concat();
    let mut seen = split(&stream, 7).expect("a header that is read");
    assert_eq!(seen.len(), 1, "{header}");
    seen.remove(0).expect("a whole frame")
}

#[test]
fn every_layout_is_read_as_eight_bits() {
    let luma = [10, 20, 30, 40, 50, 60, 70, 80];
    let frame = |chroma: &[u8]| [&luma[..], chroma].concat();
    for name in [
        "",
        " C420",
        " C420jpeg",
        " C420mpeg2",
        " C420paldv",
        " XYSCSS=420JPEG",
    ] {
        let (w, h, format, data) =
            one(&format!("W4 H2 F25:1 It A1:1{name}"), &frame(&[1, 2, 3, 4]));
        assert_eq!((w, h, format), (4, 2, PixelFormat::I420), "{name}");
        assert_eq!(data, frame(&[1, 2, 3, 4]), "{name}");
    }
    let chroma = [1, 2, 3, 4, 5, 6, 7, 8];
    let (.., format, data) = one("W4 H2 F25:1 C422", &frame(&chroma));
    assert_eq!((format, data), (PixelFormat::I422, frame(&chroma)));
    let (.., format, data) = one("W4 H2 C411", &frame(&[1, 2, 3, 4]));
    assert_eq!(format, PixelFormat::I422);
    assert_eq!(data, frame(&[1, 1, 2, 2, 3, 3, 4, 4]));
    let planes = frame(&[luma, luma].concat());
    for (name, wire) in [
        ("444", planes.clone()),
        ("444alpha", [&planes[..], &luma].concat()),
    ] {
        let (.., format, data) = one(&format!("W4 H2 C{name}"), &wire);
        assert_eq!(
            (format, data),
            (PixelFormat::I444, planes.clone()),
            "{name}"
        );
    }
    let (.., format, data) = one("W4 H2 Cmono", &luma);
    assert_eq!((format, data), (PixelFormat::Grey, luma.to_vec()));
}

#[test]
fn high_bit_depths_are_rounded_to_eight() {
    for (name, depth) in [("mono9", 9), ("mono10", 10), ("mono12", 12), ("mono16", 16)] {
        let shift = depth - 8;
        // A whole number, the smallest that is rounded up, and the largest.
        let samples = [
            5_u16 << shift,
            (5 << shift) + (1 << (shift - 1)),
            u16::MAX >> (16 - depth),
        ];
        let wire: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        let (.., format, data) = one(&format!("W3 H1 C{name}"), &wire);
        assert_eq!(
            (format, data),
            (PixelFormat::Grey, vec![5, 6, 255]),
            "{name}"
        );
    }
    let (.., format, data) = one("W1 H1 C420p10", &[0, 2, 0, 1, 4, 0]);
    assert_eq!((format, data), (PixelFormat::I420, vec![128, 64, 1]));
}

#[test]
fn the_colour_range_is_read() {
    let mut splitter = Splitter::default();
    splitter.push(
        b"YUV4MPEG2 W1 H1 Cmono XCOLORRANGE=FULL\nFRAME\n\x01YUV4MPEG2 W1 H1 Cmono\nFRAME Ip\n\x01",
    );
    let mut full_range = || match splitter.next() {
        Ok(Some(Piece::Frame(frame))) => frame.color.full_range,
        other => panic!("{other:?}"),
    };
    assert_eq!([full_range(), full_range()], [true, false]);
}

#[test]
fn refused_headers_are_quoted_with_the_way_out() {
    for (header, way_out) in [
        ("W2 H2 C410", "-pix_fmt yuv420p"),
        ("W2 H2 C420p17", "-pix_fmt yuv420p"),
        ("W2 H2 C422alpha", "-pix_fmt yuv420p"),
        ("H2 C420", "names no width"),
        ("W2 H0", "names no height"),
        ("W-2 H2", "names no width"),
        ("W32768 H32000 C420", "-vf scale=1280:-2"),
        ("W16384 H16384 C444", "-vf scale=1280:-2"),
        ("W4294967295 H4294967295 C444p16", "-vf scale=1280:-2"),
        ("W20000 H1 Cmono", "16384 pixels a side"),
    ] {
        let mut splitter = Splitter::default();
        splitter.push(format!("YUV4MPEG2 {header}\nFRAME\n").as_bytes());
        let reason = splitter.next().expect_err(header);
        assert!(reason.contains(way_out), "{reason}");
        assert!(
            reason.contains(&format!("`YUV4MPEG2 {header}`")),
            "{reason}"
        );
        assert!(
            splitter.buffer.capacity() < 1 << 16,
            "{header} takes memory"
        );
    }
}

#[test]
fn messages_around_frames_are_skipped() {
    let frame = |byte: u8| [b"FRAME\n".to_vec(), vec![byte; 6]].concat();
    let stream = [
        b"Setting pipeline to PLAYING ...\nFRAMES follow\n".to_vec(),
        b"YUV4MPEG2 W2 H2 F1:1\n".to_vec(),
        frame(1),
        b"\nFRAMED: a message\n".to_vec(),
        frame(2),
        b"\r\n".to_vec(),
        frame(3),
    ]
    .concat();
    for piece in [1, 3, 1000] {
        let seen = split(&stream, piece).expect("readable");
        let bytes: Vec<u8> = seen.into_iter().map(|f| f.expect("whole").3[0]).collect();
        assert_eq!(bytes, [1, 2, 3]);
    }
}

#[test]
fn a_header_in_mid_stream_begins_anew() {
    let whole = [b"FRAME\n".to_vec(), vec![1; 54]].concat();
    let anew =
        b"YUV4MPEG2 W4 H1 F1:1 Cmono\nFRAME\n\x03\x03\x03\x03YUV4MPEG2 W1 H1 Cmono\nFRAME\n\x04";
    // The cut frame lacks nearly everything, or so little that the header reaches beyond its end.
    for missing in [50, 9, 8, 1] {
        let cut = &whole[..whole.len() - missing];
        let stream = [b"YUV4MPEG2 W6 H6 F1:1\n", &whole[..], cut, anew].concat();
        for piece in [1, 5, 1000] {
            let seen = split(&stream, piece).expect("readable");
            assert_eq!(seen.len(), 4, "{missing} {piece}");
            if missing >= STREAM_MAGIC.len() {
                assert_eq!(seen[1], None, "it is not filled with what follows");
            }
            assert_eq!(seen[2], Some((4, 1, PixelFormat::Grey, vec![3; 4])));
            assert_eq!(seen[3], Some((1, 1, PixelFormat::Grey, vec![4])));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived_in_bounded_memory(
        text in "(YUV4MPEG2 |FRAME|FRAME\n|W[0-9]{1,3} |H[0-9]{1,3} |C(420|422|444|mono12|411) ?|\n|[a-z]{0,9}){0,60}",
        noise in prop::collection::vec(any::<u8>(), 0..600),
        piece in 1usize..300,
    ) {
        let stream = [text.as_bytes(), &noise].concat();
        let mut splitter = Splitter::default();
        for bytes in stream.chunks(piece) {
            splitter.push(bytes);
            while let Ok(Some(_)) = splitter.next() {}
            let limit = splitter.header.filter(|_| splitter.in_frame).map_or(0, |h| h.frame_bytes());
            prop_assert!(splitter.buffer.len() as u64 <= limit + 2048 + piece as u64);
        }
    }
}
