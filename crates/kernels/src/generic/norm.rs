//! Layer normalisation (Ba et al. 2016).

use super::row::{VectorRange, chunks, sum};
use crate::args::{NormArgs, Range};
use crate::vector::Vector;

/// Normalises one row: `(x − mean) / √(variance + ε) · gain + shift`. `to` may be `x`. Returns the range of the results.
#[inline(always)]
pub(crate) unsafe fn layer_norm<V: Vector>(
    x: *const f32,
    to: *mut f32,
    len: usize,
    norm: &NormArgs<'_>,
) -> Range {
    // SAFETY: `x`, `to`, gain and shift hold `len` values; this function inherits the caller's features.
    unsafe {
        let mean = sum::<V>(
            x,
            len,
            #[inline(always)]
            |v| v,
        ) / len as f32;
        let centre = V::splat(mean);
        let variance = sum::<V>(
            x,
            len,
            #[inline(always)]
            |v| {
                let d = v.sub(centre);
                d.mul(d)
            },
        ) / len as f32;
        let scale = V::splat(1.0 / (variance + norm.epsilon).sqrt());
        let (gain, shift) = (norm.gain.as_ptr(), norm.shift.as_ptr());
        let mut range = VectorRange::<V>::new();
        chunks::<V>(
            len,
            #[inline(always)]
            |i| {
                let d = V::load(x.add(i)).sub(centre).mul(scale);
                let y = d.fma(V::load(gain.add(i)), V::load(shift.add(i)));
                y.store(to.add(i));
                range.widen(y);
            },
            #[inline(always)]
            |i, n| {
                let d = V::load_partial(x.add(i), n, 0.0).sub(centre).mul(scale);
                // Gain and shift are 0 beyond the end, so the lanes there become 0 as well.
                let y = d.fma(
                    V::load_partial(gain.add(i), n, 0.0),
                    V::load_partial(shift.add(i), n, 0.0),
                );
                y.store_partial(to.add(i), n);
            },
        );
        let tail = len / V::LEN * V::LEN;
        if tail < len {
            range.widen(V::load_partial(to.add(tail), len - tail, 0.0));
        }
        range.reduce()
    }
}
