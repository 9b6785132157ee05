//! The integer product in the tiles of Intel's AMX: `tdpbusd` multiplies 16 rows of 64 bytes with 64 rows of 16 columns.
//!
//! A panel of 32 columns is packed as for AVX-512, `[depth / 4][32][4]`: the rows of two tiles of weights, side by side.
//! Rows of activations are cut into tiles of one height, so that the tiles are configured once a call; the last of
//! them begins where it ends with the last row, and computes some rows a second time. A tile's time is that of its rows.
//!
//! Rust has no stable intrinsics for tiles. Every block of assembly leaves nothing in them.

use super::{Int8Args, Int8Kernel};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Columns of a panel: two tiles.
const PANEL: usize = 32;
/// Depths of a tile.
const STEP: usize = 64;
/// Most rows of a tile.
const HEIGHT: usize = 16;
const LINE: usize = 64;

pub(super) const AMX: Int8Kernel =
    Int8Kernel { panel: PANEL, rows: 4 * HEIGHT, step: STEP, group: 4, levels: 255, flip: 0, lane_limit: 0, tile };

/// Whether the processor has tiles of bytes, and the system lends them to this process.
pub(super) fn is_available() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| has_tiles() && system_grants_tiles())
}

fn has_tiles() -> bool {
    const LEAF: u32 = 7;
    // amx-bf16, amx-tile, amx-int8.
    const BITS: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    __cpuid(0).eax >= LEAF && __cpuid_count(LEAF, 0).edx & BITS == BITS
}

/// Linux saves 8 KB more for a thread that uses tiles, and wants to be asked first, once per process.
#[cfg(target_os = "linux")]
fn system_grants_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call that touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_grants_tiles() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Sums in tiles 0 to 3 and activations in 4 and 5 of `height` rows, weights in 6 and 7.
    fn new(height: u8) -> Self {
        let mut rows = [0; 16];
        rows[..6].fill(height);
        rows[6..8].fill(16);
        let mut row_bytes = [0; 16];
        row_bytes[..8].fill(64);
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

unsafe fn tile(args: &Int8Args, sums: *mut i32) {
    let (rows, steps) = (args.rows, args.depth / STEP);
    if rows == 0 || steps == 0 {
        // SAFETY: sums are `[rows, 32]`.
        return unsafe { sums.write_bytes(0, rows * PANEL) };
    }
    let tiles = rows.div_ceil(HEIGHT);
    let height = rows.div_ceil(tiles);
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    let config = Config::new(height as u8);
    // SAFETY: the configuration is one of palette 1, which every processor with tiles has.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags)) };
    // Every pair of tiles fetches its share of what comes next.
    let pairs = tiles.div_ceil(2);
    let lines = args.prefetch_step / LINE / pairs;
    for pair in 0..pairs {
        let first = |t: usize| (t * height).min(rows - height);
        let (upper, lower) = (first(2 * pair), first((2 * pair + 1).min(tiles - 1)));
        let block = Block {
            upper: args.a.wrapping_add(upper * args.a_stride),
            lower: args.a.wrapping_add(lower * args.a_stride),
            a_stride: args.a_stride,
            weights: args.weights,
            steps,
            prefetch: args.prefetch.wrapping_add(pair * steps * lines * LINE),
            lines,
            upper_sums: sums.wrapping_add(upper * PANEL),
            lower_sums: sums.wrapping_add(lower * PANEL),
        };
        // SAFETY: the tiles' rows are among the call's.
        unsafe {
            if upper == lower { block.one() } else { block.two() }
        }
    }
    // SAFETY: no tile holds anything that is wanted.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
}

/// Two tiles of rows, a panel of columns.
struct Block {
    upper: *const u8,
    lower: *const u8,
    a_stride: usize,
    weights: *const i8,
    steps: usize,
    prefetch: *const i8,
    lines: usize,
    upper_sums: *mut i32,
    lower_sums: *mut i32,
}

impl Block {
    #[inline]
    unsafe fn two(&self) {
        // SAFETY: rows of `a` hold `steps · 64` bytes, the panel 32 times as many, sums `[rows, 32]` each; a prefetch may
        // go anywhere.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloaddt1 tmm6, [{w} + {line2}]",
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloaddt1 tmm7, [{w} + {line2} + 64]",
                "tileloadd tmm5, [{b} + {stride}]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "mov {n}, {lines}",
                "test {n}, {n}",
                "jz 4f",
                "3:",
                "prefetcht2 [{p}]",
                "add {p}, 64",
                "dec {n}",
                "jnz 3b",
                "4:",
                "add {a}, 64",
                "add {b}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {line2}], tmm0",
                "tilestored [{c} + {line2} + 64], tmm1",
                "tilestored [{d} + {line2}], tmm2",
                "tilestored [{d} + {line2} + 64], tmm3",
                a = inout(reg) self.upper => _,
                b = inout(reg) self.lower => _,
                w = inout(reg) self.weights => _,
                p = inout(reg) self.prefetch => _,
                steps = inout(reg) self.steps => _,
                n = out(reg) _,
                lines = in(reg) self.lines,
                stride = in(reg) self.a_stride,
                line2 = in(reg) 2 * LINE,
                c = in(reg) self.upper_sums,
                d = in(reg) self.lower_sums,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    #[inline]
    unsafe fn one(&self) {
        // SAFETY: as above.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloaddt1 tmm6, [{w} + {line2}]",
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloaddt1 tmm7, [{w} + {line2} + 64]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "mov {n}, {lines}",
                "test {n}, {n}",
                "jz 4f",
                "3:",
                "prefetcht2 [{p}]",
                "add {p}, 64",
                "dec {n}",
                "jnz 3b",
                "4:",
                "add {a}, 64",
                "add {w}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {line2}], tmm0",
                "tilestored [{c} + {line2} + 64], tmm1",
                a = inout(reg) self.upper => _,
                w = inout(reg) self.weights => _,
                p = inout(reg) self.prefetch => _,
                steps = inout(reg) self.steps => _,
                n = out(reg) _,
                lines = in(reg) self.lines,
                stride = in(reg) self.a_stride,
                line2 = in(reg) 2 * LINE,
                c = in(reg) self.upper_sums,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
