//! The weights of a product, packed for the kernels of this machine.

use super::winograd_weights::WinogradWeights;
use crate::onnx::ElementType;
use crate::runtime::Runtime;
use crate::spec::{LinearSpec, NormSpec, WeightSpec};
use constancy_kernels::{AlignedBytes, Kernels, PackedInt8};
use thiserror::Error;

/// Why weights cannot be packed.
#[derive(Debug, Error)]
pub(crate) enum PackError {
    #[error("the weights of `{name}` hold a value that is not a number")]
    NotFinite { name: String },
}

/// An outlier is a channel whose gain is more than this many times the median. It would widen the
/// quantisation range of every row, so it is multiplied separately in f32.
const OUTLIER_RATIO: f32 = 4.0;
/// Limit of outliers, besides one in 32 channels: more would cost more time than int8 saves.
const MAX_OUTLIERS: usize = 32;

/// Kernels take signed weights: unsigned ones are packed minus this offset.
const UNSIGNED_OFFSET: i16 = 128;

/// Packed weights.
pub(super) enum Weights {
    Int8(Int8Weights),
    F32(F32Weights),
    Winograd(WinogradWeights),
}

/// int8 weights with their scales; every table is padded to whole panels of columns.
pub(super) struct Int8Weights {
    pub(super) packed: PackedInt8,
    pub(super) scales: Vec<f32>,
    /// The sum of each column, times its scale.
    pub(super) sums: Vec<f32>,
    /// The zero point of each column, times its scale; `None` if all are 0.
    pub(super) zeros: Option<Vec<f32>>,
    /// Channels that are multiplied separately in f32.
    pub(super) outliers: Vec<usize>,
    /// Their weights, `[outliers, padded columns]`.
    pub(super) outlier_weights: Vec<f32>,
}

/// Panels of `[depth][panel]` f32.
pub(super) struct F32Weights {
    pub(super) bytes: AlignedBytes,
    pub(super) panels: usize,
}

impl Weights {
    pub(super) fn pack(
        name: &str,
        spec: &LinearSpec,
        runtime: &Runtime,
        int8: bool,
    ) -> Result<Self, PackError> {
        let weights = if int8 {
            Self::Int8(Int8Weights::pack(name, spec, runtime.kernels)?)
        } else {
            match WinogradWeights::pack(spec, runtime.kernels) {
                Some(weights) if !weights.finite => {
                    return Err(PackError::NotFinite { name: name.into() });
                }
                Some(weights) => Self::Winograd(weights),
                None => Self::F32(F32Weights::pack(name, spec, runtime.kernels)?),
            }
        };
        spec.parts.iter().for_each(|part| part.data.data.release());
        Ok(weights)
    }

    /// Size in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Int8(w) => w.packed.size(),
            Self::F32(w) => w.bytes.size(),
            Self::Winograd(w) => w.bytes.size(),
        }
    }
}

impl WeightSpec {
    /// Calls `each(depth, column, stored value)` for the columns `first..end`, in the order of the
    /// file.
    pub(super) fn visit(&self, first: usize, end: usize, mut each: impl FnMut(usize, usize, f32)) {
        let bytes = self.data.data.bytes();
        let (depth, columns) = (self.depth(), self.columns());
        let mut all = |value: &dyn Fn(usize) -> f32| {
            if self.transposed {
                for c in first..end {
                    (0..depth).for_each(|d| each(d, c, value(c * depth + d)));
                }
            } else {
                for d in 0..depth {
                    (first..end).for_each(|c| each(d, c, value(d * columns + c)));
                }
            }
        };
        match self.data.element {
            ElementType::I8 => all(&|i| f32::from(bytes[i].cast_signed())),
            ElementType::U8 => all(&|i| f32::from(bytes[i])),
            ElementType::F16 => {
                all(&|i| half::f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32());
            }
            _ => all(&|i| {
                let b = &bytes[4 * i..4 * i + 4];
                f32::from_le_bytes([b[0], b[1], b[2], b[3]])
            }),
        }
    }

    /// `(q − zero) · scale` of a stored value of column `c`.
    pub(super) fn dequantise(&self, c: usize, value: f32) -> f32 {
        let zero = for_column(&self.zeros, c).map_or(0.0, |z| z as f32);
        let scale = for_column(&self.scales, c).unwrap_or(1.0);
        (value - zero) * scale
    }
}

/// The value of column `c`, where there is one for all columns or one for each.
fn for_column<T: Copy>(values: &[T], c: usize) -> Option<T> {
    if values.len() == 1 {
        Some(values[0])
    } else {
        values.get(c).copied()
    }
}

/// Calls `each(part, first, end, start)` for every part that has columns in `from..to` of the
/// product: `first..end` are those columns, counted within the part, which begins at column
/// `start`.
fn for_parts_in(
    spec: &LinearSpec,
    from: usize,
    to: usize,
    mut each: impl FnMut(&WeightSpec, usize, usize, usize),
) {
    let mut start = 0;
    for part in &spec.parts {
        let end = start + part.columns();
        let (a, b) = (from.max(start), to.min(end));
        if a < b {
            each(part, a - start, b - start, start);
        }
        start = end;
    }
}

/// All weights of a product as floats, `[columns, depth]`.
#[cfg(feature = "gpu")]
pub(crate) fn dense_weights(spec: &LinearSpec) -> Vec<f32> {
    let mut weights = vec![0.0; spec.columns * spec.depth];
    for (part, start) in spec.parts_with_starts() {
        part.visit(0, part.columns(), |d, c, value| {
            weights[(start + c) * spec.depth + d] = part.dequantise(c, value);
        });
        part.data.data.release();
    }
    weights
}

impl Int8Weights {
    fn pack(name: &str, spec: &LinearSpec, kernels: &Kernels) -> Result<Self, PackError> {
        let panel = kernels.int8.panel;
        let padded = spec.columns.next_multiple_of(panel);
        let (scales, zeros) = scales_and_zeros(name, spec, padded)?;
        let packed = PackedInt8::new(&kernels.int8, spec.depth, spec.columns, |first, rows| {
            for_parts_in(spec, first, first + panel, |part, a, b, start| {
                let stored = stored_values(part, &scales[start..]);
                part.visit(a, b, |d, c, value| {
                    rows[d * panel + start + c - first] = stored(c, value);
                });
            });
        });
        // A statically quantised input has the file's range, whatever its outliers.
        let normalised = spec.norm.as_ref().filter(|_| spec.grid.is_none());
        let outliers = normalised.map_or_else(Vec::new, outlier_channels);
        let outlier_weights = outlier_rows(spec, &outliers, padded);
        let scaled = |values: &[i32]| {
            values
                .iter()
                .zip(&scales)
                .map(|(&v, scale)| v as f32 * scale)
                .collect()
        };
        let zeros = zeros.iter().any(|&z| z != 0).then(|| scaled(&zeros));
        let sums = scaled(&packed.column_sums);
        Ok(Self {
            packed,
            scales,
            sums,
            zeros,
            outliers,
            outlier_weights,
        })
    }
}

/// Scale and zero point of every column, padded with zeros.
fn scales_and_zeros(
    name: &str,
    spec: &LinearSpec,
    padded: usize,
) -> Result<(Vec<f32>, Vec<i32>), PackError> {
    let mut scales = vec![0.0f32; padded];
    let mut zeros = vec![0i32; padded];
    for (part, start) in spec.parts_with_starts() {
        let offset = if part.data.element == ElementType::U8 {
            UNSIGNED_OFFSET
        } else {
            0
        };
        for c in 0..part.columns() {
            scales[start + c] = for_column(&part.scales, c).unwrap_or(0.0);
            zeros[start + c] = for_column(&part.zeros, c).unwrap_or(0) - i32::from(offset);
        }
        if !part.is_int8() {
            float_scales(name, part, &mut scales[start..start + part.columns()])?;
        }
    }
    Ok((scales, zeros))
}

/// The int8 value that is packed for a value of the file, given its column in `part`.
fn stored_values<'a>(part: &'a WeightSpec, scales: &'a [f32]) -> impl Fn(usize, f32) -> i8 + 'a {
    let is_float = !part.is_int8();
    let offset = if part.data.element == ElementType::U8 {
        f32::from(UNSIGNED_OFFSET)
    } else {
        0.0
    };
    move |c, value| {
        let value = if is_float {
            (part.dequantise(c, value) / scales[c]).round_ties_even()
        } else {
            value - offset
        };
        #[expect(clippy::cast_possible_truncation, reason = "integral, in -128..=127")]
        let byte = value as i8;
        byte
    }
}

/// Scales of float weights, symmetric and one per column: the largest magnitude becomes 127.
fn float_scales(name: &str, part: &WeightSpec, scales: &mut [f32]) -> Result<(), PackError> {
    let mut largest = vec![0.0f32; scales.len()];
    let mut finite = true;
    part.visit(0, scales.len(), |_, c, value| {
        let value = part.dequantise(c, value);
        finite &= value.is_finite();
        largest[c] = largest[c].max(value.abs());
    });
    if !finite {
        return Err(PackError::NotFinite { name: name.into() });
    }
    for (scale, largest) in scales.iter_mut().zip(largest) {
        *scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    }
    Ok(())
}

/// Channels that a normalisation makes much larger than the others, in ascending order.
fn outlier_channels(norm: &NormSpec) -> Vec<usize> {
    let mut magnitudes: Vec<f32> = norm.gain.iter().map(|g| g.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let limit = magnitudes[magnitudes.len() / 2] * OUTLIER_RATIO;
    let mut channels: Vec<usize> = (0..norm.gain.len())
        .filter(|&c| norm.gain[c].abs() > limit)
        .collect();
    channels.sort_by(|&a, &b| norm.gain[b].abs().total_cmp(&norm.gain[a].abs()));
    channels.truncate(MAX_OUTLIERS.min(norm.gain.len() / 32));
    channels.sort_unstable();
    channels
}

/// The weights of the outliers in f32, `[outliers, padded]`.
fn outlier_rows(spec: &LinearSpec, outliers: &[usize], padded: usize) -> Vec<f32> {
    let mut rows = vec![0.0; outliers.len() * padded];
    if outliers.is_empty() {
        return rows;
    }
    for (part, start) in spec.parts_with_starts() {
        part.visit(0, part.columns(), |d, c, value| {
            if let Ok(o) = outliers.binary_search(&d) {
                rows[o * padded + start + c] = part.dequantise(c, value);
            }
        });
    }
    rows
}

impl F32Weights {
    fn pack(name: &str, spec: &LinearSpec, kernels: &Kernels) -> Result<Self, PackError> {
        let panel = kernels.f32_panel;
        let panels = spec.columns.div_ceil(panel);
        let mut bytes = AlignedBytes::for_weights(panels * spec.depth * panel * size_of::<f32>());
        let mut finite = true;
        let floats = bytes.as_mut_floats();
        for (p, out) in floats
            .chunks_exact_mut((spec.depth * panel).max(1))
            .enumerate()
        {
            let first = p * panel;
            for_parts_in(spec, first, first + panel, |part, a, b, start| {
                part.visit(a, b, |d, c, value| {
                    finite &= value.is_finite();
                    out[d * panel + start + c - first] = part.dequantise(c, value);
                });
            });
        }
        if finite {
            Ok(Self { bytes, panels })
        } else {
            Err(PackError::NotFinite { name: name.into() })
        }
    }
}
