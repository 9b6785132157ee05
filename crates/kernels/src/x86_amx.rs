//! The int8 product in Intel AMX's tiles: `tdpbusd` multiplies 16 rows of 64 bytes by 64 rows of 16 columns.
//!
//! A panel of 32 columns is packed as for AVX-512, `[depth / 4][32][4]`: the rows of two tiles of weights, side by side.
//! All tiles of activations have the same height, so that the tiles are configured once per call. The last tile ends
//! with the last row, overlaps the one before and computes some rows twice. A tile's time is proportional to its rows.
//!
//! Rust has no stable intrinsics for tiles. No block of assembly leaves data in them.

use super::args::{AttentionArgs, Product};
use super::int8::{Int8Args, Int8Kernel};
use super::x86_bf16;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Columns of a panel: two tiles.
const PANEL: usize = 32;
/// Depths per tile.
const STEP: usize = 64;
/// Most rows of a tile.
const HEIGHT: usize = 16;
const LINE: usize = 64;

/// Most tiles of a call: the 257 tokens of an image of 256 patches fit, so every panel of weights is read from the
/// nearest cache for all rows.
const MAX_TILES: usize = 17;

pub(super) const AMX: Int8Kernel = Int8Kernel {
    panel: PANEL,
    rows: MAX_TILES * HEIGHT,
    step: STEP,
    group: 4,
    flip: 0,
    splits_pairs: false,
    tile,
};

/// Whether the processor has int8 and bfloat16 tiles and the system lets this process use them.
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

/// Linux saves 8 KB more state per thread that uses tiles, so a process must request permission once.
#[cfg(target_os = "linux")]
fn system_grants_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the system call touches no memory of this process.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn system_grants_tiles() -> bool {
    false
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl TileConfig {
    /// Tiles 0 to 3 hold sums, 4 and 5 activations, all of `height` rows; 6 and 7 hold weights.
    fn new(height: u8) -> Self {
        let mut rows = [0; 16];
        rows[..6].fill(height);
        rows[6..8].fill(16);
        let mut row_bytes = [0; 16];
        row_bytes[..8].fill(64);
        Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes,
            rows,
        }
    }
}

/// Sets the height of this thread's tiles.
///
/// # Safety
/// [`is_available`] must be true.
unsafe fn configure(height: usize) {
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    let config = TileConfig::new(height as u8);
    // SAFETY: the configuration is of palette 1, which every processor with tiles has.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags));
    };
}

/// Releases the tiles, so that the system no longer saves them for this thread.
///
/// # Safety
/// [`is_available`] must be true.
unsafe fn release() {
    // SAFETY: no tile holds data that is still needed.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
}

/// The fewest tiles of at most 16 rows for `rows`, and their height.
fn tile_heights(rows: usize) -> (usize, usize) {
    let tiles = rows.div_ceil(HEIGHT);
    (tiles, rows.div_ceil(tiles))
}

unsafe fn tile(args: &Int8Args, sums: *mut i32) {
    let (rows, steps) = (args.rows, args.depth / STEP);
    if rows == 0 || steps == 0 {
        // SAFETY: sums are `[rows, 32]`.
        return unsafe { sums.write_bytes(0, rows * PANEL) };
    }
    let (tiles, height) = tile_heights(rows);
    // SAFETY: these kernels are called only if they are available.
    unsafe { configure(height) };
    // Every pair of tiles prefetches its share.
    let pairs = tiles.div_ceil(2);
    let lines = args.prefetch_step / LINE / pairs;
    for pair in 0..pairs {
        let first = |t: usize| (t * height).min(rows - height);
        let (upper, lower) = (first(2 * pair), first((2 * pair + 1).min(tiles - 1)));
        let block = Block {
            upper: args.a.wrapping_add(upper * args.a_stride),
            lower: args.a.wrapping_add(lower * args.a_stride),
            a_stride: args.a_stride,
            b: args.weights.cast(),
            b_stride: 2 * LINE,
            steps,
            prefetch: args.prefetch.wrapping_add(pair * steps * lines * LINE),
            lines,
            upper_sums: sums.wrapping_add(upper * PANEL).cast(),
            lower_sums: sums.wrapping_add(lower * PANEL).cast(),
            sums_stride: PANEL * size_of::<i32>(),
        };
        // SAFETY: the tiles' rows are rows of the call and hold `steps · 64` bytes; the panel holds 32 times as many.
        unsafe {
            if upper == lower {
                block.int8_one();
            } else {
                block.int8_two();
            }
        }
    }
    // SAFETY: these kernels are called only if they are available.
    unsafe { release() };
}

/// Rows of queries that attention processes at a time: two tiles.
pub(super) const ATTENTION_ROWS: usize = 2 * HEIGHT;

/// Attention in bfloat16 tiles; see [`x86_bf16`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn attention(args: &AttentionArgs) {
    let (_, height) = tile_heights(args.queries.max(1));
    // SAFETY: these kernels are called only if they are available. The caller upholds the contract of `AttentionArgs`,
    // and `attention_with` passes buffers with room for two tiles of rows.
    unsafe {
        configure(height);
        x86_bf16::attention_with(args, 2 * height, |p| bf16_product(p, height));
        release();
    }
}

/// A product of pairs of bfloat16, up to two tiles of rows; see [`x86_bf16::attention_with`].
#[inline]
unsafe fn bf16_product(p: &Product, height: usize) {
    const FLOAT: usize = size_of::<f32>();
    for c in (0..p.columns).step_by(PANEL) {
        let (a, sums) = (p.a.cast::<u8>(), p.c.wrapping_add(c).cast::<u8>());
        let block = Block {
            upper: a,
            lower: a.wrapping_add(height * p.a_stride * FLOAT),
            a_stride: p.a_stride * FLOAT,
            b: p.b.wrapping_add(c).cast(),
            b_stride: p.b_stride * FLOAT,
            steps: p.depth * FLOAT / LINE,
            prefetch: std::ptr::null(),
            lines: 0,
            upper_sums: sums,
            lower_sums: sums.wrapping_add(height * p.c_stride * FLOAT),
            sums_stride: p.c_stride * FLOAT,
        };
        // SAFETY: the caller's buffers match the product's shapes.
        unsafe {
            if p.rows > height {
                block.bf16_two();
            } else {
                block.bf16_one();
            }
        }
    }
}

/// One or two tiles of rows times two tiles of columns; strides in bytes.
struct Block {
    upper: *const u8,
    lower: *const u8,
    a_stride: usize,
    /// 16 rows per step, each of two tiles side by side.
    b: *const u8,
    b_stride: usize,
    /// At least 1.
    steps: usize,
    prefetch: *const i8,
    /// Cache lines to prefetch in each step.
    lines: usize,
    upper_sums: *mut u8,
    lower_sums: *mut u8,
    sums_stride: usize,
}

/// Defines a method of [`Block`] that multiplies with `$multiply`. Weights are loaded with a non-temporal hint, so that
/// the rows stay in the nearest cache.
macro_rules! product {
    ($(#[$doc:meta])* $name:ident, $multiply:literal, two) => {
        product!($(#[$doc])* $name, [
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
        ], [
            "tileloaddt1 tmm6, [{b} + {b_stride}]",
            "tileloadd tmm4, [{upper} + {a_stride}]",
            "tileloaddt1 tmm7, [{b} + {b_stride} + 64]",
            "tileloadd tmm5, [{lower} + {a_stride}]",
            concat!($multiply, " tmm0, tmm4, tmm6"),
            concat!($multiply, " tmm1, tmm4, tmm7"),
            concat!($multiply, " tmm2, tmm5, tmm6"),
            concat!($multiply, " tmm3, tmm5, tmm7"),
        ], [
            "tilestored [{upper_sums} + {sums_stride}], tmm0",
            "tilestored [{upper_sums} + {sums_stride} + 64], tmm1",
            "tilestored [{lower_sums} + {sums_stride}], tmm2",
            "tilestored [{lower_sums} + {sums_stride} + 64], tmm3",
        ]);
    };
    ($(#[$doc:meta])* $name:ident, $multiply:literal, one) => {
        product!($(#[$doc])* $name, [
            "tilezero tmm0", "tilezero tmm1",
        ], [
            "tileloaddt1 tmm6, [{b} + {b_stride}]",
            "tileloadd tmm4, [{upper} + {a_stride}]",
            "tileloaddt1 tmm7, [{b} + {b_stride} + 64]",
            concat!($multiply, " tmm0, tmm4, tmm6"),
            concat!($multiply, " tmm1, tmm4, tmm7"),
        ], [
            "tilestored [{upper_sums} + {sums_stride}], tmm0",
            "tilestored [{upper_sums} + {sums_stride} + 64], tmm1",
            "/* {lower_sums} */",
        ]);
    };
    ($(#[$doc:meta])* $name:ident, [$($zero:literal,)*], [$($step:expr,)*], [$($store:literal,)*]) => {
        $(#[$doc])*
        #[inline]
        unsafe fn $name(&self) {
            // SAFETY: the caller guarantees rows of `steps · 64` bytes, `steps · 16` rows of `b`, and room for the sums; a
            // prefetch may use any address.
            unsafe {
                asm!(
                    $($zero,)*
                    "2:",
                    $($step,)*
                    "mov {n}, {lines}",
                    "test {n}, {n}",
                    "jz 4f",
                    "3:",
                    "prefetcht2 [{prefetch}]",
                    "add {prefetch}, 64",
                    "dec {n}",
                    "jnz 3b",
                    "4:",
                    "add {upper}, 64",
                    "add {lower}, 64",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    $($store,)*
                    upper = inout(reg) self.upper => _,
                    lower = inout(reg) self.lower => _,
                    a_stride = in(reg) self.a_stride,
                    b = inout(reg) self.b => _,
                    b_stride = in(reg) self.b_stride,
                    b_step = in(reg) 16 * self.b_stride,
                    steps = inout(reg) self.steps => _,
                    prefetch = inout(reg) self.prefetch => _,
                    n = out(reg) _,
                    lines = in(reg) self.lines,
                    upper_sums = in(reg) self.upper_sums,
                    lower_sums = in(reg) self.lower_sums,
                    sums_stride = in(reg) self.sums_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

impl Block {
    product!(
        /// Unsigned times signed bytes, four per lane, for two tiles of rows.
        int8_two, "tdpbusd", two
    );
    product!(int8_one, "tdpbusd", one);
    product!(
        /// bfloat16, two per lane, for two tiles of rows.
        bf16_two, "tdpbf16ps", two
    );
    product!(bf16_one, "tdpbf16ps", one);
}
