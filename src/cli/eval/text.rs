//! The report as tables for a terminal.

use super::report::Report;
use super::tables::tables;
use crate::cli::CliError;
use crate::cli::output::line;

pub(super) fn print(report: &Report) -> Result<(), CliError> {
    for text in lines(report) {
        line(&text)?;
    }
    Ok(())
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}: {} images, {} environments, {} classes; {} ({} wide)",
            report.folder.display(),
            report.images,
            report.environments.len(),
            report.classes.len(),
            report.model.name,
            report.model.width
        ),
        format!("{}; accuracy in %, with 95 % intervals", report.protocol),
    ];
    for section in &report.sections {
        for &predictor in &report.predictors {
            let rows = Report::rows(section, predictor);
            lines.push(String::new());
            lines.push(format!("{predictor}: {}", section.title));
            let losses = report.losses(&rows);
            let losses: Vec<String> = losses.iter().map(|loss| format!("loses  {loss}")).collect();
            for (i, table) in tables(report, section, predictor).iter().enumerate() {
                if i > 0 {
                    lines.push(String::new());
                    lines.push(format!("{predictor}: {}", table.title));
                }
                lines.extend(table.aligned());
                if i == 0 {
                    lines.extend(losses.iter().cloned());
                }
            }
        }
    }
    let (seconds, embeddings) = (&report.seconds, &report.embeddings);
    lines.push(String::new());
    lines.push(format!(
        "{:.1} s: {} embeddings from the cache and {} computed in {:.1} s, judged in {:.1} s",
        seconds.total,
        embeddings.from_cache,
        embeddings.computed,
        seconds.embedding,
        seconds.judging
    ));
    lines
}
