//! Whitening by within-class covariance: against NumPy, by numbers from `tests/golden/whitening.py`,
//! and on classes whose best map is known.

use super::golden::{matrix, read, rows, tensor};
use super::labelled;
use constancy_core::icm::{
    ChangedImages, Covariances, Criterion, Embeddings, FitError, Fitter, Head, HeldOut,
    Interventions, Labelled, MapKind, MapSpec, Method, SelectWarning, Selection,
    by_held_out_images,
};
use constancy_core::numeric::Rng;
use nalgebra::DMatrix;

fn embeddings(rows: &[Vec<f32>]) -> Embeddings {
    Embeddings::new(rows[0].len(), rows, |i| i.to_string()).expect("made for the test")
}

fn labels(images: Interventions, classes: Vec<usize>) -> Labelled {
    let names = |count: usize| (0..count).map(|i| i.to_string()).collect();
    let environments = vec![0; classes.len()];
    Labelled::new(images, classes, environments, names(3), names(1)).expect("made for the test")
}

fn family(name: &str, changed: &[Vec<f32>]) -> ChangedImages {
    ChangedImages {
        name: name.into(),
        of: (0..changed.len()).collect(),
        changed: embeddings(changed),
    }
}

#[test]
fn whitenings_match_numpy() {
    let (given, golden) = (
        read("embeddings.safetensors"),
        read("whitening.safetensors"),
    );
    let families = ["blur", "dark", "tint"]
        .map(|name| family(name, &rows(&given, &format!("changed.{name}"))));
    let images = embeddings(&rows(&given, "images"));
    let classes = tensor(&given, "labels").1;
    let images = Interventions::new(images, families.into()).unwrap();
    let images = labels(images, classes.iter().map(|&c| c as usize).collect());
    let fitter = Fitter::new(&images.moments("")).unwrap();
    assert_eq!(
        fitter.fit(&MapSpec::whitened(1.0, 1.0)).unwrap_err(),
        FitError::NoClasses
    );
    let fitter = fitter.with_covariances(Covariances::of(&images).unwrap());
    for (a, b) in [(0.0, 3.0), (1.0, 0.3), (3.0, 10.0), (10.0, 0.0)] {
        let map = fitter.fit(&MapSpec::whitened(a, b)).unwrap();
        let off = (map.columns() - matrix(&golden, &format!("map.{a}-{b}"))).amax();
        assert!(off < 1e-9, "{a}, {b}: the map is off by {off}");
        let values = DMatrix::from_column_slice(24, 1, map.eigenvalues().as_slice());
        let off = (values - matrix(&golden, &format!("eigenvalues.{a}-{b}"))).amax();
        assert!(off < 1e-9, "{a}, {b}: eigenvalues are off by {off}");
        assert!(
            map.projection()
                .apply(&[1.0; 24])
                .iter()
                .all(|v| v.is_finite())
        );
    }
}

/// Normally distributed, of standard deviation 1.
fn normal(rng: &mut Rng) -> f32 {
    (0..12).map(|_| rng.unit() - 0.5).sum()
}

/// Classes that differ in the first two of 12 axes. What differs within a class is mostly one
/// direction, which leans on these axes; the last axis holds what all images share.
fn image(class: usize, rng: &mut Rng) -> Vec<f32> {
    let mut row: Vec<f32> = (0..12).map(|_| 0.4 * normal(rng)).collect();
    let grain = 3.0 * normal(rng);
    row[0] += [1.0, -1.0, 0.0][class] + 0.6 * grain;
    row[1] += [0.0, 0.0, 1.5][class] + 0.4 * grain;
    row[2] += 0.7 * grain;
    row[11] += 40.0;
    row
}

/// The share that the true within-class covariance names right: 0.16·I + 9·ggᵀ, whose inverse is
/// (I − g·gᵀ·9 / (0.16 + 9·gᵀg)) / 0.16.
fn bayes(rows: &[Vec<f32>], classes: &[usize]) -> f64 {
    let g = [0.6, 0.4, 0.7];
    let shrink = 9.0 / (0.16 + 9.0 * g.iter().map(|v| v * v).sum::<f32>());
    let distance = |row: &[f32], class: usize| {
        let mean = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.5]][class];
        let d = [row[0] - mean[0], row[1] - mean[1], row[2]];
        let along: f32 = d.iter().zip(g).map(|(d, g)| d * g).sum();
        d.iter().map(|d| d * d).sum::<f32>() - shrink * along * along
    };
    let right = rows.iter().zip(classes).filter(|(row, class)| {
        let nearest = (0..3).min_by(|&a, &b| distance(row, a).total_cmp(&distance(row, b)));
        nearest == Some(**class)
    });
    right.count() as f64 / rows.len() as f64
}

fn accuracy(learnt: &Labelled, target: &HeldOut, map: &MapSpec) -> f64 {
    let fitter = Fitter::new(&learnt.moments("")).expect("made for the test");
    let fitter = fitter.with_covariances(Covariances::of(learnt).expect("made for the test"));
    let map = fitter.fit(map).expect("made for the test");
    let images = learnt.images().originals();
    let head =
        Head::fit(&Method::ClassMeans, images, learnt.classes(), &map).expect("made for the test");
    let hits = target.hits(&map, &head);
    hits.iter().sum::<f64>() / hits.len() as f64
}

#[test]
fn what_differs_within_classes_is_shrunk_to_near_the_best_map() {
    let mut rng = Rng::new(4);
    let classes = |count: usize| (0..count).map(|i| i % 3).collect::<Vec<_>>();
    let mut images = |count| -> Vec<Vec<f32>> {
        classes(count)
            .into_iter()
            .map(|class| image(class, &mut rng))
            .collect()
    };
    let (few, many) = (images(240), images(3000));
    let brighter: Vec<Vec<f32>> = few
        .iter()
        .map(|row| {
            row.iter()
                .enumerate()
                .map(|(i, v)| v + [0.0, 2.0][usize::from(i == 5)])
                .collect()
        })
        .collect();
    let images = Interventions::new(embeddings(&few), vec![family("light", &brighter)]).unwrap();
    let learnt = labels(images, classes(240));
    let target = HeldOut::new(embeddings(&many), classes(3000)).unwrap();
    let selection = by_held_out_images(&learnt, 1).unwrap();
    assert_eq!(selection.criterion, Criterion::HeldOutImages);
    assert!(
        matches!(selection.chosen.map.kind, MapKind::Whitened(s) if s.within_class > 0.0),
        "{selection}"
    );
    let best = bayes(&many, &classes(3000));
    let before = accuracy(&learnt, &target, &MapSpec::IDENTITY);
    let after = accuracy(&learnt, &target, &selection.chosen.map);
    assert!(
        before < best - 0.2 && after > best - 0.03,
        "{before} to {after} of {best} by {selection}"
    );
    assert_eq!(selection, by_held_out_images(&learnt, 1).unwrap());
}

#[test]
fn environments_that_disagree_show_what_to_shrink() {
    let sources = labelled(7, None);
    let (learnt, target) = sources.leave_out("place 6").unwrap();
    let selection = by_held_out_images(&learnt, 1).unwrap();
    assert!(selection.improves(), "{selection}");
    let before = accuracy(&learnt, &target, &MapSpec::IDENTITY);
    let after = accuracy(&learnt, &target, &selection.chosen.map);
    assert!(
        after > 0.9 && after > before,
        "{before} to {after} by {selection}"
    );
}

/// Without the grain, what moves all images towards one class is not drowned any more.
#[test]
fn a_whitening_that_surely_harms_one_family_is_refused() {
    let mut rng = Rng::new(8);
    let mut rows = Vec::new();
    for i in 0..400 {
        let mut row: Vec<f32> = (0..6).map(|_| 0.05 * normal(&mut rng)).collect();
        row[0] += if i % 2 == 0 { 0.5 } else { -0.5 };
        row[1] += normal(&mut rng);
        row[0] += 0.5 * row[1];
        row[5] += 40.0;
        rows.push(row);
    }
    let changed = |axis: usize, by: f32| -> Vec<Vec<f32>> {
        let change = |row: &Vec<f32>| {
            let mut row = row.clone();
            row[axis] += by;
            row
        };
        rows.iter().map(change).collect()
    };
    let classes: Vec<usize> = (0..400).map(|i| i % 2).collect();
    let choose = |families: Vec<ChangedImages>| {
        let images = Interventions::new(embeddings(&rows), families).unwrap();
        by_held_out_images(&labels(images, classes.clone()), 1).unwrap()
    };
    let harmless = || {
        vec![
            family("light", &changed(3, 1.0)),
            family("dark", &changed(3, -1.0)),
        ]
    };
    let strong = MapSpec::whitened(0.0, 30.0);
    let tried = |selection: &Selection| selection.trials.iter().any(|t| t.map == strong);
    let selection = choose(harmless());
    assert!(selection.improves() && tried(&selection), "{selection}");
    let shifted = [harmless(), vec![family("drops", &changed(0, 0.9))]].concat();
    let selection = choose(shifted);
    assert!(!tried(&selection), "{selection}");
    let refused = |w: &&SelectWarning| matches!(w, SelectWarning::Harmful { maps } if *maps > 0);
    let warning = selection.warnings.iter().find(refused);
    let words = warning.expect("a warning").to_string();
    assert!(words.contains("one family"), "{words}");
}
