//! The inner loops, one set for every instruction set, chosen when the program starts.
//!
//! [`Kernels::best`] picks the fastest set that this machine has; the environment variable `CONSTANCY_ISA` names a
//! slower one, to compare. Integer products are exact and alike on every set, given the same quantised operands;
//! the property tests hold each to the portable one. This folder is the only place with `unsafe` arithmetic:
//! the operators above it hand over pointers whose shapes they have checked.

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(all(target_arch = "arm", target_os = "linux", target_endian = "little"))]
mod arm32;
#[expect(
    clippy::inline_always,
    reason = "without it a method would be a call, compiled without the features of its caller"
)]
mod generic;
mod int8;
mod memory;
mod packed;
mod pool;
mod table;
#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "a range is compared with values that it is made of"
)]
mod tests;
#[expect(
    clippy::inline_always,
    reason = "without it a method would be a call, compiled without the features of its caller"
)]
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_amx;
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "without it a method would be a call, compiled without the features of its caller"
)]
mod x86_bf16;

pub use memory::Bytes;
pub use packed::PackedInt8;
pub use pool::{Pool, SharedMut};

use std::sync::OnceLock;

/// An instruction set that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// x86-64 with AVX2 and FMA: pairs of u8 × s8 products summed in 16 bits.
    Avx2,
    /// x86-64 with AVX-VNNI, 256 bits.
    AvxVnni,
    /// x86-64 with AVX-512 VNNI.
    Avx512Vnni,
    /// x86-64 with AVX-512 VNNI and BF16.
    Avx512Bf16,
    /// The same with AMX: tiles of bytes and of bfloat16.
    Amx,
    /// 32-bit ARM with NEON; f32 in plain Rust.
    Armv7Neon,
    /// aarch64: NEON is part of it.
    Neon,
    /// aarch64 with the dot product of Armv8.2.
    NeonDotprod,
    /// aarch64 with the 8-bit matrix product of Armv8.6.
    NeonI8mm,
}

impl Isa {
    const ALL: [Self; 10] = [
        Self::Portable,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Vnni,
        Self::Avx512Bf16,
        Self::Amx,
        Self::Armv7Neon,
        Self::Neon,
        Self::NeonDotprod,
        Self::NeonI8mm,
    ];

    /// What `CONSTANCY_ISA` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
            Self::Armv7Neon => "armv7-neon",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
            Self::NeonI8mm => "neon-i8mm",
        }
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && ["avx512f", "avx512bw", "avx512vl", "avx512vnni"]
                        .iter()
                        .all(|f| has_x86(f))
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512Vnni.is_available() && has_x86("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512Bf16.is_available() && x86_amx::is_available(),
            #[cfg(all(target_arch = "arm", target_os = "linux", target_endian = "little"))]
            Self::Armv7Neon => arm32::has_neon(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => {
                Self::Neon.is_available() && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => {
                Self::NeonDotprod.is_available() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            // Of another architecture.
            _ => false,
        }
    }

    /// The sets that this machine can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }
}

#[cfg(target_arch = "x86_64")]
fn has_x86(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512bf16" => is_x86_feature_detected!("avx512bf16"),
        "avx512vnni" => is_x86_feature_detected!("avx512vnni"),
        _ => false,
    }
}

/// What follows a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    #[default]
    None,
    Relu,
    /// x · sigmoid(1.702 x), as OpenAI's CLIP has it.
    QuickGelu,
    /// With erf.
    Gelu,
    /// With tanh.
    GeluTanh,
}

/// A layer normalisation's parameters, each `[D]`.
#[derive(Debug, Clone)]
pub struct NormArgs<'a> {
    pub gain: &'a [f32],
    pub shift: &'a [f32],
    pub epsilon: f32,
}

/// How one row of activations was quantised: `x ≈ q · scale + offset`, q as it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuantisedRow {
    pub scale: f32,
    pub offset: f32,
    /// `−Σx` of the quantised row, by which weights' zero points count; 0 where they have none.
    pub rest: f32,
}

/// What a row spans: its least and largest value, and 0.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub low: f32,
    pub high: f32,
}

/// `c [rows, columns] = a [rows, depth] · b [depth, columns]`, rows `*_stride` values apart.
#[derive(Clone, Copy)]
pub struct Product {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub a: *const f32,
    pub a_stride: usize,
    pub b: *const f32,
    pub b_stride: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// What will be read next, or null, and bytes of it for each row of b.
    pub prefetch: *const f32,
    pub prefetch_step: usize,
}

/// What turns a tile of i32 sums into f32:
/// `y = (Σqw · row scale + row offset · Σw + rest · weight zero) · column scale + bias + split`, then the activation,
/// then the residual.
pub struct EpilogueArgs<'a> {
    pub rows: usize,
    /// Columns that are stored; the tables and `sums` reach up to `panel`.
    pub columns: usize,
    pub panel: usize,
    /// `[rows, panel]`.
    pub sums: *const i32,
    /// `[rows]`; empty for a product in f32.
    pub quantised: &'a [QuantisedRow],
    /// Per column: weight scale; Σw and, where there is one, the zero point, both times that scale; bias.
    pub scales: *const f32,
    pub column_sums: *const f32,
    pub weight_zeros: Option<*const f32>,
    pub bias: *const f32,
    /// Channels that are left out of the integer product: their values `[rows, split]` and weights
    /// `[split, split_stride]`.
    pub split_rows: *const f32,
    pub split: usize,
    pub split_weights: *const f32,
    pub split_stride: usize,
    pub activation: Activation,
    /// Null where there is none.
    pub residual: *const f32,
    pub residual_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
}

impl Default for EpilogueArgs<'_> {
    fn default() -> Self {
        Self {
            rows: 0,
            columns: 0,
            panel: 0,
            sums: std::ptr::null(),
            quantised: &[],
            scales: std::ptr::null(),
            column_sums: std::ptr::null(),
            bias: std::ptr::null(),
            weight_zeros: None,
            split_rows: std::ptr::null(),
            split: 0,
            split_weights: std::ptr::null(),
            split_stride: 0,
            activation: Activation::None,
            residual: std::ptr::null(),
            residual_stride: 0,
            out: std::ptr::null_mut(),
            out_stride: 0,
        }
    }
}

/// One attention head: `out [queries, depth] = softmax(scale · q kᵀ) v`, q `[queries, depth]`, k and v
/// `[keys, depth]`, rows `*_stride` values apart.
pub struct AttentionArgs {
    pub queries: usize,
    pub keys: usize,
    pub depth: usize,
    pub scale: f32,
    pub q: *const f32,
    pub q_stride: usize,
    pub k: *const f32,
    pub k_stride: usize,
    pub v: *const f32,
    pub v_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
    /// [`Kernels::attention_scratch`] values.
    pub scratch: *mut f32,
}

/// The integer product's tile: `sums [rows, panel] = a [rows, depth] · w [depth, panel]`.
pub type Int8Tile = unsafe fn(&Int8Args, *mut i32);

/// Operands of an [`Int8Tile`].
pub struct Int8Args {
    pub rows: usize,
    pub a: *const u8,
    /// Bytes from row to row, at least the padded depth.
    pub a_stride: usize,
    pub weights: *const i8,
    /// Padded depth; a multiple of the kernel's step.
    pub depth: usize,
    /// What was taken out of the panel so that sums of pairs fit 16 bits.
    pub extras: *const packed::Extra,
    pub extra_count: usize,
    /// What will be read next.
    pub prefetch: *const i8,
    /// Bytes of it for each step of the depth.
    pub prefetch_step: usize,
}

/// How an instruction set multiplies bytes.
pub struct Int8Kernel {
    /// Columns of a panel.
    pub panel: usize,
    /// Most rows of a tile.
    pub rows: usize,
    /// Depth is padded to a multiple of this.
    pub step: usize,
    /// Consecutive depths of a column that lie side by side in a panel.
    pub group: usize,
    /// Activations are quantised to [`least`]`..=levels`.
    pub levels: u8,
    /// Stored activations are xor this: 0 for unsigned, 0x80 for signed.
    pub flip: u8,
    /// Largest sum of two neighbouring weights of one sign whose products fit 16 bits; 0 where nothing is that narrow.
    pub pair_limit: i32,
    pub tile: Int8Tile,
}

/// The least quantised activation of a kernel with this `flip`. Signed ones keep clear of −128: two products of
/// −128 · −128 would not fit 16 bits, which plain NEON sums them in; the others do likewise, so that all of a machine
/// quantise alike.
fn least(flip: u8) -> u8 {
    u8::from(flip != 0)
}

/// f32 values of a cache line.
const CACHE_LINE: usize = 16;

/// The kernels of one instruction set.
pub struct Kernels {
    pub isa: Isa,
    pub int8: Int8Kernel,
    /// Columns and most rows of a tile of the f32 product.
    pub f32_panel: usize,
    pub f32_rows: usize,
    layer_norm: unsafe fn(*const f32, *mut f32, usize, &NormArgs<'_>) -> Range,
    range: unsafe fn(*const f32, usize) -> Range,
    quantise_row: unsafe fn(*const f32, *mut u8, usize, Range, u8, u8) -> QuantisedRow,
    pub epilogue: unsafe fn(&EpilogueArgs<'_>),
    pub epilogue_f32: unsafe fn(*const f32, &EpilogueArgs<'_>),
    /// Up to [`Self::f32_rows`] rows, whole panels of columns.
    pub product: unsafe fn(&Product),
    /// Most rows of queries that attention takes at a time.
    attention_rows: usize,
    pub attention: unsafe fn(&AttentionArgs),
    /// Attention to 2^−9 of its operands, where that is faster: for towers whose products are in bytes.
    pub rough_attention: unsafe fn(&AttentionArgs),
}

impl Kernels {
    /// The fastest set of this machine, or the one that `CONSTANCY_ISA` names.
    pub fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| {
            let wanted = std::env::var("CONSTANCY_ISA").ok();
            let named = wanted
                .as_deref()
                .and_then(|name| Isa::available().find(|isa| isa.name() == name));
            if let (Some(name), None) = (&wanted, named) {
                let names: Vec<&str> = Isa::available().map(Isa::name).collect();
                log::warn!(
                    "CONSTANCY_ISA is {name}, this machine has {}; it is ignored",
                    names.join(", ")
                );
            }
            Self::of(
                named
                    .or_else(|| Isa::available().last())
                    .unwrap_or(Isa::Portable),
            )
        })
    }

    /// Normalises one row, `to` and `x` of the same length; returns the range of `to`.
    pub fn layer_norm(&self, x: &[f32], to: &mut [f32], norm: &NormArgs<'_>) -> Range {
        let len = x.len();
        assert!(
            to.len() == len && norm.gain.len() == len && norm.shift.len() == len,
            "one length"
        );
        // SAFETY: all four hold `len` values; the set is available on this machine, `Kernels::of` is private to it.
        unsafe { (self.layer_norm)(x.as_ptr(), to.as_mut_ptr(), len, norm) }
    }

    /// What a row spans.
    #[must_use]
    pub fn range(&self, x: &[f32]) -> Range {
        // SAFETY: a slice holds its values; the set is available.
        unsafe { (self.range)(x.as_ptr(), x.len()) }
    }

    /// Quantises one row, whose values lie in `range`, to bytes as the integer product wants them; `to` is at least
    /// as long.
    pub fn quantise_row(&self, x: &[f32], range: Range, to: &mut [u8]) -> QuantisedRow {
        assert!(to.len() >= x.len(), "room for the row");
        let (levels, flip) = (self.int8.levels, self.int8.flip);
        // SAFETY: both hold `x.len()` values; the set is available.
        unsafe { (self.quantise_row)(x.as_ptr(), to.as_mut_ptr(), x.len(), range, levels, flip) }
    }

    /// Sum of stored activations, for weights with zero points.
    #[must_use]
    pub fn stored_sum(&self, bytes: &[u8]) -> i32 {
        let value = |&b: &u8| {
            if self.int8.flip == 0 {
                i32::from(b)
            } else {
                i32::from(b.cast_signed())
            }
        };
        bytes.iter().map(value).sum()
    }

    /// f32 values of scratch that one head of attention needs.
    #[must_use]
    pub fn attention_scratch(&self, keys: usize, depth: usize) -> usize {
        let (padded, wide) = (
            keys.next_multiple_of(self.f32_panel),
            depth.next_multiple_of(self.f32_panel),
        );
        CACHE_LINE + padded * depth + padded * wide + 2 * self.attention_rows * (padded + wide)
    }

    /// Every set of this machine.
    #[cfg(test)]
    pub fn all() -> Vec<&'static Self> {
        Isa::available().map(Self::of).collect()
    }
}
