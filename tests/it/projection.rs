//! Projected embeddings and class probabilities against NumPy's, which `tests/golden/projection.py` writes.

use super::support::{fixture, tiny_model};
use constancy::recognizer::{FrameEncoder, IDENTITY};
use constancy_core::classify::{BankOrigin, ClassBank, Classifier};
use constancy_engine::EngineOptions;
use serde_json::Value;

fn rows(value: &Value) -> Vec<Vec<f32>> {
    let row = |r: &Value| {
        r.as_array()
            .expect("row")
            .iter()
            .map(|v| v.as_f64().expect("number") as f32)
            .collect()
    };
    value.as_array().expect("rows").iter().map(row).collect()
}

fn assert_near(ours: &[f32], golden: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), golden.len(), "{what}");
    for (a, b) in ours.iter().zip(golden) {
        assert!((a - b).abs() <= tolerance, "{what}: {a} for {b}");
    }
}

fn bank(rows: Vec<Vec<f32>>) -> ClassBank {
    ClassBank {
        labels: (0..rows.len()).map(|i| format!("class {i}")).collect(),
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: String::new(),
        rows,
        support: None,
        probe: None,
        whitening: None,
        confidence: None,
    }
}

#[test]
fn projected_embeddings_and_probabilities_match_numpy() {
    let golden: Value =
        serde_json::from_slice(&std::fs::read(fixture("projection/golden.json")).expect("golden"))
            .expect("golden");
    let frame_encoder =
        FrameEncoder::load(&tiny_model(), &EngineOptions::default()).expect("model");
    let scale = golden["logit_scale"].as_f64().expect("scale") as f32;
    for (name, expected) in golden["files"].as_object().expect("files") {
        let loaded = frame_encoder
            .load_projection(&fixture("projection").join(name))
            .expect("projection");
        for (z, projected) in rows(&golden["z"])
            .iter()
            .zip(rows(&expected["z_projected"]))
        {
            assert_near(&loaded.projection.apply(z), &projected, 1e-5, name);
        }
        let bank = bank(rows(&golden["t"]));
        let classifier = Classifier::new(bank, Some(loaded.projection), &loaded.digest, scale);
        for (z, probabilities) in rows(&golden["z"])
            .iter()
            .zip(rows(&expected["probabilities"]))
        {
            assert_near(&classifier.probabilities(z).0, &probabilities, 1e-4, name);
        }
    }
}

#[test]
fn without_a_projection_probabilities_come_from_cosines() {
    let classifier = Classifier::new(
        bank(vec![vec![2.0, 0.0], vec![0.0, 0.5]]),
        None,
        IDENTITY,
        10.0,
    );
    let (probabilities, nearest) = classifier.probabilities(&[3.0, 3.0 / 3f32.sqrt()]);
    let (a, b) = (10.0 * 3f32.sqrt() / 2.0, 5.0f32);
    assert_near(
        &probabilities,
        &[1.0 / (1.0 + (b - a).exp()), 1.0 / (1.0 + (a - b).exp())],
        1e-5,
        "softmax",
    );
    assert!((nearest - 3f32.sqrt() / 2.0).abs() < 1e-6);
}
