//! What an encoder answers when its GPU is lost.

use super::Encoder;
use crate::error::ModelError;
use crate::gpu::GpuError;
use crate::gpu::fake_worker::gpu_tower;
use crate::options::EngineOptions;
use std::path::Path;

impl Encoder {
    /// The same tower with a fake GPU that is lost after `runs` runs. Its embeddings are the sum of
    /// an image, the image's first value, and zeros.
    fn with_fake_gpu(mut self, runs: usize) -> Self {
        let (image, width) = (self.manifest.input_len(), self.manifest.output.width);
        self.gpu = Some(gpu_tower(image, width, runs));
        self
    }
}

#[test]
fn embeddings_made_by_the_cpu_in_place_of_a_gpu_are_counted_as_the_cpus() {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoder/vision-fp32.toml");
    let options = EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    };
    let load = || Encoder::load(&manifest, &options).expect("tower");
    let (cpu, gpu) = (load(), load().with_fake_gpu(1));
    let image = cpu.manifest().noise(1, 3);
    let of_cpu = cpu.embed(&image).expect("an embedding");
    let of_gpu = gpu.embed(&image).expect("an embedding");
    assert_eq!(of_gpu[1..3], [image[0], 0.0]);
    assert!(gpu.ensure_no_fallback().is_ok() && gpu.cpu_fallbacks() == 0);
    assert_eq!(
        gpu.embed(&image).expect("an embedding"),
        of_cpu,
        "the CPU takes over"
    );
    assert_eq!(gpu.cpu_fallbacks(), 1);
    let error = gpu.ensure_no_fallback().expect_err("the GPU was lost");
    assert!(
        matches!(
            &error,
            ModelError::Gpu {
                source: GpuError::Lost { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("vision-fp32") && cpu.ensure_no_fallback().is_ok(),
        "{error}"
    );
}

#[test]
fn embeddings_of_the_wrong_number_of_values_are_refused() {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoder/vision-fp32.toml");
    let options = EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    };
    let encoder = Encoder::load(&manifest, &options).expect("tower");
    let width = encoder.manifest().output.width;
    assert!(encoder.complete(vec![1.0; 2 * width], 2).is_ok());
    let one_of_zeros = [vec![1.0; width], vec![0.0; width]].concat();
    let error = encoder.complete(one_of_zeros, 2).expect_err("zeros");
    assert!(error.to_string().contains("all zeros"), "{error}");
    let error = encoder
        .complete(vec![1.0; 2 * width - 1], 2)
        .expect_err("one value is missing");
    assert!(error.to_string().contains("for 2 images"), "{error}");
}
