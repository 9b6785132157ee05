//! The protocols on hits that are made up.

use super::*;
use crate::icm::{
    ChangedImages, Criterion, Embeddings, HeldOut, Interventions, Labelled, MapSpec, SelectError,
};

/// `count` images of each class in each environment, under two families of interventions.
fn labelled(environments: usize, classes: usize, count: usize) -> Labelled {
    let images = environments * classes * count;
    let rows = |offset: f32| -> Vec<Vec<f32>> {
        (0..images).map(|i| vec![i as f32 + offset, 1.0]).collect()
    };
    let embeddings = |offset: f32| Embeddings::new(2, &rows(offset), |i| i.to_string()).unwrap();
    let family = |name: &str, offset| ChangedImages {
        name: name.into(),
        of: (0..images).collect(),
        changed: embeddings(offset),
    };
    let families = vec![family("haze", 0.1), family("jpeg", 0.2)];
    let names = |kind: &str, count: usize| (0..count).map(|i| format!("{kind}{i}")).collect();
    Labelled::new(
        Interventions::new(embeddings(0.0), families).unwrap(),
        (0..images).map(|i| i / count % classes).collect(),
        (0..images).map(|i| i / count / classes).collect(),
        names("class", classes),
        names("place", environments),
    )
    .unwrap()
}

fn plan(criteria: &[Criterion]) -> Plan {
    Plan {
        sets: vec![FamilySet {
            name: "both".into(),
            families: vec!["haze".into(), "jpeg".into()],
        }],
        criteria: criteria.to_vec(),
        predictors: vec![Predictor::ClassMeans],
        text: None,
        maps: Vec::new(),
        logit_scale: 100.0,
        c: None,
        known_classes: None,
        calibrate: 0,
        seed: 1,
    }
}

/// Answers with what made them right or wrong as the number that ranks them.
fn answers(hits: Vec<f64>) -> Answers {
    Answers {
        scores: vec![hits.clone(); Ranker::ALL.len()],
        open: vec![hits.clone(); Ranker::ALL.len()],
        hits,
    }
}

/// A verdict with one row, the raw embeddings, without a choice.
fn verdict(target: &HeldOut, hits: Vec<f64>) -> Verdict {
    Verdict {
        outcomes: vec![Outcome {
            row: Row::raw(Predictor::ClassMeans),
            map: MapSpec::IDENTITY,
            answers: answers(hits),
        }],
        classes: target.classes().to_vec(),
        choices: Vec::new(),
        spectra: vec![vec![1.0, 1.0]],
        c: Some(0.1),
    }
}

fn groups(section: &Section) -> &[Group] {
    &section.board.rows[0].1
}

#[test]
fn each_environment_is_a_target_once() {
    let images = labelled(3, 2, 2);
    let protocol = LeaveOneEnvironmentOut::new(&images, plan(&[]), false).unwrap();
    assert_eq!(protocol.targets(), ["place0", "place1", "place2"]);
    let verdicts: Vec<Verdict> = protocol
        .targets()
        .iter()
        .map(|name| verdict(&images.leave_out(name).unwrap().1, vec![1.0, 0.0, 1.0, 0.0]))
        .collect();
    let summary = protocol.summary(&verdicts);
    assert!(summary.warnings.is_empty() && summary.sections.len() == 1);
    let groups = groups(&summary.sections[0]);
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, protocol.targets());
    assert_eq!(groups[2].hits, [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(
        (summary.penalties["place1"], summary.spectra),
        (0.1, vec![vec![1.0, 1.0]])
    );
}

#[test]
fn open_classes_are_judged_apart() {
    let images = labelled(2, 3, 1);
    let protocol = LeaveOneEnvironmentOut::new(&images, plan(&[]), true).unwrap();
    let verdicts: Vec<Verdict> = protocol
        .targets()
        .iter()
        .map(|name| verdict(&images.leave_out(name).unwrap().1, vec![0.0, 0.25, 1.0]))
        .collect();
    let summary = protocol.summary(&verdicts);
    let hits: Vec<&[f64]> = summary
        .sections
        .iter()
        .map(|section| &groups(section)[0].hits[..])
        .collect();
    assert_eq!(hits, [&[0.0, 0.25][..], &[1.0], &[0.0, 0.25, 1.0]]);
    assert!(
        summary.warnings[0].contains("by identification alone"),
        "{:?}",
        summary.warnings
    );
}

#[test]
fn what_cannot_be_left_out_is_refused() {
    let alone = labelled(1, 2, 1);
    let refused = LeaveOneEnvironmentOut::new(&alone, plan(&[]), false).unwrap_err();
    assert!(
        matches!(
            refused,
            ProtocolError::Select(SelectError::OneEnvironment { .. })
        ),
        "{refused}"
    );
    let images = labelled(2, 2, 2);
    let refused = LeaveOneEnvironmentOut::new(&images, plan(&[]), true).unwrap_err();
    assert!(
        matches!(refused, ProtocolError::FewClasses { classes: 2 }),
        "{refused}"
    );
    let few_shot = |per_class| FewShot {
        per_class,
        draws: 1,
    };
    let refused = LeaveOneFamilyOut::new(&images, plan(&[]), few_shot(4)).unwrap_err();
    assert!(
        matches!(
            refused,
            ProtocolError::FewImages {
                images: 4,
                per_class: 4,
                ..
            }
        ),
        "{refused}"
    );
    let environments = plan(&[Criterion::LeftOutEnvironment]);
    let refused = LeaveOneFamilyOut::new(&images, environments, few_shot(3)).unwrap_err();
    assert!(
        matches!(refused, ProtocolError::NoSourceEnvironments),
        "{refused}"
    );
}

#[test]
fn an_image_that_several_draws_judge_counts_once_with_its_mean() {
    let images = labelled(1, 2, 3);
    let few_shot = FewShot {
        per_class: 1,
        draws: 2,
    };
    let protocol = LeaveOneFamilyOut::new(&images, plan(&[]), few_shot).unwrap();
    // Two families and the images as they are, in two draws.
    assert_eq!(protocol.tasks(), 6);
    let target = images
        .leave_out_family(&[0, 3], &[1, 2, 4, 5], None)
        .unwrap()
        .1;
    // Every image is right in the first draw and wrong in the second.
    let verdicts: Vec<Verdict> = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
        .map(|hit| verdict(&target, vec![hit; 4]))
        .into();
    let summary = protocol.summary(&verdicts);
    let [under, clean] = &summary.sections[..] else {
        panic!("two sections: {}", summary.sections.len());
    };
    let names: Vec<&str> = groups(under)
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!((names, groups(clean).len()), (vec!["haze", "jpeg"], 1));
    let hits = &groups(clean)[0].hits;
    assert!((4..=6).contains(&hits.len()), "{hits:?}");
    assert!(
        hits.iter().all(|hit| [0.0, 0.5, 1.0].contains(hit)),
        "{hits:?}"
    );
    let sum: f64 = hits
        .iter()
        .map(|hit| if *hit == 0.5 { 2.0 } else { 1.0 })
        .sum();
    assert_eq!(
        sum, 8.0,
        "four images are judged in each of two draws: {hits:?}"
    );
    assert!(summary.penalties.is_empty());
}

#[test]
fn the_choice_among_soft_maps_shares_the_row_of_all_where_it_is_the_same() {
    let images = labelled(3, 2, 2);
    let protocol = LeaveOneEnvironmentOut::new(&images, plan(&[]), false).unwrap();
    let outcome = |candidates, strength| Outcome {
        row: Row {
            candidates,
            set: Some(0),
            criterion: Some(Criterion::Identification),
            ..Row::raw(Predictor::ClassMeans)
        },
        map: MapSpec::soft(strength),
        answers: answers(vec![1.0, 0.0, 1.0, 1.0]),
    };
    let rows = |of_last: f64| -> Vec<Candidates> {
        let verdicts: Vec<Verdict> = (0..3)
            .map(|target| {
                let name = protocol.targets()[target];
                let held_out = images.leave_out(name).unwrap().1;
                let mut verdict = verdict(&held_out, vec![1.0; 4]);
                let soft = if target == 2 { of_last } else { 3.0 };
                verdict.outcomes.push(outcome(Candidates::Icm, 3.0));
                verdict.outcomes.push(outcome(Candidates::Soft, soft));
                verdict
            })
            .collect();
        let board = &protocol.summary(&verdicts).sections[0].board;
        board.rows.iter().map(|(row, _)| row.candidates).collect()
    };
    assert_eq!(rows(3.0), [Candidates::Raw, Candidates::Both]);
    // One target with another map makes them two.
    let apart = [Candidates::Raw, Candidates::Icm, Candidates::Soft];
    assert_eq!(rows(1.0), apart);
}
