//! Why a GPU cannot be used, and what to do about it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a GPU cannot be used. The worker process sends it to the daemon.
#[derive(Debug, Clone, PartialEq, Error, Serialize, Deserialize)]
pub enum GpuError {
    #[error(
        "this build of constancy has no GPU support; install the package with it (docs/gpu.md), build with `--features cuda`, or set engine.device = \"cpu\""
    )]
    NotBuilt,
    #[error(
        "there is no NVIDIA driver ({library} cannot be opened: {reason}); install it, and give a container access to the GPU"
    )]
    NoDriver { library: String, reason: String },
    #[error(
        "the NVIDIA driver is too old: it knows CUDA {found}, this build needs {needed}; update the driver, or take the package for your JetPack (docs/gpu.md)"
    )]
    DriverTooOld {
        found: CudaVersion,
        needed: CudaVersion,
    },
    #[error(
        "the NVIDIA driver sees no GPU; check that `nvidia-smi` lists one, and that this user and container may open /dev/nvidia*"
    )]
    NoDevice,
    #[error(
        "there is no GPU {wanted}: the driver sees {count}, numbered from 0; `constancy check` lists them"
    )]
    NoSuchDevice { wanted: u32, count: u32 },
    #[error(
        "the NVIDIA driver fails: {call} returned {code}; check `dmesg`, and that `nvidia-smi` works"
    )]
    Driver { call: String, code: i32 },
    #[error(
        "CUDA's libraries are not all there: {reason}; install CUDA's runtime, NVRTC with its headers, cuBLAS and cuDNN (docs/gpu.md)"
    )]
    Libraries { reason: String },
    #[error(
        "the GPU's memory does not suffice ({reason}); check in `nvidia-smi` what else uses it, or use a smaller model"
    )]
    OutOfMemory { reason: String },
    #[error(
        "the GPU's embedding is not the CPU's (cosine {cosine:.5}, must be at least {least}); set engine.device = \"cpu\" and report it"
    )]
    Disagrees { cosine: f64, least: f64 },
    #[error("the GPU cannot run this model: {reason}")]
    Failed { reason: String },
    #[error("the process that runs the GPU is gone: {reason}")]
    Lost { reason: String },
}

/// A version of CUDA in the driver's form, 1000 · major + 10 · minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CudaVersion(pub i32);

impl std::fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

impl GpuError {
    /// The error for a message of CUDA, cuBLAS or a panic in tract.
    #[must_use]
    pub fn from_message(message: &str) -> Self {
        let reason = message.replace('\n', " ");
        let out_of_memory = ["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED"];
        let missing_library = [
            "could not be dlopen'd",
            "Unable to dynamically load",
            "No CUDA toolkit root",
            "toolkit include",
            "CCCL",
        ];
        if out_of_memory.iter().any(|m| reason.contains(m)) {
            Self::OutOfMemory { reason }
        } else if missing_library.iter().any(|l| reason.contains(l)) {
            Self::Libraries { reason }
        } else {
            Self::Failed { reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GpuError;

    #[test]
    fn messages_of_cuda_become_specific_errors() {
        let of = |message: &str| GpuError::from_message(message);
        assert!(
            matches!(of("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of\nmemory\")"), GpuError::OutOfMemory { reason } if !reason.contains('\n'))
        );
        for missing in [
            "CUDA: CUDA runtime sub-library \"cudnn\" could not be dlopen'd.",
            "No CUDA toolkit root found.",
        ] {
            assert!(
                matches!(of(missing), GpuError::Libraries { .. }),
                "{missing}"
            );
            assert!(of(missing).to_string().contains("docs/gpu.md"));
        }
        assert!(matches!(
            of("CUDA_ERROR_ILLEGAL_ADDRESS"),
            GpuError::Failed { .. }
        ));
        for (error, hint) in [
            (of("out of memory"), "nvidia-smi"),
            (GpuError::NotBuilt, "--features cuda"),
            (
                GpuError::Disagrees {
                    cosine: 0.9,
                    least: 0.999,
                },
                "engine.device = \"cpu\"",
            ),
        ] {
            assert!(error.to_string().contains(hint), "{error}");
        }
    }
}
