//! A product's weights, packed for the machine's kernels.

use super::Runtime;
use crate::onnx::Element;
use crate::rewrite::{LinearSpec, NormSpec, WeightSpec};
use constancy_kernels::{Bytes, Kernels, PackedInt8};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why weights could not be packed.
#[derive(Debug, Error)]
pub(in super::super) enum PackError {
    #[error("the weights of `{name}` hold a value that is not a number")]
    NotFinite { name: String },
}

/// In which numbers products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the file has it; where it has bytes, patches are embedded in bytes, too: pixels are nothing else.
    #[default]
    File,
    /// Bytes, also where the file has floats.
    Int8,
    /// f32, also where the file has bytes.
    Fp32,
}

impl Precision {
    /// Whether a product is computed in bytes; [`super::pack`] knows of one more case.
    pub(super) fn is_bytes(self, spec: &LinearSpec) -> bool {
        match self {
            Self::File => spec.parts.iter().all(WeightSpec::is_bytes),
            Self::Int8 => true,
            Self::Fp32 => false,
        }
    }
}

/// A channel whose gain is this many times the median's would widen every row's range for its own sake, and
/// is multiplied apart in f32.
const OUTLIER: f32 = 4.0;
/// At most so many, or the split would cost more than it saves: one in 32 of the depth.
const MAX_OUTLIERS: usize = 32;

/// Packed weights.
pub(super) enum Weights {
    Int8(Int8Weights),
    F32(F32Weights),
}

/// Bytes with their scales; every table is padded to whole panels.
pub(super) struct Int8Weights {
    pub(super) packed: PackedInt8,
    pub(super) scales: Vec<f32>,
    /// Σw and zero points, times the scales.
    pub(super) sums: Vec<f32>,
    pub(super) zeros: Option<Vec<f32>>,
    /// Channels that are multiplied apart, and their weights `[outliers, padded columns]`.
    pub(super) outliers: Vec<usize>,
    pub(super) outlier_weights: Vec<f32>,
}

/// Panels of `[depth][panel]` f32.
pub(super) struct F32Weights {
    pub(super) bytes: Bytes,
    pub(super) panels: usize,
}

impl Weights {
    pub(super) fn pack(
        name: &str,
        spec: &LinearSpec,
        runtime: &Runtime,
        bytes: bool,
    ) -> Result<Self, PackError> {
        let weights = if bytes {
            Self::Int8(Int8Weights::pack(name, spec, runtime.kernels)?)
        } else {
            Self::F32(F32Weights::pack(name, spec, runtime.kernels)?)
        };
        spec.parts.iter().for_each(|part| part.data.data.forget());
        Ok(weights)
    }

    /// Bytes in memory.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Int8(w) => w.packed.size(),
            Self::F32(w) => w.bytes.size(),
        }
    }
}

impl WeightSpec {
    pub(in super::super) fn is_bytes(&self) -> bool {
        matches!(self.data.element, Element::I8 | Element::U8)
    }

    pub(in super::super) fn columns(&self) -> usize {
        self.data.shape[usize::from(!self.transposed)]
    }

    fn depth(&self) -> usize {
        self.data.shape[usize::from(self.transposed)]
    }

    /// Calls `each(depth, column, value)` for the columns from `first` to `end`, in the order that the file has them.
    fn visit(&self, first: usize, end: usize, mut each: impl FnMut(usize, usize, f32)) {
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
            Element::I8 => all(&|i| f32::from(bytes[i].cast_signed())),
            Element::U8 => all(&|i| f32::from(bytes[i])),
            Element::F16 => {
                all(&|i| half::f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32())
            }
            _ => all(&|i| {
                let b = &bytes[4 * i..4 * i + 4];
                f32::from_le_bytes([b[0], b[1], b[2], b[3]])
            }),
        }
    }

    /// `(q − zero) · scale` of a stored value of column `c`.
    fn dequantise(&self, c: usize, value: f32) -> f32 {
        let zero = one_or_each(&self.zeros, c).map_or(0.0, |z| z as f32);
        let scale = one_or_each(&self.scales, c).unwrap_or(1.0);
        (value - zero) * scale
    }
}

/// The value for all, or that of `c`.
fn one_or_each<T: Copy>(values: &[T], c: usize) -> Option<T> {
    if values.len() == 1 {
        Some(values[0])
    } else {
        values.get(c).copied()
    }
}

/// Calls `each(part, first, end, start)` for the stretch of every part that lies in `from..to` of all columns;
/// `start` is where the part begins.
fn stretches(
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

/// All of a product's weights as floats, `[columns, depth]`.
#[cfg(feature = "gpu")]
pub(in super::super) fn dense(spec: &LinearSpec) -> Vec<f32> {
    let mut weights = vec![0.0; spec.columns * spec.depth];
    for (part, start) in spec.parts_with_starts() {
        part.visit(0, part.columns(), |d, c, value| {
            weights[(start + c) * spec.depth + d] = part.dequantise(c, value);
        });
        part.data.data.forget();
    }
    weights
}

impl Int8Weights {
    fn pack(name: &str, spec: &LinearSpec, kernels: &Kernels) -> Result<Self, PackError> {
        let panel = kernels.int8.panel;
        let padded = spec.columns.next_multiple_of(panel);
        let mut scales = vec![0.0f32; padded];
        let mut zeros = vec![0i32; padded];
        for (part, start) in spec.parts_with_starts() {
            for c in 0..part.columns() {
                scales[start + c] = one_or_each(&part.scales, c).unwrap_or(0.0);
                let zero = one_or_each(&part.zeros, c).unwrap_or(0);
                // Unsigned bytes are stored less 128.
                zeros[start + c] = zero
                    - if part.data.element == Element::U8 {
                        128
                    } else {
                        0
                    };
            }
            if !part.is_bytes() {
                float_scales(name, part, &mut scales[start..start + part.columns()])?;
            }
        }
        let packed = PackedInt8::new(&kernels.int8, spec.depth, spec.columns, |first, rows| {
            stretches(spec, first, first + panel, |part, a, b, start| {
                let signed = if part.data.element == Element::U8 {
                    -128.0
                } else {
                    0.0
                };
                let floats = !part.is_bytes();
                part.visit(a, b, |d, c, value| {
                    let value = if floats {
                        (value / scales[start + c]).round_ties_even()
                    } else {
                        value + signed
                    };
                    #[expect(clippy::cast_possible_truncation, reason = "integral, in -128..=127")]
                    let byte = value as i8;
                    rows[d * panel + start + c - first] = byte;
                });
            });
        });
        let outliers = spec.norm.as_ref().map_or_else(Vec::new, outlier_channels);
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

/// Symmetric, one per column: the largest magnitude becomes 127.
fn float_scales(name: &str, part: &WeightSpec, scales: &mut [f32]) -> Result<(), PackError> {
    let mut most = vec![0.0f32; scales.len()];
    let mut finite = true;
    part.visit(0, scales.len(), |_, c, value| {
        finite &= value.is_finite();
        most[c] = most[c].max(value.abs());
    });
    if !finite {
        return Err(PackError::NotFinite { name: name.into() });
    }
    for (scale, most) in scales.iter_mut().zip(most) {
        *scale = if most > 0.0 { most / 127.0 } else { 1.0 };
    }
    Ok(())
}

/// Channels that a normalisation makes much larger than the others.
fn outlier_channels(norm: &NormSpec) -> Vec<usize> {
    let mut magnitudes: Vec<f32> = norm.gain.iter().map(|g| g.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let limit = magnitudes[magnitudes.len() / 2] * OUTLIER;
    let mut channels: Vec<usize> = (0..norm.gain.len())
        .filter(|&c| norm.gain[c].abs() > limit)
        .collect();
    channels.sort_by(|&a, &b| norm.gain[b].abs().total_cmp(&norm.gain[a].abs()));
    channels.truncate(MAX_OUTLIERS.min(norm.gain.len() / 32));
    channels.sort_unstable();
    channels
}

/// The outliers' weights as the file has them, `[outliers, padded]`.
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
        let mut bytes = Bytes::for_weights(panels * spec.depth * panel * size_of::<f32>());
        let mut finite = true;
        let floats = bytes.as_mut_floats();
        for (p, out) in floats
            .chunks_exact_mut((spec.depth * panel).max(1))
            .enumerate()
        {
            let first = p * panel;
            stretches(spec, first, first + panel, |part, a, b, start| {
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
