//! The instruction sets that have kernels, and which of them this machine can run.

#[cfg(all(target_arch = "arm", target_os = "linux", target_endian = "little"))]
use super::arm32;
#[cfg(target_arch = "x86_64")]
use super::x86_amx;

/// An instruction set that has kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, any architecture.
    Portable,
    /// x86-64 with AVX2 and FMA: pairs of u8 × s8 products are summed in 16 bits.
    Avx2,
    /// x86-64 with AVX-VNNI, 256 bits.
    AvxVnni,
    /// x86-64 with AVX-512 VNNI.
    Avx512Vnni,
    /// x86-64 with AVX-512 VNNI and BF16.
    Avx512Bf16,
    /// [`Isa::Avx512Bf16`] with AMX: int8 and bfloat16 tiles.
    Amx,
    /// 32-bit ARM with NEON; f32 in plain Rust.
    Armv7Neon,
    /// aarch64, where NEON is mandatory.
    Neon,
    /// aarch64 with the dot product of Armv8.2.
    NeonDotprod,
    /// aarch64 with the int8 matrix product of Armv8.6.
    NeonI8mm,
}

impl Isa {
    /// Within an architecture, slowest first.
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

    /// Its name in `CONSTANCY_ISA`.
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
            // These sets belong to another architecture.
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
