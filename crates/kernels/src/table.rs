//! The generic algorithms compiled for every instruction set, and the table that the operators call through.

use super::vector::{Scalar, Vector};
use super::{
    AttentionArgs, EpilogueArgs, Isa, Kernels, NormArgs, Product, QuantisedRow, Range, generic,
    int8,
};

/// A module with every generic algorithm for one vector type, under the features that its methods need.
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
                levels: u8,
                flip: u8,
            ) -> QuantisedRow {
                // SAFETY: the contract of `generic::quantise_row`, under this function's features.
                unsafe { generic::quantise_row::<$vector>(x, to, len, range, levels, flip) }
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
                unsafe { generic::product::<$vector, generic::Floats>(product) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(args: &AttentionArgs) {
                // SAFETY: the contract of `AttentionArgs`, under this function's features.
                unsafe { generic::attention::<$vector>(args) }
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
                attention_rows: <$vector>::TILE_ROWS,
                attention,
                rough_attention: attention,
            };
        }
    };
}

instance!(portable, Scalar, Isa::Portable, int8::KERNEL);

#[cfg(target_arch = "x86_64")]
use super::{
    vector::x86::{Avx2, Avx512},
    x86, x86_amx,
};
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

/// AVX-512 VNNI, with attention in bfloat16 where bytes are good enough for the products around it.
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels = AVX512_BF16_TABLE;
#[cfg(target_arch = "x86_64")]
const AVX512_BF16_TABLE: Kernels = Kernels {
    isa: Isa::Avx512Bf16,
    rough_attention: super::x86_bf16::attention,
    ..avx512_vnni::TABLE
};

/// The same with products of bytes and of bfloat16 in tiles.
#[cfg(target_arch = "x86_64")]
static AMX: Kernels = Kernels {
    isa: Isa::Amx,
    int8: x86_amx::AMX,
    attention_rows: x86_amx::ATTENTION_ROWS,
    rough_attention: x86_amx::attention,
    ..AVX512_BF16_TABLE
};

#[cfg(target_arch = "aarch64")]
use super::{arm, vector::arm::Neon};
#[cfg(target_arch = "aarch64")]
instance!(neon, Neon, Isa::Neon, arm::NEON, "neon");
/// f32 is alike on all of aarch64.
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
    /// The set for `isa`, which must be available on this machine.
    pub(super) fn of(isa: Isa) -> &'static Self {
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
            // Of another architecture, hence not available.
            _ => &portable::KERNELS,
        }
    }
}
