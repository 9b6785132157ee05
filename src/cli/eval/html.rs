//! The report as a self-contained HTML page with tables, plots and example images, in a light and a dark theme.

use super::examples::Example;
use super::markdown::capital;
use super::plots::{forest, legend, selection_plot, set_class, spectrum_plot};
use super::report::{ChoiceReport, Report, Section, by};
use super::tables::tables;
use crate::cli::reports::{escaped, loses_class, loses_words, page as page_of, points};
use constancy_core::icm::Criterion;
use constancy_core::icm::evaluate::{Candidates, Predictor};
use std::collections::BTreeSet;
use std::fmt::Write as _;

pub(super) fn page(report: &Report, examples: &[Example]) -> String {
    let title = format!("{} on {}", report.model.name, report.folder.display());
    let mut body = head(report);
    for section in &report.sections {
        for &predictor in &report.predictors {
            body += &figures(report, section, predictor);
        }
    }
    body += &curves(report);
    body += &spectra(report);
    body += &example_images(examples);
    body += &method(report);
    page_of(&title, &body)
}

/// What was evaluated, and a tile for each predictor with its accuracy before and after.
fn head(report: &Report) -> String {
    let mut html = format!(
        "<h1>{}</h1><p>{} images of {} environments and {} classes in <code>{}</code>. {}. Accuracy in per cent with 95 % intervals, by bootstrap over images, or Wilson's where images are few; gains are paired image by image.</p>{}",
        escaped(&format!(
            "What an invariant projection gains for {}",
            report.model.name
        )),
        report.images,
        report.environments.len(),
        report.classes.len(),
        escaped(&report.folder.display().to_string()),
        escaped(&capital(&report.protocol)),
        report.made.html(),
    );
    let Some(section) = report.sections.first() else {
        return html;
    };
    html += "<div class=\"tiles\">";
    for &predictor in &report.predictors {
        let rows = Report::rows(section, predictor);
        let raw = rows.iter().find(|f| f.row.candidates == Candidates::Raw);
        let first = rows.iter().find(|f| f.row.candidates != Candidates::Raw);
        if let (Some(raw), Some(icm)) = (raw, first) {
            let _ = write!(
                html,
                "<div class=\"tile\"><div class=\"what\">{}, mean of {}</div><div class=\"big\">{:.1} → {:.1}</div><div{}>{} points{}</div><div class=\"what\">{}</div></div>",
                escaped(&capital(&predictor.to_string())),
                icm.groups.len(),
                raw.mean.accuracy.estimate * 100.0,
                icm.mean.accuracy.estimate * 100.0,
                loses_class(icm.mean.loses()),
                escaped(&icm.mean.gain.map_or_else(String::new, points)),
                loses_words(icm.mean.loses()),
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
    let mut tables = tables(report, section, predictor).into_iter();
    html += &tables.next().map_or_else(String::new, |table| table.html());
    let losses = report.losses(&rows);
    if !losses.is_empty() {
        let items: String = losses
            .iter()
            .map(|loss| format!("<li>{}</li>", escaped(loss)))
            .collect();
        let _ = write!(
            html,
            "<p class=\"loses\">Loses against raw beyond chance, in points:</p><ul>{items}</ul>"
        );
    }
    for table in tables {
        let _ = write!(
            html,
            "<h3>{}</h3>\n{}",
            escaped(&capital(&table.title)),
            table.html()
        );
    }
    html + "</section>\n"
}

/// The section on how maps were chosen, with a panel for each set and criterion.
fn curves(report: &Report) -> String {
    let icm = || {
        report
            .choices
            .iter()
            .filter(|c| [Candidates::Icm, Candidates::Whitened].contains(&c.candidates))
    };
    if report.choices.is_empty() {
        return String::new();
    }
    let mut panels = String::new();
    for criterion in [
        Criterion::Identification,
        Criterion::LeftOutEnvironment,
        Criterion::LeftOutIntervention,
        Criterion::Agreement,
        Criterion::HeldOutImages,
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
                    selection_plot(&chosen, set, &name),
                    escaped(&name)
                );
            }
        }
    }
    format!(
        "<section><h2>How maps were chosen</h2><p>The score of every candidate against the number of directions that it removes, averaged over targets, with its standard error. Filled dots are maps that remove directions, diamonds are maps that shrink them, and the dashed line is the identity. The ticks along the bottom are the maps chosen for each target: the map that changes least among those within one standard error of the best, if its gain is more than twice the standard error. The target itself is never used.</p><div class=\"panels\">{panels}</div></section>\n"
    )
}

/// The section on what interventions change: the eigenvalues of Δ.
fn spectra(report: &Report) -> String {
    let mut names = String::new();
    for (set, (values, families)) in report.spectra.iter().zip(&report.sets).enumerate() {
        let moved = values.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let share = |count: usize| values.iter().take(count).sum::<f64>() / moved * 100.0;
        let _ = write!(
            names,
            "<span><i class=\"swatch {}\"></i>{}: {:.0} % of what interventions change lies in 10 directions, {:.0} % in 50</span>",
            set_class(set),
            escaped(&families.name),
            share(10),
            share(50)
        );
    }
    format!(
        "<section><h2>What interventions change</h2><figure>{}<figcaption class=\"legend\">{names}</figcaption></figure></section>\n",
        spectrum_plot(&report.spectra)
    )
}

/// Thumbnails of images and of their interventions.
fn example_images(examples: &[Example]) -> String {
    let mut html = "<section><h2>Examples of the interventions</h2>".to_owned();
    for example in examples {
        let _ = write!(
            html,
            "<h3>{}</h3><div class=\"pictures\">",
            escaped(&example.title)
        );
        for (label, uri) in &example.thumbnails {
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

/// What a reader needs to repeat the evaluation.
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
        format!("<li>C of the probe, chosen on the source images: {penalties}</li>")
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
        "<section><h2>How to reproduce this</h2><ul>{sets}<li>Environments: {}</li><li>Classes: {}</li>{c}<li>Seed {}, encoder <code>{}</code></li></ul>{warnings}</section>\n",
        escaped(&report.environments.join(", ")),
        escaped(&report.classes.join(", ")),
        report.seed,
        escaped(&report.model.sha256)
    )
}
