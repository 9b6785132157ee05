//! A tower on an NVIDIA GPU, run by tract-cuda and fused operators of ours in the [`worker`]
//! process.
//!
//! The graph is rewritten as for the CPU ([`crate::rewrite`]). Its fused nodes become operators of
//! [`ops`] with float weights, even if the file has int8: a GPU multiplies fp16 faster than inputs
//! that it has to quantise first. tract translates the other nodes.

mod attention;
mod blas;
mod convolution;
mod convolution_rules;
mod library;
mod ops;
mod plan;
mod tower;
mod transform;
mod wire;
mod worker;

pub use worker::serve_gpu;
