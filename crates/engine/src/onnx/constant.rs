//! Tensors of a graph that do not depend on its inputs.

use super::mapped::TensorData;
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Type of the elements of a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    F32,
    F16,
    I8,
    U8,
    I16,
    U16,
    I32,
    I64,
}

impl ElementType {
    fn of(data_type: i32) -> Option<Self> {
        Some(match DataType::try_from(data_type).ok()? {
            DataType::Float => Self::F32,
            DataType::Float16 => Self::F16,
            DataType::Int8 => Self::I8,
            DataType::Uint8 => Self::U8,
            DataType::Int16 => Self::I16,
            DataType::Uint16 => Self::U16,
            DataType::Int32 => Self::I32,
            DataType::Int64 => Self::I64,
            _ => return None,
        })
    }

    /// Least and largest value of a type that quantisation uses.
    pub(crate) fn bounds(self) -> Option<(i64, i64)> {
        Some(match self {
            Self::I8 => (i8::MIN.into(), i8::MAX.into()),
            Self::U8 => (u8::MIN.into(), u8::MAX.into()),
            Self::I16 => (i16::MIN.into(), i16::MAX.into()),
            Self::U16 => (u16::MIN.into(), u16::MAX.into()),
            // Of biases, which are only ever dequantised.
            Self::I32 => (i32::MIN.into(), i32::MAX.into()),
            Self::F32 | Self::F16 | Self::I64 => return None,
        })
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// A tensor that does not depend on the input.
#[derive(Clone)]
pub(crate) struct Constant {
    pub(crate) shape: Vec<usize>,
    pub(crate) element: ElementType,
    pub(crate) data: TensorData,
}

impl Constant {
    /// The constant of `tensor`, whose elements are in `data` or, if `None`, in the message itself.
    /// `None` if the type is not supported, or the data does not fit the shape.
    pub(crate) fn new(tensor: &pb::TensorProto, data: Option<&TensorData>) -> Option<Self> {
        let element = ElementType::of(tensor.data_type)?;
        let shape = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).ok())
            .collect::<Option<Vec<usize>>>()?;
        let data = data
            .cloned()
            .unwrap_or_else(|| TensorData::Owned(Arc::new(typed_bytes(tensor, element))));
        (bytes_of_shape(tensor) == Some(data.bytes().len())).then_some(Self {
            shape,
            element,
            data,
        })
    }

    /// A constant of `bytes`, the little-endian elements of `shape`.
    pub(crate) fn owned(shape: Vec<usize>, element: ElementType, bytes: Vec<u8>) -> Self {
        Self {
            shape,
            element,
            data: TensorData::Owned(Arc::new(bytes)),
        }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as f32, whatever their type.
    pub(crate) fn floats(&self) -> Vec<f32> {
        let bytes = self.data.bytes();
        match self.element {
            ElementType::F32 => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            ElementType::F16 => bytes
                .chunks_exact(2)
                .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            ElementType::I8 => bytes.iter().map(|&b| f32::from(b.cast_signed())).collect(),
            ElementType::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            ElementType::I16 | ElementType::U16 | ElementType::I32 | ElementType::I64 => {
                self.integers().iter().map(|&i| i as f32).collect()
            }
        }
    }

    /// The elements as integers; empty if they are floats.
    pub(crate) fn integers(&self) -> Vec<i64> {
        let bytes = self.data.bytes();
        match self.element {
            ElementType::I8 => bytes.iter().map(|&b| i64::from(b.cast_signed())).collect(),
            ElementType::U8 => bytes.iter().map(|&b| i64::from(b)).collect(),
            ElementType::I16 => bytes
                .chunks_exact(2)
                .map(|b| i64::from(i16::from_le_bytes([b[0], b[1]])))
                .collect(),
            ElementType::U16 => bytes
                .chunks_exact(2)
                .map(|b| i64::from(u16::from_le_bytes([b[0], b[1]])))
                .collect(),
            ElementType::I32 => bytes
                .chunks_exact(4)
                .map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            ElementType::I64 => bytes
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
            ElementType::F32 | ElementType::F16 => Vec::new(),
        }
    }

    /// The transposed matrix; `None` if this is not a matrix, or `perm` does not swap its two axes.
    pub(crate) fn transposed(&self, perm: Option<&[i64]>) -> Option<Self> {
        let &[rows, columns] = self.shape.as_slice() else {
            return None;
        };
        if perm.is_some_and(|p| p != [1, 0]) {
            return None;
        }
        let size = self.element.size();
        let from = self.data.bytes();
        let mut bytes = Vec::with_capacity(from.len());
        for c in 0..columns {
            for r in 0..rows {
                let at = (r * columns + c) * size;
                bytes.extend_from_slice(&from[at..at + size]);
            }
        }
        self.data.release();
        Some(Self::owned(vec![columns, rows], self.element, bytes))
    }
}

/// The bytes that the elements of a tensor take; `None` if its shape is negative or too large, or
/// its type is not supported.
pub(super) fn bytes_of_shape(tensor: &pb::TensorProto) -> Option<usize> {
    let size = ElementType::of(tensor.data_type)?.size();
    tensor.dims.iter().try_fold(size, |bytes, &dim| {
        bytes.checked_mul(usize::try_from(dim).ok()?)
    })
}

/// The elements of a tensor as little-endian bytes, from whichever field holds them.
fn typed_bytes(tensor: &pb::TensorProto, element: ElementType) -> Vec<u8> {
    if !tensor.raw_data.is_empty() {
        return tensor.raw_data.clone();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as onnx.proto stores narrow types"
    )]
    match element {
        ElementType::F32 => tensor
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        ElementType::F16 | ElementType::I16 | ElementType::U16 => tensor
            .int32_data
            .iter()
            .flat_map(|&v| (v as u16).to_le_bytes())
            .collect(),
        ElementType::I8 | ElementType::U8 => tensor.int32_data.iter().map(|&v| v as u8).collect(),
        ElementType::I32 => tensor
            .int32_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        ElementType::I64 => tensor
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
    }
}
