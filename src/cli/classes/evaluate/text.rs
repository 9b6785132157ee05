//! The report for a terminal.

use super::quality::Quality;
use super::report::Report;
use super::tables;
use crate::cli::CliError;
use crate::cli::output::line;
use crate::cli::reports::{Table, percent};

/// How many of the families and classes of many are shown.
const WORST: usize = 5;

pub(super) fn print(report: &Report) -> Result<(), CliError> {
    for text in lines(report) {
        line(&text)?;
    }
    Ok(())
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = head(report);
    for table in tables_of(report) {
        lines.push(String::new());
        lines.push(table.title.clone());
        lines.extend(table.aligned());
    }
    lines.push(String::new());
    lines.push(format!(
        "thresholds for a target, from {}",
        proposed_from(report)
    ));
    for proposal in &report.proposals {
        lines.extend(proposal.toml.lines().map(String::from));
    }
    lines
}

fn head(report: &Report) -> Vec<String> {
    let unknown = match report.unknown_images {
        0 => String::new(),
        n => format!(
            ", and {n} of no class of the bank ({})",
            report.unknown.join(", ")
        ),
    };
    let mut lines = vec![format!(
        "{} on {}: {} images of {} classes{unknown}; judged by {}",
        report.bank.display(),
        report.held.display(),
        report.images,
        report.classes.iter().filter(|c| c.images > 0).count(),
        report.judged_by,
    )];
    lines.push(format!("as they are: {}", summary(&report.as_they_are)));
    if let Some(changed) = &report.under_interventions {
        let families = report.families.len();
        lines.push(format!(
            "under {families} interventions: {}",
            summary(changed)
        ));
    }
    lines
}

fn summary(quality: &Quality) -> String {
    format!(
        "{} % right of {} answers; calibration error {:.3} (chance {:.3}), risk-coverage area {:.3}, {:.1} % right at 80 % coverage",
        percent(quality.accuracy),
        quality.answers,
        quality.calibration_error,
        quality.chance_error,
        quality.aurc,
        quality.accuracy_at_80 * 100.0
    )
}

/// What proposals rest on.
pub(super) fn proposed_from(report: &Report) -> String {
    let changed = if report.under_interventions.is_some() {
        "these images as they are and under interventions; each holds for both"
    } else {
        "these images as they are"
    };
    let unknown = if report.unknown_images > 0 {
        "; images of no class count as wrong"
    } else {
        ""
    };
    format!("{changed}{unknown}")
}

fn tables_of(report: &Report) -> Vec<Table> {
    let mut all = vec![tables::confusion(report), tables::classes(report)];
    if report.environments.len() > 1 {
        let title = "by environment, as they are".into();
        all.push(tables::groups(title, "environment", &report.environments));
    }
    all.push(tables::thresholds(report, false));
    all.extend(curves("as they are", &report.as_they_are, report.judged_by));
    if let Some(changed) = &report.under_interventions {
        all.push(tables::thresholds(report, true));
        all.extend(curves("under interventions", changed, report.judged_by));
        let worst = report.families.len().min(WORST);
        let title = format!(
            "the worst of {} families of interventions",
            report.families.len()
        );
        all.push(tables::groups(title, "family", &report.families[..worst]));
    }
    all.extend(tables::stated(report));
    if report.unknown_images > 0 {
        all.push(tables::unknown(report));
    }
    all
}

fn curves(what: &str, quality: &Quality, judged_by: &str) -> [Table; 2] {
    [
        tables::reliability(
            format!("{what}: is the {judged_by} (|) the share of right answers (#)?"),
            &quality.bins,
            judged_by,
            true,
        ),
        tables::coverage(
            format!("{what}: wrong answers among the surest"),
            &quality.tenths,
            true,
        ),
    ]
}
