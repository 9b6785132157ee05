//! The kernels and threads that the fused operators of a tower share.

use constancy_kernels::{Kernels, Pool};

/// Kernels for this machine's instruction set, and the threads that share each operator's work.
pub(crate) struct Runtime {
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: Pool,
}
