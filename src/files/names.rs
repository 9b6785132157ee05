//! Names of files as people and programs read them. Linux allows every byte but `/` and NUL in a name.

use serde::{Serialize as _, Serializer};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

/// Serialises a path as text; what is not UTF-8 in it becomes U+FFFD. For `serialize_with`.
pub(crate) fn lossy<P: AsRef<Path>, S: Serializer>(
    path: &P,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_ref().to_string_lossy().serialize(serializer)
}

/// `text` in one line, without control characters: a name cannot pass for a line of its own, or command a terminal.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(breaks_a_line) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if breaks_a_line(c) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{}", c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line.into()
}

/// Control characters, Unicode's line and paragraph separators, and what turns the direction of writing.
fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_line() {
        assert_eq!(one_line("Grünspan 1.jpg"), "Grünspan 1.jpg");
        assert_eq!(
            one_line("a.jpg\nok\r\t\u{1b}[2J\u{202e}"),
            "a.jpg\\nok\\r\\t\\u{1b}[2J\\u{202e}"
        );
    }
}
