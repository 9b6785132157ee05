//! Which targets there are, who judges them, and how their counts become sections of a report.

use super::super::CliError;
use super::super::image_embeddings::Select;
use super::super::output::progress;
use super::EvalArgs;
use super::data::{Subject, draw};
use super::report::{ChoiceReport, Report, Section};
use crate::embedding_cache::EmbedError;
use constancy_core::icm::evaluate::{
    Candidates, FamilySet, Figures, Group, Plan, Scoreboard, Verdict, figures_of, judge,
};
use constancy_core::icm::{
    Bootstrap, Criterion, DEFAULT_C, HeldOut, Labelled, SelectError, SourceError,
};
use constancy_core::numeric::Rng;
use constancy_engine::performance_cores;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

/// Whether a class, by its index, is among those that a section is about.
type WantedClass = Box<dyn Fn(usize) -> bool>;

/// Judges what was gathered by the protocol that was asked for.
pub(super) fn run(args: &EvalArgs, subject: &Subject, start: Instant) -> Result<Report, CliError> {
    let mut report = Report::new(args, subject);
    let judging = Instant::now();
    if args.hold_out_families {
        families(args, subject, &mut report)?;
    } else {
        environments(args, subject, &mut report)?;
    }
    report.seconds.judging = judging.elapsed().as_secs_f64();
    report.seconds.total = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Every environment is left out once.
fn environments(args: &EvalArgs, subject: &Subject, report: &mut Report) -> Result<(), CliError> {
    let labelled = &subject.labelled;
    let environments = labelled.used_environments();
    let targets: Vec<&String> = environments
        .iter()
        .map(|&e| &labelled.environment_names()[e])
        .collect();
    if let [only] = &targets[..] {
        return Err(SelectError::OneEnvironment {
            environment: (*only).clone(),
        }
        .into());
    }
    let classes = labelled.class_names().len();
    let known = args.open.then(|| classes.div_ceil(2));
    if known.is_some_and(|known| known < 2) {
        let reason = format!(
            "--open: half of {classes} classes are too few to learn from; at least 3 are needed"
        );
        return Err(CliError::Usage(reason));
    }
    let criteria = criteria(args, targets.len(), report);
    let plan = Plan {
        sets: subject.sets.clone(),
        known_classes: known,
        criteria,
        ..plan(args, subject)
    };
    let seen = plan.seen(labelled);
    let moments = in_parallel("moments", environments.len(), |i| {
        Ok(seen.moments_of_environment(environments[i]))
    })?;
    let verdicts = in_parallel("environments", targets.len(), |i| {
        let (sources, target) = labelled.leave_out(targets[i]).map_err(EmbedError::Source)?;
        Ok(judge(&sources, &target, &plan, &moments)?)
    })?;
    for (target, verdict) in targets.iter().zip(&verdicts) {
        report.choices.extend(choices(target, verdict));
        report.warn(verdict);
        report
            .penalties
            .extend(verdict.c.map(|c| ((*target).clone(), c)));
    }
    report.spectra = mean_spectra(&verdicts);
    let bootstrap = Bootstrap::new(args.embedding.seed);
    let parts: Vec<(&str, WantedClass)> = match known {
        None => vec![(
            "environments that nothing was learnt from",
            Box::new(|_| true),
        )],
        Some(known) => vec![
            (
                "classes that fit and choice knew",
                Box::new(move |class| class < known),
            ),
            (
                "classes that they did not know",
                Box::new(move |class| class >= known),
            ),
            ("all classes", Box::new(|_| true)),
        ],
    };
    for (title, wanted) in parts {
        let board = by_target(&targets, &verdicts, &*wanted);
        report.sections.push(Section {
            title: title.into(),
            figures: figures(&board, &bootstrap)?,
        });
    }
    Ok(())
}

/// Every family is left out once in every draw of examples.
fn families(args: &EvalArgs, subject: &Subject, report: &mut Report) -> Result<(), CliError> {
    let labelled = &subject.labelled;
    let draws = draws(args, labelled)?;
    if args.select.contains(&Select::Environments) {
        let reason = "--hold-out-families learns from one environment, which cannot be left out; choose by identification or by interventions";
        return Err(CliError::Usage(reason.into()));
    }
    // The last target of a draw is the images as they are.
    let images = labelled
        .images()
        .families()
        .iter()
        .map(|family| Some(family.name.as_str()));
    let targets: Vec<Option<&str>> = images.chain([None]).collect();
    let criteria = asked(args).unwrap_or_else(|| vec![Criterion::Identification]);
    let plan = Plan {
        c: args.c.or(Some(DEFAULT_C)),
        criteria,
        ..plan(args, subject)
    };
    let verdicts = in_parallel("targets", targets.len() * draws.len(), |i| {
        let ((examples, others), family) = (&draws[i / targets.len()], targets[i % targets.len()]);
        let (sources, target) = left_out(labelled, examples, others, family)?;
        let without = |set: &FamilySet| FamilySet {
            name: set.name.clone(),
            families: set
                .families
                .iter()
                .filter(|name| Some(name.as_str()) != family)
                .cloned()
                .collect(),
        };
        let sets = subject.sets.iter().map(without).collect();
        let moments = sources.moments_by_environment();
        Ok(judge(
            &sources,
            &target,
            &Plan {
                sets,
                ..plan.clone()
            },
            &moments,
        )?)
    })?;
    for (i, verdict) in verdicts.iter().enumerate() {
        report.warn(verdict);
        if i < targets.len() {
            report
                .choices
                .extend(choices(targets[i].unwrap_or("none"), verdict));
        }
    }
    report.spectra = mean_spectra(&verdicts);
    let bootstrap = Bootstrap::new(args.embedding.seed);
    let under = by_family(&targets, &draws, &verdicts, |family| family.is_some());
    let clean = by_family(&targets, &draws, &verdicts, |family| family.is_none());
    for (title, board) in [
        ("interventions that the fit did not see", under),
        ("images as they are", clean),
    ] {
        report.sections.push(Section {
            title: title.into(),
            figures: figures(&board, &bootstrap)?,
        });
    }
    Ok(())
}

/// The figures of every row that has some.
fn figures(board: &Scoreboard, bootstrap: &Bootstrap) -> Result<Vec<Figures>, CliError> {
    let rows = in_parallel("intervals", board.rows.len(), |row| {
        Ok(figures_of(board, row, bootstrap))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

fn plan(args: &EvalArgs, subject: &Subject) -> Plan {
    Plan {
        sets: Vec::new(),
        criteria: Vec::new(),
        predictors: subject.predictors.clone(),
        text: subject.text.clone(),
        c: args.c,
        known_classes: None,
        seed: args.embedding.seed,
    }
}

fn left_out(
    labelled: &Labelled,
    examples: &[usize],
    others: &[usize],
    family: Option<&str>,
) -> Result<(Labelled, HeldOut), CliError> {
    let parts: Result<_, SourceError> = labelled.leave_out_family(examples, others, family);
    Ok(parts.map_err(EmbedError::Source)?)
}

/// With two environments the sources are one, and cannot choose by leaving one out.
fn criteria(args: &EvalArgs, environments: usize, report: &mut Report) -> Vec<Criterion> {
    if let Some(asked) = asked(args) {
        return asked;
    }
    if environments < 3 {
        report.warnings.push(
            "with two environments the sources are one: maps are chosen by identification alone"
                .into(),
        );
        return vec![Criterion::Identification];
    }
    vec![Criterion::Identification, Criterion::LeftOutEnvironment]
}

/// What `--select` names, if it is given.
fn asked(args: &EvalArgs) -> Option<Vec<Criterion>> {
    (!args.select.is_empty()).then(|| args.select.iter().map(|&select| select.into()).collect())
}

/// Images to learn from, and the others.
type Split = (Vec<usize>, Vec<usize>);

/// As many images of every class as were asked for, again and again.
fn draws(args: &EvalArgs, labelled: &Labelled) -> Result<Vec<Split>, CliError> {
    let (most, mut rng) = (args.per_class as usize, Rng::new(args.embedding.seed));
    let one = |_| {
        let (mut examples, mut others) = (Vec::new(), Vec::new());
        for (class, name) in labelled.class_names().iter().enumerate() {
            let images: Vec<usize> = (0..labelled.classes().len())
                .filter(|&i| labelled.classes()[i] == class)
                .collect();
            if images.len() <= most {
                let found = images.len();
                return Err(CliError::Usage(format!(
                    "class `{name}` has {found} images; --per-class {most} leaves none to judge by: give it more, or learn from fewer"
                )));
            }
            let (drawn, rest) = draw(images.len(), most, &mut rng);
            examples.extend(drawn.into_iter().map(|i| images[i]));
            others.extend(rest.into_iter().map(|i| images[i]));
        }
        Ok((examples, others))
    };
    (0..args.draws).map(one).collect()
}

fn choices<'a>(target: &'a str, verdict: &'a Verdict) -> impl Iterator<Item = ChoiceReport> + 'a {
    verdict.choices.iter().map(|choice| ChoiceReport {
        target: target.into(),
        set: choice.set,
        candidates: choice.candidates,
        selection: choice.selection.clone(),
    })
}

/// The mean over targets of each set's eigenvalues.
fn mean_spectra(verdicts: &[Verdict]) -> Vec<Vec<f64>> {
    let Some(first) = verdicts.first() else {
        return Vec::new();
    };
    let mut means = first.spectra.clone();
    for (set, mean) in means.iter_mut().enumerate() {
        for (i, value) in mean.iter_mut().enumerate() {
            *value =
                verdicts.iter().map(|v| v.spectra[set][i]).sum::<f64>() / verdicts.len() as f64;
        }
    }
    means
}

/// One group per target, of the images whose class is wanted.
fn by_target(
    targets: &[&String],
    verdicts: &[Verdict],
    wanted: &dyn Fn(usize) -> bool,
) -> Scoreboard {
    let group = |row: usize| {
        move |(name, verdict): (&&String, &Verdict)| {
            let outcome = &verdict.outcomes[row];
            let all = outcome.hits.iter().zip(&verdict.classes);
            let hits = all
                .filter(|(_, class)| wanted(**class))
                .map(|(hit, _)| *hit)
                .collect();
            Group {
                name: (*name).clone(),
                maps: maps(outcome.row.candidates, [outcome.map.to_string()]),
                hits,
            }
        }
    };
    let count = verdicts.first().map_or(0, |verdict| verdict.outcomes.len());
    let row = |row: usize| {
        (
            verdicts[0].outcomes[row].row,
            targets.iter().zip(verdicts).map(group(row)).collect(),
        )
    };
    Scoreboard {
        rows: (0..count).map(row).collect(),
        same_images: false,
    }
}

/// One group per family that is wanted: of every image, the mean over the draws that it was judged in.
fn by_family(
    targets: &[Option<&str>],
    draws: &[Split],
    verdicts: &[Verdict],
    wanted: impl Fn(Option<&str>) -> bool,
) -> Scoreboard {
    let group = |row: usize, target: usize| {
        let mut images: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        let mut chosen: Vec<String> = Vec::new();
        for (draw, (_, others)) in draws.iter().enumerate() {
            let outcome = &verdicts[draw * targets.len() + target].outcomes[row];
            let map = outcome.map.to_string();
            if !chosen.contains(&map) {
                chosen.push(map);
            }
            for (image, hit) in others.iter().zip(&outcome.hits) {
                let (hits, times) = images.entry(*image).or_default();
                *hits += hit;
                *times += 1.0;
            }
        }
        let hits = images
            .into_values()
            .map(|(hits, times)| hits / times)
            .collect();
        let candidates = verdicts[0].outcomes[row].row.candidates;
        Group {
            name: targets[target].unwrap_or("as they are").into(),
            maps: maps(candidates, chosen),
            hits,
        }
    };
    let groups = |row| {
        (0..targets.len())
            .filter(|&t| wanted(targets[t]))
            .map(|target| group(row, target))
            .collect()
    };
    let count = verdicts.first().map_or(0, |verdict| verdict.outcomes.len());
    let rows = (0..count)
        .map(|row| (verdicts[0].outcomes[row].row, groups(row)))
        .collect();
    Scoreboard {
        rows,
        same_images: true,
    }
}

fn maps(candidates: Candidates, chosen: impl IntoIterator<Item = String>) -> Vec<String> {
    if candidates == Candidates::Raw {
        Vec::new()
    } else {
        chosen.into_iter().collect()
    }
}

/// Does `count` tasks on all performance cores; results in their order. The first error ends it.
fn in_parallel<T: Send>(
    what: &str,
    count: usize,
    task: impl Fn(usize) -> Result<T, CliError> + Sync,
) -> Result<Vec<T>, CliError> {
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    let bar = progress(count, what, true);
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..performance_cores().min(count) {
            let (send, next, task) = (send.clone(), &next, &task);
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count || send.send((i, task(i))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (i, result) in receive {
            match result {
                Ok(result) => results[i] = Some(result),
                Err(error) => {
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(results.into_iter().flatten().collect())
}
