//! Counts correct answers in the demo, and formats them.

use constancy_core::stats::wilson;
use constancy_core::workshop::ENVIRONMENTS;
use std::collections::BTreeMap;
use std::io::IsTerminal;

/// The true class of a frame, and the answers.
pub(super) struct Answer {
    pub(super) environment: &'static str,
    pub(super) truth: String,
    pub(super) raw: String,
    /// With the projection alone.
    pub(super) projected: String,
    /// The daemon's answer.
    pub(super) daemon: String,
    /// Whether the daemon answered with a condition profile.
    pub(super) calibrated: bool,
    /// The confidence of the daemon's answer.
    pub(super) confidence: Option<f32>,
    /// Whether the daemon calls its answer known.
    pub(super) known: bool,
}

/// Numbers of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    frames: u64,
    /// Frames that raw CLIP classified correctly.
    raw: u64,
    /// Frames that the projection alone classified correctly.
    projected: u64,
    /// Frames that the daemon classified correctly.
    right: u64,
    /// Frames that the daemon answered with a condition profile.
    calibrated: u64,
    /// Of these, those that the daemon, and the projection alone, classified correctly.
    calibrated_right: u64,
    calibrated_projected: u64,
    /// Frames whose answer the daemon called known.
    known: u64,
    known_right: u64,
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            raw: self.raw + other.raw,
            projected: self.projected + other.projected,
            right: self.right + other.right,
            calibrated: self.calibrated + other.calibrated,
            calibrated_right: self.calibrated_right + other.calibrated_right,
            calibrated_projected: self.calibrated_projected + other.calibrated_projected,
            known: self.known + other.known,
            known_right: self.known_right + other.known_right,
        }
    }
}

#[derive(Default)]
pub(super) struct Scores {
    counts: BTreeMap<&'static str, Count>,
    last: Option<Answer>,
}

pub(super) fn heading() -> String {
    format!(
        "{:<14} {:<24} {:<31} {:<31} {:>14}",
        "environment", "what is there", "raw CLIP", "the daemon, confidence", "right so far"
    )
}

impl Scores {
    pub(super) fn add(&mut self, answer: Answer) {
        let count = self.counts.entry(answer.environment).or_default();
        let right = answer.daemon == answer.truth;
        let projected = answer.projected == answer.truth;
        *count = count.plus(Count {
            frames: 1,
            raw: u64::from(answer.raw == answer.truth),
            projected: u64::from(projected),
            right: u64::from(right),
            calibrated: u64::from(answer.calibrated),
            calibrated_right: u64::from(answer.calibrated && right),
            calibrated_projected: u64::from(answer.calibrated && projected),
            known: u64::from(answer.known),
            known_right: u64::from(answer.known && right),
        });
        self.last = Some(answer);
    }

    /// The newest answer, and the accuracy so far in its environment.
    pub(super) fn last_line(&self) -> String {
        let Some(answer) = &self.last else {
            return String::new();
        };
        let count = self
            .counts
            .get(answer.environment)
            .copied()
            .unwrap_or_default();
        let (raw, daemon) = (
            mark(&answer.raw, &answer.truth, true, None),
            mark(
                &answer.daemon,
                &answer.truth,
                answer.known,
                answer.confidence,
            ),
        );
        let so_far = format!(
            "{} | {}",
            percent(count.raw, count.frames),
            percent(count.right, count.frames)
        );
        format!(
            "{:<14} {:<24} {raw} {daemon} {so_far:>14}",
            answer.environment, answer.truth
        )
    }

    /// One row per environment, and one for the sum of those that the model was trained on and of the others, with 95 %
    /// intervals.
    pub(super) fn table(&self) -> Vec<String> {
        let head = [
            "environment",
            "frames",
            "raw CLIP right, %",
            "projected, %",
            "calibrated: before, after",
            "called known",
            "of these right",
        ];
        let mut rows = vec![row(head.map(String::from))];
        let environments = |daylight_like: bool| {
            ENVIRONMENTS
                .iter()
                .filter(move |e| e.daylight_like == daylight_like)
        };
        for (title, daylight_like) in [("like daylight", true), ("never seen", false)] {
            let mut sum = Count::default();
            for environment in environments(daylight_like) {
                let count = self
                    .counts
                    .get(environment.name)
                    .copied()
                    .unwrap_or_default();
                sum = sum.plus(count);
                rows.extend((count.frames > 0).then(|| cells(environment.name, count)));
            }
            rows.push(cells(&format!("= {title}"), sum));
        }
        rows
    }
}

fn row(cells: [String; 7]) -> String {
    let [name, frames, raw, projected, calibrated, known, right] = cells;
    format!(
        "{name:<15} {frames:>6}  {raw:>17}  {projected:>17}  {calibrated:>24}  {known:>12}  {right:>14}"
    )
}

fn cells(name: &str, count: Count) -> String {
    let of_calibrated = |hits| percent(hits, count.calibrated);
    row([
        name.to_owned(),
        count.frames.to_string(),
        with_interval(count.raw, count.frames),
        with_interval(count.projected, count.frames),
        if count.calibrated == 0 {
            "–".into()
        } else {
            let (before, after) = (count.calibrated_projected, count.calibrated_right);
            format!("{}, {}", of_calibrated(before), of_calibrated(after))
        },
        count.known.to_string(),
        percent(count.known_right, count.known),
    ])
}

/// An answer in 31 columns with a mark for right or wrong and its confidence, in colour on a terminal unless `NO_COLOR` is set.
fn mark(answer: &str, truth: &str, known: bool, confidence: Option<f32>) -> String {
    let right = answer == truth;
    let doubt = if known { "" } else { "?" };
    let text = format!(
        "{:<31}",
        format!(
            "{} {answer}{doubt}{}",
            if right { "✓" } else { "✗" },
            confidence.map_or_else(String::new, |c| format!(" {c:.2}"))
        )
    );
    let colour = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if !colour {
        return text;
    }
    format!("\x1b[{}m{text}\x1b[0m", if right { 32 } else { 31 })
}

fn percent(hits: u64, count: u64) -> String {
    if count == 0 {
        "–".into()
    } else {
        format!("{:.0} %", 100.0 * hits as f64 / count as f64)
    }
}

/// A share in per cent with its 95 % Wilson score interval.
fn with_interval(hits: u64, count: u64) -> String {
    if count == 0 {
        return "–".into();
    }
    let interval = wilson(hits as f64, count as f64);
    format!(
        "{:.1} ({:.0} to {:.0})",
        100.0 * hits as f64 / count as f64,
        100.0 * interval.low,
        100.0 * interval.high
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_are_summed_by_whether_they_were_trained_on() {
        let answer = |environment, raw: &str| Answer {
            environment,
            truth: "rusty nut".into(),
            raw: raw.into(),
            projected: "rusty nut".into(),
            daemon: "rusty nut".into(),
            calibrated: true,
            confidence: Some(0.95),
            known: true,
        };
        let mut scores = Scores::default();
        scores.add(answer("noon", "rusty nut"));
        scores.add(answer("dusk", "rusty nut"));
        scores.add(answer("dusk", "broken nut"));
        let table = scores.table();
        assert_eq!(table.len(), 5, "{table:?}");
        assert!(
            table[4].starts_with("= never seen") && table[4].contains("50.0"),
            "{table:?}"
        );
        assert!(scores.last_line().contains("✗ broken nut"));
    }
}
