//! What frames of another light tell of it.

use super::world::{CLASSES, WIDTH, World, classifier};
use constancy_core::classify::condition::{
    Chooser, MIN_FRAMES, OffsetKind, Refusal, RunningOffset, Stream,
};
use constancy_core::numeric::{dot, unit};

const ALL: [usize; CLASSES] = [0, 1, 2, 3];

#[test]
fn frames_of_all_classes_give_the_light_and_answers_return() {
    let mut world = World::new(0.0, 1);
    let bank = world.bank(40);
    let classifier = classifier(&bank);
    let dark = world.right(&classifier, None, 0.5);
    let window = world.frames(40, &ALL, 0.5);
    let offset = classifier.estimate(&window).expect("an offset");
    assert_eq!((offset.kind, offset.frames), (OffsetKind::Whole, 40));
    let mut truth = vec![0.0; WIDTH];
    (truth[10], truth[1], truth[20]) = (0.5, 0.4, -0.25);
    // Unit length takes a little along the common mean.
    let cosine = dot(&unit(&offset.vector), &unit(&truth));
    assert!(cosine > 0.9, "{cosine}");
    let light = world.right(&classifier, Some(&offset.vector), 0.5);
    println!("right: {dark} in another light, {light} with its offset");
    assert!(dark < 0.7 && light > 0.9, "{dark} {light}");
    // What is published of the light itself does not change.
    let frame = world.image(0, 0.5);
    let (raw, corrected) = (
        classifier.classify(&frame),
        classifier.classify_in(&frame, Some(&offset.vector)),
    );
    assert_eq!(raw.drift, corrected.drift);
    let shown = classifier.compare(&window, None, Some(&offset.vector));
    assert!(
        shown.after.confidence > shown.before.confidence && shown.after.drift < shown.before.drift
    );
    assert!(shown.agreement < 0.9, "{shown:?}");
}

#[test]
fn another_mix_of_classes_is_no_light() {
    let mut world = World::new(0.0, 7);
    let bank = world.bank(40);
    let classifier = classifier(&bank);
    let tells = |offset: &[f32]| {
        // Along what tells the first class from the others.
        (offset[1] - (offset[2] + offset[3] + offset[4]) / 3.0).abs()
    };
    for seed in 0..8 {
        // The light of the calibration; two of five frames are of the first class, where it had a quarter.
        let mut world = World::new(0.0, 100 + seed);
        let window = world.frames(60, &[0, 1, 0, 2, 3], 0.0);
        let offset = classifier.estimate(&window).expect("an offset");
        assert_eq!(offset.kind, OffsetKind::Whole);
        // 15 points more of its 0.3 would be 0.045.
        assert!(
            offset.light < 0.3 && tells(&offset.vector) < 0.02,
            "{offset:?}"
        );
        // Light that moves along the same direction, but farther than a mix does, is undone.
        let offset = classifier
            .estimate(&world.frames(60, &ALL, 0.5))
            .expect("an offset");
        assert!(
            offset.light > 0.8 && tells(&offset.vector) > 0.2,
            "{offset:?}"
        );
    }
}

#[test]
fn odd_frames_hardly_count() {
    let mut world = World::new(0.0, 2);
    let bank = world.bank(40);
    let classifier = classifier(&bank);
    let mut window = world.frames(40, &ALL, 0.5);
    let clean = classifier.estimate(&window).expect("an offset").vector;
    for frame in window.iter_mut().step_by(13) {
        // A hand before the lens.
        *frame = (0..WIDTH)
            .map(|i| if i == 15 { 1.0 } else { 0.0 })
            .collect();
    }
    window.push(vec![f32::NAN; WIDTH]);
    window.push(vec![0.0; 3]);
    let odd = classifier.estimate(&window).expect("an offset");
    assert_eq!(odd.frames, 40, "two are no embeddings");
    let off: f32 = odd
        .vector
        .iter()
        .zip(&clean)
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    assert!(off.sqrt() < 0.05, "{}", off.sqrt());
}

#[test]
fn frames_of_one_class_are_refused_where_following_them_costs() {
    // Classes differ along the light's direction, too: a stream of one class looks like another light.
    let mut world = World::new(1.0, 3);
    let bank = world.bank(40);
    let classifier = classifier(&bank);
    let reference = classifier.reference().expect("a reference").clone();
    println!("{}", reference.describe());
    assert!(!reference.running.allowed, "{}", reference.describe());
    for light in [0.0, 0.4] {
        for class in ALL {
            let window = world.frames(40, &[class], light);
            let refusal = classifier.estimate(&window).expect_err("refused");
            let Refusal::OneClass { share, limit, .. } = refusal else {
                panic!("{refusal}");
            };
            assert!(share <= limit && refusal.to_string().contains("all classes"));
        }
        let window = world.frames(40, &ALL, light);
        assert!(
            classifier.estimate(&window).is_ok(),
            "all classes in light {light}"
        );
    }
}

#[test]
fn frames_of_one_class_are_followed_where_light_moves_more_than_classes_differ() {
    let mut world = World::new(0.0, 4);
    let bank = world.bank(40);
    let classifier = classifier(&bank);
    let reference = classifier.reference().expect("a reference").clone();
    println!("{}", reference.describe());
    assert!(reference.running.helps(), "{}", reference.describe());
    let streams: Vec<Stream> = reference.running.streams.iter().map(|s| s.stream).collect();
    let all = [
        Stream::Mixed,
        Stream::ClassAfterClass,
        Stream::OneClass,
        Stream::RareDefect,
    ];
    assert_eq!(streams, all);
    let before = world.right(&classifier, None, 0.5);
    for class in ALL {
        let offset = classifier
            .estimate(&world.frames(40, &[class], 0.5))
            .expect("an offset");
        assert_eq!(offset.kind, OffsetKind::Limited);
        let inside = reference.vector(
            &reference
                .axes
                .iter()
                .map(|axis| dot(axis, &offset.vector))
                .collect::<Vec<_>>(),
        );
        let outside: f32 = inside
            .iter()
            .zip(&offset.vector)
            .map(|(a, b)| (a - b).abs())
            .sum();
        assert!(outside < 1e-4, "it lies in the axes");
        let after = world.right(&classifier, Some(&offset.vector), 0.5);
        assert!(after > before, "class {class}: {before} → {after}");
    }
    let mut running = RunningOffset::new(&reference);
    for frame in world.frames(60, &[2], 0.5) {
        running.push(&reference, &unit(&frame));
    }
    running.push(&reference, &[f32::NAN; WIDTH]);
    let after = world.right(&classifier, Some(&running.offset(&reference)), 0.5);
    assert!(after > before, "{before} → {after}");
}

#[test]
fn little_or_nothing_is_refused_by_its_reason() {
    let mut world = World::new(0.0, 5);
    let mut bank = world.bank(40);
    let known = classifier(&bank);
    let few = known.estimate(&world.frames(MIN_FRAMES - 1, &ALL, 0.5));
    assert!(
        matches!(
            few,
            Err(Refusal::Few {
                frames: 9,
                least: 10
            })
        ),
        "{few:?}"
    );
    let frame = world.image(0, 0.5);
    let still = known.estimate(&vec![frame; 40]);
    assert!(matches!(still, Err(Refusal::Still { .. })), "{still:?}");
    bank.confidence = None;
    let unknown = classifier(&bank).estimate(&world.frames(40, &ALL, 0.5));
    assert_eq!(unknown, Err(Refusal::NoReference));
    // Seven images of a class do not tell how images of one class differ.
    let few_images = world.bank(7);
    assert!(classifier(&few_images).reference().is_none());
}

#[test]
fn a_known_light_is_found_again_and_single_frames_do_not_change_it() {
    let weights = [1.0, 1.0];
    let places = [vec![0.0, 0.0], vec![4.0, 0.0], vec![0.0, 6.0]];
    let mut rng = fastrand::Rng::with_seed(6);
    let mut chooser = Chooser::default();
    let mut feed = |chooser: &mut Chooser, at: usize, frames: usize| {
        for i in 0..frames {
            let mut place = places[at].clone();
            for p in &mut place {
                *p += rng.f32() - 0.5;
            }
            if i % 9 == 8 {
                place = vec![50.0, -50.0];
            }
            chooser.update(&place, &places, &weights);
        }
        chooser.present()
    };
    assert_eq!(feed(&mut chooser, 0, 30), 0);
    assert_eq!(feed(&mut chooser, 1, 2), 0, "two frames are no night");
    assert_eq!(feed(&mut chooser, 0, 30), 0);
    for light in [1, 2, 1, 0, 2, 0] {
        assert_eq!(feed(&mut chooser, light, 60), light);
    }
    // A light that none is near to is the calibration's business.
    for _ in 0..80 {
        chooser.update(&[-7.0, -7.0], &places, &weights);
    }
    assert_eq!(chooser.present(), 0);
    chooser.update(&[f32::NAN, 0.0], &places, &weights);
    assert_eq!(chooser.present(), 0);
}
