//! Faults of a camera that watches the workshop, and light that is none.

mod measures;
mod stage;

use super::{CameraHealth, HealthMonitor, Reference};
use crate::numeric::Rng;
use crate::workshop::{ENVIRONMENTS, Environment};
use stage::{Camera, Mishap, Stage, glance};
use std::collections::BTreeMap;

/// Frames a second.
const RATE: u64 = 5;
const STEP_NS: u64 = 1_000_000_000 / RATE;

/// A camera with its monitor.
struct Watched {
    camera: Camera,
    monitor: HealthMonitor,
    now_ns: u64,
}

impl Watched {
    fn new(stage: Stage, seed: u64, environment: &Environment) -> Self {
        Self {
            camera: Camera::new(stage, seed, environment),
            monitor: HealthMonitor::new(None),
            now_ns: 1,
        }
    }

    /// A camera that has learnt its reference in this environment.
    fn learnt(stage: Stage, seed: u64, environment: &Environment) -> Self {
        let mut watched = Self::new(stage, seed, environment);
        for _ in 0..61 * RATE {
            watched.see(environment, None);
        }
        assert!(watched.monitor.reference().is_some(), "a minute is enough");
        watched
    }

    fn see(&mut self, environment: &Environment, mishap: Option<Mishap>) -> CameraHealth {
        let mut pixels = self.camera.frame(environment);
        if let Some(mishap) = mishap {
            mishap.happen(&mut pixels, &mut Rng::new(self.now_ns));
        }
        self.show(pixels)
    }

    fn show(&mut self, pixels: Vec<u8>) -> CameraHealth {
        self.now_ns += STEP_NS;
        self.monitor.update(&glance(pixels), self.now_ns);
        self.monitor.health()
    }

    fn reference(&self) -> &Reference {
        self.monitor.reference().expect("a reference")
    }
}

fn named(name: &str) -> &'static Environment {
    Environment::named(name).expect("an environment")
}

/// How many seconds after each mishap its fault was told, and how many after its end it was over. Every mishap sees the
/// same frames.
fn told(watched: &mut Watched, environment: &Environment, mishap: Mishap) -> Vec<String> {
    let mut told = Vec::new();
    for (happens, seconds) in [(None, 2), (Some(mishap), 10), (None, 10)] {
        let mut last = watched.monitor.health();
        for frame in 0..seconds * RATE {
            let health = watched.see(environment, happens);
            if health != last {
                told.push(format!(
                    "{health} after {:.1} s",
                    frame as f32 / RATE as f32
                ));
                last = health;
            }
        }
    }
    told
}

/// Asserts that each mishap is told as that fault within 10 s, as none other, and is over within 10 s.
fn assert_told(stage: Stage, environment: &str, expected: &[(Mishap, CameraHealth)]) {
    let mut watched = Watched::learnt(stage, 1, named("workshop-lamp"));
    for &(mishap, fault) in expected {
        let told = told(&mut watched, named(environment), mishap);
        println!("{stage:?}, {environment}, {mishap:?}: {}", told.join(", "));
        assert_eq!(told.len(), 2, "{mishap:?} in {environment}: {told:?}");
        assert!(
            told[0].starts_with(fault.as_str()),
            "{mishap:?} in {environment}: {told:?}"
        );
        assert!(
            told[1].starts_with("good"),
            "{mishap:?} in {environment}: {told:?}"
        );
    }
}

/// What can be told in any light, and of any scene.
const ALWAYS: [(Mishap, CameraHealth); 5] = [
    (Mishap::Capped, CameraHealth::Dark),
    (Mishap::Hand, CameraHealth::Covered),
    (Mishap::Glare, CameraHealth::Blinded),
    (Mishap::NoGreen, CameraHealth::ColourLost),
    (Mishap::Blurred, CameraHealth::OutOfFocus),
];
const MOVES: [(Mishap, CameraHealth); 2] = [
    (Mishap::Shifted, CameraHealth::Moved),
    (Mishap::Twisted, CameraHealth::Moved),
];
const DIRT: [(Mishap, CameraHealth); 1] = [(Mishap::Blots, CameraHealth::Dirty)];

#[test]
fn every_fault_over_a_bench_is_told_within_ten_seconds() {
    let all = [&ALWAYS[..], &MOVES, &DIRT].concat();
    assert_told(Stage::Conveyor, "workshop-lamp", &all);
}

#[test]
fn every_fault_is_told_in_light_unlike_that_of_the_reference() {
    let all = [&ALWAYS[..], &MOVES, &DIRT].concat();
    assert_told(Stage::Conveyor, "backlight", &all);
    // Noise hides dirt.
    assert_told(
        Stage::Conveyor,
        "low-light",
        &[&ALWAYS[..], &MOVES].concat(),
    );
}

#[test]
fn a_scene_that_changes_wholly_has_no_background_and_every_other_fault_is_told() {
    let watched = Watched::learnt(Stage::Redrawn, 0, named("noon"));
    assert!(!watched.reference().has_background());
    assert_told(Stage::Redrawn, "noon", &[&ALWAYS[..], &DIRT].concat());
}

#[test]
fn a_move_that_cannot_be_told_is_no_fault() {
    let mut watched = Watched::learnt(Stage::Redrawn, 0, named("noon"));
    for _ in 0..10 * RATE {
        assert_eq!(
            watched.see(named("noon"), Some(Mishap::Shifted)),
            CameraHealth::Good
        );
    }
}

/// With `CONSTANCY_TEST_LONG`, an hour each.
fn assert_no_alarm(stage: Stage, seed: u64, learnt_in: &str) {
    let long = std::env::var_os("CONSTANCY_TEST_LONG").is_some();
    let seconds = if long { 360 } else { 12 };
    let mut watched = Watched::learnt(stage, seed, named(learnt_in));
    let mut alarms: BTreeMap<String, u32> = BTreeMap::new();
    for environment in &ENVIRONMENTS {
        for _ in 0..seconds * RATE {
            let health = watched.see(environment, None);
            if health != CameraHealth::Good {
                *alarms
                    .entry(format!("{health} in {}", environment.name))
                    .or_default() += 1;
            }
        }
    }
    assert!(
        alarms.is_empty(),
        "{stage:?}, learnt in {learnt_in}: {alarms:?}"
    );
}

#[test]
fn no_light_is_a_fault_where_every_frame_has_another_surface() {
    assert_no_alarm(Stage::Redrawn, 0, "noon");
}

#[test]
fn no_light_is_a_fault_over_a_conveyor() {
    assert_no_alarm(Stage::Conveyor, 1, "workshop-lamp");
}

#[test]
fn no_light_is_a_fault_where_parts_rest() {
    assert_no_alarm(Stage::Resting, 1, "workshop-lamp");
}

#[test]
fn what_lay_still_while_it_was_learnt_may_move() {
    let noon = named("noon");
    let mut watched = Watched::new(Stage::Redrawn, 3, noon);
    let still = watched.camera.frame(noon);
    for _ in 0..61 * RATE {
        watched.show(still.clone());
    }
    assert!(
        watched.reference().has_background(),
        "all of it stood still"
    );
    for _ in 0..20 * RATE {
        assert_eq!(watched.see(noon, None), CameraHealth::Good, "the belt runs");
    }
}

#[test]
fn what_passes_for_a_second_is_no_fault() {
    let noon = named("noon");
    let mut watched = Watched::learnt(Stage::Conveyor, 1, noon);
    for mishap in [Mishap::Hand, Mishap::Glare, Mishap::Shifted, Mishap::Capped] {
        for frame in 0..6 * RATE {
            let happens = (frame < RATE).then_some(mishap);
            assert_eq!(watched.see(noon, happens), CameraHealth::Good, "{mishap:?}");
        }
    }
}

#[test]
fn nothing_is_learnt_in_the_dark_or_behind_a_cover() {
    let noon = named("noon");
    let mut watched = Watched::new(Stage::Conveyor, 1, noon);
    for _ in 0..70 * RATE {
        watched.see(noon, Some(Mishap::Capped));
    }
    assert_eq!(watched.monitor.health(), CameraHealth::Dark);
    assert!(watched.monitor.reference().is_none());
    let grey = vec![128; stage::WIDTH * stage::HEIGHT * 3];
    for _ in 0..70 * RATE {
        watched.show(grey.clone());
    }
    assert_eq!(watched.monitor.health(), CameraHealth::Learning);
    assert!(watched.monitor.reference().is_none());
}
