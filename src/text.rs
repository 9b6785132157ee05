//! Text from outside, made safe to show: names of files, labels, the words of children and brokers.

use std::borrow::Cow;

/// `text` on one line, and without anything that moves a terminal's cursor: line breaks and other control characters are
/// written as Rust writes them in strings (`\n`, `\u{1b}`). So no text can look like a line of its own.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(breaks_a_line) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if breaks_a_line(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The same for a message that may have several lines; those after the first are indented by two spaces, so that none of
/// them looks like the beginning of a message.
pub(crate) fn indented(text: &str) -> String {
    let lines = text.lines().map(one_line);
    let indent = |line: Cow<'_, str>| {
        if line.starts_with("  ") {
            line.into_owned()
        } else {
            format!("  {line}")
        }
    };
    let all: Vec<String> = lines
        .enumerate()
        .map(|(i, line)| {
            if i == 0 {
                line.into_owned()
            } else {
                indent(line)
            }
        })
        .collect();
    all.join("\n")
}

/// Several lines as one sentence.
pub(crate) fn joined(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

/// Control characters but the tab, Unicode's own line and paragraph separators, at which programs split lines too, and
/// what turns the direction of writing.
fn breaks_a_line(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_starts_a_new_line_or_moves_the_cursor() {
        assert_eq!(one_line("Zähler, 5 µm\t½"), "Zähler, 5 µm\t½");
        assert_eq!(
            one_line("a.jpg\n[2026-01-01 ERROR] forged\r\u{1b}[2K\u{85}\u{2028}\u{202e}\u{7}"),
            "a.jpg\\n[2026-01-01 ERROR] forged\\r\\u{1b}[2K\\u{85}\\u{2028}\\u{202e}\\u{7}"
        );
    }

    #[test]
    fn further_lines_of_a_message_are_indented() {
        assert_eq!(indented("one"), "one");
        assert_eq!(
            indented("bad key\n  | x\nerror: forged\u{1b}"),
            "bad key\n  | x\n  error: forged\\u{1b}"
        );
        assert_eq!(joined("bad key\n  |\n3 | x"), "bad key | 3 | x");
    }
}
