//! Temperature, evidence and regression against SciPy, by numbers from `tests/golden/confidence.py`.

use crate::fixture;
use constancy_core::classify::calibrate::{Case, Labelled, regress_at, temperature};
use constancy_core::classify::{ConfidenceModel, Evidence, Feature, Place, balanced_weights};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use std::sync::LazyLock;

fn values(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let view = file
        .tensor(name)
        .unwrap_or_else(|_| panic!("no tensor {name}"));
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|w| f64::from(f32::from_le_bytes(*w)))
            .collect(),
        Dtype::I64 => data
            .as_chunks::<8>()
            .0
            .iter()
            .map(|w| i64::from_le_bytes(*w) as f64)
            .collect(),
        _ => data
            .as_chunks::<8>()
            .0
            .iter()
            .map(|w| f64::from_le_bytes(*w))
            .collect(),
    }
}

/// The fixture's answers: logits, truth, image, changed, place.
struct Answers {
    logits: Vec<Vec<f32>>,
    truth: Vec<usize>,
    image: Vec<u32>,
    changed: Vec<bool>,
    places: Vec<Place>,
}

impl Answers {
    fn read() -> Self {
        let bytes = std::fs::read(fixture("confidence/answers.safetensors")).expect("fixture");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let narrow = |name: &str| {
            values(&file, name)
                .iter()
                .map(|&v| v as f32)
                .collect::<Vec<f32>>()
        };
        let truth: Vec<usize> = values(&file, "truth").iter().map(|&v| v as usize).collect();
        let logits = narrow("logits");
        let place = |p: &[f32]| Place {
            cosine: p[0],
            mahalanobis: p[1],
            background: p[2],
            drift: p[3],
        };
        Self {
            logits: logits
                .chunks(logits.len() / truth.len())
                .map(<[f32]>::to_vec)
                .collect(),
            image: values(&file, "image").iter().map(|&v| v as u32).collect(),
            changed: values(&file, "changed").iter().map(|&v| v > 0.0).collect(),
            places: narrow("places").chunks(4).map(place).collect(),
            truth,
        }
    }

    fn cases(&self, temperature: f32) -> Vec<Case> {
        let case = |i: usize| {
            let most = self.logits[i].iter().copied().fold(f32::MIN, f32::max);
            Case {
                evidence: Evidence::new(&self.logits[i], temperature, self.places[i]),
                right: self.logits[i][self.truth[i]] >= most,
                image: self.image[i],
                changed: self.changed[i],
            }
        };
        (0..self.truth.len()).map(case).collect()
    }
}

fn golden(name: &str) -> Vec<f64> {
    let bytes = std::fs::read(fixture("confidence/golden.safetensors")).expect("fixture");
    values(
        &SafeTensors::deserialize(&bytes).expect("safetensors"),
        name,
    )
}

#[test]
fn the_temperature_is_scipys() {
    let answers = Answers::read();
    let weights = balanced_weights(&answers.changed);
    let labelled = |i: usize| Labelled {
        logits: &answers.logits[i],
        truth: answers.truth[i],
        weight: weights[i],
    };
    let labelled: Vec<Labelled<'_>> = (0..weights.len()).map(labelled).collect();
    let (found, expected) = (temperature(&labelled), golden("temperature")[0]);
    assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
}

#[test]
fn evidence_is_what_numpy_computes() {
    let temperature = golden("temperature")[0] as f32;
    let expected = golden("features");
    for (case, expected) in Answers::read()
        .cases(temperature)
        .iter()
        .zip(expected.chunks(7))
    {
        for (feature, expected) in Feature::ANSWER.iter().zip(expected) {
            let found = f64::from(feature.of(&case.evidence));
            assert!(
                (found - expected).abs() < 2e-5,
                "{feature:?}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn changed_light_is_told_as_by_scipy() {
    let temperature = golden("temperature")[0] as f32;
    let cases = Answers::read().cases(temperature);
    let changed = regress_at(&cases, temperature, Some(1.0)).changed;
    let odds = changed.expect("two lights").odds;
    let expected = golden("light");
    assert!((f64::from(odds.intercept) - expected[0]).abs() < 2e-4);
    for (feature, expected) in Feature::LIGHT.iter().zip(&expected[1..]) {
        let term = odds.terms.iter().find(|t| t.feature == *feature);
        let found = term.map_or(0.0, |t| f64::from(t.weight));
        assert!(
            (found - expected).abs() < 2e-4,
            "{feature:?}: {found} for {expected}"
        );
    }
}

#[test]
fn the_regression_is_scipys_with_bounds() {
    let temperature = golden("temperature")[0] as f32;
    let cases = Answers::read().cases(temperature);
    for (i, strength) in golden("strengths").into_iter().enumerate() {
        let model = regress_at(&cases, temperature, Some(strength));
        let expected = golden(&format!("weights.{i}"));
        let changed = model.changed.as_ref().expect("two lights");
        let lights = [&model.terms, &changed.answer.terms];
        for (terms, expected) in lights.into_iter().zip(expected.chunks(7)) {
            for (feature, expected) in Feature::ANSWER.iter().zip(expected) {
                let term = terms.iter().find(|t| t.feature == *feature);
                let weight = term.map_or(0.0, |t| t.weight);
                // The log-odds are an offset already, to which their weight adds.
                let offset = if *feature == Feature::LogOdds {
                    term.map_or(0.0, |t| t.scale)
                } else {
                    0.0
                };
                let found = f64::from(weight - offset);
                assert!(
                    (found - expected).abs() < 5e-4,
                    "C = {strength}, {feature:?}: {found} for {expected}"
                );
            }
        }
        let gap = golden(&format!("intercepts.{i}"));
        let found = f64::from(changed.answer.intercept - model.intercept);
        assert!(
            (found - (gap[1] - gap[0])).abs() < 5e-4,
            "{found} for {gap:?}"
        );
    }
}

proptest! {
    /// In the same light, more of what speaks for an answer never lowers its confidence.
    #[test]
    fn confidence_is_monotone(
        place in (-1.0f32..1.0, -5.0f32..5.0, 0.0f32..20.0),
        (log_odds, margin, entropy, energy) in (-9.0f32..90.0, 0.0f32..90.0, 0.0f32..1.0, -90.0f32..90.0),
        more in 0.0f32..50.0,
        background in 0.0f32..9.0,
        which in 0usize..5,
    ) {
        static MODEL: LazyLock<ConfidenceModel> = LazyLock::new(|| {
            let temperature = golden("temperature")[0] as f32;
            regress_at(&Answers::read().cases(temperature), temperature, Some(1.0))
        });
        let (cosine, mahalanobis, drift) = place;
        let evidence = Evidence { log_odds, margin, entropy, energy, cosine, mahalanobis, background, drift };
        let mut better = evidence;
        match Feature::ANSWER[which] {
            Feature::LogOdds => better.log_odds += more,
            Feature::Margin => better.margin += more,
            Feature::Entropy => better.entropy -= more,
            Feature::Energy => better.energy += more,
            Feature::Cosine => better.cosine += more,
            other => prop_assert!(false, "{other:?} says what light it is"),
        }
        let (before, after) = (MODEL.confidence(&evidence), MODEL.confidence(&better));
        prop_assert!(before > 0.0 && before <= after && after < 1.0, "{before} {after}");
    }
}
