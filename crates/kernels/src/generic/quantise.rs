//! Quantising rows of activations.

use super::row::chunks;
use crate::args::{QuantisedRow, Range};
use crate::int8::{MAX_LEVEL, min_level};
use crate::vector::Vector;

/// Maps values to the integers `bottom..=top`.
struct Quantiser<V> {
    factor: V,
    offset: V,
    bottom: V,
    top: V,
}

impl<V: Vector> Quantiser<V> {
    #[inline(always)]
    unsafe fn quantise(&self, v: V) -> V {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            v.fma(self.factor, self.offset)
                .max(self.bottom)
                .min(self.top)
                .round()
        }
    }
}

/// Quantises one row of `len` values in the given range to `min_level..=MAX_LEVEL`, so that `x ≈ (q − zero) · scale`.
/// The bytes are stored xor `flip`.
#[inline(always)]
pub(crate) unsafe fn quantise_row<V: Vector>(
    x: *const f32,
    to: *mut u8,
    len: usize,
    Range { low, high }: Range,
    flip: u8,
) -> QuantisedRow {
    // SAFETY: `x` and `to` hold `len` values; this function inherits the caller's features.
    unsafe {
        let (bottom, top) = (f32::from(min_level(flip)), f32::from(MAX_LEVEL));
        let range = high - low;
        // A row of zeros or with a non-finite value has no scale; its product is 0 or NaN at any scale. The smallest
        // scale leaves the least rounding error where terms cancel.
        let scale = if range > f32::MIN_POSITIVE {
            range / (top - bottom)
        } else {
            f32::MIN_POSITIVE
        };
        let inverse = 1.0 / scale;
        let zero = (bottom - low * inverse)
            .round_ties_even()
            .clamp(bottom, top);
        let (factor, offset) = (V::splat(inverse), V::splat(zero));
        let quantiser = Quantiser {
            factor,
            offset,
            bottom: V::splat(bottom),
            top: V::splat(top),
        };
        chunks::<V>(
            len,
            #[inline(always)]
            |i| {
                quantiser
                    .quantise(V::load(x.add(i)))
                    .store_u8(to.add(i), flip);
            },
            #[inline(always)]
            |i, n| {
                let mut bytes = [0u8; 16];
                quantiser
                    .quantise(V::load_partial(x.add(i), n, 0.0))
                    .store_u8(bytes.as_mut_ptr(), flip);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(i), n);
            },
        );
        let scale = if range.is_finite() { scale } else { f32::NAN };
        QuantisedRow {
            scale,
            offset: (f32::from(flip) - zero) * scale,
            neg_sum: 0.0,
        }
    }
}
