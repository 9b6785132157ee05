//! Plots as inline SVG: axes, lines, points with whiskers. Colours come from the page by CSS class, so that they follow
//! its light or dark theme.

use std::fmt::Write as _;

/// Maps values to positions.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Positions of `low` and `high`, px.
    from: f64,
    to: f64,
}

impl Scale {
    pub(in crate::cli) fn linear(low: f64, high: f64) -> Self {
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            log: false,
            from: 0.0,
            to: 1.0,
        }
    }

    /// A logarithmic scale; both ends must be above 0.
    pub(in crate::cli) fn log(low: f64, high: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        Self {
            low,
            high: if high > low { high } else { low * 10.0 },
            log: true,
            from: 0.0,
            to: 1.0,
        }
    }

    fn over(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    /// Position of a value, px. Values beyond an end are clamped to it.
    fn position(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// About `count` round values along the scale; on a logarithmic scale, its powers of ten.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the ends of a plot are far below 2^31 steps"
    )]
    fn ticks(&self, count: f64) -> Vec<f64> {
        if self.log {
            let (first, last) = (
                self.low.log10().ceil() as i32,
                self.high.log10().floor() as i32,
            );
            return (first..=last)
                .map(|exponent| 10f64.powi(exponent))
                .collect();
        }
        let rough = (self.high - self.low) / count;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|m| m * decade)
            .into_iter()
            .find(|s| *s >= rough)
            .unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// The shape of a data point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Mark {
    Tick,
    Dot,
    Diamond,
    Square,
}

/// A plot under construction.
pub(in crate::cli) struct Plot {
    x: Scale,
    y: Scale,
    width: f64,
    height: f64,
    body: String,
}

const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;

impl Plot {
    /// A plot of `width` × `height` px; `left` is the margin for labels of the y axis, px.
    pub(in crate::cli) fn new(width: f64, height: f64, left: f64, x: Scale, y: Scale) -> Self {
        let (x, y) = (x.over(left, width - RIGHT), y.over(height - BOTTOM, TOP));
        Self {
            x,
            y,
            width,
            height,
            body: String::new(),
        }
    }

    /// A plot with the default left margin.
    pub(in crate::cli) fn of_size(width: f64, height: f64, x: Scale, y: Scale) -> Self {
        Self::new(width, height, LEFT, x, y)
    }

    pub(in crate::cli) fn x_axis(&mut self, label: &str) {
        let (top, bottom) = (TOP, self.height - BOTTOM);
        for tick in self.x.ticks(6.0) {
            let x = self.x.position(tick);
            let _ = write!(
                self.body,
                "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>"
            );
            self.text(x, bottom + 15.0, "middle", &number(tick));
        }
        self.text(
            f64::midpoint(self.x.from, self.x.to),
            self.height - 6.0,
            "middle",
            label,
        );
    }

    pub(in crate::cli) fn y_axis(&mut self, label: &str) {
        for tick in self.y.ticks(5.0) {
            let y = self.y.position(tick);
            let _ = write!(
                self.body,
                "<path class=\"grid\" d=\"M{:.1} {y:.1}H{:.1}\"/>",
                self.x.from, self.x.to
            );
            self.text(self.x.from - 6.0, y + 4.0, "end", &number(tick));
        }
        let (x, y) = (12.0, f64::midpoint(self.y.from, self.y.to));
        let _ = write!(
            self.body,
            "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {x} {y:.1})\">{}</text>",
            escaped(label)
        );
    }

    /// Text at a position in px.
    pub(in crate::cli) fn text(&mut self, x: f64, y: f64, anchor: &str, words: &str) {
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(words)
        );
    }

    /// Text to the left of the y axis, at a value.
    pub(in crate::cli) fn label(&mut self, y: f64, words: &str) {
        let (x, y) = (self.x.from - 8.0, self.y.position(y) + 4.0);
        self.text(x, y, "end", words);
    }

    /// A line through points; the CSS class `class` sets its colour.
    pub(in crate::cli) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{:.1} {:.1}", self.x.position(*x), self.y.position(*y)))
            .collect();
        if !path.is_empty() {
            let _ = write!(
                self.body,
                "<path class=\"line {class}\" d=\"M{}\"/>",
                path.join("L")
            );
        }
    }

    /// The area between two lines, given as `(x, low, high)`.
    pub(in crate::cli) fn band(&mut self, points: &[(f64, f64, f64)], class: &str) {
        let at = |x: f64, y: f64| format!("{:.1} {:.1}", self.x.position(x), self.y.position(y));
        let there = points.iter().map(|(x, low, _)| at(*x, *low));
        let back = points.iter().rev().map(|(x, _, high)| at(*x, *high));
        let path: Vec<String> = there.chain(back).collect();
        if !path.is_empty() {
            let _ = write!(
                self.body,
                "<path class=\"band {class}\" d=\"M{}Z\"/>",
                path.join("L")
            );
        }
    }

    /// A data point with a tooltip.
    pub(in crate::cli) fn mark(
        &mut self,
        (x, y): (f64, f64),
        mark: Mark,
        class: &str,
        title: &str,
    ) {
        let (x, y) = (self.x.position(x), self.y.position(y));
        let shape = match mark {
            Mark::Tick => format!(
                "<path class=\"line {class}\" d=\"M{x:.1} {:.1}v9\"",
                y - 4.5
            ),
            Mark::Dot => {
                format!("<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\"")
            }
            Mark::Diamond => {
                format!(
                    "<path class=\"hollow {class}\" d=\"M{x:.1} {:.1}l4.4 4.4l-4.4 4.4l-4.4 -4.4Z\"",
                    y - 4.4
                )
            }
            Mark::Square => format!(
                "<path class=\"hollow {class}\" d=\"M{:.1} {:.1}h7v7h-7Z\"",
                x - 3.5,
                y - 3.5
            ),
        };
        let end = shape
            .split([' ', '>'])
            .next()
            .unwrap_or_default()
            .trim_start_matches('<')
            .to_owned();
        let _ = write!(
            self.body,
            "{shape}><title>{}</title></{end}>",
            escaped(title)
        );
    }

    /// A horizontal line from `low` to `high`.
    pub(in crate::cli) fn whisker(&mut self, low: f64, high: f64, y: f64, class: &str) {
        self.line(&[(low, y), (high, y)], &format!("thin {class}"));
    }

    /// The plot as an SVG element; `description` is for screen readers.
    pub(in crate::cli) fn finish(self, description: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            escaped(description),
            self.body
        )
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 || (size > 0.0 && size < 0.001) => format!("{value:e}"),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

/// Escapes text for HTML.
pub(in crate::cli) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the values are chosen to be exact")]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(
            Scale::linear(37.0, 92.0).ticks(6.0),
            [40.0, 50.0, 60.0, 70.0, 80.0, 90.0]
        );
        assert_eq!(Scale::log(0.5, 150.0).ticks(6.0), [1.0, 10.0, 100.0]);
        assert_eq!(Scale::linear(3.0, 3.0).ticks(2.0), [3.0, 3.5, 4.0]);
    }

    #[test]
    fn positions_are_clamped_to_the_ends() {
        let scale = Scale::log(1.0, 100.0).over(10.0, 20.0);
        assert_eq!(
            [0.1, 1.0, 10.0, 1e9].map(|v| scale.position(v).round()),
            [10.0, 10.0, 15.0, 20.0]
        );
        assert_eq!(Scale::linear(0.0, 4.0).over(100.0, 0.0).position(1.0), 75.0);
    }

    #[test]
    fn text_is_escaped() {
        let mut plot = Plot::of_size(
            100.0,
            100.0,
            Scale::linear(0.0, 1.0),
            Scale::linear(0.0, 1.0),
        );
        plot.text(1.0, 1.0, "end", "<script>\"&");
        plot.mark((0.5, 0.5), Mark::Dot, "c1", "a < b");
        let svg = plot.finish("x \" y");
        assert!(
            svg.contains("&lt;script&gt;&quot;&amp;") && svg.contains("a &lt; b</title></circle>"),
            "{svg}"
        );
        assert!(svg.contains("aria-label=\"x &quot; y\""));
    }
}
