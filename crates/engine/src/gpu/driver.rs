//! The NVIDIA driver: its version and its GPUs, by the few calls that need no CUDA context.
//!
//! The library is opened on demand and never closed: the driver does not survive that.

use super::error::{CudaVersion, GpuError};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

/// The name under which every driver installs its library.
const LIBRARY: &str = "libcuda.so.1";
/// `CUDA_ERROR_OUT_OF_MEMORY` and `CUDA_ERROR_NO_DEVICE`.
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];

/// The initialised driver.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    library: Library,
    /// The newest version of CUDA that it supports.
    pub version: CudaVersion,
}

/// A GPU, as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuDevice {
    pub index: u32,
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    pub memory_bytes: u64,
}

impl Driver {
    /// Opens the machine's driver.
    pub fn open() -> Result<Self, GpuError> {
        Self::open_library(LIBRARY)
    }

    fn open_library(name: &str) -> Result<Self, GpuError> {
        let library = Library::open(name)?;
        let mut version = 0;
        library.call("cuInit", |f: extern "C" fn(c_uint) -> c_int| f(0))?;
        library.call(
            "cuDriverGetVersion",
            |f: extern "C" fn(*mut c_int) -> c_int| f(&raw mut version),
        )?;
        Ok(Self {
            library,
            version: CudaVersion(version),
        })
    }

    /// The GPUs in the order of `cuda:N`.
    pub fn devices(&self) -> Result<Vec<GpuDevice>, GpuError> {
        let mut count = 0;
        self.library.call(
            "cuDeviceGetCount",
            |f: extern "C" fn(*mut c_int) -> c_int| f(&raw mut count),
        )?;
        (0..count).map(|index| self.device(index)).collect()
    }

    fn device(&self, index: c_int) -> Result<GpuDevice, GpuError> {
        let (mut handle, mut bytes, mut name) = (0, 0usize, [0 as c_char; 256]);
        let mut capability = [0; 2];
        let library = self.library;
        library.call(
            "cuDeviceGet",
            |f: extern "C" fn(*mut c_int, c_int) -> c_int| f(&raw mut handle, index),
        )?;
        library.call(
            "cuDeviceGetName",
            |f: extern "C" fn(*mut c_char, c_int, c_int) -> c_int| {
                f(name.as_mut_ptr(), 255, handle)
            },
        )?;
        library.call(
            "cuDeviceTotalMem_v2",
            |f: extern "C" fn(*mut usize, c_int) -> c_int| f(&raw mut bytes, handle),
        )?;
        for (value, attribute) in capability.iter_mut().zip(CAPABILITY) {
            library.call(
                "cuDeviceGetAttribute",
                |f: extern "C" fn(*mut c_int, c_int, c_int) -> c_int| f(value, attribute, handle),
            )?;
        }
        // SAFETY: the driver wrote at most 255 bytes, so the last byte is still zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }
            .to_string_lossy()
            .into_owned();
        let index = u32::try_from(index).unwrap_or(0);
        Ok(GpuDevice {
            index,
            name,
            capability: (capability[0], capability[1]),
            memory_bytes: bytes as u64,
        })
    }

    /// The GPU of index `wanted`; an error if the driver does not support CUDA `needed`.
    pub(super) fn require(&self, wanted: u32, needed: CudaVersion) -> Result<GpuDevice, GpuError> {
        if self.version < needed {
            return Err(GpuError::DriverTooOld {
                found: self.version,
                needed,
            });
        }
        let mut devices = self.devices()?;
        if devices.is_empty() {
            return Err(GpuError::NoDevice);
        }
        let count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
        if wanted >= count {
            return Err(GpuError::NoSuchDevice { wanted, count });
        }
        Ok(devices.swap_remove(wanted as usize))
    }
}

/// A shared library that stays open.
#[derive(Debug, Clone, Copy)]
struct Library(*mut c_void);

impl Library {
    fn open(name: &str) -> Result<Self, GpuError> {
        let unusable = |reason: String| GpuError::NoDriver {
            library: name.into(),
            reason,
        };
        let path = CString::new(name).map_err(|e| unusable(e.to_string()))?;
        // SAFETY: `path` is a C string, and the library's initialisers are the driver's.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            // SAFETY: dlerror returns null or a C string that lives until the next call on this
            // thread.
            let reason = unsafe {
                libc::dlerror()
                    .as_ref()
                    .map(|e| CStr::from_ptr(e).to_string_lossy().into_owned())
            };
            return Err(unusable(reason.unwrap_or_else(|| "unknown".into())));
        }
        Ok(Self(handle))
    }

    /// Calls the function `name` through `call`, which gets it as a pointer of the type in CUDA's
    /// header.
    fn call<F: Copy>(self, name: &str, call: impl FnOnce(F) -> c_int) -> Result<(), GpuError> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let symbol = CString::new(name).unwrap_or_default();
        // SAFETY: the library is never closed, and `symbol` is a C string.
        let address = unsafe { libc::dlsym(self.0, symbol.as_ptr()) };
        if address.is_null() {
            let reason = format!("it has no {name}, which every NVIDIA driver has");
            return Err(GpuError::NoDriver {
                library: LIBRARY.into(),
                reason,
            });
        }
        // SAFETY: each caller gives as F the function pointer type that CUDA declares for this
        // name.
        let function = unsafe { std::mem::transmute_copy::<*mut c_void, F>(&address) };
        match call(function) {
            0 => Ok(()),
            NO_DEVICE => Err(GpuError::NoDevice),
            OUT_OF_MEMORY => Err(GpuError::OutOfMemory {
                reason: name.into(),
            }),
            code => Err(GpuError::Driver {
                call: name.into(),
                code,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CudaVersion, Driver, GpuDevice, GpuError};
    use std::path::Path;
    use std::process::Command;

    const NEEDED: CudaVersion = CudaVersion(13000);

    /// A driver that has `count` GPUs and supports CUDA `version`; cuInit returns `init`.
    fn fake_driver(folder: &Path, version: i32, init: i32, count: i32) -> String {
        let numbers = [("VERSION", version), ("INIT", init), ("COUNT", count)];
        let numbers = numbers.map(|(name, number)| format!("-D{name}={number}"));
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gpu/driver.c");
        compile(folder, &source, &numbers)
    }

    fn compile(folder: &Path, source: &Path, options: &[String]) -> String {
        let so = folder.join("libfake.so");
        let mut cc = Command::new("cc");
        let built = cc
            .args(options)
            .args(["-shared", "-fPIC", "-o"])
            .args([&so, source])
            .output()
            .expect("cc");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        so.display().to_string()
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("folder")
    }

    #[test]
    fn gpus_are_named_as_the_driver_names_them() {
        let folder = folder();
        let driver =
            Driver::open_library(&fake_driver(folder.path(), 13000, 0, 2)).expect("driver");
        let device = |index, name: &str, gib: u64| GpuDevice {
            index,
            name: name.into(),
            capability: (8, 7),
            memory_bytes: gib << 30,
        };
        assert_eq!(
            driver.devices().expect("devices"),
            [device(0, "Fake 0", 1), device(1, "Fake 1", 2)]
        );
        assert_eq!(
            driver.require(1, NEEDED).expect("the second").name,
            "Fake 1"
        );
        let error = driver.require(2, NEEDED).expect_err("there is no third");
        assert_eq!(
            error,
            GpuError::NoSuchDevice {
                wanted: 2,
                count: 2
            }
        );
        assert!(error.to_string().contains("constancy check"), "{error}");
    }

    #[test]
    fn a_missing_or_broken_driver_is_named_with_the_way_out() {
        let folder = folder();
        let error = Driver::open_library("libcuda-that-nobody-has.so").expect_err("no such file");
        assert!(
            matches!(&error, GpuError::NoDriver { library, .. } if library.contains("nobody")),
            "{error}"
        );
        assert!(error.to_string().contains("install it"), "{error}");
        let other = folder.path().join("other.c");
        std::fs::write(&other, "int cuda(void) { return 0; }").expect("source");
        let error =
            Driver::open_library(&compile(folder.path(), &other, &[])).expect_err("no driver");
        assert!(error.to_string().contains("cuInit"), "{error}");
    }

    #[test]
    fn a_driver_that_is_too_old_is_refused() {
        let folder = folder();
        let driver =
            Driver::open_library(&fake_driver(folder.path(), 12040, 0, 1)).expect("driver");
        let error = driver.require(0, NEEDED).expect_err("too old").to_string();
        assert!(
            error.contains("CUDA 12.4")
                && error.contains("needs 13.0")
                && error.contains("JetPack"),
            "{error}"
        );
        assert!(driver.require(0, CudaVersion(12040)).is_ok());
    }

    #[test]
    fn a_missing_gpu_and_a_failing_driver_are_distinguished() {
        let at = |init, count| {
            let folder = folder();
            let library = fake_driver(folder.path(), 13000, init, count);
            Driver::open_library(&library)
                .and_then(|d| d.require(0, NEEDED))
                .expect_err("no GPU")
        };
        assert_eq!(at(0, 0), GpuError::NoDevice);
        assert_eq!(at(100, 1), GpuError::NoDevice);
        assert!(at(0, 0).to_string().contains("/dev/nvidia"));
        assert_eq!(
            at(2, 1),
            GpuError::OutOfMemory {
                reason: "cuInit".into()
            }
        );
        let error = at(999, 1);
        assert!(
            error.to_string().contains("cuInit returned 999")
                && error.to_string().contains("dmesg"),
            "{error}"
        );
    }
}
