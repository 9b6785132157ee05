//! ONNX Runtime's embeddings, which `tests/golden/encoder.py` writes to `tests/fixtures/encoder/golden.safetensors`.

use super::fixture;
use constancy_engine::{Encoder, EngineOptions};
use safetensors::SafeTensors;
use std::path::Path;

/// Rows of equal length.
pub struct Rows {
    values: Vec<f32>,
    count: usize,
}

impl Rows {
    /// A tensor of the golden file: `input`, or the embeddings of the model of that name.
    pub fn golden(name: &str) -> Self {
        Self::read("encoder/golden.safetensors", name)
    }

    /// The embeddings of a statically quantised model, which `tests/golden/static.py` writes.
    pub fn of_static(name: &str) -> Self {
        Self::read("encoder/static.safetensors", name)
    }

    /// The embeddings of a convolution tower, which `tests/golden/convolution.py` writes.
    pub fn of_convolutions(name: &str) -> Self {
        Self::read("encoder/convolution.safetensors", name)
    }

    fn read(file: &str, name: &str) -> Self {
        let bytes = std::fs::read(fixture(file)).expect("golden");
        let file = SafeTensors::deserialize(&bytes).expect("golden");
        let view = file.tensor(name).expect("tensor");
        let (words, _) = view.data().as_chunks::<4>();
        Self {
            values: words.iter().map(|&w| f32::from_le_bytes(w)).collect(),
            count: view.shape()[0],
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The rows, one after another.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.values.len() / self.count)
    }
}

/// The cosine of two vectors, computed in f64.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The least cosine between embeddings of the golden inputs: those of `manifest` computed here, and those that ONNX
/// Runtime computed with the model `name`.
pub fn least_cosine_to_onnx_runtime(manifest: &Path, name: &str) -> f64 {
    least_cosine_to(manifest, &EngineOptions::default(), &Rows::golden(name))
}

/// The least cosine between embeddings of the golden inputs, computed here with `options`, and `golden`.
pub fn least_cosine_to(manifest: &Path, options: &EngineOptions, golden: &Rows) -> f64 {
    let encoder = Encoder::load(manifest, options).expect("a good model");
    let inputs = Rows::golden("input");
    let pairs = inputs.rows().zip(golden.rows());
    let cosines =
        pairs.map(|(input, golden)| cosine(&encoder.embed(input).expect("embedding"), golden));
    cosines.fold(f64::INFINITY, f64::min)
}
