//! Confidence in a bank's file: read again, refused when damaged, and harmless whatever it holds.

use super::sphere::{Sphere, calibrated, classifier};
use constancy_core::classify::calibrate::{Calibration, CalibrationError, CalibrationImage, Truth};
use constancy_core::classify::{
    Basis, ChangedLight, ClassBank, Classifier, Confidence, Feature, Outcome, Probe, Sum, Target,
    Term, class_means,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::sync::LazyLock;

fn bank() -> ClassBank {
    let mut sphere = Sphere::new(4, 12, 8.0, 31);
    let images = sphere.images(80, 2);
    let bank = sphere.bank();
    ClassBank {
        confidence: Some(calibrated(&bank, &images)),
        ..bank
    }
}

static BANK: LazyLock<ClassBank> = LazyLock::new(bank);

fn confidence(bank: &mut ClassBank) -> &mut Confidence {
    bank.confidence.as_mut().expect("confidence")
}

/// Whatever the calibration learnt, two sets of weights.
fn changed_light(confidence: &mut Confidence) -> &mut ChangedLight {
    let model = &mut confidence.model;
    let sum = |terms: Vec<Term>| Sum {
        intercept: 0.0,
        terms,
    };
    let drift = Term {
        feature: Feature::Drift,
        weight: 1.0,
        ..model.terms[0]
    };
    model.changed.insert(ChangedLight {
        odds: sum(vec![drift]),
        answer: sum(model.terms.clone()),
    })
}

#[test]
fn both_lights_are_read_again() {
    let mut bank = BANK.clone();
    changed_light(confidence(&mut bank));
    let bytes = bank.to_bytes().expect("bytes");
    assert_eq!(ClassBank::parse(&bytes).expect("read"), bank);
}

#[test]
fn a_bank_carries_its_confidence() {
    let bytes = BANK.to_bytes().expect("bytes");
    assert_eq!(ClassBank::parse(&bytes).expect("read"), *BANK);
    let read = ClassBank::parse(&bytes)
        .expect("read")
        .confidence
        .expect("confidence");
    assert!(!read.outcomes.is_empty() && !read.unseen.is_empty());
    let Basis {
        images,
        answers,
        families,
        accuracy_clean,
        ..
    } = &read.basis;
    assert_eq!((*images, *answers), (80, 240));
    assert_eq!(families.join(" "), "dark blur");
    assert!(accuracy_clean.is_some_and(|a| (0.5..1.0).contains(&a)));
}

/// Programs before confidence read version 1, and neither metadata nor tensors that they do not know.
#[test]
fn an_old_program_reads_the_bank_without() {
    let (with, without) = (
        BANK.to_bytes().expect("bytes"),
        ClassBank {
            confidence: None,
            ..BANK.clone()
        },
    );
    let metadata = |bytes: &[u8]| {
        let (_, header) = SafeTensors::read_metadata(bytes).expect("header");
        header.metadata().clone().expect("metadata")
    };
    let (mut new, old) = (
        metadata(&with),
        metadata(&without.to_bytes().expect("bytes")),
    );
    assert!(new.remove("confidence").is_some() && new.remove("condition").is_some());
    assert_eq!(new, old);
    let file = SafeTensors::deserialize(&with).expect("tensors");
    let names = file
        .names()
        .into_iter()
        .filter(|n| !n.starts_with("confidence_") && !n.starts_with("condition_"));
    assert_eq!(names.collect::<Vec<_>>(), ["classes"]);
}

#[test]
fn a_bank_is_bound_to_projection_and_encoder() {
    let (identity, encoder) = ("identity", "CD".repeat(32));
    BANK.check_confidence(identity, 12, &encoder)
        .expect("it fits");
    for (digest, width, encoder, named) in [
        (
            "0123456789ab",
            12,
            encoder.as_str(),
            "projection 0123456789ab".replace("projection ", ""),
        ),
        (identity, 12, &*"ef".repeat(32), "ef".repeat(32)),
        (
            identity,
            10,
            &encoder,
            "width 12, the projection gives 10".into(),
        ),
    ] {
        let error = BANK
            .check_confidence(digest, width, encoder)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains(&named) && error.contains("calibrate again"),
            "{error}"
        );
    }
    let other = Classifier::new(BANK.clone(), None, "0123456789ab", 100.0);
    assert!(!other.has_confidence() && other.classify(&[1.0; 12]).confidence.is_none());
}

#[test]
fn damaged_values_are_refused_by_name() {
    type Damage = fn(&mut Confidence);
    let damages: [(Damage, &str); 19] = [
        (|c| c.model.temperature = f32::NAN, "metadata `confidence`"),
        (|c| c.model.temperature = 0.0, "temperature of 0"),
        (|c| c.model.limit = 0.7, "limit of 0.7"),
        (
            |c| c.model.terms[0].scale = -1.0,
            "`log_odds` with a scale of -1",
        ),
        (
            |c| c.model.terms[0].weight = -1.0,
            "impossible values for `log_odds`",
        ),
        (
            |c| c.model.terms[0].low = 1e9,
            "impossible values for `log_odds`",
        ),
        (|c| c.model.terms.push(c.model.terms[0]), "`log_odds` twice"),
        (
            |c| changed_light(c).odds.intercept = f32::NAN,
            "metadata `confidence`",
        ),
        // What is far would pass for known light.
        (
            |c| changed_light(c).odds.terms[0].weight = -1.0,
            "impossible values for `drift`",
        ),
        (
            |c| changed_light(c).answer.terms[0].weight = -1.0,
            "impossible values for `log_odds`",
        ),
        (
            |c| c.geometry.mean[3] = f32::INFINITY,
            "tensor `confidence_mean`",
        ),
        (
            |c| c.geometry.within.variance = 0.0,
            "impossible variances in `within`",
        ),
        (
            |c| c.geometry.within.shares.push(0.5),
            "`confidence_within`",
        ),
        (
            |c| c.geometry.drift.axes.iter_mut().for_each(|a| a.push(0.0)),
            "`confidence_drift`",
        ),
        (|c| c.geometry.drift.weights[0] = -1.0, "measure of drift"),
        (
            |c| c.geometry.within.axes[1] = c.geometry.within.axes[0].clone(),
            "`confidence_within` that are not orthonormal",
        ),
        (
            |c| c.geometry.background.axes[0].fill(1e18),
            "`confidence_background` that are not orthonormal",
        ),
        (
            |c| c.geometry.drift.axes[0].fill(0.0),
            "`confidence_drift` that are not orthonormal",
        ),
        (|c| c.outcomes[5].answer = 4, "impossible outcome"),
    ];
    for (damage, named) in damages {
        let mut bank = BANK.clone();
        damage(confidence(&mut bank));
        let error = ClassBank::parse(&bank.to_bytes().expect("bytes"))
            .expect_err(named)
            .to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// 100 classes of width 1,280 with a probe, and as much of everything as calibration gives at most.
#[test]
fn the_largest_bank_has_at_most_two_megabytes() {
    let mut sphere = Sphere::new(100, 1280, 2000.0, 32);
    let images = sphere.images(300, 3);
    let mut bank = sphere.bank();
    bank.probe = Some(Probe {
        projection: "identity".into(),
        c: 1.0,
        weights: bank.rows.clone(),
        biases: vec![0.0; 100],
    });
    let probe = bank.probe.take();
    let mut fitted = calibrated(&bank, &images);
    assert_eq!(fitted.geometry.background.axes.len(), 32);
    let outcome = Outcome {
        confidence: 0.5,
        image: 0,
        answer: 0,
        truth: None,
        changed: true,
    };
    fitted.outcomes.resize(12_000, outcome);
    fitted.unseen.resize(4_000, outcome);
    let bank = ClassBank {
        probe,
        confidence: Some(fitted),
        ..bank
    };
    let bytes = bank.to_bytes().expect("bytes").len();
    assert!(bytes <= 2_000_000, "{bytes} bytes");
}

#[test]
fn own_images_are_left_out_where_they_are_judged() {
    // Classes without any structure: an image is near its class's mean only because it is part of it.
    let mut noise = Sphere::new(1, 120, 0.01, 33);
    let examples: Vec<Vec<Vec<f32>>> = (0..5)
        .map(|_| (0..6).map(|_| noise.draw(0)).collect())
        .collect();
    let bank = ClassBank {
        labels: (0..5).map(|c| format!("class {c}")).collect(),
        rows: class_means(&examples),
        ..Sphere::new(5, 120, 1.0, 34).bank()
    };
    let images = |own: bool| -> Vec<CalibrationImage> {
        let of = |(class, images): (usize, &Vec<Vec<f32>>)| {
            let image = |e: &Vec<f32>| CalibrationImage {
                truth: Truth::Class(class),
                own,
                embedding: e.clone(),
                changed: Vec::new(),
            };
            images.iter().map(image).collect::<Vec<_>>()
        };
        examples.iter().enumerate().flat_map(of).collect()
    };
    let accuracy = |own: bool| {
        calibrated(&bank, &images(own))
            .basis
            .accuracy_clean
            .expect("answers")
    };
    assert!(accuracy(false) > 0.9, "the means remember their images");
    assert!(accuracy(true) < 0.45, "{}: chance is 0.2", accuracy(true));
}

#[test]
fn few_classes_and_one_sided_answers_give_sane_numbers() {
    for classes in [1, 2, 3] {
        for (images, kappa) in [(1, 5.0), (6, 400.0), (40, 400.0)] {
            let mut sphere = Sphere::new(classes, 6, kappa, 40);
            let images = sphere.images(images, 1);
            let bank = sphere.bank();
            let fitted = calibrated(&bank, &images);
            assert_eq!(fitted.open_set(0.5, false).is_some(), classes > 2);
            let n = images.len() as f32;
            let decision = classifier(&bank, fitted).classify(&sphere.draw(0));
            let confidence = decision.confidence.expect("confidence");
            let most = 1.0 - 0.5 / (n + 1.0) + 1e-6;
            assert!(
                confidence > 0.0 && confidence <= most,
                "{classes} classes, {n} images: {confidence}"
            );
        }
    }
    // All wrong: none is of a class that the bank has.
    let mut sphere = Sphere::new(3, 6, 50.0, 41);
    let mut images = sphere.images(40, 1);
    for image in &mut images {
        image.truth = Truth::Other;
    }
    let fitted = calibrated(&sphere.bank(), &images);
    assert!(!fitted.resolve(&Target::Precision(0.9), 0.95, None)[0].reached);
    let decision = classifier(&sphere.bank(), fitted).classify(&sphere.draw(0));
    assert!(
        decision.confidence.is_some_and(|c| (0.0..0.1).contains(&c)),
        "{decision:?}"
    );
}

#[test]
fn unlabelled_images_say_how_often_interventions_change_the_answer() {
    let mut sphere = Sphere::new(4, 12, 8.0, 42);
    let mut images = sphere.images(60, 2);
    for image in &mut images {
        image.truth = Truth::Unlabelled;
    }
    let basis = calibrated(&sphere.bank(), &images).basis;
    assert_eq!(
        (basis.images, basis.answers, basis.accuracy_clean),
        (60, 120, None)
    );
    assert!(
        basis
            .accuracy_changed
            .is_some_and(|a| (0.3..0.95).contains(&a)),
        "{basis:?}"
    );
}

#[test]
fn images_that_do_not_fit_are_named() {
    let mut sphere = Sphere::new(3, 6, 8.0, 43);
    let (bank, good) = (sphere.bank(), sphere.images(5, 1));
    let error = |change: fn(&mut CalibrationImage)| {
        let mut images = good.clone();
        change(&mut images[3]);
        let families = ["dark".to_owned()];
        let encoder_sha256 = &"cd".repeat(32);
        let (projection, projection_digest) = (None, "identity");
        let calibration = Calibration {
            bank: &bank,
            projection,
            projection_digest,
            logit_scale: 100.0,
            encoder_sha256,
            images: &images,
            families: &families,
        };
        calibration.run(None).expect_err("refused")
    };
    assert_eq!(
        error(|i| i.embedding[0] = f32::NAN),
        CalibrationError::NotFinite { image: 3 }
    );
    assert_eq!(
        error(|i| i.changed[0].1.push(0.0)),
        CalibrationError::Width {
            image: 3,
            found: 7,
            width: 6
        }
    );
    let class = CalibrationError::Class {
        image: 3,
        class: 9,
        classes: 3,
    };
    assert_eq!(error(|i| i.truth = Truth::Class(9)), class);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happened to a file: it is refused, or its numbers are in their bounds.
    #[test]
    fn no_bytes_make_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        embedding in prop::collection::vec(-1e30f32..1e30, 12),
    ) {
        let mut bytes = BANK.to_bytes().expect("bytes");
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(bank) = ClassBank::parse(&bytes) {
            prop_assert!(bank.to_bytes().is_ok());
            let classifier = Classifier::new(bank, None, "identity", 100.0);
            if let Some(confidence) = classifier.classify(&embedding).confidence {
                prop_assert!(confidence > 0.0 && confidence < 1.0, "{confidence}");
            }
        }
    }

    #[test]
    fn confidence_lies_between_zero_and_one(embedding in prop::collection::vec(
        prop_oneof![-1.0f32..1.0, Just(0.0), Just(f32::MAX), Just(f32::MIN_POSITIVE)], 12)) {
        let classifier = Classifier::new(BANK.clone(), None, "identity", 100.0);
        let decision = classifier.classify(&embedding);
        prop_assert!(decision.confidence.is_some_and(|c| c > 0.0 && c < 1.0), "{decision:?}");
        prop_assert_eq!(decision.known, decision.reason.is_none());
    }
}
