//! Calibration and ranking against NumPy, by numbers from `tests/golden/reliability.py`.

use crate::fixture;
use constancy_core::reliability::{BINS, Ranked};
use constancy_core::stats::wilson;
use serde_json::Value;

fn golden() -> Value {
    let text = std::fs::read(fixture("reliability/golden.json")).expect("fixture");
    serde_json::from_slice(&text).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn answers(case: &Value) -> Vec<(f64, bool)> {
    let list = |key: &str| case[key].as_array().expect("a list");
    let right = list("right").iter().map(|r| r.as_bool().expect("a bool"));
    list("scores").iter().map(number).zip(right).collect()
}

#[test]
fn rankings_have_the_figures_of_their_definitions() {
    let golden = golden();
    for (name, case) in golden.as_object().expect("cases") {
        let answers = answers(case);
        let ranked = Ranked::new(&answers).expect("answers");
        let hits = answers.iter().filter(|(_, right)| *right).count();
        let share = wilson(hits as f64, answers.len() as f64);
        for (figure, expected) in [
            (ranked.aurc(), &case["aurc"]),
            (ranked.accuracy_at(0.8), &case["accuracy_at_80"]),
            (share.low, &case["wilson"][0]),
            (share.high, &case["wilson"][1]),
        ] {
            let expected = number(expected);
            assert!(
                (figure - expected).abs() < 1e-9,
                "{name}: {figure} for {expected}"
            );
        }
    }
}

#[test]
fn the_calibration_error_is_that_of_bins_of_equal_mass() {
    let case = &golden()["probabilities"];
    let ranked = Ranked::new(&answers(case)).expect("answers");
    let (error, expected) = (
        ranked.calibration_error(BINS),
        number(&case["calibration_error"]),
    );
    assert!(
        (error - expected).abs() < 1e-9 && expected > 0.05,
        "{error} for {expected}"
    );
}
