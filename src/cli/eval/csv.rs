//! The report as CSV (RFC 4180): one line for every figure, with a column for each measure of each ranker.

use super::report::{Report, by};
use crate::text::one_line;
use constancy_core::icm::Interval;
use constancy_core::icm::evaluate::{Figure, Figures, Ranker, Trust};

const HEAD: &str = "section,predictor,maps,interventions,chosen_by,calibrated,group,images,accuracy,low,high,gain,gain_low,gain_high,chosen";

pub(super) fn table(report: &Report) -> String {
    let columns = Ranker::ALL
        .iter()
        .flat_map(|ranker| MEASURES.map(|(name, _)| format!("{name} {ranker}")));
    let head: Vec<String> = [HEAD.to_owned()].into_iter().chain(columns).collect();
    let mut lines = vec![head.join(",")];
    for section in &report.sections {
        for figures in &section.figures {
            let all = figures.groups.iter().chain([&figures.mean]);
            lines.extend(all.map(|figure| line(report, &section.title, figures, figure)));
        }
    }
    lines.join("\r\n") + "\r\n"
}

/// A measure of trust and its name.
type Measure = (&'static str, fn(&Trust) -> Option<f64>);

const MEASURES: [Measure; 5] = [
    ("ece", |trust| Some(trust.ece?.estimate)),
    ("ece_by_chance", |trust| trust.ece_by_chance),
    ("aurc", |trust| Some(trust.aurc.estimate)),
    ("accuracy_at_80", |trust| {
        Some(trust.accuracy_at_80.estimate)
    }),
    ("false_accepts", |trust| Some(trust.false_accepts?.estimate)),
];

/// The measures of each ranker; empty where there is none.
fn measures(figure: &Figure) -> impl Iterator<Item = String> {
    Ranker::ALL.into_iter().flat_map(move |ranker| {
        let trust = figure.trust.iter().find(|trust| trust.ranker == ranker);
        MEASURES.map(|(_, value)| {
            let value = trust.and_then(value);
            value.map_or_else(String::new, |value| format!("{value:.6}"))
        })
    })
}

fn line(report: &Report, section: &str, figures: &Figures, figure: &Figure) -> String {
    let row = &figures.row;
    let set = row
        .set
        .map_or(String::new(), |set| report.sets[set].name.clone());
    let numbers = |interval: Option<Interval>| match interval {
        Some(Interval {
            estimate,
            low,
            high,
        }) => format!("{estimate:.6},{low:.6},{high:.6}"),
        None => ",,".to_owned(),
    };
    let cells = [
        quoted(section),
        row.predictor.to_string(),
        quoted(
            &row.map
                .map_or_else(|| row.candidates.to_string(), |map| map.to_string()),
        ),
        quoted(&set),
        row.criterion.map_or(String::new(), |c| {
            by(c).trim_start_matches("by ").to_owned()
        }),
        row.calibrated.map_or(String::new(), |on| on.to_string()),
        quoted(&figure.name),
        figure.images.to_string(),
        numbers(Some(figure.accuracy)),
        numbers(figure.gain),
        quoted(&figure.maps.join("; ")),
    ];
    let cells: Vec<String> = cells.into_iter().chain(measures(figure)).collect();
    cells.join(",")
}

/// A cell in one line, quoted where it needs to be.
fn quoted(text: &str) -> String {
    let text = one_line(text);
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_stay_one_cell() {
        assert_eq!(quoted("paper"), "paper");
        assert_eq!(quoted("two\nlines"), "two\\nlines");
        assert_eq!(quoted("jpeg,haze"), "\"jpeg,haze\"");
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
    }
}
