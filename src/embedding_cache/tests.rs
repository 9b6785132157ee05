//! Uses the small tower of the fixtures and rendered pictures.

use super::work::ImageTower;
use super::*;
use constancy_core::intervene::Family;
use constancy_engine::{EngineOptions, Manifest, ModelError};
use image::{Rgb, RgbImage};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Place {
    folder: tempfile::TempDir,
    encoder: Encoder,
    options: EngineOptions,
}

impl Place {
    fn new() -> Self {
        Self::with(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder/vision-fp32.toml"),
        )
    }

    fn with(manifest: &Path) -> Self {
        let options = EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        };
        let encoder = Encoder::load(manifest, &options).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            encoder,
            options,
        }
    }

    /// A picture that differs for every shade.
    fn picture(&self, name: &str, shade: u8) -> PathBuf {
        let path = self.folder.path().join(name);
        #[expect(clippy::cast_possible_truncation, reason = "any shade does")]
        let pixel = |x: u32, y: u32| Rgb([shade, (x * 3) as u8, (y * 5 + x) as u8]);
        RgbImage::from_fn(70, 50, pixel).save(&path).unwrap();
        path
    }

    fn cache(&self) -> Cache {
        let recipe = Recipe::new(&self.encoder, &self.options).unwrap();
        Cache::open(&self.folder.path().join("cache"), &recipe).unwrap()
    }

    fn embed_images(
        &self,
        images: &[PathBuf],
        cache: Option<Cache>,
        threads: usize,
    ) -> (ImageEmbeddings, Vec<String>) {
        let mut reported = Vec::new();
        let result = CachedEncoder::new(&self.encoder, cache, threads).embed_images(
            images,
            &plan(),
            &mut |progress| {
                if let Progress::Unreadable { path, reason } = progress {
                    reported.push(format!("{}: {reason}", path.file_name().unwrap().display()));
                }
            },
        );
        (result.unwrap(), reported)
    }
}

/// Eleven variants of an image: one full batch and a remainder of three.
fn plan() -> InterventionPlan {
    InterventionPlan {
        families: vec![
            Family::GreyScale,
            Family::Exposure,
            Family::Jpeg,
            Family::Haze,
            Family::Gamma,
        ],
        draws: 2,
        seed: 7,
    }
}

#[test]
fn rows_are_the_images_under_their_interventions_family_by_family() {
    let place = Place::new();
    let images = [place.picture("a.png", 10), place.picture("b.png", 200)];
    let (embedded, _) = place.embed_images(&images, None, 1);
    let mut preprocessor =
        constancy_core::preprocess::Preprocessor::new(place.encoder.manifest().transform());
    for (i, path) in images.iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        let content = work::content_hashes(std::slice::from_ref(path), 1)
            .remove(0)
            .unwrap();
        let frame = constancy_core::frame::Frame::compressed(
            constancy_core::frame::PixelFormat::ImageFile,
            bytes,
            crate::clock::now(),
        );
        let crop = preprocessor.crop(&frame).unwrap().clone();
        let expect = |image: &constancy_core::preprocess::RgbImage| {
            let row = place.encoder.embed(&preprocessor.normalise(image)).unwrap();
            Embeddings::new(row.len(), &[row], |_| String::new()).unwrap()
        };
        assert_eq!(embedded.interventions.originals().pick(&[i]), expect(&crop));
        for (k, intervention) in plan().interventions(&content).iter().enumerate() {
            let family = &embedded.interventions.families()[k / 2];
            assert_eq!(family.name, intervention.family.name());
            let row = (k % 2) * images.len() + i;
            assert_eq!(family.of[row], i);
            assert_eq!(
                family.changed.pick(&[row]),
                expect(&intervention.apply(&crop)),
                "{intervention}"
            );
        }
    }
}

#[test]
fn an_embedding_is_computed_once() {
    let place = Place::new();
    let mut images = vec![place.picture("a.png", 1), place.picture("b.png", 2)];
    let (first, _) = place.embed_images(&images, Some(place.cache()), 2);
    assert_eq!((first.stats.cached, first.stats.computed), (0, 22));
    let (second, _) = place.embed_images(&images, Some(place.cache()), 2);
    assert_eq!((second.stats.cached, second.stats.computed), (22, 0));
    assert_eq!(
        first.interventions.originals(),
        second.interventions.originals()
    );
    assert_eq!(
        first.interventions.families(),
        second.interventions.families()
    );
    // A moved file is recognised by its content; a new file is not in the cache.
    let moved = place.folder.path().join("z.png");
    std::fs::rename(&images[0], &moved).unwrap();
    images[0] = moved;
    images.insert(0, place.picture("new.png", 3));
    let (third, _) = place.embed_images(&images, Some(place.cache()), 2);
    assert_eq!((third.stats.cached, third.stats.computed), (22, 11));
    assert_eq!(
        third.interventions.originals().pick(&[1, 2]),
        *first.interventions.originals()
    );
}

#[test]
fn if_the_cache_cannot_be_written_the_work_goes_on_without_it() {
    let place = Place::new();
    let images: Vec<PathBuf> = (0..9)
        .map(|i| place.picture(&format!("{i}.png"), 20 * i))
        .collect();
    place.embed_images(&images[..1], Some(place.cache()), 1);
    let (embedded, _) = place.embed_images(&images, Some(place.cache().unwritable()), 2);
    assert_eq!((embedded.stats.cached, embedded.stats.computed), (11, 88));
    assert_eq!(place.cache().len(), 11);
    assert_eq!(
        embedded.interventions.originals(),
        place
            .embed_images(&images, None, 2)
            .0
            .interventions
            .originals()
    );
}

/// A tower whose GPU is lost after some runs; the CPU stands in from then on.
struct LosesItsGpu<'a> {
    encoder: &'a Encoder,
    runs_left: AtomicUsize,
    stood_in: AtomicUsize,
}

impl LosesItsGpu<'_> {
    fn run(&self) {
        let left = self.runs_left.load(Ordering::SeqCst);
        if left == 0 {
            self.stood_in.fetch_add(1, Ordering::SeqCst);
        } else {
            self.runs_left.store(left - 1, Ordering::SeqCst);
        }
    }
}

impl ImageTower for LosesItsGpu<'_> {
    fn manifest(&self) -> &Manifest {
        self.encoder.manifest()
    }
    fn embed(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.run();
        self.encoder.embed(input)
    }
    fn embed_batch(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError> {
        self.run();
        self.encoder.embed_batch(input, batch)
    }
    fn cpu_fallbacks(&self) -> usize {
        self.stood_in.load(Ordering::SeqCst)
    }
}

#[test]
fn embeddings_that_the_cpu_computed_for_a_lost_gpu_are_not_cached() {
    let place = Place::new();
    // Four runs per image: one batch and three remaining variants. The GPU is lost during the second image.
    let (runs_left, stood_in) = (AtomicUsize::new(5), AtomicUsize::new(0));
    let tower = LosesItsGpu {
        encoder: &place.encoder,
        runs_left,
        stood_in,
    };
    let images = [place.picture("a.png", 10), place.picture("b.png", 200)];
    let mut encoder = CachedEncoder::with_tower(&tower, Some(place.cache()), 1);
    let embedded = encoder.embed_images(&images, &plan(), &mut |_| {}).unwrap();
    drop(encoder);
    assert_eq!(
        (
            embedded.stats.computed,
            embedded.interventions.originals().len()
        ),
        (22, 2)
    );
    assert_eq!(place.cache().len(), 11, "the first image's");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let place = Place::new();
    let images: Vec<PathBuf> = (0..7)
        .map(|i| place.picture(&format!("{i}.png"), 30 * i))
        .collect();
    let (one, _) = place.embed_images(&images, None, 1);
    let (three, _) = place.embed_images(&images, None, 3);
    assert_eq!(
        one.interventions.originals(),
        three.interventions.originals()
    );
    assert_eq!(one.interventions.families(), three.interventions.families());
}

#[test]
fn an_unreadable_image_is_reported_and_skipped() {
    let place = Place::new();
    let broken = place.folder.path().join("broken.jpg");
    std::fs::write(&broken, "no image").unwrap();
    let images = [
        place.picture("a.png", 1),
        broken,
        place.folder.path().join("gone.png"),
        place.picture("b.png", 2),
    ];
    for _ in 0..2 {
        let (embedded, reported) = place.embed_images(&images, Some(place.cache()), 2);
        assert_eq!((embedded.kept, embedded.stats.unreadable), (vec![0, 3], 2));
        assert_eq!(embedded.interventions.originals().len(), 2);
        assert!(
            reported.iter().any(|t| t
                .starts_with("broken.jpg: not a readable JPEG, PNG, WebP, BMP or TIFF picture")),
            "{reported:?}"
        );
        assert!(
            reported
                .iter()
                .any(|t| t.starts_with("gone.png: No such file")),
            "{reported:?}"
        );
    }
}

#[test]
fn a_non_finite_embedding_is_an_error_with_the_images_name_and_earlier_ones_are_cached() {
    let tower =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder/vision-fp32.toml");
    let text = std::fs::read_to_string(&tower).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Anything but black overflows.
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("mean", _)) => "mean = [0.0, 0.0, 0.0]".to_owned(),
        Some(("std", _)) => "std = [1e-38, 1e-38, 1e-38]".to_owned(),
        Some(("file", file)) => {
            let path = tower.with_file_name(file.trim_matches('"'));
            format!("file = \"{}\"", path.display())
        }
        _ => line.to_owned(),
    });
    let manifest = folder.path().join("overflow.toml");
    std::fs::write(&manifest, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let place = Place::with(&manifest);
    let black = place.folder.path().join("black.png");
    RgbImage::new(32, 32).save(&black).unwrap();
    let grey_only = InterventionPlan {
        families: vec![Family::GreyScale],
        draws: 1,
        seed: 1,
    };
    let embed = |images: &[PathBuf]| {
        CachedEncoder::new(&place.encoder, Some(place.cache()), 1).embed_images(
            images,
            &grey_only,
            &mut |_| {},
        )
    };
    let error = embed(&[black.clone(), place.picture("bright.png", 200)])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("bright.png: its embedding holds a value that is not a finite number"),
        "{error}"
    );
    assert_eq!(embed(&[black]).unwrap().stats.cached, 2);
}
