//! GPUs: whether there is one, and the image tower on it.
//!
//! This is part of every build, so that every build can report which GPUs it finds. The worker
//! process that computes on a GPU is in `cuda`, behind the features `cuda` and `cuda-jetpack6`.
//!
//! [`start`] finds a GPU and starts a tower on it. A [`GpuTower`] sends its images to the worker
//! through a [`client`], by the [`protocol`], and leaves them to the CPU while the GPU is lost.

mod client;
mod device;
mod driver;
mod error;
#[cfg(test)]
pub(crate) mod fake_worker;
mod process;
mod protocol;
mod start;
#[cfg(test)]
mod tests;
mod tower;

pub use device::Device;
pub use driver::{Driver, GpuDevice};
pub use error::{CudaVersion, GpuError};
pub use process::gpu_is_starting;
pub(crate) use protocol::WorkerConfig;
#[cfg(feature = "gpu")]
pub(crate) use protocol::{MAX_BATCH, MemoryLayout, Reply, Request, as_numbers, receive, send};
pub(crate) use start::{TowerSetup, fall_back_if_auto, find_device, start_tower};
pub(crate) use tower::GpuTower;

#[cfg(all(feature = "cuda", feature = "cuda-jetpack6"))]
compile_error!(
    "the features `cuda` and `cuda-jetpack6` are for different versions of CUDA: choose one"
);
