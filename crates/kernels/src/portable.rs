//! The int8 product in plain Rust. Every other kernel must give the same sums.

use super::int8::{Int8Args, Int8Kernel};

/// Columns of a panel.
const PANEL: usize = 8;

pub(super) const KERNEL: Int8Kernel = Int8Kernel {
    panel: PANEL,
    rows: 4,
    step: 4,
    group: 4,
    flip: 0,
    splits_pairs: false,
    tile,
};

unsafe fn tile(args: &Int8Args, sums: *mut i32) {
    for r in 0..args.rows {
        let mut row = [0i32; PANEL];
        for d in 0..args.depth / 4 {
            // SAFETY: rows of `a` and the panel hold `depth` bytes per column.
            let (a, w) = unsafe {
                let a = args
                    .a
                    .add(r * args.a_stride + d * 4)
                    .cast::<[u8; 4]>()
                    .read_unaligned();
                (
                    a,
                    args.weights
                        .add(d * 4 * PANEL)
                        .cast::<[[i8; 4]; PANEL]>()
                        .read_unaligned(),
                )
            };
            for (sum, w) in row.iter_mut().zip(w) {
                *sum += (0..4)
                    .map(|i| i32::from(a[i]) * i32::from(w[i]))
                    .sum::<i32>();
            }
        }
        // SAFETY: `sums` holds `[rows, PANEL]`.
        unsafe {
            sums.add(r * PANEL)
                .cast::<[i32; PANEL]>()
                .write_unaligned(row);
        }
    }
}
