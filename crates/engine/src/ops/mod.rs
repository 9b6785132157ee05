//! The fused operators, as tract runs them on the CPU.
//!
//! [`operator`] computes. [`fused_op`] makes an operator a node of the graph that runs, and
//! [`fused_node`] a node of the graph that tract still has to analyse. The operators of a tower
//! share a [`Runtime`](crate::runtime::Runtime): the kernels for this machine, and threads.

mod attention;
mod depthwise;
mod fused_node;
mod fused_op;
mod linear;
mod norm;
mod operator;
mod patches;
mod pixels;
mod scratch;
mod shape;
mod weights;
mod window;
mod winograd_weights;

pub(crate) use fused_node::FusedNode;
pub(crate) use fused_op::FusedOp;
pub(crate) use operator::{Operators, SHALLOW, pack};
#[cfg(feature = "gpu")]
pub(crate) use shape::with_last_axis;
#[cfg(feature = "gpu")]
pub(crate) use weights::dense_weights;
