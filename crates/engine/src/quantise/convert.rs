//! The conversion of a tower: how each group of layers is stored, and the model with them stored
//! so.

use super::calibrate::record_activations;
use super::editor::GraphEditor;
use super::error::QuantiseError;
use super::layers::{Group, Layer, Layers};
use super::measure::{Choice, Measurement};
use super::report::{LayerReport, Progress, QuantiseOptions, StorageFormat};
use super::weights::{quantised, smoothed};
use super::widen::FP16;
use crate::error::error_chain;
use crate::manifest::Manifest;
use crate::onnx::OnnxFile;
use crate::options::EngineOptions;
use std::sync::Arc;

/// A converted model.
pub(super) struct Converted {
    pub(super) file: OnnxFile,
    pub(super) layers: Vec<LayerReport>,
    /// Number of tensors in fp16.
    pub(super) fp16_tensors: usize,
}

/// Converts the tower of `source`, measuring errors on `images`.
pub(super) fn convert(
    source: &Manifest,
    images: &[Vec<f32>],
    options: &QuantiseOptions,
    engine: &EngineOptions,
    report_progress: &mut dyn FnMut(Progress),
) -> Result<Converted, QuantiseError> {
    let path = source.encoder_file();
    let mut editor =
        GraphEditor::open(&path).map_err(|reason| QuantiseError::parse(&path, reason))?;
    let layers = match options.format {
        StorageFormat::Int8 => {
            let found = Layers::find(&path, &source.output.name)
                .map_err(|reason| QuantiseError::parse(&path, reason))?;
            quantise_layers(
                &mut editor,
                &found,
                source,
                images,
                options,
                engine,
                report_progress,
            )?
        }
        StorageFormat::Fp16 => Vec::new(),
    };
    editor.store_large_weights_as_fp16();
    if editor.fp16_tensors() == 0 && !layers.iter().any(|l| l.form == "int8") {
        return Err(QuantiseError::Nothing { path });
    }
    let file = editor.finish();
    let fp16_tensors = file
        .model
        .graph
        .iter()
        .flat_map(|g| &g.initializer)
        .filter(|t| t.data_type == FP16)
        .count();
    Ok(Converted {
        file,
        layers,
        fp16_tensors,
    })
}

/// Chooses for each group of `layers` how it is stored, and quantises those that are to be in int8.
fn quantise_layers(
    editor: &mut GraphEditor,
    layers: &Layers,
    source: &Manifest,
    images: &[Vec<f32>],
    options: &QuantiseOptions,
    engine: &EngineOptions,
    report_progress: &mut dyn FnMut(Progress),
) -> Result<Vec<LayerReport>, QuantiseError> {
    let path = source.encoder_file();
    if layers.groups.is_empty() {
        return Err(QuantiseError::NoLayers { path });
    }
    let runtime = Arc::new(engine.runtime()?);
    report_progress(Progress {
        step: "calibration",
        done: 0,
        total: 1,
    });
    let activations = record_activations(&path, source, &layers.groups, images, &runtime)?;
    let mut reports = Vec::new();
    for (done, group) in layers.groups.iter().enumerate() {
        report_progress(Progress {
            step: "layers",
            done,
            total: layers.groups.len(),
        });
        let recorded = activations.get(group.key());
        let Some(activations) = recorded.filter(|a| !a.rows.is_empty()) else {
            continue;
        };
        let choice = Measurement::new(layers, group, activations, &runtime)
            .and_then(|m| m.choose(options.max_error, options.smooth))
            .map_err(|e| QuantiseError::run(&path, error_chain(&e)))?;
        apply(editor, layers, group, &choice);
        reports.extend(group_reports(group, &choice));
    }
    Ok(reports)
}

/// Changes the graph as chosen for one group.
fn apply(editor: &mut GraphEditor, layers: &Layers, group: &Group, choice: &Choice) {
    if !choice.int8 {
        return;
    }
    let factors = choice.smoothing.as_ref().zip(group.norm.as_ref());
    let factors = factors.and_then(|(factors, norm)| editor.fold(norm, factors).then_some(factors));
    let weights = |layer: &Layer| {
        let weights = layers.weights(layer);
        match factors {
            Some(factors) => quantised(&smoothed(&weights, factors), layer.columns),
            None => quantised(&weights, layer.columns),
        }
    };
    if let Some((layer, windows)) = group.convolution() {
        return editor.quantise_convolution(layer, windows, &weights(layer));
    }
    editor.quantise(group, group.layers.iter().map(weights).collect());
}

fn group_reports(group: &Group, choice: &Choice) -> impl Iterator<Item = LayerReport> {
    group
        .layers
        .iter()
        .zip(&choice.errors)
        .map(|(layer, &error)| LayerReport {
            name: layer.name.clone(),
            form: if choice.int8 { "int8" } else { "fp16" },
            alpha: choice.alpha,
            error,
            depth: layer.depth,
            columns: layer.columns,
        })
}
