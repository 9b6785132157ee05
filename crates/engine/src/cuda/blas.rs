//! Products by cuBLASLt, which adds the bias and the residual to the sums. For each shape, the
//! algorithms that it offers are timed, and the fastest one is used.

use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys;
use cudarc::cublaslt::sys::cublasLtMatmulDescAttributes_t as DescAttribute;
use cudarc::driver::sys::CUevent_flags;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};
use tract_cuda::with_cuda_stream;
use tract_gpu::tensor::DeviceTensor;
use tract_onnx::prelude::{DatumType, TractResult};
use tract_onnx::tract_hir::internal::{anyhow, bail};

/// Size of the workspace, bytes: what NVIDIA recommends for Hopper; smaller GPUs use less of it.
const WORKSPACE: usize = 32 << 20;
/// Bytes; tract's arena guarantees no more.
const ALIGNMENT: u32 = 16;
/// `CUBLAS_OP_T`.
const TRANSPOSED: i32 = 1;
/// Number of algorithms that are tried for a shape.
const CANDIDATES: i32 = 8;
/// Number of runs that time each algorithm.
const RUNS: usize = 8;

/// cuBLASLt and its workspace. Products share the workspace, since they run one after the other on
/// one stream.
pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: DeviceTensor,
}

// SAFETY: any thread may use cuBLASLt's handle. The workspace is used in the order of one stream,
// since one thread runs the tower that owns it.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

impl Blas {
    pub(super) fn new() -> TractResult<Self> {
        let handle = lt::create_handle().map_err(|e| failed("create a handle", e))?;
        Ok(Self {
            handle,
            workspace: DeviceTensor::uninitialized_dt(DatumType::U8, &[WORKSPACE])?,
        })
    }

    fn workspace(&self) -> *mut c_void {
        self.workspace.device_buffer_ptr().cast_mut()
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the handle was created in `new` and is not used after this.
        let _ = unsafe { lt::destroy_handle(self.handle) };
    }
}

/// The shape of `y [rows, columns] = x [rows, depth] · wᵀ + bias [columns] + residual`, where w is
/// `[columns, depth]`; with `images`, of that many `y [columns, rows] = w [columns, depth] · x
/// [depth, rows]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) images: Option<usize>,
    pub(super) dt: DatumType,
}

/// Addresses on the GPU; 0 for an operand that is missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub(super) x: u64,
    pub(super) w: u64,
    pub(super) bias: u64,
    pub(super) residual: u64,
    pub(super) y: u64,
}

/// A product of one shape.
pub(super) struct Product {
    desc: sys::cublasLtMatmulDesc_t,
    w: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    /// Whether x is the first operand and w the second.
    swapped: bool,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: the descriptors are only read after they are created.
unsafe impl Send for Product {}
// SAFETY: as above.
unsafe impl Sync for Product {}

impl Product {
    /// Chooses the algorithm by running each on `operands`, which overwrites their `y`. Later runs
    /// must have a bias if this one has, and none otherwise.
    fn tune(blas: &Blas, shape: Shape, operands: &Operands) -> TractResult<Self> {
        let mut product = Self::describe(shape, operands.bias)?;
        let candidates = product.candidates(blas)?;
        let mut best: Option<(f32, sys::cublasLtMatmulAlgo_t)> = None;
        for candidate in candidates {
            product.algorithm = candidate;
            // An algorithm that does not run with this shape or alignment after all is skipped.
            let Ok(time) = product.time(blas, operands) else {
                continue;
            };
            if best.is_none_or(|(least, _)| time < least) {
                best = Some((time, candidate));
            }
        }
        let Some((_, algorithm)) = best else {
            bail!("cuBLASLt has no algorithm that runs {shape:?}")
        };
        product.algorithm = algorithm;
        Ok(product)
    }

    /// The product of this key among `products`; it is tuned on first use.
    pub(super) fn of_shape(
        products: &Mutex<HashMap<usize, Arc<Self>>>,
        key: usize,
        blas: &Blas,
        shape: Shape,
        operands: &Operands,
    ) -> TractResult<Arc<Self>> {
        let mut products = products.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = products.get(&key) {
            return Ok(Arc::clone(known));
        }
        let tuned = Arc::new(Self::tune(blas, shape, operands)?);
        products.insert(key, Arc::clone(&tuned));
        Ok(tuned)
    }

    /// In cuBLASLt's column-major terms yᵀ = w · xᵀ, where wᵀ is in memory; with images yᵀ = xᵀ ·
    /// wᵀ, where all three are in memory as they are.
    fn describe(shape: Shape, bias: u64) -> TractResult<Self> {
        let kind = match shape.dt {
            DatumType::F16 => sys::cudaDataType_t::CUDA_R_16F,
            DatumType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            other => bail!("no products of {other:?}"),
        };
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let make = |e| failed("describe a product", e);
        let desc =
            lt::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F).map_err(make)?;
        // `next` is the number of values from one image to the next, 0 if all images share them.
        let layout = |rows: usize, columns: usize, next: usize| {
            let layout =
                lt::create_matrix_layout(kind, rows as u64, columns as u64, i64::try_from(rows)?)
                    .map_err(make)?;
            if let Some(images) = shape.images {
                repeat(layout, i32::try_from(images)?, i64::try_from(next)?).map_err(make)?;
            }
            TractResult::Ok(layout)
        };
        let Shape {
            rows,
            columns,
            depth,
            images,
            ..
        } = shape;
        let [x, y] = if images.is_some() {
            [
                layout(rows, depth, rows * depth)?,
                layout(rows, columns, rows * columns)?,
            ]
        } else {
            [layout(depth, rows, 0)?, layout(columns, rows, 0)?]
        };
        let product = Self {
            desc,
            w: layout(depth, columns, 0)?,
            x,
            y,
            swapped: images.is_some(),
            // SAFETY: a plain array of numbers, which is replaced before it is used.
            algorithm: unsafe { MaybeUninit::zeroed().assume_init() },
        };
        if images.is_none() {
            product.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED)?;
        }
        if bias != 0 {
            product.set(
                DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            )?;
            product.set(DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(product)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> TractResult<()> {
        // SAFETY: the descriptor is alive, and the value has the attribute's type.
        unsafe {
            lt::set_matmul_desc_attribute(
                self.desc,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
        .map_err(|e| failed("describe a product", e))
    }

    fn candidates(&self, blas: &Blas) -> TractResult<Vec<sys::cublasLtMatmulAlgo_t>> {
        let preference = lt::create_matmul_pref().map_err(|e| failed("ask for algorithms", e))?;
        let mut found = 0;
        let (first, second) = if self.swapped {
            (self.x, self.w)
        } else {
            (self.w, self.x)
        };
        // SAFETY: plain numbers; only the first `found` are used, which cuBLASLt fills in.
        let mut results: [sys::cublasLtMatmulHeuristicResult_t; CANDIDATES as usize] =
            unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: every descriptor is alive, and the results have room for as many as requested.
        let asked = unsafe {
            let asked = prefer(preference).and_then(|()| {
                sys::cublasLtMatmulAlgoGetHeuristic(
                    blas.handle,
                    self.desc,
                    first,
                    second,
                    self.y,
                    self.y,
                    preference,
                    CANDIDATES,
                    results.as_mut_ptr(),
                    &raw mut found,
                )
                .result()
            });
            let _ = lt::destroy_matmul_pref(preference);
            asked
        };
        asked.map_err(|e| failed("offer an algorithm", e))?;
        let found = usize::try_from(found).unwrap_or(0);
        Ok(results.iter().take(found).map(|r| r.algo).collect())
    }

    /// Time of [`RUNS`] runs, milliseconds.
    fn time(&self, blas: &Blas, operands: &Operands) -> TractResult<f32> {
        self.run(blas, operands)?;
        with_cuda_stream(|stream| {
            let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
            stream.synchronize()?;
            let start = stream.record_event(flags)?;
            for _ in 0..RUNS {
                self.run(blas, operands)?;
            }
            let end = stream.record_event(flags)?;
            Ok(start.elapsed_ms(&end)?)
        })
    }

    pub(super) fn run(&self, blas: &Blas, operands: &Operands) -> TractResult<()> {
        let (alpha, beta) = (1.0f32, if operands.residual == 0 { 0.0f32 } else { 1.0 });
        let added = if operands.residual == 0 {
            operands.y
        } else {
            operands.residual
        };
        let (x, w) = ((operands.x, self.x), (operands.w, self.w));
        let (first, second) = if self.swapped { (x, w) } else { (w, x) };
        let number = |v: &f32| std::ptr::from_ref(v).cast::<c_void>();
        with_cuda_stream(|stream| {
            // SAFETY: the descriptors are alive, and the addresses are those of tensors of the
            // shapes that they describe.
            unsafe {
                lt::matmul(
                    blas.handle,
                    self.desc,
                    number(&alpha),
                    number(&beta),
                    first.0 as *const c_void,
                    first.1,
                    second.0 as *const c_void,
                    second.1,
                    added as *const c_void,
                    self.y,
                    operands.y as *mut c_void,
                    self.y,
                    &raw const self.algorithm,
                    blas.workspace(),
                    WORKSPACE,
                    stream.cu_stream().cast(),
                )
            }
            .map_err(|e| failed("multiply", e))
        })
    }
}

/// Makes a layout describe `count` matrices that are `next` values apart.
fn repeat(
    layout: sys::cublasLtMatrixLayout_t,
    count: i32,
    next: i64,
) -> Result<(), lt::CublasError> {
    use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
    let (count, next): (*const i32, *const i64) = (&raw const count, &raw const next);
    // SAFETY: the layout is alive, and each value has its attribute's type.
    unsafe {
        lt::set_matrix_layout_attribute(
            layout,
            Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
            count.cast(),
            4,
        )?;
        let attribute = Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
        lt::set_matrix_layout_attribute(layout, attribute, next.cast(), 8)
    }
}

/// Sets the workspace size and the alignment that an algorithm can rely on.
///
/// # Safety
/// `preference` must be alive.
unsafe fn prefer(preference: sys::cublasLtMatmulPreference_t) -> Result<(), lt::CublasError> {
    use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
    // SAFETY: the caller keeps `preference` alive, and each value has its attribute's type.
    unsafe {
        let most = std::ptr::from_ref(&WORKSPACE).cast();
        let attribute = Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        lt::set_matmul_pref_attribute(preference, attribute, most, size_of::<usize>())?;
        for attribute in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            lt::set_matmul_pref_attribute(
                preference,
                attribute,
                std::ptr::from_ref(&ALIGNMENT).cast(),
                4,
            )?;
        }
    }
    Ok(())
}

impl Drop for Product {
    fn drop(&mut self) {
        // SAFETY: the descriptors were created in `describe` and are not used after this.
        unsafe {
            let _ = lt::destroy_matmul_desc(self.desc);
            for layout in [self.w, self.x, self.y] {
                let _ = lt::destroy_matrix_layout(layout);
            }
        }
    }
}

fn failed(what: &str, error: lt::CublasError) -> tract_onnx::prelude::TractError {
    anyhow!("cuBLASLt cannot {what}: {error:?}")
}
