//! Our kernels on the GPU, compiled when a tower is loaded and launched on tract's stream.

use constancy_kernels::Activation;
use cudarc::driver::{CudaFunction, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{Ptx, result as nvrtc, sys};
use std::collections::HashMap;
use std::ffi::CString;
use tract_cuda::with_cuda_stream;
use tract_gpu::tensor::DeviceTensor;
use tract_onnx::prelude::{DatumType, Tensor, TractResult};
use tract_onnx::tract_hir::internal::{anyhow, bail, ensure};

const SOURCE: &str = include_str!("kernels.cu");
/// Kernels that exist for fp16 and for f32.
const BOTH: [&str; 5] = ["patches", "norm", "activate", "attention", "conv"];
/// Kernels for fp16 alone whose threads load eight values at once.
const WIDE: [&str; 2] = ["norm_wide", "activate_wide"];
/// Threads of a block, where a thread computes one value.
const BLOCK: u32 = 256;

/// The compiled kernels.
pub(super) struct Library {
    functions: HashMap<String, CudaFunction>,
    /// Depth of the heads that `attention_tiles` is compiled for.
    tiles: Option<usize>,
}

/// One argument of a kernel.
#[derive(Clone, Copy)]
pub(super) enum Arg {
    Pointer(u64),
    Int(i32),
    Count(u32),
    Float(f32),
}

impl Library {
    /// Compiles the kernels for the GPU that tract uses; `depth` is the depth of the tower's
    /// attention heads.
    pub(super) fn compile(depth: Option<usize>) -> TractResult<Self> {
        with_cuda_stream(|stream| {
            let context = stream.context();
            let (major, minor) = context.compute_capability()?;
            let tiles = depth.filter(|d| major >= 8 && d % 16 == 0 && (16..=128).contains(d));
            let mut options = vec![
                "--std=c++17".to_owned(),
                format!("--gpu-architecture=sm_{major}{minor}"),
            ];
            options.extend(tiles.map(|d| format!("-DDEPTH={d}")));
            let module = context.load_module(Ptx::from_binary(machine_code(&options)?))?;
            let mut names: Vec<String> = BOTH
                .iter()
                .flat_map(|k| [format!("{k}_f16"), format!("{k}_f32")])
                .collect();
            names.extend(WIDE.map(String::from));
            names.extend(tiles.map(|_| "attention_tiles".into()));
            let functions = names
                .into_iter()
                .map(|name| Ok((name.clone(), module.load_function(&name)?)));
            Ok(Self {
                functions: functions.collect::<TractResult<_>>()?,
                tiles,
            })
        })
    }

    /// Whether attention heads of `depth` are computed on the matrix unit.
    pub(super) fn has_tiles(&self, depth: usize) -> bool {
        self.tiles == Some(depth)
    }

    /// Launches the variant of `kernel` for `dt`, or, if `dt` is `None`, the kernel of that name.
    pub(super) fn launch(
        &self,
        kernel: &str,
        dt: Option<DatumType>,
        config: LaunchConfig,
        args: &[Arg],
    ) -> TractResult<()> {
        let name = match dt {
            Some(DatumType::F16) => format!("{kernel}_f16"),
            Some(DatumType::F32) => format!("{kernel}_f32"),
            Some(other) => bail!("no kernel `{kernel}` for {other:?}"),
            None => kernel.to_owned(),
        };
        let function = self
            .functions
            .get(&name)
            .ok_or_else(|| anyhow!("no kernel `{name}`"))?;
        with_cuda_stream(|stream| {
            let mut builder = stream.launch_builder(function);
            for arg in args {
                match arg {
                    Arg::Pointer(v) => builder.arg(v),
                    Arg::Int(v) => builder.arg(v),
                    Arg::Count(v) => builder.arg(v),
                    Arg::Float(v) => builder.arg(v),
                };
            }
            // SAFETY: each caller gives the arguments in the kernel's order, and its pointers have
            // as many values as its counts say.
            unsafe { builder.launch(config)? };
            Ok(())
        })
    }
}

/// The machine code of the kernels. PTX would have to be of a version that the driver knows.
fn machine_code(options: &[String]) -> TractResult<Vec<u8>> {
    let source = CString::new(SOURCE)?;
    let program = nvrtc::create_program(&source, Some(c"kernels.cu"))?;
    // SAFETY: the program is alive until it is destroyed below.
    let compiled = unsafe { nvrtc::compile_program(program, options) };
    let code = match compiled {
        Ok(()) => read_code(program),
        Err(e) => {
            // SAFETY: as above.
            let log = unsafe { nvrtc::get_program_log(program) }.unwrap_or_default();
            let log: String = log
                .iter()
                .map(|&c| char::from(c.to_ne_bytes()[0]))
                .take_while(|&c| c != '\0')
                .collect();
            Err(anyhow!(
                "NVRTC cannot compile constancy's kernels: {e:?} {log}"
            ))
        }
    };
    // SAFETY: as above, and nothing uses it after this.
    unsafe { nvrtc::destroy_program(program) }?;
    code
}

fn read_code(program: sys::nvrtcProgram) -> TractResult<Vec<u8>> {
    let mut size = 0;
    // SAFETY: the program is compiled, and the buffer has the size that NVRTC asks for.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
        let mut code = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()?;
        Ok(code)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "larger tensors are refused"
)]
pub(super) fn int(value: usize) -> Arg {
    Arg::Int(value as i32)
}

/// The number that the kernels have for an activation.
pub(super) fn activation_code(activation: Activation) -> Arg {
    Arg::Int(match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::QuickGelu => 2,
        Activation::Gelu => 3,
        Activation::GeluTanh => 4,
        Activation::Silu => 5,
        Activation::Sigmoid => 6,
        Activation::Relu6 => 7,
        Activation::HardSwish => 8,
    })
}

/// A grid with one thread for each of `count` values.
pub(super) fn thread_per_value(count: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (count.div_ceil(BLOCK), 1, 1),
        block_dim: (BLOCK, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// The address of a tensor's values on the GPU; an error if they are not contiguous.
pub(super) fn address(tensor: &DeviceTensor) -> TractResult<u64> {
    let packed = Tensor::natural_strides(tensor.shape());
    ensure!(
        tensor.strides() == packed.as_slice(),
        "a kernel got a tensor that is not contiguous: {tensor:?}"
    );
    Ok(tensor.device_buffer_ptr() as u64 + tensor.buffer_offset::<u64>())
}
