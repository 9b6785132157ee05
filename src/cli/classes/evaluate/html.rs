//! The report as a self-contained HTML page.

use super::plots;
use super::quality::Quality;
use super::report::Report;
use super::tables;
use super::text::proposed_from;
use crate::cli::reports::{Table, escaped, page as page_of, percent};
use std::fmt::Write as _;

pub(super) fn page(report: &Report) -> String {
    let title = format!("{} on {}", report.bank.display(), report.held.display());
    let body =
        head(report) + &curves(report) + &proposals(report) + &figures(report) + &method(report);
    page_of(&title, &body)
}

/// What was judged, and its most important figures as tiles.
fn head(report: &Report) -> String {
    let mut html = format!(
        "<h1>What the answers of <code>{}</code> are worth</h1><p>{} images of the bank's classes in <code>{}</code>{}, with the model {}. Answers are judged by their {}. Shares in per cent with Wilson intervals at 95 %.</p>{}",
        escaped(&report.bank.display().to_string()),
        report.images,
        escaped(&report.held.display().to_string()),
        match report.unknown_images {
            0 => String::new(),
            n => format!(
                ", and {n} of no class ({})",
                escaped(&report.unknown.join(", "))
            ),
        },
        escaped(&report.model),
        report.judged_by,
        report.made.html(),
    );
    if report.made_from_held {
        html += "<p class=\"loses\"><b>The bank was made from these images: all figures are too good.</b></p>";
    }
    html += "<div class=\"tiles\">";
    html += &tile("as they are", &report.as_they_are);
    if let Some(changed) = &report.under_interventions {
        html += &tile("under interventions", changed);
    }
    html + "</div>\n"
}

fn tile(name: &str, quality: &Quality) -> String {
    format!(
        "<div class=\"tile\"><div class=\"what\">right, {name}</div><div class=\"big\">{:.1} %</div><div>{}</div><div class=\"what\">calibration error {:.3} (chance {:.3})<br>risk-coverage area {:.3}<br>{:.1} % right at 80 % coverage</div></div>",
        quality.accuracy.estimate * 100.0,
        percent(quality.accuracy),
        quality.calibration_error,
        quality.chance_error,
        quality.aurc,
        quality.accuracy_at_80 * 100.0
    )
}

fn curves(report: &Report) -> String {
    let mut html = format!(
        "<section><h2>How far the {} can be trusted</h2><p>Left: answers of similar {0}, and how many of them are right; on the dashed line, it is true. Right: how many answers are wrong among those that are kept when the least sure are refused.</p>{}<div class=\"panels\"><figure>{}</figure><figure>{}</figure></div>\n",
        report.judged_by,
        plots::legend(report),
        plots::reliability(report),
        plots::risk_coverage(report)
    );
    let mut add = |name: &str, quality: &Quality| {
        let reliability = tables::reliability(
            format!("Reliability {name}"),
            &quality.bins,
            report.judged_by,
            false,
        );
        let coverage =
            tables::coverage(format!("Risk and coverage {name}"), &quality.tenths, false);
        html += &titled(&reliability);
        html += &titled(&coverage);
    };
    add("as they are", &report.as_they_are);
    if let Some(changed) = &report.under_interventions {
        add("under interventions", changed);
    }
    html + "</section>\n"
}

fn titled(table: &Table) -> String {
    format!("<h3>{}</h3>{}", escaped(&table.title), table.html())
}

fn proposals(report: &Report) -> String {
    let mut html = format!(
        "<section><h2>Thresholds for a target</h2><p>From {}.</p>",
        proposed_from(report)
    );
    for proposal in &report.proposals {
        let _ = write!(html, "<pre>{}</pre>", escaped(&proposal.toml));
    }
    html + "</section>\n"
}

fn figures(report: &Report) -> String {
    let mut all = vec![tables::thresholds(report, false)];
    if report.under_interventions.is_some() {
        all.push(tables::thresholds(report, true));
        let title = "by family of interventions, the worst first".into();
        all.push(tables::groups(title, "family", &report.families));
    }
    all.extend(tables::stated(report));
    if report.unknown_images > 0 {
        all.push(tables::unknown(report));
    }
    all.extend([tables::confusion(report), tables::classes(report)]);
    if report.environments.len() > 1 {
        let title = "by environment, as they are".into();
        all.push(tables::groups(title, "environment", &report.environments));
    }
    let tables: String = all.iter().map(titled).collect();
    format!("<section><h2>Figures</h2>{tables}</section>\n")
}

/// What a reader needs to repeat the evaluation.
fn method(report: &Report) -> String {
    format!(
        "<section><h2>How to reproduce this</h2><ul><li>Seed {}, encoder <code>{}</code>, projection <code>{}</code></li><li>{} images could not be read</li></ul></section>\n",
        report.seed,
        escaped(&report.model_sha256),
        escaped(&report.projection),
        report.unreadable
    )
}
