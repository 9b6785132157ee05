//! GPUs: whether there is one, and a tower on it for a tower.
//!
//! All of this is part of every build, so that every build can say what it finds; what computes on the GPU is
//! `engine::cuda`, behind the features `cuda` and `cuda-jetpack6`, in a process of its own.

mod client;
mod device;
mod driver;
mod error;
mod protocol;
#[cfg(test)]
pub(super) mod tests;
mod tower;
#[cfg(feature = "gpu")]
pub(super) mod worker;

pub use client::gpu_is_starting;
pub use device::Device;
pub use driver::{Driver, GpuDevice};
pub use error::{CudaVersion, GpuError};
pub(super) use tower::GpuTower;

use super::agreement::cosine;
use super::ops::Runtime;
use client::{Client, Outcome};
use protocol::Layout;
#[cfg(feature = "gpu")]
pub(super) use protocol::MOST;
pub(super) use protocol::Order;
use std::sync::Arc;

#[cfg(all(feature = "cuda", feature = "cuda-jetpack6"))]
compile_error!(
    "the features `cuda` and `cuda-jetpack6` are for different versions of CUDA: choose one"
);

/// The GPU's embedding of a fixed input must be this near the CPU's.
const LEAST_COSINE: f64 = 0.999;
/// The driver that CUDA's interface in this build belongs to.
const NEEDED: CudaVersion = CudaVersion(if cfg!(feature = "cuda-jetpack6") {
    12060
} else {
    13000
});

/// A tower that is to have a tower, and what the CPU makes of a fixed input.
pub(super) struct Tower {
    pub(super) order: Order,
    pub(super) runtime: Arc<Runtime>,
    pub(super) trial: Vec<f32>,
    pub(super) expected: Vec<f32>,
}

/// The GPU that `device` means; none where that is the CPU, and none with [`Device::Auto`] where no GPU can be used.
pub(super) fn find(device: Device) -> Result<Option<GpuDevice>, GpuError> {
    let wanted = match device {
        Device::Cpu => return Ok(None),
        Device::Auto => 0,
        Device::Cuda(index) => index,
    };
    unless_auto(device, look(wanted))
}

fn look(wanted: u32) -> Result<GpuDevice, GpuError> {
    if !cfg!(feature = "gpu") {
        return Err(GpuError::NotBuilt);
    }
    Driver::open()?.require(wanted, NEEDED)
}

/// A tower for `tower` on a GPU that was found; none with [`Device::Auto`] where the tower cannot be run there.
pub(super) fn tower(
    device: Device,
    gpu: &GpuDevice,
    tower: Tower,
) -> Result<Option<GpuTower>, GpuError> {
    let tower = unless_auto(device, take(gpu, tower, start))?;
    if let Some(tower) = &tower {
        log::info!("the tower runs on {}", tower.name());
    }
    Ok(tower)
}

/// With [`Device::Auto`] a failure is no error: the CPU is taken, and the reason told.
fn unless_auto<T>(device: Device, result: Result<T, GpuError>) -> Result<Option<T>, GpuError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if device != Device::Auto => Err(e),
        Err(e) => {
            // A machine without a GPU is nothing to speak of.
            let absent = match &e {
                GpuError::NoDriver { .. } => true,
                GpuError::NotBuilt => {
                    Driver::open().is_err_and(|e| matches!(e, GpuError::NoDriver { .. }))
                }
                _ => false,
            };
            let level = if absent {
                log::Level::Debug
            } else {
                log::Level::Warn
            };
            log::log!(level, "the tower runs on the CPU: {e}");
            Ok(None)
        }
    }
}

/// Starts a worker on a GPU, in halves or f32.
type Start = fn(u32, bool, &Tower) -> Result<Client, GpuError>;

/// A tower in halves, or in f32 where these are not enough.
fn take(gpu: &GpuDevice, tower: Tower, start: Start) -> Result<GpuTower, GpuError> {
    let (tower, index) = (Arc::new(tower), gpu.index);
    let on_gpu = |halves: bool| {
        let tower = Arc::clone(&tower);
        let name = format!("{} ({})", gpu.name, if halves { "fp16" } else { "fp32" });
        let connect = move || {
            let mut client = start(index, halves, &tower)?;
            check(&mut client, &tower)?;
            Ok(client)
        };
        GpuTower::take(name, Box::new(connect))
    };
    match on_gpu(tower.order.halves) {
        Err(e @ GpuError::Disagrees { .. }) if tower.order.halves => {
            log::info!("halves are not enough for this tower, trying f32 on the GPU: {e}");
            on_gpu(false)
        }
        other => other,
    }
}

fn start(index: u32, halves: bool, tower: &Tower) -> Result<Client, GpuError> {
    let layout = Layout {
        image: tower.trial.len(),
        width: tower.expected.len(),
        halves,
    };
    Client::start(
        index,
        &Order {
            halves,
            ..tower.order.clone()
        },
        layout,
    )
}

/// Compares the GPU with the CPU.
fn check(client: &mut Client, tower: &Tower) -> Result<(), GpuError> {
    let found = match client.embed(&tower.trial, 1, &tower.runtime.pool)? {
        Outcome::Embeddings(found) => cosine(&found, &tower.expected),
        Outcome::NotFinite => f64::NAN,
    };
    if found >= LEAST_COSINE {
        Ok(())
    } else {
        Err(GpuError::Disagrees {
            cosine: found,
            least: LEAST_COSINE,
        })
    }
}
