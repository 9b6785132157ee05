//! The int8 product on 32-bit ARM with NEON (Cortex-A7 and later; 64-bit cores under a 32-bit system).
//!
//! Two products are summed in 16 bits, as `arm.rs` does without dot products. Rust's NEON
//! intrinsics and target feature for 32-bit ARM are unstable, so the loop is a function in
//! assembly, which needs no target feature.

use super::int8::{Int8Args, Int8Kernel};
use std::arch::naked_asm;
use std::ffi::c_ulong;

/// Columns of a panel: a multiple of the f32 vector's lanes.
const PANEL: usize = 8;

pub(super) const NEON: Int8Kernel = Int8Kernel {
    panel: PANEL,
    rows: 8,
    step: 16,
    group: 16,
    flip: 0x80,
    splits_pairs: false,
    tile,
};

/// Whether Linux reports NEON.
pub(super) fn has_neon() -> bool {
    // <asm/hwcap.h> and <elf.h>.
    const AT_HWCAP: c_ulong = 16;
    const HWCAP_NEON: c_ulong = 1 << 12;
    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }
    getauxval(AT_HWCAP) & HWCAP_NEON != 0
}

/// Two rows and four columns at a time: their sums fill half the registers.
unsafe fn tile(args: &Int8Args, sums: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 16, `sums` holds
    // `[rows, 8]`. An odd last row is paired with itself and stored twice in the same place.
    unsafe {
        for r in (0..args.rows).step_by(2) {
            let a = args.a.add(r * args.a_stride);
            let two = r + 1 < args.rows;
            let (stride, out_stride) = if two {
                (args.a_stride, PANEL * size_of::<i32>())
            } else {
                (0, 0)
            };
            for first in (0..PANEL).step_by(4) {
                let (w, out) = (args.weights.add(first * 16), sums.add(r * PANEL + first));
                two_rows(a, stride, w, args.depth, out, out_stride);
            }
        }
    }
}

/// `out [2, 4] = a [2, depth] · w [depth, 4]`, strides in bytes.
///
/// Registers: q0 and q1 hold activations, q2 and q3 the weights of two columns, q4 to q7 products in 16 bits, q8 to q11
/// the sums of the first row, q12 to q15 those of the second. A column's products are added to its sums after the next
/// column's multiplications, for cores that issue in order.
#[unsafe(naked)]
unsafe extern "C" fn two_rows(
    a: *const u8,
    stride: usize,
    w: *const i8,
    depth: usize,
    out: *mut i32,
    out_stride: usize,
) {
    naked_asm!(
        ".arch armv7-a",
        ".fpu neon",
        "vpush {{d8-d15}}",
        "add r1, r0, r1",
        "vmov.i32 q8, #0",
        "vmov.i32 q9, #0",
        "vmov.i32 q10, #0",
        "vmov.i32 q11, #0",
        "vmov.i32 q12, #0",
        "vmov.i32 q13, #0",
        "vmov.i32 q14, #0",
        "vmov.i32 q15, #0",
        // No products yet.
        "vmov.i32 q6, #0",
        "vmov.i32 q7, #0",
        "cmp r3, #0",
        "beq 3f",
        "2:",
        "vld1.8 {{d4-d7}}, [r2]!",
        "vld1.8 {{d0-d1}}, [r0]!",
        "vld1.8 {{d2-d3}}, [r1]!",
        // The last column of the previous 16 depths.
        "vpadal.s16 q11, q6",
        "vpadal.s16 q15, q7",
        "vmull.s8 q4, d0, d4",
        "vmull.s8 q5, d2, d4",
        "vmull.s8 q6, d0, d6",
        "vmull.s8 q7, d2, d6",
        "vmlal.s8 q4, d1, d5",
        "vmlal.s8 q5, d3, d5",
        "vmlal.s8 q6, d1, d7",
        "vmlal.s8 q7, d3, d7",
        "vld1.8 {{d4-d7}}, [r2]",
        // The panel's other four columns lie between.
        "add r2, r2, #96",
        "pld [r2, #512]",
        "vpadal.s16 q8, q4",
        "vpadal.s16 q12, q5",
        "vmull.s8 q4, d0, d4",
        "vmull.s8 q5, d2, d4",
        "vpadal.s16 q9, q6",
        "vpadal.s16 q13, q7",
        "vmull.s8 q6, d0, d6",
        "vmull.s8 q7, d2, d6",
        "vmlal.s8 q4, d1, d5",
        "vmlal.s8 q5, d3, d5",
        "vmlal.s8 q6, d1, d7",
        "vmlal.s8 q7, d3, d7",
        "subs r3, r3, #16",
        "vpadal.s16 q10, q4",
        "vpadal.s16 q14, q5",
        "bne 2b",
        "vpadal.s16 q11, q6",
        "vpadal.s16 q15, q7",
        "3:",
        "ldr r2, [sp, #64]",
        "ldr r3, [sp, #68]",
        // Adds up each sum's four lanes.
        "vpadd.i32 d0, d16, d17",
        "vpadd.i32 d1, d18, d19",
        "vpadd.i32 d2, d20, d21",
        "vpadd.i32 d3, d22, d23",
        "vpadd.i32 d4, d24, d25",
        "vpadd.i32 d5, d26, d27",
        "vpadd.i32 d6, d28, d29",
        "vpadd.i32 d7, d30, d31",
        "vpadd.i32 d0, d0, d1",
        "vpadd.i32 d1, d2, d3",
        "vpadd.i32 d4, d4, d5",
        "vpadd.i32 d5, d6, d7",
        "vst1.32 {{d0-d1}}, [r2]",
        "add r2, r2, r3",
        "vst1.32 {{d4-d5}}, [r2]",
        "vpop {{d8-d15}}",
        "bx lr",
    )
}
