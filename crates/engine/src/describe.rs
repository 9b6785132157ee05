//! A manifest for a bare ONNX file: the one beside it, or what the file itself says and CLIP's preprocessing.

use super::manifest::{EncoderManifest, InputManifest, Manifest, OutputManifest};
use super::onnx::{OnnxFile, pb};
use super::{ManifestError, ModelError};
use constancy_core::preprocess::{Crop, Filter, ResizeMode};
use pb::tensor_shape_proto::dimension::Value;
use std::path::Path;

/// CLIP's, as OpenAI's models and nearly all after them were trained.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];
const LOGIT_SCALE: f32 = 100.0;

/// A manifest, and whether it was there.
pub struct Described {
    pub manifest: Manifest,
    /// Made up: CLIP's preprocessing was assumed.
    pub assumed: bool,
}

/// The manifest at `path`, or of the ONNX file at `path`.
pub fn describe(path: &Path) -> Result<Described, ModelError> {
    let beside = path.with_extension("toml");
    if beside == path {
        return Ok(Described {
            manifest: Manifest::read(path)?,
            assumed: false,
        });
    }
    match Manifest::read(&beside) {
        Ok(manifest) if same_file(&manifest.encoder_file(), path) => Ok(Described {
            manifest,
            assumed: false,
        }),
        Ok(_) => Ok(Described {
            manifest: assume(path, &beside)?,
            assumed: true,
        }),
        Err(ManifestError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(Described {
                manifest: assume(path, &beside)?,
                assumed: true,
            })
        }
        Err(e) => Err(e.into()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// What the file's own input and output say.
fn assume(path: &Path, manifest: &Path) -> Result<Manifest, ModelError> {
    if let Err(source) = std::fs::metadata(path) {
        return Err(ModelError::Read {
            path: path.into(),
            source,
        });
    }
    let file = OnnxFile::open(path).map_err(|reason| ModelError::Parse {
        path: path.into(),
        reason,
    })?;
    let undescribed = |reason: &str| ModelError::Undescribed {
        path: path.into(),
        manifest: manifest.into(),
        reason: reason.to_owned(),
    };
    let graph = file.model.graph.ok_or_else(|| ModelError::Parse {
        path: path.into(),
        reason: "no graph".into(),
    })?;
    let given = |v: &&pb::ValueInfoProto| !graph.initializer.iter().any(|t| t.name == v.name);
    let inputs: Vec<_> = graph.input.iter().filter(given).collect();
    let &[input] = inputs.as_slice() else {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(ModelError::Inputs {
            path: path.into(),
            inputs: names.join(", "),
            modality: "vision",
        });
    };
    let size = match dims(input).as_slice() {
        [_, None | Some(3), Some(height), Some(width)] if height == width => {
            u32::try_from(*height).ok()
        }
        [_, None | Some(3), _, _] => return Err(undescribed("its input has no fixed square size")),
        found => {
            let found = format!(
                "{:?}",
                found.iter().map(|d| d.unwrap_or(-1)).collect::<Vec<_>>()
            );
            return Err(ModelError::InputShape {
                path: path.into(),
                name: input.name.clone(),
                found,
            });
        }
    };
    let output = graph.output.iter().find_map(|o| match dims(o).as_slice() {
        [_, Some(width)] => Some((o.name.clone(), usize::try_from(*width).ok()?)),
        _ => None,
    });
    let (Some(size), Some((output, width))) = (size, output) else {
        return Err(undescribed("none of its outputs is an embedding [N, D]"));
    };
    Ok(Manifest {
        encoder: EncoderManifest {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            file: path.file_name().unwrap_or_default().into(),
            sha256: None,
            licence: None,
            source: None,
        },
        input: InputManifest {
            name: input.name.clone(),
            size,
            resize: ResizeMode::ShortestEdge,
            resize_to: None,
            filter: Filter::Bicubic,
            crop: Crop::Center,
            mean: MEAN,
            std: STD,
        },
        output: OutputManifest {
            name: output,
            width,
            logit_scale: LOGIT_SCALE,
        },
        text: None,
        path: manifest.into(),
    })
}

/// A value's axes; `None` for those that are not fixed.
fn dims(value: &pb::ValueInfoProto) -> Vec<Option<i64>> {
    let kind = value.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(pb::type_proto::Value::TensorType(tensor)) = kind else {
        return Vec::new();
    };
    let axis = |d: &pb::tensor_shape_proto::Dimension| match d.value {
        Some(Value::DimValue(n)) => Some(n),
        _ => None,
    };
    tensor.shape.iter().flat_map(|s| &s.dim).map(axis).collect()
}
