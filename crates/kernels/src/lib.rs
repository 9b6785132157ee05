//! The inner loops of the encoder, one set of kernels per instruction set, chosen at startup.
//!
//! [`Kernels::best`] picks the fastest set that this machine has; the environment variable
//! `CONSTANCY_ISA` names a slower one for comparison. Integer products are exact, and therefore the
//! same on every set for the same quantised operands; the property tests compare every set with
//! plain loops. All `unsafe` arithmetic lives here: the operators above pass pointers whose shapes
//! they have checked.
//!
//! # Modules
//!
//! - `isa`, `table`: which sets there are and which one runs.
//! - `set`: [`Kernels`], one set's functions.
//! - `args`, `int8`: operands of the kernels.
//! - `vector`, `generic`: everything but the int8 product, written once over a vector of f32 lanes.
//! - `portable`, `x86`, `x86_amx`, `x86_bf16`, `arm`, `arm32`: int8 products and low-precision attention.
//! - `packed`, `memory`, `pool`: packed weights, their memory, and threads.

mod args;
#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(all(target_arch = "arm", target_os = "linux", target_endian = "little"))]
mod arm32;
#[expect(
    clippy::inline_always,
    reason = "a method that is not inlined is compiled without the features of its caller"
)]
mod generic;
mod int8;
mod isa;
mod memory;
mod packed;
mod pool;
mod portable;
mod set;
mod table;
#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "a range is compared with values that it is made of"
)]
mod tests;
#[expect(
    clippy::inline_always,
    reason = "a method that is not inlined is compiled without the features of its caller"
)]
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_amx;
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "a method that is not inlined is compiled without the features of its caller"
)]
mod x86_bf16;

pub use args::{
    Activation, AttentionArgs, DEPTHWISE_BLOCK, DepthwiseArgs, EpilogueArgs, FinishArgs, NormArgs,
    PoolArgs, Product, QuantisedRow, Range, WinogradInput, WinogradOutput,
};
pub use int8::{Extra, Int8Args, Int8Kernel, Int8Tile};
pub use isa::Isa;
pub use memory::AlignedBytes;
pub use packed::PackedInt8;
pub use pool::{Pool, SharedMut};
pub use set::Kernels;
