//! Fitting and choosing projections: against a world whose causes are known, against NumPy and
//! scikit-learn, and inputs that are refused.

mod golden;
mod truth;
mod whitening;

use constancy_core::icm::{
    ChangedImages, Embeddings, Fitter, Grid, Head, HeldOut, Interventions, Labelled, Map, MapSpec,
    Method, Moments, Projection, ProjectionError, ProjectionKind, Provenance, Sampling,
    SelectError, SelectWarning, by_environment, by_identification, by_intervention,
    penalty_by_environment,
};
use serde_json::json;
use truth::World;

const SHA: &str = "00ff";

#[test]
fn identification_finds_a_map_that_helps_and_says_so() {
    let world = World::new(3).varying(6.0);
    let (images, _) = world.pairs(200, 0.1, 4);
    // Two families move the same causes, so that one predicts the other.
    let changed = images.families()[0].clone();
    let again = ChangedImages {
        name: "again".into(),
        ..world.pairs_of(&images, 0.1, 5)
    };
    let families = vec![changed, again];
    let images = Interventions::new(images.originals().clone(), families).unwrap();
    let selection =
        by_identification(&images, &Grid::usual(world.width()), &Sampling::new(1)).unwrap();
    assert!(selection.improves(), "{selection}");
    assert!(selection.chosen.gain > 0.2, "{selection}");
    assert!(
        (5.0..=10.0).contains(&selection.chosen.removed),
        "eight causes vary: {selection}"
    );
    let again = by_identification(&images, &Grid::usual(world.width()), &Sampling::new(1)).unwrap();
    assert_eq!(selection, again, "the same seed gives the same choice");
}

#[test]
fn the_identity_is_kept_if_families_share_nothing() {
    // Each family moves a direction of its own that no image uses: one says nothing about the
    // other.
    let world = World::new(6);
    let (images, _) = world.pairs(80, 0.1, 7);
    let moved = |seed: u64| {
        let rows: Vec<Vec<f32>> = (0..80)
            .map(|i| {
                let z = images.originals().columns().column(i);
                let noise = truth::gaussian(world.width(), 1e-4, seed + 1000 * i as u64);
                (0..world.width())
                    .map(|d| (z[d] + noise[d]) as f32)
                    .collect()
            })
            .collect();
        Embeddings::new(world.width(), &rows, |i| i.to_string()).unwrap()
    };
    let family = |name: &str, seed| ChangedImages {
        name: name.into(),
        of: (0..80).collect(),
        changed: moved(seed),
    };
    let images = Interventions::new(
        images.originals().clone(),
        vec![family("one", 1), family("other", 2)],
    )
    .unwrap();
    let selection =
        by_identification(&images, &Grid::usual(world.width()), &Sampling::new(1)).unwrap();
    assert!(!selection.improves(), "{selection}");
    let words = selection.to_string();
    assert!(
        words.starts_with("identity: no map improves") && words.contains("stay as they are"),
        "{words}"
    );
}

/// Two classes in environments that differ in a variant cause, which correlates with the class
/// differently in each. `missing` is an environment and a class that it lacks.
fn labelled(environments: usize, missing: Option<(usize, usize)>) -> Labelled {
    labelled_under(&["light"], environments, missing)
}

/// [`labelled`] under several families that move the variant causes.
fn labelled_under(
    families: &[&str],
    environments: usize,
    missing: Option<(usize, usize)>,
) -> Labelled {
    let world = World::new(8);
    let mut rows = Vec::new();
    let (mut classes, mut envs) = (Vec::new(), Vec::new());
    for i in 0..60 * environments {
        let (environment, class) = (i / 60, i % 2);
        if missing == Some((environment, class)) {
            continue;
        }
        let mut causes = truth::gaussian(truth::CAUSES, 1.0, 50 + i as u64);
        let sign = if class == 0 { -1.0 } else { 1.0 };
        causes[0] = 1.5 * sign + 0.5 * causes[0];
        // The variant cause correlates with the class in some environments and against it in
        // others.
        causes[truth::INVARIANT] =
            6.0 * sign * [1.0, -0.5, 0.7, -1.0, -0.8, 0.9, -0.7][environment];
        rows.push((causes, class, environment));
        classes.push(class);
        envs.push(environment);
    }
    let originals: Vec<Vec<f32>> = rows
        .iter()
        .enumerate()
        .map(|(i, r)| world.embed(&r.0, 0.02, i as u64))
        .collect();
    let embeddings = |rows: &[Vec<f32>]| {
        Embeddings::new(world.width(), rows, |i| i.to_string()).expect("made for the test")
    };
    let family = |(number, &name): (usize, &&str)| {
        let change = |(i, r): (usize, &(nalgebra::DVector<f64>, usize, usize))| {
            let mut causes = r.0.clone();
            let drawn = truth::gaussian(truth::CAUSES, 6.0, 9000 + (i + 100_000 * number) as u64);
            causes
                .rows_mut(truth::INVARIANT, truth::VARIANT)
                .copy_from(&drawn.rows(truth::INVARIANT, truth::VARIANT));
            world.embed(&causes, 0.02, 7000 + (i + 100_000 * number) as u64)
        };
        let changed: Vec<Vec<f32>> = rows.iter().enumerate().map(change).collect();
        ChangedImages {
            name: name.into(),
            of: (0..rows.len()).collect(),
            changed: embeddings(&changed),
        }
    };
    let families = families.iter().enumerate().map(family).collect();
    let images = Interventions::new(embeddings(&originals), families).expect("made for the test");
    let names = |what: &str, count: usize| (0..count).map(|i| format!("{what} {i}")).collect();
    Labelled::new(
        images,
        classes,
        envs,
        names("class", 2),
        names("place", environments),
    )
    .expect("made for the test")
}

#[test]
fn environments_choose_a_map_that_holds_in_another_one() {
    let sources = labelled(7, None);
    let (learnt, target) = sources.leave_out("place 6").unwrap();
    for method in [Method::ClassMeans, Method::Probe { c: 10.0 }] {
        let selection =
            by_environment(&learnt, &Grid::usual(40), std::slice::from_ref(&method)).unwrap();
        assert!(selection.improves(), "{selection}");
        let fitter = Fitter::new(&learnt.images().moments(SHA)).unwrap();
        let accuracy = |spec: &MapSpec| {
            let map = fitter.fit(spec).unwrap();
            let head =
                Head::fit(&method, learnt.images().originals(), learnt.classes(), &map).unwrap();
            let hits = target.hits(&map, &head);
            hits.iter().sum::<f64>() / hits.len() as f64
        };
        let (before, after) = (
            accuracy(&MapSpec::IDENTITY),
            accuracy(&selection.chosen.map),
        );
        assert!(
            after > 0.9 && after > before,
            "{before} to {after} by {selection}"
        );
    }
}

#[test]
fn interventions_choose_a_map_by_the_labels_of_one_environment() {
    let sources = labelled_under(&["light", "again"], 1, None);
    let choose = || {
        by_intervention(
            &sources,
            &Grid::usual(40),
            &[Method::ClassMeans],
            &Sampling::new(1),
        )
        .unwrap()
    };
    let selection = choose();
    assert!(
        selection.improves() && selection.chosen.gain > 0.2,
        "{selection}"
    );
    assert_eq!(selection, choose(), "the same seed gives the same choice");
    let one = labelled(1, None);
    let error = by_intervention(
        &one,
        &Grid::usual(40),
        &[Method::ClassMeans],
        &Sampling::new(1),
    )
    .unwrap_err();
    assert_eq!(error, SelectError::Families { found: 1 });
}

/// Few images of two classes. Grain, which no intervention shows, differs between images far more
/// than the classes do.
#[test]
fn same_class_pairs_show_what_no_intervention_does() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut noise = |scale: f32| scale * (0..12).map(|_| rng.f32() - 0.5).sum::<f32>();
    let mut image = |class: usize| {
        let sign = if class == 0 { -1.0 } else { 1.0 };
        let grain: Vec<f32> = (0..3).map(|_| noise(3.0)).collect();
        [vec![sign + noise(0.3), noise(0.3), 15.0], grain].concat()
    };
    let classes = |count: usize| (0..count).map(|i| i % 2).collect::<Vec<_>>();
    let mut images = |count| {
        classes(count)
            .into_iter()
            .map(&mut image)
            .collect::<Vec<_>>()
    };
    let (few, many) = (images(16), images(1000));
    let darker = |image: &Vec<f32>| [&[image[0], image[1] + 2.0][..], &image[2..]].concat();
    let embeddings =
        |rows: &[Vec<f32>]| Embeddings::new(6, rows, |i| i.to_string()).expect("made for the test");
    let changed = embeddings(&few.iter().map(darker).collect::<Vec<_>>());
    let family = ChangedImages {
        name: "light".into(),
        of: (0..16).collect(),
        changed,
    };
    let images = Interventions::new(embeddings(&few), vec![family]).unwrap();
    let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    let learnt = Labelled::new(
        images,
        classes(16),
        vec![0; 16],
        names(&["a", "b"]),
        names(&["line"]),
    )
    .unwrap();
    let target = HeldOut::new(embeddings(&many), classes(1000)).unwrap();
    let accuracy = |learnt: &Labelled| {
        let map = Fitter::new(&learnt.moments(SHA))
            .unwrap()
            .fit(&MapSpec::soft(30.0))
            .unwrap();
        let head = Head::fit(
            &Method::ClassMeans,
            learnt.images().originals(),
            learnt.classes(),
            &map,
        )
        .unwrap();
        target.hits(&map, &head).iter().sum::<f64>() / 1000.0
    };
    let (without, with) = (
        accuracy(&learnt),
        accuracy(&learnt.clone().with_same_class(true)),
    );
    assert!(
        without < 0.8 && with > 0.9,
        "{without} without labels, {with} with them"
    );
}

#[test]
fn a_penalty_is_chosen_by_environments() {
    let (learnt, _) = labelled(4, None).leave_out("place 3").unwrap();
    let chosen = penalty_by_environment(&learnt, &[1e-6, 1.0, 10.0]).unwrap();
    let raw = Grid::new([]);
    let score = |c| {
        by_environment(&learnt, &raw, &[Method::Probe { c }])
            .unwrap()
            .identity
            .score
    };
    assert!(
        [1e-6, 1.0, 10.0]
            .into_iter()
            .all(|c| score(c) <= score(chosen))
    );
    assert_eq!(
        penalty_by_environment(&learnt, &[]),
        Err(SelectError::NoScores)
    );
}

#[test]
fn one_environment_is_refused_and_a_class_may_be_missing() {
    let error =
        by_environment(&labelled(1, None), &Grid::usual(40), &[Method::ClassMeans]).unwrap_err();
    assert_eq!(
        error,
        SelectError::OneEnvironment {
            environment: "place 0".into()
        }
    );
    let words = error.to_string();
    assert!(
        words.contains("`place 0`") && words.contains("choose by identification"),
        "{words}"
    );

    let selection = by_environment(
        &labelled(3, Some((1, 0))),
        &Grid::usual(40),
        &[Method::ClassMeans],
    )
    .unwrap();
    let known = selection
        .warnings
        .iter()
        .all(|w| !matches!(w, SelectWarning::OnlyIn { .. }));
    assert!(
        known,
        "the other environments know the class: {:?}",
        selection.warnings
    );
    let selection = by_environment(
        &labelled(2, Some((1, 0))),
        &Grid::usual(40),
        &[Method::ClassMeans],
    )
    .unwrap();
    let only_in = SelectWarning::OnlyIn {
        environment: "place 0".into(),
        class: "class 0".into(),
    };
    assert_eq!(selection.warnings[..1], [only_in]);
}

#[test]
fn one_family_cannot_be_left_out() {
    let (images, _) = World::new(1).pairs(40, 0.1, 2);
    let error = by_identification(&images, &Grid::usual(40), &Sampling::new(1)).unwrap_err();
    assert_eq!(error, SelectError::Families { found: 1 });
    let family = |name: &str| ChangedImages {
        name: name.into(),
        ..images.families()[0].clone()
    };
    let images =
        Interventions::new(images.originals().clone(), vec![family("a"), family("b")]).unwrap();
    let error = by_identification(
        &images.pick(&[0, 1, 2]),
        &Grid::usual(40),
        &Sampling::new(1),
    )
    .unwrap_err();
    assert_eq!(error, SelectError::Images { found: 3, least: 8 });
}

#[test]
fn an_embedding_that_is_not_finite_is_refused_by_name() {
    let rows = [vec![1.0, 2.0], vec![0.5, f32::INFINITY]];
    let error = Embeddings::new(2, &rows, |i| format!("photo/dog/{i}.jpg"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("photo/dog/1.jpg: ") && error.contains("not a finite number"),
        "{error}"
    );
}

fn moments() -> Moments {
    World::new(2).pairs(300, 0.1, 3).0.moments(SHA)
}

#[test]
fn projection_files_apply_as_the_fitted_map() {
    let fitted = json!({ "interventions": { "light": 300 } });
    let provenance = Provenance {
        encoder_sha256: SHA,
        created: "2026-01-01T00:00:00Z",
        fitted: &fitted,
    };
    let fitter = Fitter::new(&moments()).unwrap();
    let z: Vec<f32> = truth::gaussian(40, 1.0, 9)
        .iter()
        .map(|&v| v as f32)
        .collect();
    let embedding = Embeddings::new(40, std::slice::from_ref(&z), |_| String::new()).unwrap();
    for (spec, kind, rank, version) in [
        (MapSpec::without(8), ProjectionKind::Hard, 32, "1"),
        (MapSpec::IDENTITY, ProjectionKind::Hard, 40, "1"),
        (
            MapSpec::soft(10.0).centred(true),
            ProjectionKind::Soft,
            40,
            "2",
        ),
    ] {
        let map = fitter.fit(&spec).unwrap();
        let bytes = map.to_bytes(&provenance).unwrap();
        let projection = Projection::parse(&bytes, SHA, 40).unwrap();
        assert_eq!(
            (projection.kind(), projection.rank()),
            (kind, rank),
            "{spec}"
        );
        let expected = map.apply(&embedding);
        for applied in [projection.apply(&z), map.projection().apply(&z)] {
            assert!(
                applied
                    .iter()
                    .zip(expected.iter())
                    .all(|(a, e)| (f64::from(*a) - e).abs() < 1e-5),
                "{spec}"
            );
        }
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(
            header.metadata().as_ref().unwrap()["version"],
            version,
            "{spec}"
        );
    }
}

/// The soft map of the tests below, and its file.
fn soft_map() -> (Map, Vec<u8>) {
    let map = Fitter::new(&moments())
        .and_then(|fitter| fitter.fit(&MapSpec::soft(1.0)))
        .expect("map");
    let provenance = Provenance {
        encoder_sha256: SHA,
        created: "",
        fitted: &json!({}),
    };
    let bytes = map.to_bytes(&provenance).expect("bytes");
    (map, bytes)
}

/// Parses `bytes` with the first occurrence of `from` replaced by `to`, and returns the error.
fn refused(bytes: &[u8], from: &[u8], to: &[u8]) -> ProjectionError {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("the bytes to replace");
    let damaged = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
    Projection::parse(&damaged, SHA, 40).expect_err("refused")
}

#[test]
fn newer_versions_and_unknown_kinds_are_distinguished() {
    let (_, bytes) = soft_map();
    let error = refused(&bytes, b"\"version\":\"2\"", b"\"version\":\"3\"").to_string();
    assert!(
        error.contains("version 3") && error.contains("reads version 2"),
        "{error}"
    );
    let error = refused(&bytes, b"\"kind\":\"soft\"", b"\"kind\":\"odds\"");
    assert!(
        matches!(&error, ProjectionError::Kind(kind) if kind == "odds"),
        "{error}"
    );
    let error = refused(&bytes, b"\"kind\":\"soft\"", b"\"kind\":\"hard\"");
    assert!(
        matches!(error, ProjectionError::NotOrthonormal { .. }),
        "{error}"
    );
}

#[test]
fn a_damaged_soft_map_is_refused() {
    let (map, bytes) = soft_map();
    // The order of tensors is not guaranteed: the matrix is found by the values of its first row.
    let row: Vec<u8> = map
        .columns()
        .row(0)
        .iter()
        .flat_map(|&v| (v as f32).to_le_bytes())
        .collect();
    let mut damaged = row.clone();
    damaged[4..8].copy_from_slice(&0.5f32.to_le_bytes());
    let error = refused(&bytes, &row, &damaged).to_string();
    assert!(
        error.contains("not symmetric") && error.contains("fit it again"),
        "{error}"
    );
}
