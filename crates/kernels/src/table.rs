//! The generic algorithms compiled for every instruction set, and the choice of a set at startup.

use super::args::{
    AttentionArgs, DepthwiseArgs, EpilogueArgs, FinishArgs, NormArgs, PoolArgs, Product,
    QuantisedRow, Range, WinogradInput, WinogradOutput,
};
#[cfg(target_arch = "aarch64")]
use super::arm;
use super::isa::Isa;
use super::set::Kernels;
#[cfg(target_arch = "aarch64")]
use super::vector::arm::Neon;
#[cfg(target_arch = "x86_64")]
use super::vector::x86::{Avx2, Avx512};
use super::vector::{Scalar, Vector};
use super::{generic, portable as plain};
#[cfg(target_arch = "x86_64")]
use super::{x86, x86_amx, x86_bf16};
use std::sync::OnceLock;

/// Defines a module with every generic algorithm for one vector type, compiled with the features that its methods
/// need.
macro_rules! instance {
    ($name:ident, $vector:ty, $isa:expr, $int8:expr $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn layer_norm(x: *const f32, to: *mut f32, len: usize, norm: &NormArgs<'_>) -> Range {
                // SAFETY: the contract of `generic::layer_norm`, under this function's features.
                unsafe { generic::layer_norm::<$vector>(x, to, len, norm) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn range(x: *const f32, len: usize) -> Range {
                // SAFETY: the contract of `generic::range`, under this function's features.
                unsafe { generic::range::<$vector>(x, len) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantise_row(
                x: *const f32,
                to: *mut u8,
                len: usize,
                range: Range,
                flip: u8,
            ) -> QuantisedRow {
                // SAFETY: the contract of `generic::quantise_row`, under this function's features.
                unsafe { generic::quantise_row::<$vector>(x, to, len, range, flip) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn epilogue(args: &EpilogueArgs<'_>) {
                // SAFETY: the contract of `EpilogueArgs`, under this function's features.
                unsafe { generic::epilogue::<$vector>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn epilogue_f32(sums: *const f32, args: &EpilogueArgs<'_>) {
                // SAFETY: the contract of `EpilogueArgs`, under this function's features.
                unsafe { generic::epilogue_f32::<$vector>(sums, args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn product(product: &Product) {
                // SAFETY: the contract of `Product`, under this function's features.
                unsafe { generic::product::<$vector, generic::F32>(product) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(args: &AttentionArgs) {
                // SAFETY: the contract of `AttentionArgs`, under this function's features.
                unsafe { generic::attention::<$vector>(args) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn depthwise(args: &DepthwiseArgs) {
                // SAFETY: the contract of `DepthwiseArgs`, under this function's features.
                unsafe { generic::depthwise::<$vector>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_input(args: &WinogradInput) {
                // SAFETY: the contract of `WinogradInput`, under this function's features.
                unsafe { generic::winograd_input::<$vector>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_output(args: &WinogradOutput) {
                // SAFETY: the contract of `WinogradOutput`, under this function's features.
                unsafe { generic::winograd_output::<$vector>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn finish(args: &FinishArgs) {
                // SAFETY: the contract of `FinishArgs`, under this function's features.
                unsafe { generic::finish::<$vector>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn max_pool(args: &PoolArgs) {
                // SAFETY: the contract of `PoolArgs`, under this function's features.
                unsafe { generic::max_pool::<$vector>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn mean(x: *const f32, rows: usize, columns: usize, stride: usize, out: *mut f32) {
                // SAFETY: the contract of `generic::mean`, under this function's features.
                unsafe { generic::mean::<$vector>(x, rows, columns, stride, out) }
            }

            pub(super) static KERNELS: Kernels = TABLE;
            pub(super) const TABLE: Kernels = Kernels {
                isa: $isa,
                int8: $int8,
                f32_panel: <$vector>::LEN * <$vector>::TILE_VECTORS,
                f32_rows: <$vector>::TILE_ROWS,
                layer_norm,
                range,
                quantise_row,
                epilogue,
                epilogue_f32,
                product,
                depthwise,
                winograd_input,
                winograd_output,
                finish,
                max_pool,
                mean,
                attention_rows: <$vector>::TILE_ROWS,
                attention,
                low_precision_attention: attention,
            };
        }
    };
}

instance!(portable, Scalar, Isa::Portable, plain::KERNEL);

#[cfg(target_arch = "x86_64")]
instance!(avx2, Avx2, Isa::Avx2, x86::AVX2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
instance!(avx_vnni, Avx2, Isa::AvxVnni, x86::AVX_VNNI, "avx2,fma");
#[cfg(target_arch = "x86_64")]
instance!(
    avx512_vnni,
    Avx512,
    Isa::Avx512Vnni,
    x86::AVX512_VNNI,
    "avx2,fma,avx512f,avx512bw,avx512vl"
);

/// AVX-512 VNNI, with low-precision attention in bfloat16.
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels = AVX512_BF16_TABLE;
#[cfg(target_arch = "x86_64")]
const AVX512_BF16_TABLE: Kernels = Kernels {
    isa: Isa::Avx512Bf16,
    low_precision_attention: x86_bf16::attention,
    ..avx512_vnni::TABLE
};

/// The int8 products and the low-precision attention in AMX's tiles.
#[cfg(target_arch = "x86_64")]
static AMX: Kernels = Kernels {
    isa: Isa::Amx,
    int8: x86_amx::AMX,
    attention_rows: x86_amx::ATTENTION_ROWS,
    low_precision_attention: x86_amx::attention,
    ..AVX512_BF16_TABLE
};

#[cfg(target_arch = "aarch64")]
instance!(neon, Neon, Isa::Neon, arm::NEON, "neon");
/// The f32 kernels are the same on all of aarch64.
#[cfg(target_arch = "aarch64")]
static NEON_DOTPROD: Kernels = Kernels {
    isa: Isa::NeonDotprod,
    int8: arm::NEON_DOTPROD,
    ..neon::TABLE
};
#[cfg(target_arch = "aarch64")]
static NEON_I8MM: Kernels = Kernels {
    isa: Isa::NeonI8mm,
    int8: arm::NEON_I8MM,
    ..neon::TABLE
};

#[cfg(all(target_arch = "arm", target_os = "linux", target_endian = "little"))]
static ARMV7_NEON: Kernels = Kernels {
    isa: Isa::Armv7Neon,
    int8: super::arm32::NEON,
    ..portable::TABLE
};

impl Kernels {
    /// The fastest set of this machine, or the one that `CONSTANCY_ISA` names. If the machine lacks that one, the
    /// variable is ignored and a warning is logged.
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

    /// Every set of this machine.
    #[cfg(test)]
    pub(super) fn all() -> Vec<&'static Self> {
        Isa::available().map(Self::of).collect()
    }

    /// The set for `isa`, which must be available on this machine.
    fn of(isa: Isa) -> &'static Self {
        assert!(isa.is_available(), "{} is not available here", isa.name());
        match isa {
            Isa::Portable => &portable::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => &avx_vnni::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => &avx512_vnni::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => &AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => &AMX,
            #[cfg(all(target_arch = "arm", target_os = "linux", target_endian = "little"))]
            Isa::Armv7Neon => &ARMV7_NEON,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => &NEON_DOTPROD,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => &NEON_I8MM,
            // This set belongs to another architecture, so it is not available.
            _ => &portable::KERNELS,
        }
    }
}
