//! A linear world whose causes are known: z = A·[invariant causes; variant causes] + a large
//! constant.
//!
//! Embeddings have unit length, which no linear world gives. The large constant makes all lengths
//! nearly equal, so that scaling to unit length is nearly one common factor. A CLIP tower is
//! similar: its embeddings lie close to their mean.

use constancy_core::icm::{
    ChangedImages, Embeddings, FitWarning, Fitter, Interventions, Lambda, Map, MapKind, MapSpec,
};
use constancy_core::numeric::Rng;
use nalgebra::{DMatrix, DVector};

pub(super) const INVARIANT: usize = 31;
pub(super) const VARIANT: usize = 8;
pub(super) const CAUSES: usize = INVARIANT + VARIANT;
/// The length of the constant, in standard deviations of a cause.
const COMMON_LENGTH: f64 = 400.0;

/// Normally distributed values of standard deviation `deviation`.
pub(super) fn gaussian(count: usize, deviation: f64, seed: u64) -> DVector<f64> {
    let mut rng = Rng::new(seed);
    DVector::from_fn(count, |_, _| {
        let (u, v) = (1.0 - f64::from(rng.unit()), f64::from(rng.unit()));
        deviation * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    })
}

fn orthonormal(size: usize, seed: u64) -> DMatrix<f64> {
    DMatrix::from_column_slice(size, size, gaussian(size * size, 1.0, seed).as_slice())
        .qr()
        .q()
}

pub(super) struct World {
    /// `[D, causes]`, with random directions and singular values from 0.5 to 2.
    mixing: DMatrix<f64>,
    /// `[D]`.
    common: DVector<f64>,
    /// The standard deviation of variant causes; that of invariant causes is 1.
    variation: f64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let values = DVector::from_fn(CAUSES, |_, _| f64::from(rng.between(0.5, 2.0)));
        let mixing = orthonormal(CAUSES, seed + 1)
            * DMatrix::from_diagonal(&values)
            * orthonormal(CAUSES, seed + 2);
        let place = orthonormal(CAUSES + 1, seed + 3);
        Self {
            mixing: place.columns(1, CAUSES) * mixing,
            common: place.column(0) * COMMON_LENGTH,
            variation: 1.0,
        }
    }

    /// The same world with another standard deviation of the variant causes.
    pub(super) fn varying(self, variation: f64) -> Self {
        Self { variation, ..self }
    }

    pub(super) fn width(&self) -> usize {
        self.common.len()
    }

    /// The embedding of causes, with noise drawn from `seed`.
    pub(super) fn embed(&self, causes: &DVector<f64>, noise: f64, seed: u64) -> Vec<f32> {
        let z = &self.mixing * causes
            + &self.common
            + gaussian(self.width(), noise, seed.wrapping_mul(31) + 17);
        z.iter().map(|&v| v as f32).collect()
    }

    fn causes(&self, count: usize, seed: u64) -> Vec<DVector<f64>> {
        let of = |i: usize| {
            let mut causes = gaussian(CAUSES, 1.0, (seed << 32) + i as u64);
            causes
                .rows_mut(INVARIANT, VARIANT)
                .scale_mut(self.variation);
            causes
        };
        (0..count).map(of).collect()
    }

    fn embeddings(&self, causes: &[DVector<f64>], noise: f64, seed: u64) -> Embeddings {
        let row = |(i, c): (usize, &DVector<f64>)| self.embed(c, noise, seed + i as u64);
        let rows: Vec<Vec<f32>> = causes.iter().enumerate().map(row).collect();
        Embeddings::new(self.width(), &rows, |i| i.to_string()).expect("embeddings")
    }

    /// Images, their versions with the variant causes drawn anew, and the images' causes.
    pub(super) fn pairs(
        &self,
        count: usize,
        noise: f64,
        seed: u64,
    ) -> (Interventions, Vec<DVector<f64>>) {
        let causes = self.causes(count, seed);
        let changed = self.changed(&causes, noise, seed);
        let originals = self.embeddings(&causes, noise, (seed << 32) + 1_000_000);
        (
            Interventions::new(originals, vec![changed]).expect("pairs"),
            causes,
        )
    }

    /// Another family of the images that [`Self::pairs`] made with `seed − 1`.
    pub(super) fn pairs_of(&self, images: &Interventions, noise: f64, seed: u64) -> ChangedImages {
        self.changed(
            &self.causes(images.originals().len(), seed - 1),
            noise,
            seed + 500,
        )
    }

    fn changed(&self, causes: &[DVector<f64>], noise: f64, seed: u64) -> ChangedImages {
        let redrawn = |(i, causes): (usize, &DVector<f64>)| {
            let mut causes = causes.clone();
            let drawn = gaussian(VARIANT, self.variation, (seed << 32) + 2_000_000 + i as u64);
            causes.rows_mut(INVARIANT, VARIANT).copy_from(&drawn);
            causes
        };
        let after: Vec<_> = causes.iter().enumerate().map(redrawn).collect();
        let changed = self.embeddings(&after, noise, (seed << 32) + 3_000_000);
        ChangedImages {
            name: "light".into(),
            of: (0..causes.len()).collect(),
            changed,
        }
    }

    /// The largest principal angle, in degrees, between the subspace that a map keeps and the one
    /// that no variant cause reaches.
    fn angle(&self, map: &Map) -> f64 {
        let variant = self
            .mixing
            .columns(INVARIANT, VARIANT)
            .into_owned()
            .qr()
            .q();
        let sine = (variant.transpose() * map.columns())
            .singular_values()
            .max();
        sine.min(1.0).asin().to_degrees()
    }
}

fn fitted(world: &World, count: usize, noise: f64, seed: u64, spec: &MapSpec) -> Map {
    let fitter = Fitter::new(&world.pairs(count, noise, seed).0.moments("")).expect("pairs");
    fitter.fit(spec).expect("map")
}

/// Fails if the order of eigenvectors is reversed: the angle is then 90 degrees.
#[test]
fn the_invariant_subspace_is_found() {
    let penalised = MapKind::Hard {
        lambda: Lambda::Times(10.0),
        removed: VARIANT,
    };
    for spec in [
        MapSpec::without(VARIANT),
        MapSpec {
            kind: penalised,
            centred: false,
        },
    ] {
        let world = World::new(11);
        let map = fitted(&world, 10_000, 0.1, 12, &spec);
        assert_eq!(map.columns().shape(), (CAUSES + 1, CAUSES + 1 - VARIANT));
        let angle = world.angle(&map);
        assert!(angle < 5.0, "{angle} degrees with {spec}");
    }
}

#[test]
fn the_angle_falls_with_the_square_root_of_the_number_of_pairs() {
    let mean = |count: usize| {
        let of = |seed| {
            fitted(
                &World::new(20 + seed),
                count,
                0.1,
                30 + seed,
                &MapSpec::without(VARIANT),
            )
        };
        (0..4)
            .map(|seed| World::new(20 + seed).angle(&of(seed)))
            .sum::<f64>()
            / 4.0
    };
    let (few, many) = (mean(500), mean(8_000));
    assert!(
        (2.8..5.6).contains(&(few / many)),
        "{few} degrees, {many} with 16 times as many; expected a quarter"
    );
}

/// R² of predicting each column of `y` `[n, m]` from `x` `[n, k]`, learnt on the first half and
/// evaluated on the second.
fn decoded(x: &DMatrix<f64>, y: &DMatrix<f64>) -> Vec<f64> {
    let centred = |m: &DMatrix<f64>| {
        let mean = m.row_mean();
        DMatrix::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] - mean[j])
    };
    let (half, x, y) = (x.nrows() / 2, centred(x), centred(y));
    let (learn, judge) = (x.rows(0, half), x.rows(half, half));
    let solved = learn
        .clone_owned()
        .svd(true, true)
        .solve(&y.rows(0, half).clone_owned(), 1e-12)
        .expect("svd");
    let (truth, rest) = (y.rows(half, half), judge * solved - y.rows(half, half));
    (0..y.ncols())
        .map(|j| 1.0 - rest.column(j).norm_squared() / truth.column(j).norm_squared())
        .collect()
}

#[test]
fn invariant_causes_can_be_decoded_from_the_projection_and_variant_ones_cannot() {
    let world = World::new(41);
    let map = fitted(&world, 10_000, 0.03, 42, &MapSpec::without(VARIANT));
    let (images, causes) = world.pairs(6_000, 0.03, 43);
    let projected = map.apply(images.originals()).transpose();
    let causes = DMatrix::from_fn(causes.len(), CAUSES, |i, j| causes[i][j]);
    let worst = decoded(&projected, &causes.columns(0, INVARIANT).into_owned())
        .into_iter()
        .fold(1.0, f64::min);
    assert!(worst >= 0.99, "R² {worst} of an invariant cause");
    let most = decoded(&projected, &causes.columns(INVARIANT, VARIANT).into_owned())
        .into_iter()
        .fold(0.0, f64::max);
    assert!(most <= 0.02, "R² {most} of a variant cause");
    let raw = images.originals().columns().transpose();
    let before = decoded(&raw, &causes.columns(INVARIANT, VARIANT).into_owned())
        .into_iter()
        .fold(1.0, f64::min);
    assert!(
        before >= 0.98,
        "R² {before} of a variant cause before the projection"
    );
}

#[test]
fn fewer_images_than_dimensions_cause_a_warning_and_a_correct_fit() {
    let world = World::new(51);
    let fitter = Fitter::new(&world.pairs(30, 0.01, 52).0.moments("")).unwrap();
    let warning = fitter.warning().unwrap();
    assert_eq!(
        warning,
        FitWarning::FewerPairsThanDimensions {
            pairs: 30,
            width: 40
        }
    );
    assert!(
        warning
            .to_string()
            .contains("more images make the fit more reliable"),
        "{warning}"
    );
    let angle = world.angle(&fitter.fit(&MapSpec::without(VARIANT)).unwrap());
    assert!(angle < 5.0, "{angle} degrees");
    let error = fitter.fit(&MapSpec::without(31)).unwrap_err().to_string();
    assert!(error.contains("moved the embeddings in 30 only"), "{error}");
    let enough = Fitter::new(&world.pairs(41, 0.01, 52).0.moments("")).unwrap();
    assert_eq!(enough.warning(), None);
}
