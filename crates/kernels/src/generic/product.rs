//! The f32 product.

use crate::args::Product;
use crate::vector::Vector;

/// How a product combines its lanes, which hold f32 values or pairs of narrower ones.
pub(crate) trait MultiplyAdd<V> {
    /// `sum + a · b`.
    unsafe fn multiply_add(a: V, b: V, sum: V) -> V;
}

/// One f32 value per lane.
pub(crate) struct F32;

impl<V: Vector> MultiplyAdd<V> for F32 {
    #[inline(always)]
    unsafe fn multiply_add(a: V, b: V, sum: V) -> V {
        // SAFETY: this function inherits the caller's features.
        unsafe { a.fma(b, sum) }
    }
}

/// Computes one tile `[R, N·LEN]` of a product.
#[inline(always)]
unsafe fn product_tile<V: Vector, M: MultiplyAdd<V>, const R: usize, const N: usize>(p: &Product) {
    // SAFETY: the pointers match the shapes; this function inherits the caller's features.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        let mut row = p.b;
        let mut next = if p.prefetch.is_null() {
            p.b
        } else {
            p.prefetch
        };
        for segment in 0..p.segments {
            let mut column = p.a.add(segment * p.a_segment);
            for _ in 0..p.depth {
                V::prefetch(next);
                next = next.wrapping_byte_add(p.prefetch_step);
                let mut columns = [V::splat(0.0); N];
                for (n, column) in columns.iter_mut().enumerate() {
                    *column = V::load(row.add(n * V::LEN));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = V::broadcast(column.add(r * p.a_stride));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = M::multiply_add(value, column, *sum);
                    }
                }
                column = column.add(1);
                row = row.add(p.b_stride);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                sum.store(p.c.add(r * p.c_stride + n * V::LEN));
            }
        }
    }
}

/// Computes a panel of `N` vectors of columns, up to `TILE_ROWS` rows.
#[inline(always)]
unsafe fn product_rows<V: Vector, M: MultiplyAdd<V>, const N: usize>(p: &Product) {
    macro_rules! tile {
        ($($n:literal)+) => {
            match p.rows { $($n => product_tile::<V, M, $n, N>(p),)+ _ => {} }
        };
    }
    // SAFETY: as in `product_tile`.
    unsafe {
        match V::TILE_ROWS {
            12 => tile!(1 2 3 4 5 6 7 8 9 10 11 12),
            6 => tile!(1 2 3 4 5 6),
            _ => tile!(1 2 3 4),
        }
    }
}

/// Computes a [`Product`] of up to `TILE_ROWS` rows.
#[inline(always)]
pub(crate) unsafe fn product<V: Vector, M: MultiplyAdd<V>>(p: &Product) {
    // SAFETY: as in `product_tile`.
    unsafe {
        for c in (0..p.columns).step_by(V::LEN * V::TILE_VECTORS) {
            let panel = Product {
                b: p.b.add(c),
                c: p.c.add(c),
                ..*p
            };
            // The last panel may have fewer vectors.
            let vectors = (p.columns - c).div_ceil(V::LEN);
            match V::TILE_VECTORS.min(vectors) {
                1 => product_rows::<V, M, 1>(&panel),
                2 => product_rows::<V, M, 2>(&panel),
                _ => match V::TILE_VECTORS {
                    4 => product_rows::<V, M, 4>(&panel),
                    2 => product_rows::<V, M, 2>(&panel),
                    _ => product_rows::<V, M, 1>(&panel),
                },
            }
        }
    }
}
