//! Everything of a tower but the int8 product, written once over [`Vector`](super::vector::Vector): layer
//! normalisation, quantising rows, the epilogue of a product, the f32 product, attention, depthwise convolution, pooling.
//!
//! Every function and closure is `#[inline(always)]` so that it takes on the features of the function that it is
//! inlined into ([`super::table`]). Pointers must be valid for the shapes in each function's documentation.

mod activation;
mod attention;
mod depthwise;
mod epilogue;
mod norm;
mod pixels;
mod product;
mod quantise;
mod row;
mod winograd;

#[cfg(target_arch = "x86_64")]
pub(super) use activation::LOG2_E;
pub(super) use attention::attention;
#[cfg(target_arch = "x86_64")]
pub(super) use attention::{exp_row, store_divided, transpose};
pub(super) use depthwise::depthwise;
pub(super) use epilogue::{epilogue, epilogue_f32};
pub(super) use norm::layer_norm;
pub(super) use pixels::{finish, max_pool, mean};
#[cfg(target_arch = "x86_64")]
pub(super) use product::MultiplyAdd;
pub(super) use product::{F32, product};
pub(super) use quantise::quantise_row;
pub(super) use row::range;
pub(super) use winograd::{winograd_input, winograd_output};
