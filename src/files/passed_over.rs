//! What a search for images does not take, and how it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Warnings about single paths; the rest is counted.
const MAX_WARNINGS: usize = 10;
/// Extensions that are named; the rest is counted.
const MAX_EXTENSIONS: usize = 6;
/// Characters of a path that are shown; one from a list may be anything.
const MAX_PATH_CHARS: usize = 200;
/// A longer extension is part of a name.
const MAX_EXTENSION_LEN: usize = 12;

/// What a search for images has passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Paths that cannot be used, as they are shown, and why.
    problems: Vec<(String, String)>,
    /// Files whose extension is not that of an image.
    pub(super) left_out: LeftOut,
}

impl PassedOver {
    pub(super) fn problem(&mut self, path: &Path, why: &dyn fmt::Display) {
        self.problems.push((shown(path), why.to_string()));
    }

    /// Why there is no image: `; ` and what was passed over, or nothing.
    pub(super) fn reason(&self) -> String {
        let problems = self.problems.iter().take(MAX_WARNINGS);
        let problems = problems.map(|(path, why)| format!("{path}: {why}"));
        let rest = self.problems.len().saturating_sub(MAX_WARNINGS);
        let rest = (rest > 0).then(|| format!("{rest} more"));
        let parts = problems.chain(rest).chain(self.left_out.told());
        parts.map(|part| format!("; {part}")).collect()
    }

    /// Logs one warning for each path that cannot be used, and one line for the files left out; `searched` is where
    /// these are.
    pub(crate) fn log(&self, searched: &Path) {
        for (path, why) in self.problems.iter().take(MAX_WARNINGS) {
            log::warn!("{path}: {why}; passed over");
        }
        let searched = searched.display();
        let rest = self.problems.len().saturating_sub(MAX_WARNINGS);
        if rest > 0 {
            log::warn!("{searched}: {rest} more that cannot be used are passed over");
        }
        if let Some(left_out) = self.left_out.told() {
            log::warn!("{searched}: {left_out}");
        }
    }
}

/// A path for people, cut if it is too long.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.char_indices().nth(MAX_PATH_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// Number of files by extension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut(BTreeMap<String, usize>);

impl LeftOut {
    pub(super) fn add(&mut self, path: &Path) {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let kind = match extension {
            Some(e) if e.len() <= MAX_EXTENSION_LEN && e.chars().all(char::is_alphanumeric) => {
                format!(".{e}")
            }
            Some(_) => "others".into(),
            None => "no extension".into(),
        };
        *self.0.entry(kind).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind.clone()).or_default() += count;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be told; `None` if no file was left out.
    pub(super) fn told(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }
}

/// `3 files left out: .txt (2), .mov (1)`.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.0.values().sum();
        let mut kinds: Vec<(&String, &usize)> = self.0.iter().collect();
        kinds.sort_by_key(|&(kind, count)| (std::cmp::Reverse(*count), kind));
        let shown = kinds.iter().take(MAX_EXTENSIONS);
        let mut shown: Vec<String> = shown.map(|(kind, n)| format!("{kind} ({n})")).collect();
        let rest: usize = kinds.iter().skip(MAX_EXTENSIONS).map(|(_, n)| **n).sum();
        if rest > 0 {
            shown.push(format!("more ({rest})"));
        }
        let s = if count == 1 { "" } else { "s" };
        write!(f, "{count} file{s} left out: {}", shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn files_left_out_are_counted_by_extension_the_most_frequent_first() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.told(), None);
        for name in ["a.mov", "b.TXT", "c.txt", "README", "d.a\nwarning: forged"] {
            left_out.add(Path::new(name));
        }
        assert_eq!(
            left_out.to_string(),
            "5 files left out: .txt (2), .mov (1), no extension (1), others (1)"
        );
        for i in 0..9 {
            left_out.add(&PathBuf::from(format!("x.{i}")));
        }
        let told = left_out.to_string();
        assert!(told.ends_with(", more (7)"), "{told}");
    }

    #[test]
    fn many_problems_are_counted() {
        let mut passed_over = PassedOver::default();
        (0..25).for_each(|i| passed_over.problem(&PathBuf::from(i.to_string()), &"gone"));
        assert!(passed_over.reason().ends_with("; 9: gone; 15 more"));
        let mut passed_over = PassedOver::default();
        passed_over.problem(Path::new(&"ü".repeat(5000)), &"gone");
        let reason = passed_over.reason();
        assert!(
            reason.contains("ü…: gone") && reason.len() < 500,
            "{reason}"
        );
    }
}
