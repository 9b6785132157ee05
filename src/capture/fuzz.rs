//! Entries for the fuzz targets.

use super::mjpeg::{Piece, Splitter};
use super::yuv4mpeg;
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
    if let Some(Piece::Image(image)) = splitter.finish() {
        len += image.len();
    }
    assert!(len <= stream.len(), "no byte is in two images");
}

/// Splits a stream, the first byte of which says in what pieces it arrives, and hands its first frames to `decode`.
pub fn y4m(data: &[u8], decode: fn(&Frame)) {
    let Some((&piece, stream)) = data.split_first() else {
        return;
    };
    let mut splitter = yuv4mpeg::Splitter::default();
    let mut frames = 0;
    for bytes in stream.chunks(usize::from(piece) * 16 + 1) {
        splitter.push(bytes);
        while let Ok(Some(piece)) = splitter.next() {
            if let yuv4mpeg::Piece::Frame(frame) = piece
                && frames < 8
            {
                decode(&frame);
                frames += 1;
            }
        }
    }
}
