//! The report's figures as tables, for every format.

use super::report::{Report, Section};
use crate::cli::reports::{Cell, Table, number, percent};
use constancy_core::icm::evaluate::{Candidates, Figure, Figures, Predictor, Ranker, Trust};

/// Up to this many groups, a table has a column for each.
const MOST_COLUMNS: usize = 6;

/// The tables of one predictor in a section: accuracies first, then how far the answers can be trusted.
pub(super) fn tables(report: &Report, section: &Section, predictor: Predictor) -> Vec<Table> {
    let rows = Report::rows(section, predictor);
    let accuracies = Table {
        title: String::new(),
        rows: accuracies(report, &rows),
    };
    let trust = [
        trusted(report, &rows),
        by_ranker(
            report,
            &rows,
            "area under the risk-coverage curve by what ranks the answers, less is better",
            |trust| Some(format!("{:.3}", trust.aurc.estimate)),
        ),
        by_ranker(
            report,
            &rows,
            "% right at 80 % coverage by what ranks the answers",
            |trust| Some(format!("{:.1}", trust.accuracy_at_80.estimate * 100.0)),
        ),
        by_ranker(
            report,
            &rows,
            "% of unknown classes accepted where 80 % of known ones are, less is better",
            |trust| Some(format!("{:.1}", trust.false_accepts?.estimate * 100.0)),
        ),
    ];
    [accuracies]
        .into_iter()
        .chain(trust.into_iter().flatten())
        .collect()
}

/// Each row is a map where there are few groups, and a group where there are many.
fn accuracies(report: &Report, rows: &[&Figures]) -> Vec<Vec<Cell>> {
    match rows.first() {
        None => Vec::new(),
        Some(first) if first.groups.len() <= MOST_COLUMNS => by_map(report, rows, first),
        Some(first) => by_group(report, rows, first),
    }
}

fn by_map(report: &Report, rows: &[&Figures], first: &Figures) -> Vec<Vec<Cell>> {
    // The mean of one group is that group.
    let alone = first.groups.len() == 1;
    let groups = first.groups.iter().map(|group| group.name.as_str());
    let head = ["maps"]
        .into_iter()
        .chain(groups)
        .chain((!alone).then_some("mean"))
        .chain(["gain on raw"])
        .map(Cell::from)
        .collect();
    let row = |figures: &&Figures| {
        let mean = (!alone).then_some(&figures.mean);
        let accuracies = figures.groups.iter().chain(mean).map(Cell::accuracy);
        [report.row_name(&figures.row).into()]
            .into_iter()
            .chain(accuracies)
            .chain([Cell::gain(&figures.mean)])
            .collect()
    };
    [head].into_iter().chain(rows.iter().map(row)).collect()
}

fn by_group(report: &Report, rows: &[&Figures], first: &Figures) -> Vec<Vec<Cell>> {
    let name = |figures: &&Figures| report.row_name(&figures.row);
    let with_gain = || {
        rows.iter()
            .filter(|figures| figures.row.candidates != Candidates::Raw)
    };
    let head = ["family".to_owned()]
        .into_iter()
        .chain(rows.iter().map(name))
        .chain(with_gain().map(|figures| format!("gain of {}", name(figures))))
        .map(Cell::from)
        .collect();
    let line = |label: &str, figure: &dyn Fn(&Figures) -> Figure| {
        let accuracies = rows.iter().map(|row| Cell::accuracy(&figure(row)));
        let gains = with_gain().map(|row| Cell::gain(&figure(row)));
        [label.into()]
            .into_iter()
            .chain(accuracies)
            .chain(gains)
            .collect()
    };
    let groups = first.groups.iter().enumerate();
    let groups = groups.map(|(i, group)| line(&group.name, &|row| row.groups[i].clone()));
    [head]
        .into_iter()
        .chain(groups)
        .chain([line("mean", &|row| row.mean.clone())])
        .collect()
}

/// What a deployed classifier's scores are worth: those of the softmax, in the mean over groups.
fn trusted(report: &Report, rows: &[&Figures]) -> Option<Table> {
    let of = |figures: &Figures, ranker: Ranker| {
        let mut trust = figures.mean.trust.iter();
        trust.find(|trust| trust.ranker == ranker).cloned()
    };
    let open = rows.iter().any(|figures| {
        let softmax = of(figures, Ranker::Softmax);
        softmax.is_some_and(|trust| trust.false_accepts.is_some())
    });
    let head = [
        "maps",
        "calibration error",
        "at a fitted temperature",
        "risk-coverage area",
        "% right at 80 % coverage",
    ];
    let head = head.into_iter().chain(open.then_some("% unknown accepted"));
    let mut lines: Vec<Vec<Cell>> = vec![head.map(Cell::from).collect()];
    for figures in rows {
        let softmax = of(figures, Ranker::Softmax)?;
        let fitted = of(figures, Ranker::FittedSoftmax)?;
        let accepted = softmax.false_accepts.map(percent);
        let cells = [
            report.row_name(&figures.row),
            number(softmax.ece?),
            number(fitted.ece?),
            number(softmax.aurc),
            percent(softmax.accuracy_at_80),
        ];
        let cells = cells.into_iter().chain(accepted);
        lines.push(cells.map(Cell::from).collect());
    }
    Some(Table {
        title: "how far softmax scores can be trusted".into(),
        rows: lines,
    })
}

/// One column for each ranker; `None` if no row has the figure.
fn by_ranker(
    report: &Report,
    rows: &[&Figures],
    title: &str,
    value: impl Fn(&Trust) -> Option<String>,
) -> Option<Table> {
    let rankers = rows.first()?.mean.trust.iter();
    let names = rankers.map(|trust| trust.ranker.to_string());
    let head = ["maps".to_owned()].into_iter().chain(names);
    let mut lines: Vec<Vec<Cell>> = vec![head.map(Cell::from).collect()];
    for figures in rows {
        let values: Option<Vec<String>> = figures.mean.trust.iter().map(&value).collect();
        let name = report.row_name(&figures.row);
        let cells = [name].into_iter().chain(values?);
        lines.push(cells.map(Cell::from).collect());
    }
    (lines[0].len() > 1).then(|| Table {
        title: title.into(),
        rows: lines,
    })
}
