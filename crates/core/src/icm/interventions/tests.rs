//! What belongs together, and what is refused.

use super::*;

pub(in crate::icm) fn embeddings(values: &[f32]) -> Embeddings {
    let rows: Vec<Vec<f32>> = values.iter().map(|&v| vec![v, 1.0]).collect();
    Embeddings::new(2, &rows, |i| i.to_string()).unwrap()
}

pub(in crate::icm) fn family(of: &[usize], values: &[f32]) -> ChangedImages {
    ChangedImages {
        name: "blur".into(),
        of: of.to_vec(),
        changed: embeddings(values),
    }
}

#[test]
fn changed_images_follow_their_originals() {
    let images = Interventions::new(
        embeddings(&[0.0, 1.0, 2.0]),
        vec![family(&[2, 0, 2], &[5.0, 6.0, 7.0])],
    )
    .unwrap();
    let picked = images.pick(&[2, 1]);
    assert_eq!(picked.originals(), &embeddings(&[2.0, 1.0]));
    assert_eq!(picked.families(), [family(&[0, 0], &[5.0, 7.0])]);
    assert_eq!(picked.moments("aa").families()["blur"], 2);
}

#[test]
fn pairs_of_other_things_belong_to_every_subset() {
    let images =
        Interventions::new(embeddings(&[0.0, 1.0]), vec![family(&[0, 1], &[5.0, 6.0])]).unwrap();
    let refused = images
        .clone()
        .with_pairs("blur", embeddings(&[1.0]), embeddings(&[2.0]))
        .unwrap_err();
    assert_eq!(refused, SourceError::Duplicate("blur".into()));
    let refused = images
        .clone()
        .with_pairs("captions", embeddings(&[1.0]), embeddings(&[2.0, 3.0]))
        .unwrap_err();
    assert_eq!(refused.to_string(), "there are 1 originals for 2 images");
    let images = images
        .with_pairs("captions", embeddings(&[1.0]), embeddings(&[2.0]))
        .unwrap();
    let twice = images
        .clone()
        .with_pairs("captions", embeddings(&[1.0]), embeddings(&[2.0]));
    assert_eq!(
        twice.unwrap_err(),
        SourceError::Duplicate("captions".into())
    );
    let counts = |images: &Interventions| {
        images
            .moments("aa")
            .families()
            .into_values()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (counts(&images), counts(&images.pick(&[1]))),
        (vec![2, 1], vec![1, 1])
    );
}

#[test]
fn families_that_only_judge_are_in_no_moments() {
    let images = Interventions::new(embeddings(&[0.0, 1.0]), vec![family(&[0, 1], &[5.0, 6.0])])
        .unwrap()
        .with_pairs("physical-gain", embeddings(&[1.0]), embeddings(&[2.0]))
        .unwrap()
        .with_pairs(
            "physical-hue",
            embeddings(&[1.0, 3.0]),
            embeddings(&[2.0, 0.0]),
        )
        .unwrap();
    let names = |images: &Interventions| images.moments("aa").families();
    assert_eq!((names(&images).len(), images.pairs()), (3, 5));
    let alone = images.fitted_to_pairs_alone();
    for images in [&alone, &alone.pick(&[1])] {
        let names: Vec<_> = names(images).into_iter().collect();
        assert_eq!(
            names,
            [("physical-gain".into(), 1), ("physical-hue".into(), 2)]
        );
        assert_eq!((images.pairs(), images.families().len()), (3, 1));
    }
}

#[test]
fn mismatched_families_are_refused() {
    let refused = |families| {
        Interventions::new(embeddings(&[0.0, 1.0]), families)
            .unwrap_err()
            .to_string()
    };
    assert!(
        refused(vec![family(&[0, 2], &[5.0, 6.0])])
            .contains("`blur` changes image 2, but there are only 2 images")
    );
    assert!(refused(vec![family(&[0], &[5.0, 6.0])]).contains("1 originals for 2 images"));
    assert!(refused(vec![family(&[], &[]), family(&[], &[])]).contains("`blur` is given twice"));
}
