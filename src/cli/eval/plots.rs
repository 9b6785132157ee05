//! The plots of the HTML report.

use super::report::{ChoiceReport, Report};
use crate::cli::reports::{Mark, Plot, Scale, escaped, percent};
use constancy_core::icm::evaluate::{Candidates, Figure, Figures};
use constancy_core::icm::{Criterion, MapKind, Trial};

/// Colours for sets; more sets than this share them.
const COLOURS: usize = 6;

/// CSS class of a set.
pub(super) fn set_class(set: usize) -> String {
    format!("c{}", set % COLOURS)
}

/// CSS class and mark of a row: the class stands for its set, the mark for its criterion.
fn style_of(figures: &Figures) -> (String, Mark) {
    let class = figures.row.set.map_or_else(|| "raw".to_owned(), set_class);
    let mark = match (figures.row.candidates, figures.row.criterion) {
        (Candidates::Raw, _) => Mark::Tick,
        (_, Some(Criterion::LeftOutEnvironment)) => Mark::Diamond,
        (Candidates::Whitened, _) => Mark::Square,
        _ => Mark::Dot,
    };
    (class, mark)
}

/// A forest plot of accuracy for each group and their mean. Rows of soft maps appear in the table only.
pub(super) fn forest(report: &Report, rows: &[&Figures], name: &str) -> String {
    const STEP: f64 = 11.0;
    let shown: Vec<&Figures> = without_soft(rows).collect();
    let Some(first) = shown.first() else {
        return String::new();
    };
    // The mean of one group is that group.
    let groups = first.groups.len() + usize::from(first.groups.len() > 1);
    let per_group = (shown.len() + 1) as f64;
    let lines = groups as f64 * per_group;
    let (low, high) = accuracy_range(&shown, groups);
    let (x, y) = (
        Scale::linear((low / 5.0).floor() * 5.0, (high / 5.0).ceil() * 5.0),
        Scale::linear(-lines, 0.0),
    );
    let mut plot = Plot::new(760.0, lines * STEP + 60.0, 130.0, x, y);
    plot.x_axis("accuracy, %");
    for group in 0..groups {
        let top = group as f64 * per_group;
        plot.label(-(top + per_group / 2.0), &group_or_mean(first, group).name);
        for (i, row) in shown.iter().enumerate() {
            accuracy_mark(&mut plot, report, row, group, -(top + i as f64 + 1.0));
        }
    }
    plot.finish(&format!(
        "{name}: accuracy of raw and projected embeddings with intervals; the table below has the figures"
    ))
}

fn without_soft<'a>(rows: &'a [&'a Figures]) -> impl Iterator<Item = &'a Figures> {
    rows.iter()
        .copied()
        .filter(|row| row.row.candidates != Candidates::Soft)
}

/// The figure of a group, or of the mean for the index after the last group.
fn group_or_mean(row: &Figures, group: usize) -> &Figure {
    row.groups.get(group).unwrap_or(&row.mean)
}

/// The lowest and highest ends of all intervals, in per cent.
fn accuracy_range(rows: &[&Figures], groups: usize) -> (f64, f64) {
    let all = || {
        rows.iter()
            .flat_map(|row| (0..groups).map(|group| group_or_mean(row, group).accuracy))
    };
    let low = all().map(|accuracy| accuracy.low).fold(1.0, f64::min);
    let high = all().map(|accuracy| accuracy.high).fold(0.0, f64::max);
    (low * 100.0, high * 100.0)
}

fn accuracy_mark(plot: &mut Plot, report: &Report, row: &Figures, group: usize, y: f64) {
    let (class, mark) = style_of(row);
    let Figure { name, accuracy, .. } = group_or_mean(row, group);
    plot.whisker(accuracy.low * 100.0, accuracy.high * 100.0, y, &class);
    let title = format!(
        "{name}, {}: {}",
        report.row_name(&row.row),
        percent(*accuracy)
    );
    plot.mark((accuracy.estimate * 100.0, y), mark, &class, &title);
}

/// The marks of [`forest`] with the names of their rows.
pub(super) fn legend(report: &Report, rows: &[&Figures]) -> String {
    let entry = |figures: &Figures| {
        let (class, mark) = style_of(figures);
        let unit = Scale::linear(0.0, 1.0);
        let mut plot = Plot::new(34.0, 58.0, 4.0, unit, unit);
        plot.whisker(0.0, 1.0, 0.5, &class);
        plot.mark((0.5, 0.5), mark, &class, "");
        let svg = plot
            .finish("")
            .replace("viewBox=\"0 0 34 58\"", "viewBox=\"0 8 34 12\"")
            .replace("role=\"img\" aria-label=\"\"", "aria-hidden=\"true\"");
        format!(
            "<span>{svg} {}</span>",
            escaped(&report.row_name(&figures.row))
        )
    };
    format!(
        "<figcaption class=\"legend\">{}</figcaption>",
        without_soft(rows).map(entry).collect::<String>()
    )
}

/// One candidate, averaged over targets: directions removed, score in %, standard error in %.
type Point = (f64, f64, f64);

/// Candidates of one set and criterion, averaged over targets.
struct CandidatePoints {
    hard: Vec<Point>,
    soft: Vec<Point>,
    identity: Vec<Point>,
}

impl CandidatePoints {
    fn new(choices: &[&ChoiceReport]) -> Self {
        Self {
            hard: mean_points(choices, |kind| matches!(kind, MapKind::Hard { .. })),
            soft: mean_points(choices, |kind| {
                matches!(kind, MapKind::Soft { .. } | MapKind::Whitened(_))
            }),
            identity: mean_points(choices, |kind| *kind == MapKind::Identity),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Point> {
        self.hard.iter().chain(&self.soft).chain(&self.identity)
    }
}

/// Score by directions removed for every candidate, and what was chosen for each target.
pub(super) fn selection_plot(choices: &[&ChoiceReport], set: usize, name: &str) -> String {
    let points = CandidatePoints::new(choices);
    let low = points.all().map(|p| p.1 - p.2).fold(100.0, f64::min);
    let high = points.all().map(|p| p.1 + p.2).fold(0.0, f64::max);
    let most = points.all().map(|p| p.0).fold(10.0, f64::max);
    let (x, y) = (Scale::log(0.8, most * 1.2), Scale::linear(low, high));
    let mut plot = Plot::of_size(370.0, 250.0, x, y);
    plot.x_axis("directions removed");
    plot.y_axis("score, %");
    if let Some((_, score, _)) = points.identity.first() {
        plot.line(&[(0.8, *score), (most * 1.2, *score)], "raw dashed thin");
    }
    let class = set_class(set);
    candidate_curve(&mut plot, &points.hard, Mark::Dot, &class);
    candidate_curve(&mut plot, &points.soft, Mark::Diamond, &class);
    for choice in choices {
        let trial = &choice.selection.chosen;
        plot.mark(
            (trial.removed.max(0.8), low),
            Mark::Tick,
            "raw",
            &format!("{}: {}", choice.target, trial.map),
        );
    }
    plot.finish(&format!(
        "{name}: score of candidates by directions removed"
    ))
}

fn candidate_curve(plot: &mut Plot, points: &[Point], mark: Mark, class: &str) {
    let band: Vec<Point> = points
        .iter()
        .map(|(x, y, error)| (*x, y - error, y + error))
        .collect();
    let line: Vec<(f64, f64)> = points.iter().map(|(x, y, _)| (*x, *y)).collect();
    plot.band(&band, class);
    plot.line(&line, class);
    for (x, y, error) in points {
        let title = format!("{x:.0} directions: {y:.1} ± {error:.1}");
        plot.mark((*x, *y), mark, class, &title);
    }
}

/// The candidates whose kind is wanted, each averaged over the targets that tried it.
fn mean_points(choices: &[&ChoiceReport], wanted: impl Fn(&MapKind) -> bool) -> Vec<Point> {
    let mut maps: Vec<String> = Vec::new();
    for trial in choices.iter().flat_map(|choice| &choice.selection.trials) {
        let map = trial.map.to_string();
        if wanted(&trial.map.kind) && !maps.contains(&map) {
            maps.push(map);
        }
    }
    maps.iter().map(|map| mean_point(choices, map)).collect()
}

fn mean_point(choices: &[&ChoiceReport], map: &str) -> Point {
    let trials: Vec<&Trial> = choices
        .iter()
        .flat_map(|choice| &choice.selection.trials)
        .filter(|trial| trial.map.to_string() == map)
        .collect();
    let mean = |value: &dyn Fn(&Trial) -> f64| {
        trials.iter().map(|trial| value(trial)).sum::<f64>() / trials.len().max(1) as f64
    };
    (
        mean(&|trial| trial.removed),
        mean(&|trial| trial.score * 100.0),
        mean(&|trial| trial.error * 100.0),
    )
}

/// Eigenvalues of Δ for each set, on logarithmic axes.
pub(super) fn spectrum_plot(spectra: &[Vec<f64>]) -> String {
    // Smaller values are drawn at this one.
    let least = 1e-3;
    let most = spectra.iter().flatten().fold(1.0f64, |a, &b| a.max(b));
    let width = spectra.iter().map(Vec::len).max().unwrap_or(1);
    let (x, y) = (
        Scale::log(1.0, width as f64),
        Scale::log(least, 10f64.powf(most.log10().ceil())),
    );
    let mut plot = Plot::of_size(760.0, 300.0, x, y);
    plot.x_axis("direction, the most variant first");
    plot.y_axis("variance, mean 1");
    for (set, values) in spectra.iter().enumerate() {
        let points = values.iter().enumerate();
        let points: Vec<(f64, f64)> = points
            .map(|(i, value)| ((i + 1) as f64, value.max(least)))
            .collect();
        plot.line(&points, &set_class(set));
    }
    plot.finish("Variance that interventions cause by direction, for each set of families")
}
