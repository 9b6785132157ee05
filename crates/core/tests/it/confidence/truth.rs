//! Confidence against the Bayes posterior of a known world.

use super::sphere::{Sphere, calibrated, classifier};
use constancy_core::classify::Reason;

#[test]
fn confidence_is_the_posterior() {
    for (classes, width, kappa, seed) in [(2, 8, 6.0, 1), (5, 16, 12.0, 2), (20, 48, 30.0, 3)] {
        let mut sphere = Sphere::new(classes, width, kappa, seed);
        let images = sphere.images(1000, 3);
        let bank = sphere.bank();
        let classifier = classifier(&bank, calibrated(&bank, &images));
        let (mut off, mut right, mut sum) = (0.0, 0, 0.0);
        let n = 4000;
        for _ in 0..n {
            let class = sphere.class();
            let z = sphere.draw(class);
            let decision = classifier.classify(&z);
            let confidence = f64::from(decision.confidence.expect("confidence"));
            off += (confidence - sphere.posterior(&z)).abs() / f64::from(n);
            sum += confidence / f64::from(n);
            right += i32::from(decision.top[0].class == format!("class {class}"));
        }
        let accuracy = f64::from(right) / f64::from(n);
        println!(
            "{classes} classes: accuracy {accuracy:.3}, mean confidence {sum:.3}, off by {off:.4}"
        );
        assert!(
            (0.4..0.97).contains(&accuracy),
            "the world is neither trivial nor hopeless"
        );
        assert!(
            off <= 0.02,
            "{classes} classes: off by {off:.4} in the mean"
        );
    }
}

#[test]
fn what_lies_elsewhere_is_unfamiliar() {
    let mut sphere = Sphere::new(6, 32, 120.0, 4);
    let images = sphere.images(400, 2);
    let bank = sphere.bank();
    let classifier = classifier(&bank, calibrated(&bank, &images));
    let class = sphere.class();
    let near = (0..200).filter(|_| {
        let z = sphere.draw(class);
        classifier.classify(&z).reason == Some(Reason::Unfamiliar)
    });
    let near = near.count();
    assert!(
        near <= 6,
        "{near} of 200 familiar images are called unfamiliar"
    );
    let mut other = Sphere::new(6, 32, 120.0, 5);
    let far = (0..200).filter(|_| {
        let class = other.class();
        let decision = classifier.classify(&other.draw(class));
        decision.reason == Some(Reason::Unfamiliar) && !decision.known
    });
    let far = far.count();
    assert!(
        far >= 190,
        "{far} of 200 strange images are called unfamiliar"
    );
}
