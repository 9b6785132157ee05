//! The reference in a class bank's file: metadata `condition`, tensors `condition_mean`, `condition_axes`,
//! `condition_classes` and `condition_scatter`. A program that does not know them reads the bank without.

use super::mix::ClassMix;
use super::reference::{MAX_AXES, Reference, Running};
use crate::tensor_file::{NamedTensor, TensorFile, TensorFileError, Values, to_json};
use serde::{Deserialize, Serialize};

const KEY: &str = "condition";

#[derive(Serialize, Deserialize)]
struct Entry {
    axes: usize,
    classes: Vec<u32>,
    images: f32,
    limit: f32,
    usual: [f32; 2],
    running: Running,
}

/// The tensors to write, and the metadata.
pub(in crate::classify) struct Stored {
    mean: Vec<f32>,
    axes: Vec<f32>,
    moves: Vec<f32>,
    scatter: Vec<f32>,
    classes: usize,
    entry: String,
}

impl Stored {
    pub(in crate::classify) fn new(reference: &Reference) -> Result<Self, TensorFileError> {
        let entry = Entry {
            axes: reference.axes.len(),
            classes: reference.mix.classes.clone(),
            images: reference.mix.images,
            limit: reference.limit,
            usual: reference.usual,
            running: reference.running.clone(),
        };
        Ok(Self {
            mean: reference.mean.clone(),
            axes: reference.axes.concat(),
            moves: reference.mix.moves.concat(),
            scatter: reference.mix.scatter.clone(),
            classes: reference.mix.classes.len(),
            entry: to_json(KEY, &entry)?,
        })
    }

    pub(in crate::classify) fn tensors(&self) -> impl Iterator<Item = NamedTensor<'_>> {
        let width = self.mean.len();
        let mean = ("condition_mean", vec![width], Values::F32(&self.mean));
        let rows = self.axes.len() / width.max(1);
        let axes = ("condition_axes", vec![rows, width], Values::F32(&self.axes));
        let n = self.classes;
        let moves = (
            "condition_classes",
            vec![n, width],
            Values::F32(&self.moves),
        );
        let scatter = ("condition_scatter", vec![n, n], Values::F32(&self.scatter));
        let always = [mean, moves, scatter].into_iter();
        always.chain((rows > 0).then_some(axes))
    }

    pub(in crate::classify) fn metadata(&self) -> (String, String) {
        (KEY.to_owned(), self.entry.clone())
    }
}

/// Reads the reference of a bank with embeddings of `width`, if it has one. The inner error says what is damaged.
pub(in crate::classify) fn read(
    file: &TensorFile<'_>,
    width: usize,
) -> Result<Option<Result<Reference, String>>, TensorFileError> {
    if file.optional(KEY).is_none() {
        return Ok(None);
    }
    let entry: Entry = file.json(KEY)?;
    if entry.axes > MAX_AXES {
        return Ok(Some(Err(format!(
            "has {} axes of light, expected at most {MAX_AXES}",
            entry.axes
        ))));
    }
    let rows = |(shape, values): (Vec<usize>, Vec<f32>)| -> Vec<Vec<f32>> {
        let rows = values.chunks(shape[1].max(1));
        rows.map(<[f32]>::to_vec).collect()
    };
    let axes = if entry.axes == 0 {
        Vec::new()
    } else {
        let (shape, values) = file.f32("condition_axes", 2)?;
        if shape[0] != entry.axes {
            return Ok(Some(Err(format!(
                "has {} axes of light, expected {}",
                shape[0], entry.axes
            ))));
        }
        rows((shape, values))
    };
    let reference = Reference {
        mix: ClassMix {
            classes: entry.classes,
            moves: rows(file.f32("condition_classes", 2)?),
            scatter: file.f32("condition_scatter", 2)?.1,
            images: entry.images,
        },
        mean: file.vector("condition_mean", width)?,
        axes,
        limit: entry.limit,
        usual: entry.usual,
        running: entry.running,
    };
    Ok(Some(reference.check(width).map(|()| reference)))
}
