//! A plan for one batch size, recorded once as a CUDA graph and then replayed: the hundred launches
//! of a tower become one call of the host.

use super::library::address;
use super::transform::Transformed;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, result as driver};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tract_cuda::with_cuda_stream;
use tract_gpu::memory::{DeviceMemSchema, DeviceMemoryPool};
use tract_gpu::tensor::{DeviceTensor, DeviceTensorExt};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::{TurnState, TurnStateHandler, eval};
#[allow(clippy::wildcard_imports, reason = "tract's plans and states")]
use tract_onnx::tract_hir::internal::*;

/// Runs before recording. The first one tunes the products, and after both every buffer has its
/// final address.
const WARM_UP: usize = 2;

/// A plan with its buffers.
pub(super) struct DevicePlan {
    state: TypedSimpleState,
    shape: [usize; 4],
    dt: DatumType,
    /// `None` if a part of the tower runs on the host.
    device: Option<OnDevice>,
}

/// Input and output in the GPU's memory.
struct OnDevice {
    input: DeviceTensor,
    output: DeviceTensor,
    recorded: Option<CudaGraph>,
}

/// Keeps tract's memory for intermediate values from run to run: a recording holds addresses in it.
#[derive(Debug)]
struct Arena(DeviceMemSchema);

impl TurnStateHandler for Arena {
    fn before_plan_eval(&self, turn: &mut TurnState) -> TractResult<()> {
        if turn.shared.get::<DeviceMemoryPool>().is_none() {
            turn.shared.insert(DeviceMemoryPool::from_schema(
                self.0.resolve(&turn.resolved_symbols)?,
            )?);
        }
        Ok(())
    }

    fn after_plan_eval(&self, _: &mut TurnState) -> TractResult<()> {
        Ok(())
    }
}

impl DevicePlan {
    pub(super) fn new(graph: Transformed, shape: [usize; 4], dt: DatumType) -> TractResult<Self> {
        let options = RunOptions {
            skip_order_opt_ram: true,
            ..RunOptions::default()
        };
        let plan = TypedSimplePlan::build(graph.model, &options)?;
        let schema = DeviceMemSchema::build(
            plan.model(),
            plan.order_without_consts(),
            &SymbolValues::default(),
        )?;
        let state = Arc::new(plan.with_turn_handler(Arena(schema))).spawn()?;
        // Constants are copied to the GPU asynchronously.
        with_cuda_stream(|stream| Ok(stream.synchronize()?))?;
        let mut plan = Self {
            state,
            shape,
            dt,
            device: None,
        };
        if graph.on_device {
            plan.device = Some(OnDevice {
                input: DeviceTensor::uninitialized_dt(dt, &shape)?,
                output: DeviceTensor::uninitialized_dt(dt, &[0])?,
                recorded: None,
            });
            plan.record()?;
        }
        Ok(plan)
    }

    /// Warms up and records a run. If the driver cannot record it, every run launches its kernels
    /// itself.
    fn record(&mut self) -> TractResult<()> {
        for _ in 0..WARM_UP {
            self.launch()?;
        }
        with_cuda_stream(|stream| Ok(stream.synchronize()?))?;
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        with_cuda_stream(|stream| Ok(stream.begin_capture(mode)?))?;
        let launched = self.launch();
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let recorded = with_cuda_stream(|stream| Ok(stream.end_capture(flags)?));
        match (launched, recorded, &mut self.device) {
            (Ok(()), Ok(Some(graph)), Some(device)) => device.recorded = Some(graph),
            (Ok(()), Ok(_), _) => {}
            (Err(e), ..) | (Ok(()), Err(e), _) => {
                log::warn!(
                    "this tower cannot be recorded as a CUDA graph, so every run launches its kernels one by one: {e:#}"
                );
                self.launch()?;
            }
        }
        Ok(())
    }

    /// Launches all kernels from the input to the output without waiting for them.
    fn launch(&mut self) -> TractResult<()> {
        let Some(device) = &mut self.device else {
            bail!("a part of the tower runs on the host")
        };
        device.output = run(&mut self.state, &device.input)?;
        Ok(())
    }

    /// The output `[batch, width]` for images `[batch, 3, size, size]`, given as bytes of the
    /// tower's type.
    pub(super) fn run(&mut self, images: &[u8]) -> TractResult<Tensor> {
        ensure!(
            images.len() == self.bytes(),
            "the plan takes {} bytes, got {}",
            self.bytes(),
            images.len()
        );
        let Some(device) = &mut self.device else {
            let input = self.host_input(images)?;
            let output = self.state.run(tvec!(input.into_tvalue()))?;
            let host = output[0].cast_to::<f32>()?.into_owned();
            return Ok(host);
        };
        let to = address(&device.input)?;
        // SAFETY: the input has as many bytes as `images`, which was checked above.
        with_cuda_stream(|s| unsafe { Ok(driver::memcpy_htod_async(to, images, s.cu_stream())?) })?;
        match &device.recorded {
            Some(graph) => graph.launch()?,
            None => self.launch()?,
        }
        let Some(device) = &self.device else {
            bail!("the plan lost its tensors")
        };
        download(&device.output)
    }
}

impl DevicePlan {
    /// Kind, number of calls and total nanoseconds of the operators of one run; each is waited for
    /// before the next is launched.
    pub(super) fn profile(&mut self, images: &[u8]) -> TractResult<Vec<(String, usize, u64)>> {
        self.run(images)?;
        let input = match &self.device {
            Some(device) => device.input.clone().into_tensor(),
            None => self.host_input(images)?,
        };
        let mut kinds: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
        let timed =
            |ctx: &EvalContext<'_>, state: Option<&mut dyn OpState>, node: &TypedNode, inputs| {
                let start = Instant::now();
                let result = eval(ctx, state, node, inputs);
                with_cuda_stream(|stream| Ok(stream.synchronize()?))?;
                let (calls, time) = kinds.entry(node.op.name().to_string()).or_default();
                *calls += 1;
                *time += start.elapsed();
                result
            };
        self.state
            .run_plan_with_eval(tvec!(input.into_tvalue()), timed)?;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Ok(kinds
            .into_iter()
            .map(|(kind, (calls, time))| (kind, calls, nanoseconds(time)))
            .collect())
    }
}

impl DevicePlan {
    /// Size of the input.
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dt.size_of()
    }

    fn host_input(&self, images: &[u8]) -> TractResult<Tensor> {
        // SAFETY: every bit pattern is a valid number of this type.
        unsafe { Tensor::from_raw_dt(self.dt, &self.shape, images) }
    }
}

fn run(state: &mut TypedSimpleState, input: &DeviceTensor) -> TractResult<DeviceTensor> {
    let outputs = state.run(tvec!(input.clone().into_tensor().into_tvalue()))?;
    Ok(outputs[0].to_device_tensor()?.clone())
}

fn download(tensor: &DeviceTensor) -> TractResult<Tensor> {
    let mut host = Tensor::zero_dt(tensor.datum_type(), tensor.shape())?;
    let from = address(tensor)?;
    let mut view = host.try_as_plain_ram_mut()?;
    let bytes = view.as_bytes_mut();
    with_cuda_stream(|stream| {
        // SAFETY: `bytes` is as long as the tensor, and is not used before the stream is
        // synchronised.
        unsafe { driver::memcpy_dtoh_async(bytes, from, stream.cu_stream())? };
        Ok(stream.synchronize()?)
    })?;
    Ok(host.cast_to::<f32>()?.into_owned())
}
