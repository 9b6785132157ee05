//! How large a picture may be, checked before memory is taken for it: a corrupt header may claim any size.

use thiserror::Error;

/// A picture that is not decoded because of its size.
#[derive(Debug, Error)]
pub enum TooLarge {
    #[error(
        "an image of {width}×{height} pixels is not accepted (1 to {MAX_SIDE_PX} a side, at most 64 megapixels)"
    )]
    Pixels { width: u32, height: u32 },
    #[error(
        "decoding a {kind} of {width}×{height} pixels takes {} MiB, more than the {} MiB that one picture may take; make it smaller, or save it as an ordinary JPEG",
        bytes.div_ceil(1 << 20), MAX_BYTES >> 20
    )]
    Memory {
        kind: &'static str,
        width: u32,
        height: u32,
        bytes: u64,
    },
}

/// No camera has more pixels per side.
pub(super) const MAX_SIDE_PX: u32 = 16_384;
/// The largest camera modules have 64 megapixels.
const MAX_PIXELS: u64 = 64 << 20;

/// What decoding one picture may take, beside the bytes of its file. The daemon and its snapshots may decode one each at a
/// time, and must stay below the 1 GB of their unit. 20 megapixels fit in every format.
pub(super) const MAX_BYTES: u64 = 320 << 20;

/// Fails if a picture has no pixels or too many.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), TooLarge> {
    let sides = 1..=MAX_SIDE_PX;
    let fits = sides.contains(&width) && sides.contains(&height);
    if fits && u64::from(width) * u64::from(height) <= MAX_PIXELS {
        Ok(())
    } else {
        Err(TooLarge::Pixels { width, height })
    }
}

/// Fails if decoding a picture, which takes `bytes`, exceeds the limit.
pub(super) fn check_memory(
    kind: &'static str,
    (width, height): (u32, u32),
    bytes: u64,
) -> Result<(), TooLarge> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(TooLarge::Memory {
        kind,
        width,
        height,
        bytes,
    })
}
