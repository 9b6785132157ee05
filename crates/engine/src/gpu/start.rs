//! Finds a GPU, starts a tower on it and compares it with the CPU.

use super::client::{Client, Outcome};
use super::device::Device;
use super::driver::{Driver, GpuDevice};
use super::error::{CudaVersion, GpuError};
use super::protocol::{MemoryLayout, WorkerConfig};
use super::tower::GpuTower;
use crate::agreement::cosine;
use crate::runtime::Runtime;
use std::sync::Arc;

/// The embedding of the test image must have at least this cosine with the CPU's.
pub(super) const MIN_COSINE: f64 = 0.999;
/// The CUDA version that this build is for; the driver must support it.
const REQUIRED_CUDA: CudaVersion = CudaVersion(if cfg!(feature = "cuda-jetpack6") {
    12060
} else {
    13000
});

/// A tower that is to run on a GPU, and the CPU's embedding of a test image.
pub(crate) struct TowerSetup {
    pub(crate) config: WorkerConfig,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) test_image: Vec<f32>,
    pub(crate) expected: Vec<f32>,
}

/// The GPU that `device` names. `None` if that is the CPU, or if it is [`Device::Auto`] and no GPU
/// can be used.
pub(crate) fn find_device(device: Device) -> Result<Option<GpuDevice>, GpuError> {
    let wanted = match device {
        Device::Cpu => return Ok(None),
        Device::Auto => 0,
        Device::Cuda(index) => index,
    };
    fall_back_if_auto(device, open_device(wanted))
}

fn open_device(wanted: u32) -> Result<GpuDevice, GpuError> {
    if !cfg!(feature = "gpu") {
        return Err(GpuError::NotBuilt);
    }
    Driver::open()?.require(wanted, REQUIRED_CUDA)
}

/// Starts the tower on `gpu`. `None` if `device` is [`Device::Auto`] and the tower cannot run
/// there.
pub(crate) fn start_tower(
    device: Device,
    gpu: &GpuDevice,
    setup: TowerSetup,
) -> Result<Option<GpuTower>, GpuError> {
    let tower = fall_back_if_auto(device, start_checked(gpu, setup, start_worker))?;
    if let Some(tower) = &tower {
        log::info!("the tower runs on {}", tower.name());
    }
    Ok(tower)
}

/// With [`Device::Auto`], turns a failure into `None` and logs it: the tower then runs on the CPU.
pub(crate) fn fall_back_if_auto<T>(
    device: Device,
    result: Result<T, GpuError>,
) -> Result<Option<T>, GpuError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if device != Device::Auto => Err(e),
        Err(e) => {
            // A machine without a GPU is not worth a warning.
            let no_gpu = match &e {
                GpuError::NoDriver { .. } => true,
                GpuError::NotBuilt => {
                    Driver::open().is_err_and(|e| matches!(e, GpuError::NoDriver { .. }))
                }
                _ => false,
            };
            let level = if no_gpu {
                log::Level::Debug
            } else {
                log::Level::Warn
            };
            log::log!(level, "the tower runs on the CPU: {e}");
            Ok(None)
        }
    }
}

/// Starts a worker on the GPU of this index, in half precision or in f32.
type StartWorker = fn(u32, bool, &TowerSetup) -> Result<Client, GpuError>;

/// A tower that agrees with the CPU: in half precision if the setup wants that and it is exact
/// enough, or else in f32.
pub(super) fn start_checked(
    gpu: &GpuDevice,
    setup: TowerSetup,
    start: StartWorker,
) -> Result<GpuTower, GpuError> {
    let (setup, index) = (Arc::new(setup), gpu.index);
    let on_gpu = |half_precision: bool| {
        let setup = Arc::clone(&setup);
        let format = if half_precision { "fp16" } else { "fp32" };
        let connect = move || {
            let mut client = start(index, half_precision, &setup)?;
            check_against_cpu(&mut client, &setup)?;
            Ok(client)
        };
        GpuTower::connect(format!("{} ({format})", gpu.name), Box::new(connect))
    };
    let half_precision = setup.config.half_precision;
    match on_gpu(half_precision) {
        Err(e @ GpuError::Disagrees { .. }) if half_precision => {
            log::info!("fp16 is not exact enough for this tower, trying f32 on the GPU: {e}");
            on_gpu(false)
        }
        other => other,
    }
}

fn start_worker(index: u32, half_precision: bool, setup: &TowerSetup) -> Result<Client, GpuError> {
    let layout = MemoryLayout {
        image: setup.test_image.len(),
        width: setup.expected.len(),
        half_precision,
    };
    let config = WorkerConfig {
        half_precision,
        ..setup.config.clone()
    };
    Client::start(index, &config, layout)
}

/// Compares the embedding of the test image with the CPU's.
fn check_against_cpu(client: &mut Client, setup: &TowerSetup) -> Result<(), GpuError> {
    let found = match client.embed(&setup.test_image, 1, &setup.runtime.pool)? {
        Outcome::Embeddings(found) => cosine(&found, &setup.expected),
        Outcome::NotFinite => f64::NAN,
    };
    if found >= MIN_COSINE {
        Ok(())
    } else {
        Err(GpuError::Disagrees {
            cosine: found,
            least: MIN_COSINE,
        })
    }
}
