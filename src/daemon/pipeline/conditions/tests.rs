//! One camera's lights, in a world whose light is known.

use super::*;
use constancy_core::classify::calibrate::{Calibration, CalibrationImage, Truth};
use constancy_core::classify::{BankOrigin, ClassBank, class_means};
use constancy_core::numeric::Rng;

const WIDTH: usize = 16;
const SECOND: u64 = 1_000_000_000;

/// An image of class 0 or 1; `light` moves it, from one class towards the other, too.
fn image(rng: &mut Rng, class: usize, light: f32) -> Vec<f32> {
    let mut v: Vec<f32> = (0..WIDTH).map(|_| rng.between(-0.1, 0.1)).collect();
    v[0] += 1.0;
    v[1 + class] += 0.4;
    v[8] += light;
    v[1] += 0.7 * light;
    v
}

fn classifier(rng: &mut Rng) -> Classifier {
    let (mut images, mut examples) = (Vec::new(), vec![Vec::new(); 2]);
    for i in 0..80 {
        let embedding = image(rng, i % 2, 0.0);
        let mut moved = embedding.clone();
        (moved[8], moved[1]) = (moved[8] + 0.5, moved[1] + 0.35);
        examples[i % 2].push(embedding.clone());
        images.push(CalibrationImage {
            truth: Truth::Class(i % 2),
            own: true,
            embedding,
            changed: vec![(0, moved)],
        });
    }
    let mut bank = ClassBank {
        labels: vec!["ok".into(), "defect".into()],
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: "ab".repeat(32),
        rows: class_means(&examples),
        support: None,
        probe: None,
        whitening: None,
        confidence: None,
    };
    let calibrated = Calibration {
        bank: &bank,
        projection: None,
        projection_digest: "identity",
        logit_scale: 100.0,
        encoder_sha256: &bank.encoder_sha256,
        images: &images,
        families: &["lamp".to_owned()],
    }
    .run(None);
    bank.confidence = Some(calibrated.expect("calibrated"));
    Classifier::new(bank, None, "identity", 100.0)
}

fn conditions(adapt: Adapt, folder: Option<&Path>, classifier: &Classifier) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.configure(binding("0123456789ab"), folder, adapt, classifier);
    conditions
}

fn binding(bank: &str) -> Binding {
    Binding {
        camera: "belt".into(),
        encoder_sha256: "ab".repeat(32),
        projection: "identity".into(),
        bank: bank.into(),
    }
}

/// Frames of both classes, one a second from `from` on; returns the last answer.
fn feed(
    conditions: &mut Conditions,
    classifier: &Classifier,
    rng: &mut Rng,
    (from, count): (u64, u64),
    (light, seen): (f32, Light),
) -> Option<Outcome> {
    let mut last = None;
    for i in 0..count {
        let frame = image(rng, (i % 2) as usize, light);
        let answer = conditions.update(&frame, classifier, (from + i) * SECOND, Some(seen));
        last = answer.or(last);
    }
    last
}

#[test]
fn a_light_that_stays_another_is_proposed_and_one_that_returns_is_not() {
    let mut rng = Rng::new(1);
    let classifier = classifier(&mut rng);
    let mut conditions = conditions(Adapt::Propose, None, &classifier);
    let night = (0.5, Light::Unlike);
    feed(&mut conditions, &classifier, &mut rng, (1000, 25), night);
    assert!(conditions.proposal().is_none(), "it may be a lorry");
    feed(&mut conditions, &classifier, &mut rng, (1025, 30), night);
    let proposal = conditions.proposal().expect("a proposal");
    assert!(
        proposal.possible && proposal.detail.contains("calibrate"),
        "{proposal:?}"
    );
    assert!(
        conditions.applied(&classifier).is_none(),
        "nothing is changed"
    );
    // A clock that jumps back does not propose for ever, nor end it.
    feed(&mut conditions, &classifier, &mut rng, (3, 1), night);
    assert!(conditions.proposal().is_some());
    feed(
        &mut conditions,
        &classifier,
        &mut rng,
        (60, 1),
        (0.0, Light::AsCalibrated),
    );
    assert!(conditions.proposal().is_none());
    let mut off = self::conditions(Adapt::Off, None, &classifier);
    feed(&mut off, &classifier, &mut rng, (1000, 80), night);
    assert!(off.proposal().is_none());
}

#[test]
fn the_last_profiles_are_kept_and_one_of_another_bank_is_dropped() {
    let mut rng = Rng::new(2);
    let classifier = classifier(&mut rng);
    let folder = tempfile::tempdir().expect("folder");
    let mut conditions = conditions(Adapt::Propose, Some(folder.path()), &classifier);
    for round in 0..10 {
        conditions.collect(40, &classifier).expect("begun");
        let refused = conditions
            .collect(40, &classifier)
            .expect_err("it is under way");
        assert!(refused.contains("under way"));
        let light = 0.1 * round as f32 + 0.2;
        feed(
            &mut conditions,
            &classifier,
            &mut rng,
            (100, 40),
            (light, Light::Unlike),
        );
        let answer = loop {
            if let Some(answer) = conditions.finished() {
                break answer;
            }
            thread::yield_now();
        };
        assert!(answer.expect("a profile").contains("from 40 frames"));
    }
    assert_eq!(conditions.list().lines().count(), MAX_PROFILES);
    let restarted = self::conditions(Adapt::Propose, Some(folder.path()), &classifier);
    assert_eq!(restarted.profiles, conditions.profiles);
    conditions.configure(
        binding("ba987654321f"),
        Some(folder.path()),
        Adapt::Propose,
        &classifier,
    );
    assert!(conditions.applied(&classifier).is_none());
    assert_eq!(conditions.list(), "no condition profile");
    // Without a folder, a reload with the same bank keeps them, and one with another does not.
    let mut memory = self::conditions(Adapt::Propose, None, &classifier);
    memory.collect(40, &classifier).expect("begun");
    let answer = feed(
        &mut memory,
        &classifier,
        &mut rng,
        (0, 40),
        (0.5, Light::Unlike),
    );
    assert!(
        answer
            .expect("an answer")
            .expect("a profile")
            .contains("forgotten at a restart")
    );
    memory.configure(binding("0123456789ab"), None, Adapt::Propose, &classifier);
    assert!(memory.applied(&classifier).is_some());
    memory.configure(binding("ba987654321f"), None, Adapt::Propose, &classifier);
    assert!(memory.applied(&classifier).is_none());
}

#[test]
fn an_offset_that_follows_the_light_has_a_name() {
    let mut rng = Rng::new(3);
    let classifier = classifier(&mut rng);
    let mut conditions = conditions(Adapt::Auto, None, &classifier);
    assert!(conditions.applied(&classifier).is_none());
    feed(
        &mut conditions,
        &classifier,
        &mut rng,
        (0, 50),
        (0.5, Light::Unlike),
    );
    let (name, offset) = conditions.applied(&classifier).expect("an offset");
    assert!(name == AUTO && offset[8] > 0.2, "{offset:?}");
    assert!(conditions.proposal().is_none());
}
