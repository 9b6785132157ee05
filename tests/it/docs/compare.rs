//! Whether what was printed is what a page shows.

use std::fmt::Write as _;

/// Whether the lines that were printed are those that are shown.
pub(super) fn matches(shown: &[String], got: &[String]) -> bool {
    let shown: Vec<Line> = shown.iter().map(|line| Line::new(line)).collect();
    let got: Vec<Line> = got.iter().map(|line| Line::new(line)).collect();
    glob(&shown, &got, &|line| line.0 == [Token::Any], &|a, b| {
        a.fits(b)
    })
}

/// Whether `items` match `pattern`, where a wild item stands for any number of items.
fn glob<T>(
    pattern: &[T],
    items: &[T],
    wild: &dyn Fn(&T) -> bool,
    same: &dyn Fn(&T, &T) -> bool,
) -> bool {
    // By dynamic programming: reached[i] says whether the pattern so far may end before items[i].
    let mut reached = vec![false; items.len() + 1];
    reached[0] = true;
    for part in pattern {
        if wild(part) {
            let first = reached.iter().position(|&r| r).unwrap_or(reached.len());
            reached[first..].fill(true);
            continue;
        }
        for i in (0..items.len()).rev() {
            reached[i + 1] = reached[i] && same(part, &items[i]);
        }
        reached[0] = false;
    }
    reached[items.len()]
}

#[derive(Debug, PartialEq)]
enum Token {
    /// `…`
    Any,
    Space,
    Char(char),
    /// As it is written, without the commas of thousands.
    Number(String),
}

#[derive(Debug, PartialEq)]
struct Line(Vec<Token>);

impl Line {
    fn new(text: &str) -> Self {
        let chars: Vec<char> = text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .collect();
        let (mut tokens, mut i) = (Vec::new(), 0);
        while i < chars.len() {
            let in_word = i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
            let length = if in_word {
                0
            } else {
                number_length(&chars[i..])
            };
            if length > 0 {
                let digits = chars[i..i + length].iter().filter(|&&c| c != ',').collect();
                tokens.push(Token::Number(digits));
                i += length;
                continue;
            }
            tokens.push(match chars[i] {
                '…' => Token::Any,
                ' ' => Token::Space,
                other => Token::Char(other),
            });
            i += 1;
        }
        Self(tokens)
    }

    fn fits(&self, got: &Self) -> bool {
        glob(
            &self.0,
            &got.0,
            &|token| *token == Token::Any,
            &|a, b| match (a, b) {
                (Token::Number(a), Token::Number(b)) => close(a, b),
                _ => a == b,
            },
        )
    }
}

/// The length of the number at the start; 0 where there is none, or a word such as `3db3`, or a name
/// such as `000067`.
fn number_length(chars: &[char]) -> usize {
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let run = |from: usize| (from..chars.len()).take_while(|&i| digit(i)).count();
    let mut length = run(0);
    if length == 0 || (length > 1 && chars[0] == '0') {
        return 0;
    }
    while chars.get(length) == Some(&',') && run(length + 1) == 3 {
        length += 4;
    }
    if chars.get(length) == Some(&'.') && digit(length + 1) {
        length += 1 + run(length + 1);
    }
    let word = chars
        .get(length)
        .is_some_and(|c| c.is_alphabetic() || *c == '_');
    if word { 0 } else { length }
}

/// Whether a number is as good as the one that is shown: only 0 for 0; whole numbers within 2 or a
/// tenth; fractions within 0.05 below 1, and within 0.5 or a tenth from there on.
pub(super) fn close(shown: &str, got: &str) -> bool {
    let (Ok(a), Ok(b)) = (shown.parse::<f64>(), got.parse::<f64>()) else {
        return false;
    };
    let (whole, largest) = (!shown.contains('.') && !got.contains('.'), a.max(b));
    if shown == "0" || got == "0" {
        return a.total_cmp(&b).is_eq();
    }
    let least = match (whole, largest < 1.0) {
        (true, _) => 2.0,
        (false, true) => 0.05,
        (false, false) => 0.5,
    };
    let share = if largest < 1.0 { 0.0 } else { largest / 10.0 };
    (a - b).abs() <= f64::max(least, share) + 1e-9
}

/// The shown and the printed lines side by side; `-` and `+` mark lines that the other side lacks.
pub(super) fn difference(shown: &[String], got: &[String]) -> String {
    let mut text = String::new();
    let parsed = |lines: &[String]| lines.iter().map(|l| Line::new(l)).collect::<Vec<_>>();
    let (shown_lines, got_lines) = (parsed(shown), parsed(got));
    for (line, parsed) in shown.iter().zip(&shown_lines) {
        let there = parsed.0 == [Token::Any] || got_lines.iter().any(|g| parsed.fits(g));
        let _ = writeln!(text, "  {} {line}", if there { ' ' } else { '-' });
    }
    let _ = writeln!(text, "  was printed as");
    for (line, parsed) in got.iter().zip(&got_lines) {
        let there = shown_lines
            .iter()
            .any(|s| s.0 != [Token::Any] && s.fits(parsed));
        let _ = writeln!(text, "  {} {line}", if there { ' ' } else { '+' });
    }
    text
}

#[test]
fn numbers_may_differ_and_words_may_not() {
    let fits = |shown: &str, got: &str| Line::new(shown).fits(&Line::new(got));
    assert!(fits("1,743 events,  0 lost", "1,690 events, 0 lost"));
    assert!(fits("written a.toml in … s", "written a.toml in 3.2 s"));
    assert!(fits("score 0.716", "score 0.700") && fits("rises by 4.9 ± 1.7", "rises by 5.3 ± 1.3"));
    assert!(!fits("0 lost", "1 lost") && !fits("score 0.716", "score 0.616"));
    assert!(!fits("120 images", "120 frames") && !fits("120 images", "160 images"));
    assert!(!fits("model 3db3542f", "model 4db3542f") && !fits("000011.png", "000012.png"));
    let lines = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
    assert!(
        matches(&lines("a\n…\nd"), &lines("a\nb\nc\nd")) && matches(&lines("a\n…"), &lines("a"))
    );
    assert!(
        !matches(&lines("a\n…\nd"), &lines("a\nb\nc")) && !matches(&lines("a"), &lines("a\nb"))
    );
}
