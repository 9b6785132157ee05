//! Probes, and banks that belong to another projection.

use super::*;
use crate::classify::BankOrigin;

fn bank() -> ClassBank {
    let probe = Probe {
        projection: "identity".into(),
        c: 0.316,
        weights: vec![vec![-1.0, 0.0], vec![2.0, 0.0]],
        biases: vec![0.5, -0.5],
    };
    ClassBank {
        labels: vec!["ok".into(), "defect".into()],
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: "aa".into(),
        rows: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
        support: Some(Support {
            projection: "identity".into(),
            examples: 50,
            median_cosine: 0.9,
            tail_cosine: 0.8,
        }),
        probe: Some(probe),
        whitening: None,
        confidence: None,
    }
}

#[test]
fn a_probe_decides_and_the_class_means_detect_unknown_images() {
    let bank = ClassBank::parse(&bank().to_bytes().unwrap()).unwrap();
    let classifier = Classifier::new(bank, None, "identity", 100.0);
    assert!(classifier.has_probe() && classifier.has_support());
    let (probabilities, nearest) = classifier.probabilities(&[3.0, 0.0]);
    assert!(
        (probabilities[1] - 1.0 / (1.0 + (-2.0f32).exp())).abs() < 1e-6,
        "{probabilities:?}"
    );
    assert!((nearest - 1.0).abs() < 1e-6);
    let near = classifier.classify(&[3.0, 0.0]);
    assert_eq!(
        (near.top[0].class.as_str(), near.known, near.in_support),
        ("defect", true, Some(true))
    );
    let far = classifier.classify(&[3.0, -3.0]);
    assert_eq!(
        (far.top[0].class.as_str(), far.known, far.in_support),
        ("defect", false, Some(false))
    );
}

#[test]
fn a_probe_of_another_projection_is_refused_by_name_and_never_used() {
    let bank = bank();
    let error = bank
        .check_made_under("0123456789ab", 2)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("identity") && error.contains("0123456789ab"),
        "{error}"
    );
    assert!(
        error.contains("make the bank again with `constancy classes`"),
        "{error}"
    );
    assert!(
        bank.check_made_under("identity", 3)
            .unwrap_err()
            .to_string()
            .contains("width 2, the projection gives 3")
    );
    bank.check_made_under("identity", 2).unwrap();
    let classifier = Classifier::new(bank, None, "0123456789ab", 100.0);
    assert!(!classifier.has_probe() && !classifier.has_support());
    assert_eq!(classifier.classify(&[3.0, 0.0]).top[0].class, "ok");
}
