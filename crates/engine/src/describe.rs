//! A manifest for a bare ONNX file: the one next to it, or one made up from the file's own inputs
//! and outputs and CLIP's preprocessing.

use crate::error::ModelError;
use crate::input::DeclaredInput;
use crate::manifest::{
    EncoderManifest, InputLayout, InputManifest, InputType, Manifest, ManifestError, OutputManifest,
};
use crate::onnx::{OnnxFile, pb};
use constancy_core::preprocess::{Crop, Filter, ResizeMode};
use std::path::Path;

/// CLIP's normalisation and logit scale: OpenAI's models and nearly all later ones were trained
/// with them.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];
const LOGIT_SCALE: f32 = 100.0;

/// The manifest of a model, read or made up.
pub struct ModelDescription {
    pub manifest: Manifest,
    /// Whether it is made up, with CLIP's preprocessing.
    pub assumed: bool,
}

/// The manifest at `path`, or the one of the ONNX file at `path`. A manifest next to the ONNX file
/// counts only if it names that file.
pub fn describe(path: &Path) -> Result<ModelDescription, ModelError> {
    let read = |manifest| ModelDescription {
        manifest,
        assumed: false,
    };
    let beside = path.with_extension("toml");
    if beside == path {
        return Ok(read(Manifest::read(path)?));
    }
    match Manifest::read(&beside) {
        Ok(manifest) if same_file(&manifest.encoder_file(), path) => return Ok(read(manifest)),
        Ok(_) => {}
        Err(ManifestError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    Ok(ModelDescription {
        manifest: assumed_manifest(path, &beside)?,
        assumed: true,
    })
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A manifest from the names and shapes of the file's input and output, and CLIP's preprocessing.
/// `manifest` is where it would be.
fn assumed_manifest(path: &Path, manifest: &Path) -> Result<Manifest, ModelError> {
    let graph = read_graph(path)?;
    let undescribed = |reason: &str| ModelError::Undescribed {
        path: path.into(),
        manifest: manifest.into(),
        reason: reason.to_owned(),
    };
    let input = only_input(path, &graph)?;
    let input = DeclaredInput::of(input);
    let Some((size, layout)) = square_size(path, manifest, &input)? else {
        return Err(undescribed("its input has no fixed square size"));
    };
    let output = graph
        .output
        .iter()
        .find_map(|o| match DeclaredInput::of(o).axes.as_slice() {
            [_, Some(width)] => Some((o.name.clone(), usize::try_from(*width).ok()?)),
            _ => None,
        });
    let Some((output, width)) = output else {
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
            r#type: input.is_bytes().then_some(InputType::Uint8),
            layout,
            name: input.name,
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

fn read_graph(path: &Path) -> Result<pb::GraphProto, ModelError> {
    std::fs::metadata(path).map_err(|source| ModelError::Read {
        path: path.into(),
        source,
    })?;
    let failed = |reason| ModelError::Parse {
        path: path.into(),
        reason,
    };
    let file = OnnxFile::open(path).map_err(failed)?;
    file.model.graph.ok_or_else(|| failed("no graph".into()))
}

/// The one input that is not an initialiser.
fn only_input<'a>(
    path: &Path,
    graph: &'a pb::GraphProto,
) -> Result<&'a pb::ValueInfoProto, ModelError> {
    let is_fed = |v: &&pb::ValueInfoProto| !graph.initializer.iter().any(|t| t.name == v.name);
    let inputs: Vec<_> = graph.input.iter().filter(is_fed).collect();
    if let &[input] = inputs.as_slice() {
        return Ok(input);
    }
    let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    Err(ModelError::Inputs {
        path: path.into(),
        inputs: names.join(", "),
        modality: "vision",
    })
}

/// Edge of the square images that `input` takes, pixels, and the order of its axes where that is not
/// the usual one; `None` if the images are not square or of no fixed size.
fn square_size(
    path: &Path,
    manifest: &Path,
    input: &DeclaredInput,
) -> Result<Option<(u32, Option<InputLayout>)>, ModelError> {
    let (height, width, layout) = match *input.axes.as_slice() {
        [_, None | Some(3), height, width] => (height, width, None),
        [_, height, width, Some(3)] => (height, width, Some(InputLayout::Nhwc)),
        _ => {
            return Err(ModelError::InputShape {
                path: path.into(),
                manifest: manifest.into(),
                name: input.name.clone(),
                found: input.shape_text(),
            });
        }
    };
    let edge = height.filter(|_| height == width);
    Ok(edge.and_then(|e| Some((u32::try_from(e).ok()?, layout))))
}
