//! The report as CSV (RFC 4180): one line for every figure.

use super::report::{Report, by};
use crate::text::one_line;
use constancy_core::icm::Interval;
use constancy_core::icm::evaluate::{Figure, Figures};

const HEAD: &str = "section,predictor,maps,interventions,chosen_by,group,images,accuracy,low,high,gain,gain_low,gain_high,chosen";

pub(super) fn table(report: &Report) -> String {
    let mut lines = vec![HEAD.to_owned()];
    for section in &report.sections {
        for figures in &section.figures {
            let all = figures.groups.iter().chain([&figures.mean]);
            lines.extend(all.map(|figure| line(report, &section.title, figures, figure)));
        }
    }
    lines.join("\r\n") + "\r\n"
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
    [
        quoted(section),
        row.predictor.to_string(),
        row.candidates.to_string(),
        quoted(&set),
        row.criterion.map_or(String::new(), |c| {
            by(c).trim_start_matches("by ").to_owned()
        }),
        quoted(&figure.name),
        figure.images.to_string(),
        numbers(Some(figure.accuracy)),
        numbers(figure.gain),
        quoted(&figure.maps.join("; ")),
    ]
    .join(",")
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
