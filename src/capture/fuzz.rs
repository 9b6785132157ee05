//! Entries for the fuzz targets.

use super::mjpeg::{Piece, Splitter};
use super::yuv4mpeg::Reader;
use constancy_core::frame::Frame;

/// Splits a stream, the first byte of which says in what pieces it arrives.
pub fn mjpeg(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else {
        return;
    };
    let mut splitter = Splitter::default();
    let mut len = 0;
    for bytes in stream.chunks(usize::from(piece) * 16 + 1) {
        splitter.push(bytes);
        while let Some(piece) = splitter.next() {
            if let Piece::Image(image) = piece {
                len += image.len();
            }
        }
    }
    assert!(len <= stream.len(), "no byte is in two images");
}

/// Reads the first frames of a stream and hands them to `decode`.
pub fn y4m(data: &[u8], decode: fn(&Frame)) {
    let Ok(Some(mut reader)) = Reader::open(data) else {
        return;
    };
    for _ in 0..8 {
        match reader.next() {
            Ok(Some(frame)) => decode(&frame),
            _ => return,
        }
    }
}
