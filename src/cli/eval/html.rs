//! The report as one page that needs nothing else: tables, plots, pictures; light or dark, as its reader likes it.

use super::markdown::capital;
use super::pictures::Example;
use super::report::{ChoiceReport, Report, Section, by, percent, points, table};
use super::svg::{Mark, Plot, Scale, escaped};
use constancy_core::icm::evaluate::{Candidates, Figures, Predictor};
use constancy_core::icm::{Criterion, MapKind, Trial};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const STYLE: &str = include_str!("report.css");

// Writing to a string cannot fail.

pub(super) fn page(report: &Report, examples: &[Example]) -> String {
    let title = escaped(&format!(
        "{} on {}",
        report.model.name,
        report.folder.display()
    ));
    let mut body = head(report);
    for section in &report.sections {
        for &predictor in &report.predictors {
            body += &figures(report, section, predictor);
        }
    }
    body += &curves(report);
    body += &spectra(report);
    body += &pairs(examples);
    body += &method(report);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\n{body}</main></body></html>\n"
    )
}

/// What it is about, and the best that each predictor came to.
fn head(report: &Report) -> String {
    let mut html = format!(
        "<h1>{}</h1><p>{} images of {} environments and {} classes in <code>{}</code>. {}. Accuracy in per cent; intervals enclose 95 %, by bootstrap over images, and gains are paired image by image.</p>\n",
        escaped(&format!(
            "What an invariant projection gains for {}",
            report.model.name
        )),
        report.images,
        report.environments.len(),
        report.classes.len(),
        escaped(&report.folder.display().to_string()),
        escaped(&capital(&report.protocol)),
    );
    let Some(section) = report.sections.first() else {
        return html;
    };
    html += "<div class=\"tiles\">";
    for &predictor in &report.predictors {
        let rows = Report::rows(section, predictor);
        let raw = rows.iter().find(|f| f.row.candidates == Candidates::Raw);
        let first = rows.iter().find(|f| f.row.candidates == Candidates::Icm);
        if let (Some(raw), Some(icm)) = (raw, first) {
            let _ = write!(
                html,
                "<div class=\"tile\"><div class=\"what\">{}, mean of {}</div><div class=\"big\">{:.1} → {:.1}</div><div>{} points</div><div class=\"what\">{}</div></div>",
                escaped(&capital(&predictor.to_string())),
                icm.groups.len(),
                raw.mean.accuracy.estimate * 100.0,
                icm.mean.accuracy.estimate * 100.0,
                escaped(&icm.mean.gain.map_or_else(String::new, points)),
                escaped(&report.row_name(&icm.row)),
            );
        }
    }
    html + "</div>\n"
}

/// A predictor's plot and table.
fn figures(report: &Report, section: &Section, predictor: Predictor) -> String {
    let rows = Report::rows(section, predictor);
    let name = format!("{}: {}", capital(&predictor.to_string()), section.title);
    let mut html = format!("<section><h2>{}</h2>\n", escaped(&name));
    html += &format!(
        "<figure>{}{}</figure>\n",
        forest(report, &rows, &name),
        legend(report, &rows)
    );
    html += "<div class=\"scroll\"><table>";
    for (i, row) in table(report, &rows).iter().enumerate() {
        let (tag, scope) = if i == 0 {
            ("th", " scope=\"col\"")
        } else {
            ("td", "")
        };
        let cells = row.iter().enumerate().map(|(j, cell)| match j {
            0 => format!(
                "<th scope=\"{}\">{}</th>",
                if i == 0 { "col" } else { "row" },
                escaped(cell)
            ),
            _ => format!("<{tag}{scope}>{}</{tag}>", escaped(cell)),
        });
        let _ = write!(html, "<tr>{}</tr>", cells.collect::<String>());
    }
    html += "</table></div>\n";
    let losses = report.losses(&rows);
    if !losses.is_empty() {
        let items: String = losses
            .iter()
            .map(|loss| format!("<li>{}</li>", escaped(loss)))
            .collect();
        let _ = write!(
            html,
            "<p>Worse than raw beyond doubt, by points:</p><ul>{items}</ul>"
        );
    }
    html + "</section>\n"
}

/// Colour and mark of a row: the colour is its set's, the mark what chose it.
fn look(figures: &Figures) -> (String, Mark) {
    let class = figures
        .row
        .set
        .map_or_else(|| "raw".to_owned(), |set| format!("c{}", set % 6));
    let mark = match (figures.row.candidates, figures.row.criterion) {
        (Candidates::Raw, _) => Mark::Tick,
        (_, Some(Criterion::LeftOutEnvironment)) => Mark::Diamond,
        _ => Mark::Dot,
    };
    (class, mark)
}

/// Accuracy before and after, per group and in the mean; soft maps alone are in the table.
fn forest(report: &Report, rows: &[&Figures], name: &str) -> String {
    const STEP: f64 = 11.0;
    let shown: Vec<&&Figures> = rows
        .iter()
        .filter(|f| f.row.candidates != Candidates::Soft)
        .collect();
    let Some(first) = shown.first() else {
        return String::new();
    };
    let alone = first.groups.len() == 1;
    let groups = first.groups.len() + usize::from(!alone);
    let figure = |row: &Figures, group: usize| row.groups.get(group).unwrap_or(&row.mean).clone();
    let all = || {
        shown
            .iter()
            .flat_map(|row| (0..groups).map(|g| figure(row, g).accuracy))
    };
    let low = all().map(|a| a.low).fold(1.0, f64::min) * 100.0;
    let high = all().map(|a| a.high).fold(0.0, f64::max) * 100.0;
    let per_group = (shown.len() + 1) as f64;
    let (height, rows_high) = (
        groups as f64 * per_group * STEP + 60.0,
        groups as f64 * per_group,
    );
    let (x, y) = (
        Scale::linear((low / 5.0).floor() * 5.0, (high / 5.0).ceil() * 5.0),
        Scale::linear(-rows_high, 0.0),
    );
    let mut plot = Plot::new(760.0, height, 130.0, x, y);
    plot.x_axis("accuracy, %");
    for group in 0..groups {
        let top = group as f64 * per_group;
        plot.label(-(top + per_group / 2.0), &figure(first, group).name);
        for (i, row) in shown.iter().enumerate() {
            let (class, mark) = look(row);
            let found = figure(row, group);
            let y = -(top + i as f64 + 1.0);
            plot.whisker(
                found.accuracy.low * 100.0,
                found.accuracy.high * 100.0,
                y,
                &class,
            );
            let title = format!(
                "{}, {}: {}",
                found.name,
                report.row_name(&row.row),
                percent(found.accuracy)
            );
            plot.mark((found.accuracy.estimate * 100.0, y), mark, &class, &title);
        }
    }
    plot.finish(&format!(
        "{name}: accuracy of raw and projected embeddings with intervals; the table below has the figures"
    ))
}

fn legend(report: &Report, rows: &[&Figures]) -> String {
    let entry = |figures: &&&Figures| {
        let (class, mark) = look(figures);
        let mut plot = Plot::new(
            34.0,
            58.0,
            4.0,
            Scale::linear(0.0, 1.0),
            Scale::linear(0.0, 1.0),
        );
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
    let shown = rows.iter().filter(|f| f.row.candidates != Candidates::Soft);
    format!(
        "<figcaption class=\"legend\">{}</figcaption>",
        shown.map(|f| entry(&f)).collect::<String>()
    )
}

/// How the maps were chosen: a panel for each set and criterion.
fn curves(report: &Report) -> String {
    let icm = || {
        report
            .choices
            .iter()
            .filter(|c| c.candidates == Candidates::Icm)
    };
    let mut panels = String::new();
    for criterion in [
        Criterion::Identification,
        Criterion::LeftOutEnvironment,
        Criterion::LeftOutIntervention,
    ] {
        for (set, families) in report.sets.iter().enumerate() {
            let chosen: Vec<&ChoiceReport> = icm()
                .filter(|c| c.set == set && c.selection.criterion == criterion)
                .collect();
            if !chosen.is_empty() {
                let name = format!("{}, {}", families.name, by(criterion));
                let _ = write!(
                    panels,
                    "<figure>{}<figcaption>{}</figcaption></figure>",
                    panel(&chosen, set, &name),
                    escaped(&name)
                );
            }
        }
    }
    format!(
        "<section><h2>How maps were chosen</h2><p>Score of every candidate by how many directions it takes away, in the mean over targets with its standard error: filled dots remove directions, diamonds shrink them, the dashed line is the identity. Ticks at the foot are what was chosen for each target: the gentlest map that falls behind the best by no more than one standard error, if it gains more than twice its error. The target is never looked at.</p><div class=\"panels\">{panels}</div></section>\n"
    )
}

/// One candidate in the mean over targets: directions removed, score, standard error.
type Point = (f64, f64, f64);

fn panel(chosen: &[&ChoiceReport], set: usize, name: &str) -> String {
    let trials = |wanted: &dyn Fn(&MapKind) -> bool| {
        let mut maps: Vec<String> = Vec::new();
        for trial in chosen
            .iter()
            .flat_map(|c| &c.selection.trials)
            .filter(|t| wanted(&t.map.kind))
        {
            let map = trial.map.to_string();
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
        maps.into_iter()
            .map(|map| mean_point(chosen, &map))
            .collect::<Vec<Point>>()
    };
    let hard = trials(&|kind| matches!(kind, MapKind::Hard { .. }));
    let soft = trials(&|kind| matches!(kind, MapKind::Soft { .. }));
    let identity = trials(&|kind| *kind == MapKind::Identity);
    let all = || hard.iter().chain(&soft).chain(&identity);
    let low = all().map(|p| p.1 - p.2).fold(100.0, f64::min);
    let high = all().map(|p| p.1 + p.2).fold(0.0, f64::max);
    let most = all().map(|p| p.0).fold(10.0, f64::max);
    let mut plot = Plot::of_size(
        370.0,
        250.0,
        Scale::log(0.8, most * 1.2),
        Scale::linear(low, high),
    );
    plot.x_axis("directions taken away");
    plot.y_axis("score, %");
    if let Some((_, score, _)) = identity.first() {
        plot.line(&[(0.8, *score), (most * 1.2, *score)], "raw dashed thin");
    }
    let class = format!("c{}", set % 6);
    for (points, mark) in [(&hard, Mark::Dot), (&soft, Mark::Diamond)] {
        plot.band(
            &points
                .iter()
                .map(|(x, y, e)| (*x, y - e, y + e))
                .collect::<Vec<_>>(),
            &class,
        );
        plot.line(
            &points.iter().map(|(x, y, _)| (*x, *y)).collect::<Vec<_>>(),
            &class,
        );
        for (x, y, error) in points {
            plot.mark(
                (*x, *y),
                mark,
                &class,
                &format!("{x:.0} directions: {y:.1} ± {error:.1}"),
            );
        }
    }
    for choice in chosen {
        let trial = &choice.selection.chosen;
        plot.mark(
            (trial.removed.max(0.8), low),
            Mark::Tick,
            "raw",
            &format!("{}: {}", choice.target, trial.map),
        );
    }
    plot.finish(&format!(
        "{name}: score of candidates by directions taken away"
    ))
}

fn mean_point(chosen: &[&ChoiceReport], map: &str) -> Point {
    let trials: Vec<&Trial> = chosen
        .iter()
        .flat_map(|c| &c.selection.trials)
        .filter(|t| t.map.to_string() == map)
        .collect();
    let mean = |value: &dyn Fn(&Trial) -> f64| {
        trials.iter().map(|t| value(t)).sum::<f64>() / trials.len().max(1) as f64
    };
    (
        mean(&|t| t.removed),
        mean(&|t| t.score * 100.0),
        mean(&|t| t.error * 100.0),
    )
}

/// What interventions move: eigenvalues of Δ.
fn spectra(report: &Report) -> String {
    let least = 1e-3;
    let most = report
        .spectra
        .iter()
        .flatten()
        .fold(1.0f64, |a, &b| a.max(b));
    let width = report.spectra.iter().map(Vec::len).max().unwrap_or(1);
    let mut plot = Plot::of_size(
        760.0,
        300.0,
        Scale::log(1.0, width as f64),
        Scale::log(least, 10f64.powf(most.log10().ceil())),
    );
    plot.x_axis("direction, the most variant first");
    plot.y_axis("variance, mean 1");
    let mut names = String::new();
    for (set, (values, families)) in report.spectra.iter().zip(&report.sets).enumerate() {
        let class = format!("c{}", set % 6);
        let points: Vec<(f64, f64)> = values
            .iter()
            .enumerate()
            .map(|(i, v)| ((i + 1) as f64, v.max(least)))
            .collect();
        plot.line(&points, &class);
        let moved = values.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let share = |count: usize| values.iter().take(count).sum::<f64>() / moved * 100.0;
        let _ = write!(
            names,
            "<span><i class=\"swatch {class}\"></i>{}: {:.0} % of what interventions change lies in 10 directions, {:.0} % in 50</span>",
            escaped(&families.name),
            share(10),
            share(50)
        );
    }
    format!(
        "<section><h2>What interventions move</h2><figure>{}<figcaption class=\"legend\">{names}</figcaption></figure></section>\n",
        plot.finish("Variance that interventions cause by direction, for each set of families")
    )
}

/// Pictures of the interventions.
fn pairs(examples: &[Example]) -> String {
    let mut html = "<section><h2>What was done to images</h2>".to_owned();
    for example in examples {
        let _ = write!(
            html,
            "<h3>{}</h3><div class=\"pictures\">",
            escaped(&example.title)
        );
        for (label, uri) in &example.pictures {
            let label = escaped(label);
            let _ = write!(
                html,
                "<figure><img src=\"{uri}\" width=\"112\" height=\"112\" alt=\"{label}\"><figcaption>{label}</figcaption></figure>"
            );
        }
        html += "</div>";
    }
    html + "</section>\n"
}

/// What a reader needs to repeat it.
fn method(report: &Report) -> String {
    let sets: String = report
        .sets
        .iter()
        .map(|set| {
            format!(
                "<li><b>{}</b>: {}</li>",
                escaped(&set.name),
                escaped(&set.families.join(", "))
            )
        })
        .collect();
    let penalties: BTreeSet<String> = report.penalties.values().map(ToString::to_string).collect();
    let penalties = penalties.into_iter().collect::<Vec<_>>().join(", ");
    let c = if penalties.is_empty() {
        String::new()
    } else {
        format!("<li>The probe's C, chosen by the sources: {penalties}</li>")
    };
    let warnings: String = report
        .warnings
        .iter()
        .map(|w| format!("<li>{}</li>", escaped(w)))
        .collect();
    let warnings = if warnings.is_empty() {
        String::new()
    } else {
        format!("<h3>Warnings</h3><ul>{warnings}</ul>")
    };
    format!(
        "<section><h2>How to repeat it</h2><ul>{sets}<li>Environments: {}</li><li>Classes: {}</li>{c}<li>Seed {}, encoder <code>{}</code></li></ul>{warnings}</section>\n",
        escaped(&report.environments.join(", ")),
        escaped(&report.classes.join(", ")),
        report.seed,
        escaped(&report.model.sha256)
    )
}
