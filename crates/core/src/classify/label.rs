//! What a class may be called. Every event repeats labels, so their length bounds an event's size.

/// Maximum characters of a label.
pub const MAX_LABEL_CHARS: usize = 200;
/// How much of a label that is refused a message shows.
const SHOWN_CHARS: usize = 40;

/// Checks a label: 1 to [`MAX_LABEL_CHARS`] characters, not only spaces, no control characters. The error names the label.
///
/// ```
/// use constancy_core::classify::check_label;
///
/// assert!(check_label("an intact part").is_ok());
/// let error = check_label(&"x".repeat(201)).unwrap_err();
/// assert!(error.ends_with("has 201 characters, expected 1 to 200"));
/// ```
pub fn check_label(label: &str) -> Result<(), String> {
    let chars = label.chars().count();
    if label.trim().is_empty() {
        return Err(format!(
            "a label is empty, expected 1 to {MAX_LABEL_CHARS} characters"
        ));
    }
    let start: String = label.chars().take(SHOWN_CHARS).collect();
    let start = if chars > SHOWN_CHARS {
        format!("{start}…")
    } else {
        start
    };
    if chars > MAX_LABEL_CHARS {
        return Err(format!(
            "label {start:?} has {chars} characters, expected 1 to {MAX_LABEL_CHARS}"
        ));
    }
    if label.chars().any(char::is_control) {
        return Err(format!(
            "label {start:?} has control characters, such as a line break"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_every_length_and_kind_are_judged_and_named() {
        assert_eq!(check_label("ein Riß"), Ok(()));
        assert_eq!(check_label(&"ß".repeat(MAX_LABEL_CHARS)), Ok(()));
        for (label, expected) in [
            ("", "a label is empty"),
            (" \t", "a label is empty"),
            ("a\nforged line", "label \"a\\nforged line\" has control"),
            ("a\0", "has control characters"),
        ] {
            let error = check_label(label).expect_err(label);
            assert!(error.contains(expected), "{error}");
        }
        let error = check_label(&"long ".repeat(300_000)).expect_err("too long");
        assert!(
            error.len() < 200 && error.contains("1500000 characters"),
            "{error}"
        );
    }
}
