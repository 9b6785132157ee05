//! The report as Markdown tables.

use super::report::Report;
use super::tables::tables;
use crate::cli::reports::Table;
use crate::text::one_line;
use std::fmt::Write as _;

pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "# Evaluation of {} on {}\n\n{} images, {} environments ({}), {} classes ({}). {}. Accuracy in % with 95 % intervals, by bootstrap over images, or Wilson's where images are few; gains are paired, image by image. Seed {}, encoder {}.\n\nMade by constancy {} on {}: `{}`\n",
        escaped(&report.model.name),
        escaped(&report.folder.display().to_string()),
        report.images,
        report.environments.len(),
        escaped(&report.environments.join(", ")),
        report.classes.len(),
        escaped(&report.classes.join(", ")),
        capital(&report.protocol),
        report.seed,
        &report.model.sha256[..12.min(report.model.sha256.len())],
        report.made.constancy,
        report.made.created,
        one_line(&report.made.command).replace('`', "'"),
    );
    for set in &report.sets {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n- *{}*: {}",
            escaped(&set.name),
            set.families.join(", ")
        );
    }
    page.push('\n');
    for section in &report.sections {
        for &predictor in &report.predictors {
            let rows = Report::rows(section, predictor);
            let _ = write!(
                page,
                "\n## {}: {}\n\n",
                capital(&predictor.to_string()),
                section.title
            );
            let mut tables = tables(report, section, predictor).into_iter();
            tables
                .next()
                .into_iter()
                .for_each(|table| page += &lines(&table));
            for loss in report.losses(&rows) {
                let _ = write!(page, "\nLoses: {}.\n", escaped(&loss));
            }
            for table in tables {
                let _ = write!(page, "\n{}:\n\n{}", capital(&table.title), lines(&table));
            }
        }
    }
    page
}

fn lines(table: &Table) -> String {
    let mut lines = String::new();
    for (i, row) in table.rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| escaped(&cell.text)).collect();
        let _ = writeln!(lines, "| {} |", cells.join(" | "));
        if i == 0 {
            let _ = writeln!(lines, "| --- |{}", " ---: |".repeat(cells.len() - 1));
        }
    }
    lines
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Escapes the characters that Markdown would interpret in a table cell.
fn escaped(text: &str) -> String {
    one_line(text)
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('_', "\\_")
        .replace('*', "\\*")
}
