//! The generic algorithms compiled for every instruction set, and the table that the operators call through.

use super::vector::{Scalar, Vector};
use super::{AttentionArgs, EpilogueArgs, Isa, Kernels, NormArgs, QuantisedRow, generic, int8};

/// A module with every generic algorithm for one vector type, under the features that its methods need.
macro_rules! instance {
    ($name:ident, $vector:ty, $isa:expr, $int8:expr $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn layer_norm(x: *const f32, to: *mut f32, len: usize, norm: &NormArgs<'_>) {
                // SAFETY: the contract of `generic::layer_norm`, under this function's features.
                unsafe { generic::layer_norm::<$vector>(x, to, len, norm) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantise_row(x: *const f32, to: *mut u8, len: usize, levels: u8, flip: u8) -> QuantisedRow {
                // SAFETY: the contract of `generic::quantise_row`, under this function's features.
                unsafe { generic::quantise_row::<$vector>(x, to, len, levels, flip) }
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
            #[expect(clippy::too_many_arguments, reason = "three matrices with their strides")]
            unsafe fn product_panel(
                rows: usize,
                a: *const f32,
                a_stride: usize,
                b: *const f32,
                b_stride: usize,
                depth: usize,
                c: *mut f32,
                c_stride: usize,
            ) {
                // SAFETY: the contract of `generic::product_panel`, under this function's features.
                unsafe { generic::product_panel::<$vector>(rows, a, a_stride, b, b_stride, depth, c, c_stride) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(args: &AttentionArgs) {
                // SAFETY: the contract of `AttentionArgs`, under this function's features.
                unsafe { generic::attention::<$vector>(args) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                isa: $isa,
                int8: $int8,
                f32_panel: <$vector>::LEN * <$vector>::TILE_VECTORS,
                f32_rows: <$vector>::TILE_ROWS,
                layer_norm,
                quantise_row,
                epilogue,
                epilogue_f32,
                product_panel,
                attention,
            };
        }
    };
}

instance!(portable, Scalar, Isa::Portable, int8::KERNEL);

#[cfg(target_arch = "x86_64")]
use super::{
    vector::x86::{Avx2, Avx512},
    x86,
};
#[cfg(target_arch = "x86_64")]
instance!(avx2, Avx2, Isa::Avx2, x86::AVX2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
instance!(avx_vnni, Avx2, Isa::AvxVnni, x86::AVX_VNNI, "avx2,fma");
#[cfg(target_arch = "x86_64")]
instance!(avx512_vnni, Avx512, Isa::Avx512Vnni, x86::AVX512_VNNI, "avx2,fma,avx512f,avx512bw,avx512vl");

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
            #[cfg(not(target_arch = "x86_64"))]
            _ => &portable::KERNELS,
        }
    }
}
