//! The command that made a report.

use std::ffi::OsString;

/// The command line of this process, as a shell takes it.
pub(in crate::cli) fn command_line() -> String {
    quoted(std::env::args_os())
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
