//! How towers are run: `[engine]` of the configuration, and the same options of the command line.

use crate::cores::performance_cores;
use crate::error::ModelError;
use crate::gpu::Device;
use crate::load::FusionOptions;
use crate::precision::Precision;
use crate::runtime::Runtime;
use constancy_kernels::{Kernels, Pool};
use serde::Deserialize;
use std::sync::Arc;

/// How towers are run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default = "EngineOptions::for_daemon")]
pub struct EngineOptions {
    /// Number format of matrix products.
    pub precision: Precision,
    /// Threads that share the work on one image, 1 to 64; defaults to all performance cores.
    pub threads: Option<usize>,
    /// Where the image tower runs. The CPU's tower is always loaded, and takes over when the GPU
    /// fails.
    pub device: Device,
    /// Run on tract's operators alone, without fused ones: a baseline to compare with.
    #[serde(skip)]
    pub plain: bool,
}

impl EngineOptions {
    /// The daemon's defaults: a GPU if there is one that works.
    #[must_use]
    pub fn for_daemon() -> Self {
        Self {
            device: Device::Auto,
            ..Self::default()
        }
    }

    /// How to fuse operators; `None` runs the graph on tract's operators alone.
    pub(crate) fn fusion<'a>(&self, runtime: &'a Arc<Runtime>) -> Option<FusionOptions<'a>> {
        (!self.plain).then_some(FusionOptions {
            precision: self.precision,
            runtime,
        })
    }

    /// Starts the threads.
    pub(crate) fn runtime(&self) -> Result<Runtime, ModelError> {
        let threads = self.threads.unwrap_or_else(performance_cores);
        let pool = Pool::new(threads).map_err(|source| ModelError::Threads { threads, source })?;
        Ok(Runtime {
            kernels: Kernels::best(),
            pool,
        })
    }
}
