//! What calibration states holds: the risk of a target, and the open-set rate.

use super::sphere::{Sphere, calibrated, classifier};
use constancy_core::classify::{Classifier, Cost, DEFAULT_TARGET_LEVEL, OpenSet, Outcome, Target};

const LEVEL: f64 = DEFAULT_TARGET_LEVEL;

/// Answers with too much confidence: that of 0.9 is right in 87 % of the cases. An image's answers share their luck.
fn outcomes(images: u32, rng: &mut fastrand::Rng) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for image in 0..images {
        let (ease, luck) = (rng.f64(), rng.f64());
        for version in 0..6 {
            let confidence = 1.0 - ease.powi(4) * (0.5 + 0.5 * rng.f64());
            let luck = if rng.bool() { luck } else { rng.f64() };
            outcomes.push(Outcome {
                confidence: confidence as f32,
                image,
                answer: 0,
                truth: (luck < confidence.powf(1.3)).then_some(0),
                changed: version > 0,
            });
        }
    }
    outcomes
}

/// The risk at a threshold, with clean and changed answers weighed equally.
fn risk(outcomes: &[Outcome], threshold: f32) -> f64 {
    let sum = |wrong: bool| {
        let those = outcomes
            .iter()
            .filter(|o| o.accepted(threshold) && (!wrong || !o.right()));
        those
            .map(|o| if o.changed { 0.2 } else { 1.0 })
            .sum::<f64>()
    };
    sum(true) / sum(false).max(1e-9)
}

#[test]
fn the_risk_of_a_target_holds_for_dependent_answers() {
    let mut rng = fastrand::Rng::with_seed(11);
    let truth = outcomes(40_000, &mut rng);
    for precision in [0.9, 0.95] {
        let (mut broken, mut reached, mut accepted) = (0, 0, 0.0);
        for _ in 0..100 {
            let resolved =
                Target::Precision(precision).resolve(&outcomes(300, &mut rng), &[], LEVEL, None)[0];
            let at = resolved.at.expect("a threshold");
            if resolved.reached {
                reached += 1;
                accepted += at.accepted / 100.0;
                broken += u32::from(risk(&truth, at.threshold) > 1.0 - precision);
            }
        }
        println!(
            "precision {precision}: reached {reached}, accepted {accepted:.2}, broken {broken}"
        );
        assert!(
            broken <= 5,
            "precision {precision}: broken in {broken} of 100"
        );
        assert!(
            reached >= 60,
            "precision {precision}: reached in {reached} of 100 only"
        );
    }
}

#[test]
fn the_risk_of_a_calibrated_classifier_holds() {
    let (mut broken, mut reached, mut accepted) = (0, 0, 0.0);
    for seed in 0..100 {
        let mut sphere = Sphere::new(5, 12, 10.0, 100 + seed);
        let images = sphere.images(300, 2);
        let bank = sphere.bank();
        let confidence = calibrated(&bank, &images);
        let resolved = confidence.resolve(&Target::Precision(0.9), LEVEL, None)[0];
        let Some(at) = resolved.at.filter(|_| resolved.reached) else {
            continue;
        };
        let classifier = classifier(&bank, confidence).with_threshold(at.threshold);
        let (mut wrong, mut known) = (0.0, 0.0);
        for _ in 0..1500 {
            let class = sphere.class();
            let z = sphere.draw(class);
            if classifier.classify(&z).known {
                known += 1.0;
                // The expected value in place of what this draw happened to be.
                wrong += 1.0 - sphere.posterior(&z);
            }
        }
        reached += 1;
        accepted += known / 1500.0 / 100.0;
        broken += u32::from(wrong > 0.1 * known);
    }
    println!("reached {reached}, accepted {accepted:.2}, broken {broken}");
    assert!(broken <= 5, "broken in {broken} of 100");
    assert!(reached >= 80, "reached in {reached} of 100 only");
}

#[test]
fn a_target_holds_under_interventions_and_not_only_in_the_mean() {
    // Surer than 0.9: all are right. Between 0.6 and 0.9: clean answers are right, half of the changed ones are wrong.
    let outcome = |i: u32| {
        let (image, changed, sure) = (i / 4, i % 2 == 1, i % 4 < 2);
        let wrong = changed && !sure && image % 2 == 0;
        Outcome {
            confidence: if sure || !changed { 0.95 } else { 0.7 },
            image,
            answer: 0,
            truth: Some(u32::from(wrong)),
            changed,
        }
    };
    let outcomes: Vec<Outcome> = (0..4000).map(outcome).collect();
    let at = |of: &[Outcome]| {
        let resolved = Target::Precision(0.8).resolve(of, &[], LEVEL, None)[0];
        resolved
            .at
            .filter(|_| resolved.reached)
            .map(|t| t.threshold)
    };
    // An eighth of all is wrong from 0.7 on, but a quarter of what interventions changed.
    assert_eq!(at(&outcomes), Some(0.95));
    let clean: Vec<Outcome> = outcomes.iter().copied().filter(|o| !o.changed).collect();
    assert_eq!(at(&clean), Some(0.95));
    assert!(risk(&outcomes, 0.7) < 0.2);
}

#[test]
fn what_cannot_be_reached_is_said_with_what_can() {
    let mut rng = fastrand::Rng::with_seed(12);
    let outcomes = outcomes(60, &mut rng);
    let resolved = Target::Precision(0.99).resolve(&outcomes, &[], LEVEL, None)[0];
    assert!(!resolved.reached);
    let at = resolved.at.expect("what can be reached");
    assert!(
        at.bound > 0.01 && at.bound < 0.5 && at.accepted > 0.0,
        "{at:?}"
    );
    // The bound allows for having chosen the best of all thresholds.
    let single = Target::Precision(1.0 - at.bound).resolve(&outcomes, &[], LEVEL, None)[0];
    assert!(single.reached, "{single:?}");
    let nothing = Target::Precision(0.9).resolve(&[], &[], LEVEL, None)[0];
    assert!(!nothing.reached && nothing.at.is_none());
}

#[test]
fn classes_have_thresholds_of_their_own() {
    let mut rng = fastrand::Rng::with_seed(13);
    // Answers that name class 1 are always right.
    let mut both = outcomes(1000, &mut rng);
    for outcome in both.iter_mut().filter(|o| o.image % 2 == 1) {
        (outcome.answer, outcome.truth) = (1, Some(1));
    }
    let resolved = Target::Precision(0.95).resolve(&both, &[], LEVEL, Some(3));
    let threshold = |class: usize| resolved[class].at.map(|at| at.threshold);
    assert!(resolved[0].reached && resolved[1].reached && threshold(0) > threshold(1));
    assert!(
        !resolved[2].reached && threshold(2).is_none(),
        "no answer names class 2"
    );
    let costs = [
        Cost {
            wrong: 10.0,
            refused: 1.0,
        },
        Cost {
            wrong: 2.0,
            refused: 1.0,
        },
    ];
    let costs = Target::Costs(costs.to_vec()).resolve(&both, &[], LEVEL, None);
    let thresholds: Vec<f32> = costs
        .iter()
        .filter_map(|r| r.at)
        .map(|at| at.threshold)
        .collect();
    assert_eq!(thresholds, [0.9, 0.5]);
}

#[test]
fn a_rate_of_false_accepts_is_kept_by_unseen_classes() {
    let mut rng = fastrand::Rng::with_seed(14);
    let unseen = |n: u32, rng: &mut fastrand::Rng| -> Vec<Outcome> {
        let outcome = |image| Outcome {
            confidence: rng.f32().powi(2),
            image,
            answer: 0,
            truth: Some(1 + image % 30),
            changed: false,
        };
        (0..n).map(outcome).collect()
    };
    let mut broken = 0;
    for _ in 0..100 {
        let resolved =
            Target::FalseAccept(0.1).resolve(&[], &unseen(600, &mut rng), LEVEL, None)[0];
        let threshold = resolved.at.expect("a threshold").threshold;
        assert!(resolved.reached && threshold < 0.95, "{resolved:?}");
        // The share of squares of uniform numbers above the threshold.
        broken += u32::from(1.0 - threshold.sqrt() > 0.1);
    }
    assert!(broken <= 5, "broken in {broken} of 100");
}

/// Each class's own rate of images that are known, of classes that the classifier has never seen.
fn rates_of_strangers(classifier: &Classifier, strangers: &mut Sphere) -> Vec<f64> {
    let classes = strangers.rows.len();
    let rate = |class| {
        let known = (0..40).filter(|_| classifier.classify(&strangers.draw(class)).known);
        known.count() as f64 / 40.0
    };
    (0..classes).map(rate).collect()
}

#[test]
fn the_open_set_interval_holds_for_each_class_never_seen() {
    // Few classes leave the next one open, many do not.
    for (classes, widest) in [(3, 1.0), (5, 0.95), (12, 0.8), (30, 0.7)] {
        let (mut above, mut all, mut width) = (0, 0, 0.0);
        for seed in 0..12 {
            let mut sphere = Sphere::new(classes, 24, 30.0, 200 + seed);
            let images = sphere.images(20 * classes, 1);
            let bank = sphere.bank();
            let confidence = calibrated(&bank, &images);
            let stated = confidence.open_set(0.7, false).expect("measured");
            assert_eq!(stated.classes, classes);
            assert!(stated.low <= stated.rate && stated.rate <= stated.high);
            let classifier = classifier(&bank, confidence).with_threshold(0.7);
            let mut strangers = Sphere::new(20, 24, 30.0, 900 + seed);
            let rates = rates_of_strangers(&classifier, &mut strangers);
            above += rates.iter().filter(|&&rate| rate > stated.high).count();
            all += rates.len();
            width += (stated.high - stated.low) / 12.0;
        }
        println!("{classes} classes: {above} of {all} above, {width:.2} wide");
        assert!(
            above * 20 <= all,
            "{classes} classes: {above} of {all} above"
        );
        assert!(width <= widest, "{classes} classes: {width} wide");
    }
}

#[test]
fn classes_that_differ_or_are_few_leave_the_next_one_open() {
    let unseen = |rates: &[f64]| -> Vec<Outcome> {
        let outcome = |(class, rate): (usize, &f64)| {
            let (class, rate) = (class as u32, *rate);
            (0..20).map(move |i| Outcome {
                confidence: if f64::from(i) < rate * 20.0 { 0.9 } else { 0.1 },
                image: 20 * class + i,
                answer: class + 1,
                truth: Some(class),
                changed: false,
            })
        };
        rates.iter().enumerate().flat_map(outcome).collect()
    };
    let high = |rates: &[f64]| {
        OpenSet::at(&unseen(rates), 0.5, false)
            .expect("measured")
            .high
    };
    // Nothing was accepted.
    let none = [3, 6, 40].map(|classes| high(&vec![0.0; classes]));
    assert!(
        none[0] > 0.5 && none[0] > none[1] && none[1] > none[2],
        "{none:?}"
    );
    assert!(none[2] < 0.3, "{none:?}");
    // The same mean, of classes that are alike and that are not.
    let (alike, apart) = (
        high(&[0.3; 10]),
        high(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
    );
    assert!(alike < 0.6 && apart > 0.95, "{alike} and {apart}");
    // The target is about the mean over such classes, and asks for many of them.
    let reached = |rates: &[f64], limit: f64| {
        Target::FalseAccept(limit).resolve(&[], &unseen(rates), LEVEL, None)[0].reached
    };
    assert!(!reached(&[0.0; 3], 0.05) && reached(&[0.0; 60], 0.05));
    assert!(!reached(&[], 0.5));
}
