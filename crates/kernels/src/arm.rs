//! The int8 product on aarch64: activations and weights are signed bytes.
//!
//! - i8mm: `smmla` adds eight products to each of 2 × 2 sums.
//! - dotprod: `sdot` adds four products to an i32 lane. It selects a row's bytes by lane, so one load of 16 bytes of a
//!   row serves 16 depths.
//! - Plain NEON: `smull` and `smlal2` sum two products in 16 bits, and `sadalp` adds those to i32 lanes. Activations
//!   stay within −127..=127 ([`super::int8::min_level`]), so that any two products fit: 2 · 127 · 128 = 32,512.
//!
//! Rust has no stable intrinsics for `sdot` and `smmla`. Each is an `asm!` of one instruction, which leaves registers
//! and order to the compiler. `docs/engine.md` lists the cycles of every loop.

use super::int8::{Int8Args, Int8Kernel};
#[allow(clippy::wildcard_imports, reason = "intrinsics")]
use std::arch::aarch64::*;
use std::arch::asm;

/// Columns of a panel: one cache line of f32 results, so that no two threads write to the same line.
const PANEL: usize = 16;

pub(super) const NEON: Int8Kernel = Int8Kernel {
    panel: PANEL,
    rows: 4,
    step: 16,
    group: 16,
    flip: 0x80,
    splits_pairs: false,
    tile: neon,
};

pub(super) const NEON_DOTPROD: Int8Kernel = Int8Kernel {
    panel: PANEL,
    rows: 6,
    step: 16,
    group: 4,
    flip: 0x80,
    splits_pairs: false,
    tile: dotprod,
};

pub(super) const NEON_I8MM: Int8Kernel = Int8Kernel {
    panel: PANEL,
    rows: 6,
    step: 8,
    group: 8,
    flip: 0x80,
    splits_pairs: false,
    tile: i8mm,
};

/// Calls `$tile::<R>` for the R that equals the number of rows.
macro_rules! for_rows {
    ($tile:ident, $args:expr, $sums:expr, $($n:literal)+) => {
        // SAFETY: the caller upholds the contract of `Int8Args`.
        match $args.rows { $($n => unsafe { $tile::<$n>($args, $sums) },)+ _ => {} }
    };
}

#[target_feature(enable = "neon")]
unsafe fn neon(args: &Int8Args, sums: *mut i32) {
    // SAFETY: the caller upholds the contract of `Int8Args`.
    unsafe {
        match args.rows {
            1 => neon_rows::<1>(args, sums),
            2 => neon_rows::<2>(args, sums),
            3 => neon_rows::<3>(args, sums),
            _ => neon_four(args, sums),
        }
    }
}

/// Four columns of a panel at a time.
#[target_feature(enable = "neon")]
unsafe fn neon_rows<const R: usize>(args: &Int8Args, out: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 16, `out` holds `[R, 16]`.
    unsafe {
        for first in (0..PANEL).step_by(4) {
            let mut sums = [[vdupq_n_s32(0); 4]; R];
            let mut w = args.weights.add(first * 16);
            for k in (0..args.depth).step_by(16) {
                let a: [[int8x8_t; 2]; R] = std::array::from_fn(|r| {
                    let a = args.a.add(r * args.a_stride + k).cast::<i8>();
                    [vld1_s8(a), vld1_s8(a.add(8))]
                });
                for c in 0..4 {
                    let (w0, w1) = (vld1_s8(w.add(c * 16)), vld1_s8(w.add(c * 16 + 8)));
                    for (sums, [a0, a1]) in sums.iter_mut().zip(a) {
                        sums[c] = vpadalq_s16(sums[c], vmlal_s8(vmull_s8(a0, w0), a1, w1));
                    }
                }
                w = w.add(16 * PANEL);
            }
            store_reduced(&sums, out.add(first));
        }
    }
}

/// Stores `[R, 4]` results, each the sum of a vector's four lanes.
#[target_feature(enable = "neon")]
unsafe fn store_reduced<const R: usize>(sums: &[[int32x4_t; 4]; R], out: *mut i32) {
    for (r, s) in sums.iter().enumerate() {
        // SAFETY: `out` holds `R` rows of a panel.
        unsafe {
            vst1q_s32(
                out.add(r * PANEL),
                vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])),
            )
        }
    }
}

/// [`neon_rows`] for four rows, scheduled by hand for Cortex-A53, which issues in order and has a 64-bit load path.
///
/// A vector load takes a cycle per 64 bits. In that cycle the core can also set the upper half of
/// another register, but do no vector arithmetic; a load to a general register can issue alongside
/// arithmetic. So each load of a register's lower half is paired with setting the previous
/// register's upper half. (The compiler's schedule would also need one register more than there
/// are.)
///
/// Product `i` belongs to column `i / 4` and row `i % 4`. Its `smlal2` comes three groups of instructions after its
/// `smull`, and its `sadalp` two groups later, so that none waits for its predecessor. The last products of 16 depths
/// finish in the next iteration, or after the loop; before the first iteration their registers are 0.
#[target_feature(enable = "neon")]
unsafe fn neon_four(args: &Int8Args, out: *mut i32) {
    if args.depth == 0 {
        // SAFETY: this function's contract is the same.
        return unsafe { neon_rows::<4>(args, out) };
    }
    let zero = vdupq_n_s32(0);
    // Each of the four passes prefetches a quarter.
    let ahead = args.prefetch_step / 4;
    for first in (0..PANEL).step_by(4) {
        let mut s = [[zero; 4]; 4];
        // SAFETY: as in `neon_rows`; the loop runs `depth / 16` times, at least once. A prefetch may use any address.
        unsafe {
            asm!(
                "2:",
                "ldr d4, [{w}]",
                "smlal2 v13.8h, v1.16b, v7.16b", "ldr {x0}, [{w}, #8]",
                "sadalp v30.4s, v11.8h",
                "ldr d0, [{a0}]", "mov v4.d[1], {x0}",
                "smlal2 v14.8h, v2.16b, v7.16b", "ldr {x1}, [{a0}, #8]",
                "sadalp v19.4s, v12.8h",
                "ldr d1, [{a1}]", "mov v0.d[1], {x1}",
                "smlal2 v15.8h, v3.16b, v7.16b", "ldr {x0}, [{a1}, #8]",
                "sadalp v23.4s, v13.8h",
                "ldr d2, [{a2}]", "mov v1.d[1], {x0}",
                "sadalp v27.4s, v14.8h", "ldr {x1}, [{a2}, #8]",
                "sadalp v31.4s, v15.8h",
                "smull v8.8h, v0.8b, v4.8b",
                "ldr d3, [{a3}]", "mov v2.d[1], {x1}",
                "smull v9.8h, v1.8b, v4.8b", "ldr {x0}, [{a3}, #8]",
                "smull v10.8h, v2.8b, v4.8b",
                "ldr d5, [{w}, #16]", "mov v3.d[1], {x0}",
                "smull v11.8h, v3.8b, v4.8b", "ldr {x1}, [{w}, #24]",
                "smlal2 v8.8h, v0.16b, v4.16b",
                "smull v12.8h, v0.8b, v5.8b",
                "smlal2 v9.8h, v1.16b, v4.16b",
                "ldr d6, [{w}, #32]", "mov v5.d[1], {x1}",
                "smull v13.8h, v1.8b, v5.8b", "ldr {x0}, [{w}, #40]",
                "smlal2 v10.8h, v2.16b, v4.16b",
                "sadalp v16.4s, v8.8h",
                "smull v14.8h, v2.8b, v5.8b", "prfm pldl1keep, [{w}, #1024]",
                "smlal2 v11.8h, v3.16b, v4.16b",
                "sadalp v20.4s, v9.8h",
                "smull v15.8h, v3.8b, v5.8b", "prfm pldl2keep, [{next}]",
                "smlal2 v12.8h, v0.16b, v5.16b",
                "sadalp v24.4s, v10.8h",
                "ldr d7, [{w}, #48]", "mov v6.d[1], {x0}",
                "smull v8.8h, v0.8b, v6.8b", "ldr {x1}, [{w}, #56]",
                "smlal2 v13.8h, v1.16b, v5.16b",
                "sadalp v28.4s, v11.8h",
                "smull v9.8h, v1.8b, v6.8b",
                "smlal2 v14.8h, v2.16b, v5.16b",
                "sadalp v17.4s, v12.8h",
                "smull v10.8h, v2.8b, v6.8b", "add {next}, {next}, {ahead}",
                "smlal2 v15.8h, v3.16b, v5.16b",
                "sadalp v21.4s, v13.8h",
                "mov v7.d[1], {x1}",
                "smull v11.8h, v3.8b, v6.8b",
                "smlal2 v8.8h, v0.16b, v6.16b",
                "sadalp v25.4s, v14.8h",
                "smull v12.8h, v0.8b, v7.8b", "add {w}, {w}, #256",
                "smlal2 v9.8h, v1.16b, v6.16b",
                "sadalp v29.4s, v15.8h",
                "smull v13.8h, v1.8b, v7.8b", "subs {k}, {k}, #16",
                "smlal2 v10.8h, v2.16b, v6.16b",
                "sadalp v18.4s, v8.8h",
                "smull v14.8h, v2.8b, v7.8b", "add {a0}, {a0}, #16",
                "smlal2 v11.8h, v3.16b, v6.16b",
                "sadalp v22.4s, v9.8h",
                "smull v15.8h, v3.8b, v7.8b", "add {a1}, {a1}, #16",
                "smlal2 v12.8h, v0.16b, v7.16b", "add {a2}, {a2}, #16",
                "sadalp v26.4s, v10.8h", "add {a3}, {a3}, #16",
                "b.ne 2b",
                "smlal2 v13.8h, v1.16b, v7.16b",
                "smlal2 v14.8h, v2.16b, v7.16b",
                "smlal2 v15.8h, v3.16b, v7.16b",
                "sadalp v30.4s, v11.8h",
                "sadalp v19.4s, v12.8h",
                "sadalp v23.4s, v13.8h",
                "sadalp v27.4s, v14.8h",
                "sadalp v31.4s, v15.8h",
                w = inout(reg) args.weights.add(first * 16) => _,
                next = inout(reg) args.prefetch.wrapping_add(first / 4 * (args.depth / 16 * ahead)) => _,
                ahead = in(reg) ahead,
                k = inout(reg) args.depth => _,
                a0 = inout(reg) args.a => _,
                a1 = inout(reg) args.a.add(args.a_stride) => _,
                a2 = inout(reg) args.a.add(2 * args.a_stride) => _,
                a3 = inout(reg) args.a.add(3 * args.a_stride) => _,
                x0 = out(reg) _,
                x1 = out(reg) _,
                // Activations.
                out("v0") _, inout("v1") zero => _, inout("v2") zero => _, inout("v3") zero => _,
                // Weights.
                out("v4") _, out("v5") _, out("v6") _, inout("v7") zero => _,
                // Products in 16 bits.
                out("v8") _, out("v9") _, out("v10") _, inout("v11") zero => _,
                inout("v12") zero => _, inout("v13") zero => _, inout("v14") zero => _, inout("v15") zero => _,
                inout("v16") s[0][0], inout("v17") s[0][1], inout("v18") s[0][2], inout("v19") s[0][3],
                inout("v20") s[1][0], inout("v21") s[1][1], inout("v22") s[1][2], inout("v23") s[1][3],
                inout("v24") s[2][0], inout("v25") s[2][1], inout("v26") s[2][2], inout("v27") s[2][3],
                inout("v28") s[3][0], inout("v29") s[3][1], inout("v30") s[3][2], inout("v31") s[3][3],
                options(readonly, nostack),
            );
            store_reduced(&s, out.add(first));
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn dotprod(args: &Int8Args, sums: *mut i32) {
    for_rows!(dotprod_rows, args, sums, 1 2 3 4 5 6);
}

/// Adds to every lane of `$sum` the four products of its column's weights and a row's bytes from `4 · $lane` on.
macro_rules! sdot {
    ($sum:expr, $w:expr, $a:expr, $lane:literal) => {
        asm!(
            concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
            inout(vreg) $sum, in(vreg) $w, in(vreg) $a,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn dotprod_rows<const R: usize>(args: &Int8Args, out: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 16, `out` holds `[R, 16]`.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; R];
        let mut w = args.weights;
        for k in (0..args.depth).step_by(16) {
            prefetch(args.prefetch.wrapping_add(k / 16 * args.prefetch_step));
            let a: [int8x16_t; R] =
                std::array::from_fn(|r| vld1q_s8(args.a.add(r * args.a_stride + k).cast()));
            macro_rules! group {
                ($($lane:literal)+) => {$(
                    for c in 0..4 {
                        let columns = vld1q_s8(w.add($lane * 64 + c * 16));
                        for r in 0..R {
                            sdot!(sums[r][c], columns, a[r], $lane);
                        }
                    }
                )+};
            }
            group!(0 1 2 3);
            w = w.add(16 * PANEL);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                vst1q_s32(out.add(r * PANEL + c * 4), *sum);
            }
        }
    }
}

#[target_feature(enable = "neon,i8mm")]
unsafe fn i8mm(args: &Int8Args, sums: *mut i32) {
    // SAFETY: the caller upholds the contract of `Int8Args`.
    unsafe {
        match args.rows {
            1 | 2 => i8mm_pairs::<1>(args, sums),
            3 | 4 => i8mm_pairs::<2>(args, sums),
            _ => i8mm_pairs::<3>(args, sums),
        }
    }
}

/// Adds to `$sum` the products of two rows with two columns: `[r0·c0, r0·c1, r1·c0, r1·c1]`.
macro_rules! smmla {
    ($sum:expr, $rows:expr, $columns:expr) => {
        asm!(
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) $sum, in(vreg) $rows, in(vreg) $columns,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

#[target_feature(enable = "neon,i8mm")]
unsafe fn i8mm_pairs<const P: usize>(args: &Int8Args, out: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 8, `out` holds
    // `[rows, 16]`.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); PANEL / 2]; P];
        // An odd last row is paired with itself.
        let row = |r: usize| {
            args.a
                .add(r.min(args.rows - 1) * args.a_stride)
                .cast::<i8>()
        };
        let rows: [[*const i8; 2]; P] = std::array::from_fn(|p| [row(2 * p), row(2 * p + 1)]);
        let mut w = args.weights;
        for k in (0..args.depth).step_by(8) {
            prefetch(args.prefetch.wrapping_add(k / 8 * args.prefetch_step));
            let pairs = rows.map(|[r0, r1]| vcombine_s8(vld1_s8(r0.add(k)), vld1_s8(r1.add(k))));
            for c in 0..PANEL / 2 {
                let columns = vld1q_s8(w.add(c * 16));
                for (sums, pair) in sums.iter_mut().zip(pairs) {
                    smmla!(sums[c], pair, columns);
                }
            }
            w = w.add(8 * PANEL);
        }
        for (p, sums) in sums.iter().enumerate() {
            for (c, pair) in sums.chunks_exact(2).enumerate() {
                let [first, second] = [pair[0], pair[1]].map(|v| vreinterpretq_s64_s32(v));
                let to = out.add(2 * p * PANEL + c * 4);
                vst1q_s32(to, vreinterpretq_s32_s64(vzip1q_s64(first, second)));
                if 2 * p + 1 < args.rows {
                    vst1q_s32(
                        to.add(PANEL),
                        vreinterpretq_s32_s64(vzip2q_s64(first, second)),
                    );
                }
            }
        }
    }
}

/// Prefetches a cache line that will be read after this panel, at any address.
#[inline]
#[target_feature(enable = "neon")]
fn prefetch(line: *const i8) {
    // SAFETY: a prefetch never faults.
    unsafe {
        asm!("prfm pldl2keep, [{0}]", in(reg) line, options(readonly, nostack, preserves_flags))
    }
}
