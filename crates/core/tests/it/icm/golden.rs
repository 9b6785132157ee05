//! Moments, maps and probes against NumPy and scikit-learn, by numbers from `tests/golden/icm.py`.

use crate::fixture;
use constancy_core::classify::Probe;
use constancy_core::icm::{DEFAULT_C, Fitter, Lambda, Logistic, MapKind, MapSpec, Moments};
use constancy_core::numeric::unit;
use nalgebra::DMatrix;
use safetensors::SafeTensors;

const FAMILIES: [&str; 3] = ["blur", "dark", "tint"];

/// The shape and values of a tensor, in row-major order.
pub(super) fn tensor(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f64>) {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let view = file
        .tensor(name)
        .unwrap_or_else(|_| panic!("no tensor {name}"));
    let values = match view.dtype() {
        safetensors::Dtype::F32 => view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|w| f64::from(f32::from_le_bytes(*w)))
            .collect(),
        safetensors::Dtype::I64 => view
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|w| i64::from_le_bytes(*w) as f64)
            .collect(),
        _ => view
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|w| f64::from_le_bytes(*w))
            .collect(),
    };
    (view.shape().to_vec(), values)
}

pub(super) fn matrix(bytes: &[u8], name: &str) -> DMatrix<f64> {
    let (shape, values) = tensor(bytes, name);
    DMatrix::from_row_slice(shape[0], *shape.get(1).unwrap_or(&1), &values)
}

pub(super) fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture("icm").join(name)).expect("fixture")
}

pub(super) fn rows(bytes: &[u8], name: &str) -> Vec<Vec<f32>> {
    matrix(bytes, name)
        .row_iter()
        .map(|row| row.iter().map(|&v| v as f32).collect())
        .collect()
}

fn moments(given: &[u8]) -> Moments {
    let images = rows(given, "images");
    let mut moments = Moments::new("", images[0].len());
    for image in &images {
        moments.add_image("image", image).expect("image");
    }
    for family in FAMILIES {
        for (image, changed) in images.iter().zip(rows(given, &format!("changed.{family}"))) {
            moments
                .add_pair(family, "image", image, &changed)
                .expect("pair");
        }
    }
    moments
}

fn assert_near(ours: &DMatrix<f64>, golden: &DMatrix<f64>, tolerance: f64, what: &str) {
    assert_eq!(ours.shape(), golden.shape(), "{what}");
    let off = (ours - golden).amax();
    assert!(off <= tolerance, "{what} is off by {off}");
}

#[test]
fn moments_match_numpy() {
    let (given, golden) = (read("embeddings.safetensors"), read("golden.safetensors"));
    let moments = moments(&given);
    assert_near(
        &moments.second(),
        &matrix(&golden, "second"),
        1e-12,
        "second",
    );
    let mean = DMatrix::from_column_slice(moments.width(), 1, moments.mean().as_slice());
    assert_near(&mean, &matrix(&golden, "mean"), 1e-12, "mean");
    for family in FAMILIES {
        let delta = moments.delta(family).unwrap();
        assert_near(
            &delta,
            &matrix(&golden, &format!("delta.{family}")),
            1e-12,
            family,
        );
    }
}

#[test]
fn maps_match_numpy() {
    let (given, golden) = (read("embeddings.safetensors"), read("golden.safetensors"));
    let fitter = Fitter::new(&moments(&given)).unwrap();
    let penalty = |times, removed, centred| MapSpec {
        kind: MapKind::Hard {
            lambda: Lambda::Times(times),
            removed,
        },
        centred,
    };
    for (name, spec) in [
        ("penalty-1", penalty(1.0, 4, false)),
        ("penalty-10", penalty(10.0, 5, false)),
        ("penalty-10-centred", penalty(10.0, 5, true)),
        ("without-5", MapSpec::without(5)),
        ("soft-1", MapSpec::soft(1.0)),
        ("soft-10", MapSpec::soft(10.0)),
    ] {
        let map = fitter.fit(&spec).unwrap();
        let projector = match spec.kind {
            MapKind::Hard { .. } => map.columns() * map.columns().transpose(),
            _ => map.columns().clone(),
        };
        assert_near(
            &projector,
            &matrix(&golden, &format!("map.{name}")),
            1e-6,
            name,
        );
        let values = DMatrix::from_column_slice(24, 1, map.eigenvalues().as_slice());
        assert_near(
            &values,
            &matrix(&golden, &format!("eigenvalues.{name}")),
            1e-9,
            name,
        );
    }
}

#[test]
fn probes_match_scikit_learn() {
    let (given, golden) = (read("embeddings.safetensors"), read("golden.safetensors"));
    let soft = Fitter::new(&moments(&given))
        .unwrap()
        .fit(&MapSpec::soft(1.0))
        .unwrap()
        .projection();
    let images = rows(&given, "images");
    let labels: Vec<usize> = tensor(&given, "labels")
        .1
        .iter()
        .map(|&v| v as usize)
        .collect();
    for (name, classes, projection) in
        [("raw", 3, None), ("soft", 3, Some(&soft)), ("two", 2, None)]
    {
        let examples: Vec<Vec<Vec<f32>>> = (0..classes)
            .map(|class| {
                images
                    .iter()
                    .zip(&labels)
                    .filter(|(_, l)| *l % classes == class)
                    .map(|(i, _)| i.clone())
                    .collect()
            })
            .collect();
        let names: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
        let probe = Probe::learn(&names, &examples, projection, "", DEFAULT_C).unwrap();
        let (weights, biases) = scikit_learn_parameters(&probe, classes);
        let golden_weights = matrix(&golden, &format!("probe.{name}.weights"));
        assert_near(&weights, &golden_weights, 1e-3, name);
        let golden_biases = matrix(&golden, &format!("probe.{name}.biases"));
        assert_near(&biases, &golden_biases, 1e-3, name);
        let expected = matrix(&golden, &format!("probe.{name}.probabilities"));
        for (image, expected) in images.iter().zip(expected.row_iter()) {
            let z = projection.map_or_else(|| unit(image), |p| p.apply(image));
            let expected: Vec<f64> = expected.iter().copied().collect();
            assert_probabilities(&probe.logits(&z), &expected, name);
        }
    }
}

/// Weights `[classes, k]` and biases `[classes, 1]` as scikit-learn keeps them: for two classes,
/// the difference of the two.
fn scikit_learn_parameters(probe: &Probe, classes: usize) -> (DMatrix<f64>, DMatrix<f64>) {
    let flat: Vec<f64> = probe
        .weights
        .iter()
        .flatten()
        .map(|&v| f64::from(v))
        .collect();
    let weights = DMatrix::from_row_slice(classes, probe.rank(), &flat);
    let biases = DMatrix::from_iterator(classes, 1, probe.biases.iter().map(|&v| f64::from(v)));
    if classes != 2 {
        return (weights, biases);
    }
    let difference = weights.row(1) - weights.row(0);
    (
        DMatrix::from_row_iterator(1, probe.rank(), difference.iter().copied()),
        DMatrix::from_element(1, 1, biases[1] - biases[0]),
    )
}

/// Asserts that the softmax of `logits` is `expected`, and that both name the same class.
fn assert_probabilities(logits: &[f32], expected: &[f64], name: &str) {
    let total: f32 = logits.iter().map(|l| l.exp()).sum();
    for (logit, expected) in logits.iter().zip(expected) {
        assert!(
            (f64::from(logit.exp() / total) - expected).abs() < 1e-3,
            "{name}"
        );
    }
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let theirs = (0..expected.len()).max_by(|&a, &b| expected[a].total_cmp(&expected[b]));
    assert_eq!(best, theirs, "{name}");
}

/// Fitted in f64, the coefficients agree to six digits.
#[test]
fn f64_probes_match_to_six_digits() {
    let (given, golden) = (read("embeddings.safetensors"), read("golden.safetensors"));
    let images = rows(&given, "images");
    let labels: Vec<usize> = tensor(&given, "labels")
        .1
        .iter()
        .map(|&v| v as usize)
        .collect();
    let columns: Vec<f64> = images
        .iter()
        .flat_map(|row| {
            let norm = row
                .iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt();
            row.iter()
                .map(move |&v| f64::from(v) / norm)
                .collect::<Vec<_>>()
        })
        .collect();
    let x = DMatrix::from_column_slice(24, images.len(), &columns);
    let probe = Logistic::fit(&x, &labels, 3, DEFAULT_C).unwrap();
    assert_near(
        &probe.weights,
        &matrix(&golden, "probe.raw.weights"),
        1e-6,
        "weights",
    );
}
