//! The report's figures as tables, for text and HTML.

use super::report::{ClassFigures, Confused, Group, Report};
use super::thresholds::{AtThreshold, Origin};
use crate::cli::reports::{Cell, Table, percent};
use constancy_core::reliability::{Bin, RiskAtCoverage};
use constancy_core::stats::Interval;

/// Up to this many classes, the whole confusion matrix is shown.
const MOST_IN_MATRIX: usize = 12;
/// Of more classes, this many confusions are shown.
const MOST_CONFUSIONS: usize = 15;

fn table<const N: usize>(
    title: impl Into<String>,
    head: [&str; N],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Table {
    let head = head.map(Cell::from).into();
    let rows = rows.into_iter();
    let rows = rows.map(|row| row.into_iter().map(Cell::from).collect());
    Table {
        title: title.into(),
        rows: [head].into_iter().chain(rows).collect(),
    }
}

/// A share in per cent, or a dash.
fn share(of: Option<Interval>) -> String {
    of.map_or_else(|| "-".into(), percent)
}

/// The confusion matrix, or the most frequent confusions of many classes.
pub(super) fn confusion(report: &Report) -> Table {
    if report.labels.len() <= MOST_IN_MATRIX {
        return matrix(report);
    }
    let wrong = |c: &&Confused| c.class.as_ref() != Some(&c.answer);
    let row = |c: &Confused| {
        vec![
            c.class.clone().unwrap_or_else(|| "(no class)".into()),
            c.answer.clone(),
            c.images.to_string(),
        ]
    };
    let most = report.confusion.iter().filter(wrong).take(MOST_CONFUSIONS);
    let head = ["what it is", "what was answered", "images"];
    table("the most frequent confusions", head, most.map(row))
}

fn matrix(report: &Report) -> Table {
    let count = |class: Option<&String>, answer: &String| {
        let mut cells = report.confusion.iter();
        let cell = cells.find(|c| c.class.as_ref() == class && c.answer == *answer);
        cell.map_or(0, |c| c.images).to_string()
    };
    let row = |name: String, class: Option<&String>| -> Vec<Cell> {
        let counts = report.labels.iter().map(|answer| count(class, answer));
        let cells = [name].into_iter().chain(counts);
        cells.map(Cell::from).collect()
    };
    let columns = 1..=report.labels.len();
    let head = ["what it is".to_owned()]
        .into_iter()
        .chain(columns.map(|n| n.to_string()));
    let labels = report.labels.iter().enumerate();
    let rows = labels.map(|(i, label)| row(format!("{} {label}", i + 1), Some(label)));
    let unknown = (report.unknown_images > 0).then(|| row("no class of the bank".into(), None));
    Table {
        title: "confusion matrix: images by what was answered, in columns numbered like the rows"
            .into(),
        rows: [head.map(Cell::from).collect()]
            .into_iter()
            .chain(rows)
            .chain(unknown)
            .collect(),
    }
}

pub(super) fn classes(report: &Report) -> Table {
    let head = [
        "class",
        "images",
        "recall, %",
        "called known, %",
        "answers",
        "precision, %",
    ];
    let row = |c: &ClassFigures| {
        vec![
            c.class.clone(),
            c.images.to_string(),
            share(c.recall),
            share(c.known),
            c.answers.to_string(),
            share(c.precision),
        ]
    };
    let title = format!(
        "by class, known from {} {} on",
        report.judged_by, report.threshold
    );
    table(title, head, report.classes.iter().map(row))
}

/// Environments or families.
pub(super) fn groups(title: String, first: &str, groups: &[Group]) -> Table {
    let head = [
        first,
        "images",
        "right, %",
        "called known, %",
        "of these wrong, %",
    ];
    let row = |g: &Group| {
        vec![
            g.name.clone(),
            g.images.to_string(),
            percent(g.accuracy),
            percent(g.known.coverage),
            share(g.known.risk),
        ]
    };
    table(title, head, groups.iter().map(row))
}

/// Coverage and risk at each threshold, of images as they are or under interventions.
pub(super) fn thresholds(report: &Report, changed: bool) -> Table {
    let row = |t: &AtThreshold| -> Option<Vec<String>> {
        let as_they_are = (!changed).then_some(&t.as_they_are);
        let known = as_they_are.or(t.under_interventions.as_ref())?;
        Some(vec![
            name(t),
            percent(known.coverage),
            known.answers.to_string(),
            share(known.risk),
        ])
    };
    let head = [
        "threshold",
        "called known, %",
        "answers",
        "of these wrong, %",
    ];
    let what = if changed {
        "under interventions"
    } else {
        "as they are"
    };
    let rows = report.thresholds.iter().filter_map(row);
    table(format!("{what}, by threshold"), head, rows)
}

/// What the bank states of its own thresholds, next to what is found; `None` for a bank without confidence.
pub(super) fn stated(report: &Report) -> Option<Table> {
    let row = |t: &AtThreshold| match t.origin {
        Origin::Bank {
            precision,
            stated_risk,
        } => Some(vec![
            target(precision),
            format!("{:.3}", t.threshold),
            format!("{:.1}", stated_risk * 100.0),
            share(t.worst_risk),
        ]),
        Origin::Fixed | Origin::Set => None,
    };
    let reached: Vec<_> = report.thresholds.iter().filter_map(row).collect();
    let missing = report.unreached.iter();
    let missing = missing.map(|&p| vec![target(p), "not shown".into(), "-".into(), "-".into()]);
    let rows: Vec<_> = reached.into_iter().chain(missing).collect();
    let head = ["target", "threshold", "wrong at most, %", "wrong here, %"];
    let title = if report.under_interventions.is_some() {
        "the bank's own thresholds, images as they are or under interventions, whichever is worse"
    } else {
        "the bank's own thresholds"
    };
    (!rows.is_empty()).then(|| table(title, head, rows))
}

fn target(precision: f64) -> String {
    format!("{:.0} % right", precision * 100.0)
}

/// False accepts next to what the bank states of them.
pub(super) fn unknown(report: &Report) -> Table {
    let of = |figure: fn(&AtThreshold) -> Option<Interval>| {
        let any = report.thresholds.iter().any(|t| figure(t).is_some());
        any.then_some(figure)
    };
    let columns = [
        ("as they are, %", of(|t| t.unknown.as_they_are)),
        ("the bank states, %", of(|t| t.unknown.stated)),
        (
            "under interventions, %",
            of(|t| t.unknown.under_interventions),
        ),
        (
            "the bank states, %",
            of(|t| t.unknown.stated_under_interventions),
        ),
    ];
    let columns: Vec<_> = columns
        .into_iter()
        .filter_map(|(n, f)| Some((n, f?)))
        .collect();
    let names = columns.iter().map(|(name, _)| *name);
    let head = ["threshold"].into_iter().chain(names).map(Cell::from);
    let row = |t: &AtThreshold| -> Vec<Cell> {
        let figures = columns.iter().map(|(_, figure)| share(figure(t)));
        [name(t)]
            .into_iter()
            .chain(figures)
            .map(Cell::from)
            .collect()
    };
    Table {
        title: "images of no class of the bank that are called known".into(),
        rows: [head.collect()]
            .into_iter()
            .chain(report.thresholds.iter().map(row))
            .collect(),
    }
}

fn name(at: &AtThreshold) -> String {
    let value = at.threshold;
    match at.origin {
        Origin::Fixed => format!("{value:.2}"),
        Origin::Set => format!("{value} (set)"),
        Origin::Bank { precision, .. } => {
            format!("{value:.3} (the bank's for {:.0} %)", precision * 100.0)
        }
    }
}

pub(super) fn reliability(title: String, bins: &[Bin], judged_by: &str, bars: bool) -> Table {
    let row = |bin: &Bin| {
        let right = bin.right.estimate;
        let row = [
            format!("{:.3}", bin.confidence),
            bin.answers.to_string(),
            percent(bin.right),
        ];
        row.into_iter()
            .chain(bars.then(|| bar(right, Some(bin.confidence))))
            .collect()
    };
    let head = ["", "answers", "right, %", ""];
    let mut table = table(title, head, bins.iter().map(row));
    table.rows[0][0] = format!("mean {judged_by}").into();
    table.rows[0].truncate(3 + usize::from(bars));
    table
}

pub(super) fn coverage(title: String, tenths: &[RiskAtCoverage], bars: bool) -> Table {
    let row = |at: &RiskAtCoverage| {
        let row = [
            format!("{:.0}", at.coverage * 100.0),
            format!("{:.1}", at.risk * 100.0),
            format!("{:.3}", at.score),
        ];
        row.into_iter()
            .chain(bars.then(|| bar(at.risk, None)))
            .collect()
    };
    let head = ["kept, %", "of these wrong, %", "from", ""];
    let mut table = table(title, head, tenths.iter().map(row));
    table.rows[0].truncate(3 + usize::from(bars));
    table
}

/// A share as a bar of 40 characters, with a mark at another share.
fn bar(share: f64, mark: Option<f64>) -> String {
    const WIDTH: usize = 40;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 40 characters"
    )]
    let place = |share: f64| (share.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    let (filled, mark) = (place(share), mark.map(|m| place(m).clamp(1, WIDTH) - 1));
    let character = |i: usize| match mark {
        Some(at) if at == i => '|',
        _ if i < filled => '#',
        _ => '.',
    };
    (0..WIDTH).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_both_shares() {
        assert_eq!(bar(0.0, None), ".".repeat(40));
        assert_eq!(bar(1.0, None), "#".repeat(40));
        let both = bar(0.5, Some(0.75));
        assert_eq!(
            both,
            format!("{}{}|{}", "#".repeat(20), ".".repeat(9), ".".repeat(10))
        );
    }
}
