//! What a tower's inputs take by the file's own declaration, and the tensors made for them. The
//! declared type and layout are fed; a tower that needs others than the manifest says is refused.

use crate::error::ModelError;
use crate::manifest::{InputLayout, InputManifest, InputType, Manifest};
use crate::onnx::pb;
use pb::tensor_proto::DataType;
use pb::tensor_shape_proto::dimension::Value;
use std::path::Path;
use tract_onnx::prelude::*;

/// An input as the file declares it.
pub(crate) struct DeclaredInput {
    pub(crate) name: String,
    element: i32,
    /// `None` where an axis is not fixed.
    pub(crate) axes: Vec<Option<i64>>,
}

impl DeclaredInput {
    pub(crate) fn of(value: &pb::ValueInfoProto) -> Self {
        let kind = value.r#type.as_ref().and_then(|t| t.value.as_ref());
        let tensor = match kind {
            Some(pb::type_proto::Value::TensorType(tensor)) => Some(tensor),
            _ => None,
        };
        let axis = |d: &pb::tensor_shape_proto::Dimension| match d.value {
            Some(Value::DimValue(n)) => Some(n),
            _ => None,
        };
        Self {
            name: value.name.clone(),
            element: tensor.map_or(0, |t| t.elem_type),
            axes: tensor
                .and_then(|t| t.shape.as_ref())
                .map_or_else(Vec::new, |s| s.dim.iter().map(axis).collect()),
        }
    }

    /// Whether it takes unsigned bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        self.element == DataType::Uint8 as i32
    }

    /// Whether its shape leaves open which axis has the colours.
    fn is_open(&self) -> bool {
        let is_colours = |axis: Option<&Option<i64>>| axis == Some(&Some(3));
        !is_colours(self.axes.get(1)) && !is_colours(self.axes.get(3))
    }

    /// The type's name in ONNX.
    fn type_name(&self) -> String {
        match DataType::try_from(self.element) {
            Ok(DataType::Float) => "float32".into(),
            Ok(DataType::Double) => "float64".into(),
            Ok(other) => format!("{other:?}").to_lowercase(),
            Err(_) => format!("type {}", self.element),
        }
    }

    /// The shape for people, `[N, 3, 224, 224]`.
    pub(crate) fn shape_text(&self) -> String {
        if self.axes.is_empty() {
            return "that the file does not say".into();
        }
        let axis = |(i, axis): (usize, &Option<i64>)| match axis {
            Some(n) => n.to_string(),
            None if i == 0 => "N".into(),
            None => "?".into(),
        };
        let axes: Vec<String> = self.axes.iter().enumerate().map(axis).collect();
        format!("[{}]", axes.join(", "))
    }
}

/// How an image tower takes its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageFormat {
    element: DatumType,
    layout: InputLayout,
}

impl ImageFormat {
    /// Normalised f32, `[N, 3, H, W]`.
    #[cfg(any(feature = "gpu", test))]
    pub(crate) const F32: Self = Self {
        element: DatumType::F32,
        layout: InputLayout::Nchw,
    };

    /// The format of the input `declared` of the model at `path`; an error if the manifest does not
    /// describe it.
    pub(crate) fn of(
        declared: &DeclaredInput,
        path: &Path,
        manifest: &Manifest,
    ) -> Result<Self, ModelError> {
        let element = element_type(declared, path, manifest)?;
        if element == DatumType::U8 && manifest.input.layout.is_none() && declared.is_open() {
            return Err(ModelError::InputLayout {
                path: path.into(),
                manifest: manifest.path.clone(),
                name: declared.name.clone(),
                found: declared.shape_text(),
            });
        }
        let layout = layout(declared, &manifest.input).ok_or_else(|| ModelError::InputShape {
            path: path.into(),
            manifest: manifest.path.clone(),
            name: declared.name.clone(),
            found: declared.shape_text(),
        })?;
        let format = Self { element, layout };
        let wrong = |(&fed, declared): (&usize, &Option<i64>)| {
            declared.is_some_and(|d| usize::try_from(d) != Ok(fed))
        };
        let shape = format.shape(manifest, 1);
        // The first axis is the batch.
        if shape.iter().zip(&declared.axes).skip(1).any(wrong) {
            return Err(ModelError::InputSize {
                key: "input.size",
                path: path.into(),
                manifest: manifest.path.clone(),
                name: declared.name.clone(),
                shape: format!("{shape:?}"),
                reason: format!("the file says {}", declared.shape_text()),
            });
        }
        Ok(format)
    }

    /// What differs from normalised floats, `[N, 3, H, W]`, if the GPU's tower cannot take it.
    pub(crate) fn unusual(self) -> Option<&'static str> {
        match self {
            Self {
                element: DatumType::U8,
                ..
            } => Some("its input is uint8"),
            Self {
                layout: InputLayout::Nhwc,
                ..
            } => Some("its input is [N, H, W, 3]"),
            _ => None,
        }
    }

    fn shape(self, manifest: &Manifest, batch: usize) -> [usize; 4] {
        let [batch, channels, height, width] = manifest.input_shape(batch);
        match self.layout {
            InputLayout::Nchw => [batch, channels, height, width],
            InputLayout::Nhwc => [batch, height, width, channels],
        }
    }

    /// Type and shape of `batch` images.
    pub(crate) fn fact(self, manifest: &Manifest, batch: usize) -> TypedFact {
        self.element.fact(self.shape(manifest, batch))
    }

    /// The tensor for `batch` normalised images `[batch, 3, size, size]`.
    pub(crate) fn tensor(
        self,
        manifest: &Manifest,
        images: &[f32],
        batch: usize,
    ) -> TractResult<Tensor> {
        let planar = manifest.input_shape(batch);
        let tensor = if self.element == DatumType::U8 {
            let bytes = bytes(&manifest.input, images);
            Tensor::from_shape(&planar, &bytes)?
        } else {
            Tensor::from_shape(&planar, images)?
                .cast_to_dt(self.element)?
                .into_owned()
        };
        match self.layout {
            InputLayout::Nchw => Ok(tensor),
            InputLayout::Nhwc => tensor.permute_axes(&[0, 2, 3, 1]),
        }
    }
}

/// The bytes that images had before they were normalised.
fn bytes(input: &InputManifest, images: &[f32]) -> Vec<u8> {
    let pixels = (input.size as usize).pow(2).max(1);
    let planes = images.chunks(pixels).enumerate();
    planes
        .flat_map(|(plane, values)| values.iter().map(move |&v| input.byte(plane % 3, v)))
        .collect()
}

/// The type that is fed: the declared one, if the manifest agrees.
fn element_type(
    declared: &DeclaredInput,
    path: &Path,
    manifest: &Manifest,
) -> Result<DatumType, ModelError> {
    let wanted = manifest.input.r#type.unwrap_or_default();
    let fed = match DataType::try_from(declared.element) {
        Ok(DataType::Float) => Ok((DatumType::F32, InputType::Float)),
        Ok(DataType::Float16) => Ok((DatumType::F16, InputType::Float)),
        Ok(DataType::Uint8) => Ok((DatumType::U8, InputType::Uint8)),
        _ => Err(
            "an image is fed as float32, float16 or uint8: export the tower with one of these"
                .to_owned(),
        ),
    };
    let reason = match fed {
        Ok((fed, kind)) if kind == wanted => return Ok(fed),
        Ok((_, InputType::Uint8)) => format!(
            "if it normalises bytes (0 to 255) itself, set `type = \"uint8\"` under [input] in {}",
            manifest.path.display()
        ),
        Ok(_) => format!(
            "but `input.type` in {} is \"uint8\": remove the key if the tower takes normalised images",
            manifest.path.display()
        ),
        Err(reason) => reason,
    };
    Err(ModelError::InputType {
        path: path.into(),
        name: declared.name.clone(),
        found: declared.type_name(),
        reason,
    })
}

/// The order of the axes: the manifest's, or the one that the declared shape leaves; `None` if the
/// shape is not that of images in this order.
fn layout(declared: &DeclaredInput, input: &InputManifest) -> Option<InputLayout> {
    if declared.axes.is_empty() {
        // Not declared at all.
        return Some(input.layout.unwrap_or(InputLayout::Nchw));
    }
    let &[_, second, _, last] = declared.axes.as_slice() else {
        return None;
    };
    let may_be_colours = |axis: Option<i64>| axis.is_none_or(|n| n == 3);
    let found = match (second, last) {
        (Some(3), _) => InputLayout::Nchw,
        (_, Some(3)) => InputLayout::Nhwc,
        _ => input.layout.unwrap_or(InputLayout::Nchw),
    };
    let colours = match input.layout.unwrap_or(found) {
        InputLayout::Nchw => second,
        InputLayout::Nhwc => last,
    };
    may_be_colours(colours).then_some(input.layout.unwrap_or(found))
}

/// The type that is fed to an input of whole numbers: token ids or their mask.
pub(crate) fn token_type(declared: &DeclaredInput, path: &Path) -> Result<DatumType, ModelError> {
    match DataType::try_from(declared.element) {
        Ok(DataType::Int64) => Ok(DatumType::I64),
        Ok(DataType::Int32) => Ok(DatumType::I32),
        _ => Err(ModelError::InputType {
            path: path.into(),
            name: declared.name.clone(),
            found: declared.type_name(),
            reason: "token ids and their mask are fed as int64 or int32: export the tower with one of these".into(),
        }),
    }
}
