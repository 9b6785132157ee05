//! With the small tower of the fixtures, on pictures made here.

use super::work::ImageTower;
use super::*;
use constancy_engine::{EngineOptions, Manifest};
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

    /// A picture that no other shade gives.
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
        let mut told = Vec::new();
        let result = CachedEncoder::new(&self.encoder, cache, threads).embed_images(
            images,
            &wanted(),
            &mut |event| {
                if let Event::Unreadable { path, reason } = event {
                    told.push(format!("{}: {reason}", path.file_name().unwrap().display()));
                }
            },
        );
        (result.unwrap(), told)
    }
}

/// Eleven views of an image: one batch, and some that are left over.
fn wanted() -> Wanted {
    Wanted {
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
fn views_are_the_images_under_their_interventions_family_by_family() {
    let place = Place::new();
    let images = [place.picture("a.png", 10), place.picture("b.png", 200)];
    let (gathered, _) = place.embed_images(&images, None, 1);
    let mut preprocessor =
        constancy_core::preprocess::Preprocessor::new(place.encoder.manifest().transform());
    for (i, path) in images.iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        let content = work::contents(std::slice::from_ref(path), 1)
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
        assert_eq!(gathered.interventions.originals().pick(&[i]), expect(&crop));
        for (k, intervention) in wanted().interventions(&content).iter().enumerate() {
            let family = &gathered.interventions.families()[k / 2];
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
fn what_was_computed_once_is_known() {
    let place = Place::new();
    let mut images = vec![place.picture("a.png", 1), place.picture("b.png", 2)];
    let (first, _) = place.embed_images(&images, Some(place.cache()), 2);
    assert_eq!((first.tally.known, first.tally.computed), (0, 22));
    let (second, _) = place.embed_images(&images, Some(place.cache()), 2);
    assert_eq!((second.tally.known, second.tally.computed), (22, 0));
    assert_eq!(
        first.interventions.originals(),
        second.interventions.originals()
    );
    assert_eq!(
        first.interventions.families(),
        second.interventions.families()
    );
    // A file that moved is known by what it holds; one that is new is not.
    let moved = place.folder.path().join("z.png");
    std::fs::rename(&images[0], &moved).unwrap();
    images[0] = moved;
    images.insert(0, place.picture("new.png", 3));
    let (third, _) = place.embed_images(&images, Some(place.cache()), 2);
    assert_eq!((third.tally.known, third.tally.computed), (22, 11));
    assert_eq!(
        third.interventions.originals().pick(&[1, 2]),
        *first.interventions.originals()
    );
}

#[test]
fn where_the_cache_cannot_be_written_the_work_goes_on_without() {
    let place = Place::new();
    let images: Vec<PathBuf> = (0..9)
        .map(|i| place.picture(&format!("{i}.png"), 20 * i))
        .collect();
    place.embed_images(&images[..1], Some(place.cache()), 1);
    let (gathered, _) = place.embed_images(&images, Some(place.cache().unwritable()), 2);
    assert_eq!((gathered.tally.known, gathered.tally.computed), (11, 88));
    assert_eq!(place.cache().len(), 11);
    assert_eq!(
        gathered.interventions.originals(),
        place
            .embed_images(&images, None, 2)
            .0
            .interventions
            .originals()
    );
}

/// A tower on a GPU that is lost after some runs; the CPU stands in from then on.
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
    fn stood_in(&self) -> usize {
        self.stood_in.load(Ordering::SeqCst)
    }
}

#[test]
fn what_the_cpu_made_in_the_place_of_a_gpu_is_not_kept_as_the_gpus() {
    let place = Place::new();
    // Four runs an image: one batch, and three views that are left over. The second image's are cut short.
    let (runs_left, stood_in) = (AtomicUsize::new(5), AtomicUsize::new(0));
    let tower = LosesItsGpu {
        encoder: &place.encoder,
        runs_left,
        stood_in,
    };
    let images = [place.picture("a.png", 10), place.picture("b.png", 200)];
    let mut encoder = CachedEncoder::over(&tower, Some(place.cache()), 1);
    let gathered = encoder
        .embed_images(&images, &wanted(), &mut |_| {})
        .unwrap();
    drop(encoder);
    assert_eq!(
        (
            gathered.tally.computed,
            gathered.interventions.originals().len()
        ),
        (22, 2)
    );
    assert_eq!(place.cache().len(), 11, "the first image's");
}

#[test]
fn threads_change_nothing() {
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
fn an_image_that_cannot_be_read_is_told_and_passed_over() {
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
        let (gathered, told) = place.embed_images(&images, Some(place.cache()), 2);
        assert_eq!((gathered.kept, gathered.tally.unreadable), (vec![0, 3], 2));
        assert_eq!(gathered.interventions.originals().len(), 2);
        assert!(
            told.iter()
                .any(|t| t.starts_with("broken.jpg: not a readable JPEG, PNG or WebP")),
            "{told:?}"
        );
        assert!(
            told.iter().any(|t| t.starts_with("gone.png: No such file")),
            "{told:?}"
        );
    }
}

#[test]
fn an_embedding_that_is_no_number_is_refused_by_the_images_name_and_what_was_done_is_kept() {
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
    let grey_only = Wanted {
        families: vec![Family::GreyScale],
        draws: 1,
        seed: 1,
    };
    let gather = |images: &[PathBuf]| {
        CachedEncoder::new(&place.encoder, Some(place.cache()), 1).embed_images(
            images,
            &grey_only,
            &mut |_| {},
        )
    };
    let error = gather(&[black.clone(), place.picture("bright.png", 200)])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("bright.png: its embedding holds a value that is not a finite number"),
        "{error}"
    );
    assert_eq!(gather(&[black]).unwrap().tally.known, 2);
}
