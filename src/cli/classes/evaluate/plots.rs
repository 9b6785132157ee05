//! The plots of the HTML report: the reliability diagram and the risk–coverage curve.

use super::quality::Quality;
use super::report::Report;
use crate::cli::reports::{Mark, Plot, Scale, percent};

/// The qualities to draw, with their names and CSS classes.
fn series(report: &Report) -> Vec<(&'static str, &'static str, &Quality)> {
    let changed = report.under_interventions.as_ref();
    let changed = changed.map(|quality| ("under interventions", "c1", quality));
    [("as they are", "c0", &report.as_they_are)]
        .into_iter()
        .chain(changed)
        .collect()
}

pub(super) fn reliability(report: &Report) -> String {
    let unit = Scale::linear(0.0, 1.0);
    let mut plot = Plot::of_size(430.0, 360.0, unit, unit);
    plot.x_axis(report.judged_by);
    plot.y_axis("share of right answers");
    plot.line(&[(0.0, 0.0), (1.0, 1.0)], "raw dashed thin");
    for (name, class, quality) in series(report) {
        let points = quality.bins.iter();
        let points: Vec<(f64, f64)> = points.map(|b| (b.confidence, b.right.estimate)).collect();
        plot.line(&points, class);
        for bin in &quality.bins {
            let at = bin.confidence;
            let whisker = [(at, bin.right.low), (at, bin.right.high)];
            plot.line(&whisker, &format!("thin {class}"));
            let title = format!(
                "{name}: {} {at:.3}, {} % right of {} answers",
                report.judged_by,
                percent(bin.right),
                bin.answers
            );
            plot.mark((at, bin.right.estimate), Mark::Dot, class, &title);
        }
    }
    plot.finish("Reliability diagram: the share of right answers by what is stated; the tables below have the figures")
}

pub(super) fn risk_coverage(report: &Report) -> String {
    let series = series(report);
    let all = series.iter().flat_map(|(_, _, quality)| &quality.curve);
    let most = all.map(|at| at.risk * 100.0).fold(5.0, f64::max);
    let (x, y) = (Scale::linear(0.0, 100.0), Scale::linear(0.0, most));
    let mut plot = Plot::of_size(430.0, 360.0, x, y);
    plot.x_axis("answers kept, the surest first, %");
    plot.y_axis("wrong among them, %");
    for (_, class, quality) in series {
        let curve = quality.curve.iter();
        let points: Vec<(f64, f64)> = curve
            .map(|at| (at.coverage * 100.0, at.risk * 100.0))
            .collect();
        plot.line(&points, class);
    }
    plot.finish(
        "Risk-coverage curve: wrong answers among the surest; the tables below have the figures",
    )
}

/// The names of the colours.
pub(super) fn legend(report: &Report) -> String {
    let entries = series(report)
        .into_iter()
        .map(|(name, class, _)| format!("<span><i class=\"swatch {class}\"></i>{name}</span>"));
    let entries: String = entries.collect();
    format!("<p class=\"legend what\">{entries}</p>")
}
