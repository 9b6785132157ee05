//! The command that made a report.

use super::svg::escaped;
use crate::cli::output::created;
use crate::text::one_line;
use serde::Serialize;
use std::ffi::OsString;

/// What made a report, and when.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Made {
    /// The program's version.
    pub constancy: &'static str,
    /// The command line of this process, as a shell takes it.
    pub command: String,
    /// RFC 3339.
    pub created: String,
}

impl Made {
    pub(in crate::cli) fn now() -> Self {
        Self {
            constancy: env!("CARGO_PKG_VERSION"),
            command: quoted(std::env::args_os()),
            created: created(),
        }
    }

    /// A paragraph of HTML.
    pub(in crate::cli) fn html(&self) -> String {
        format!(
            "<p class=\"what\">Made by constancy {} on {}:<br><code>{}</code></p>\n",
            self.constancy,
            escaped(&self.created),
            escaped(&one_line(&self.command)),
        )
    }
}

fn quoted(args: impl Iterator<Item = OsString>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    let quoted = |arg: OsString| {
        let arg = arg.to_string_lossy();
        if !arg.is_empty() && arg.chars().all(plain) {
            return arg.into_owned();
        }
        format!("'{}'", arg.replace('\'', "'\\''"))
    };
    let words = args.skip(1).map(quoted);
    let words: Vec<String> = ["constancy".to_owned()].into_iter().chain(words).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_command_is_quoted_where_a_shell_needs_it() {
        let args = [
            "/usr/bin/constancy",
            "eval",
            "two words",
            "--prompt",
            "it's {}",
            "--map",
            "icm:lambda,rank",
            "",
        ];
        assert_eq!(
            quoted(args.into_iter().map(Into::into)),
            r"constancy eval 'two words' --prompt 'it'\''s {}' --map icm:lambda,rank ''"
        );
    }
}
