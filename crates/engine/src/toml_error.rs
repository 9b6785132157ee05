//! What is wrong with a TOML file, in one line and without the file's text, which may hold a password.

/// Describes `error`, found in `text`: the line, the key if it is known, and what is wrong.
#[must_use]
pub fn describe_toml_error(text: &str, mut error: toml::de::Error) -> String {
    let message = without_value(error.message());
    let at = error.span().map(|span| span.start.min(text.len()));
    // With its input the error prints the whole line; without, the keys that lead to the value.
    error.set_input(None);
    let shown = error.to_string();
    let keys = shown.trim_end().rsplit_once("\nin ");
    let key = keys.map_or_else(String::new, |(_, keys)| format!("{keys} "));
    match at {
        Some(at) => {
            let line = text.as_bytes()[..at].split(|&b| b == b'\n').count();
            let key = key.trim_end();
            let key = if key.is_empty() {
                String::new()
            } else {
                format!(", {key}")
            };
            format!("line {line}{key}: {message}")
        }
        None => format!("{key}{message}"),
    }
}

/// serde's message without the value that it quotes.
fn without_value(message: &str) -> String {
    for problem in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(problem)
            && let Some((found, expected)) = rest.rsplit_once(", expected ")
        {
            let kind = found
                .split(['"', '`'])
                .next()
                .unwrap_or_default()
                .trim_end();
            return format!("{problem}{kind}, expected {expected}");
        }
    }
    message.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(rename = "mqtt")]
        _mqtt: Mqtt,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mqtt {
        #[serde(rename = "keep_alive_s")]
        _keep_alive_s: Option<u16>,
        #[serde(rename = "password_file")]
        _password_file: Option<std::path::PathBuf>,
    }

    #[test]
    fn no_message_shows_a_value_or_a_line_of_the_file() {
        for (text, told) in [
            (
                "[mqtt]\npassword = \"hunter2\"",
                "line 2, `mqtt`: unknown field `password`",
            ),
            (
                "[mqtt]\nkeep_alive_s = \"hunter2\"",
                "line 2, `mqtt.keep_alive_s`: invalid type: string, expected u16",
            ),
            (
                "mqtt = \"mqtt://me:hunter2@host, expected it\"",
                "line 1, `mqtt`: invalid type: string, expected struct",
            ),
            (
                "[mqtt]\npassword_file = 4711",
                "line 2, `mqtt.password_file`: invalid type: integer, expected path",
            ),
            ("[mqtt]\npassword_file = hunter2", "line 2: "),
            ("[mqtt]\npassword_file = \"hunter2", "line 2: "),
            (
                "[mqtt]\npassword_file = \"\"\"\nhunter2\\q\n\"\"\"",
                "line 3: ",
            ),
            (
                "[mqtt]\nkeep_alive_s = 1\nkeep_alive_s = 4711",
                "line 3: duplicate key",
            ),
        ] {
            let error = toml::from_str::<Settings>(text).expect_err(text);
            let message = describe_toml_error(text, error);
            assert!(message.starts_with(told), "{message}");
            for secret in ["hunter2", "4711", "\n"] {
                assert!(!message.contains(secret), "{message}");
            }
        }
    }
}
