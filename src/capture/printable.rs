//! Makes text that a child process wrote fit for a line of the log and for a fault: no control characters, no passwords.

/// Names of parameters whose values are secret, in lower case, as in `rtsp://camera/user=admin&password=…`.
const SECRET_KEYS: [&str; 7] = [
    "password=",
    "passwd=",
    "passwort=",
    "pwd=",
    "pass=",
    "token=",
    "authorization:",
];
const MASK: &str = "***";

/// The text on one line: terminal colours and addresses of memory removed, other control characters replaced, passwords
/// masked.
pub(super) fn printable(text: &str) -> String {
    mask_parameters(&mask_urls(&without_addresses(&without_controls(text))))
}

/// Removes escape sequences (ECMA-48, `ESC [ … letter`), and replaces what could end a line, move the cursor or turn the
/// direction of reading.
fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            chars.next_if(|c| matches!(c, '@'..='~'));
        } else if c == '\t' {
            plain.push(' ');
        } else if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            plain.push(char::REPLACEMENT_CHARACTER);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Removes ` @ 0x5581d2d3c880` from ffmpeg's `[rtsp @ 0x5581d2d3c880]`: it makes the same message another one in each run.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split(" @ 0x");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    plain
}

/// Masks user and password of every URL: `rtsp://***@camera/stream`.
fn mask_urls(text: &str) -> String {
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("://");
        let end =
            part.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'));
        let url = &part[..end.unwrap_or(part.len())];
        match credentials_end(url) {
            Some(at) => masked.extend([MASK, &part[at..]]),
            None => masked.push_str(part),
        }
    }
    masked
}

/// Where the `@` behind user and password is.
fn credentials_end(url: &str) -> Option<usize> {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    // A password may hold a slash that should have been escaped. What follows a host's colon is a number.
    let (_, port) = authority.split_once(':')?;
    let is_host = authority.starts_with('[') || port.bytes().all(|b| b.is_ascii_digit());
    if is_host { None } else { url.rfind('@') }
}

/// Masks the values of secret parameters.
fn mask_parameters(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    while let Some((at, key)) = next_secret(&lower, done) {
        let value = at + key.len();
        // A header's value reaches to the end of the line.
        let ends = |c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',' | '"' | '\'' | '`');
        let end = if key.ends_with(':') {
            text.len()
        } else {
            lower[value..].find(ends).map_or(text.len(), |n| value + n)
        };
        masked.push_str(&text[done..value]);
        if end > value {
            masked.push_str(MASK);
        }
        done = end;
    }
    masked.push_str(&text[done..]);
    masked
}

fn next_secret(lower: &str, from: usize) -> Option<(usize, &'static str)> {
    let places = SECRET_KEYS.iter().filter_map(|key| {
        let at = lower[from..].find(key)? + from;
        Some((at, *key))
    });
    places.min()
}

#[cfg(test)]
mod tests {
    use super::printable;
    use proptest::prelude::*;

    #[test]
    fn passwords_are_masked() {
        for (text, expected) in [
            (
                "rtsp://admin:secret@10.0.0.3:554/live: 401",
                "rtsp://***@10.0.0.3:554/live: 401",
            ),
            (
                "'rtsp://admin:s@cret@host/a' and http://u@h",
                "'rtsp://***@host/a' and http://***@h",
            ),
            (
                "rtsp://admin:sec/ret@host/a failed",
                "rtsp://***@host/a failed",
            ),
            (
                "http://host:80/a@2x.jpg http://[::1]:80/@",
                "http://host:80/a@2x.jpg http://[::1]:80/@",
            ),
            ("no URL: user@host", "no URL: user@host"),
            (
                "rtsp://c/user=admin&Password=geheim&channel=1",
                "rtsp://c/user=admin&Password=***&channel=1",
            ),
            (
                "http://c/?token=abc pwd=x;y passwd=",
                "http://c/?token=*** pwd=***;y passwd=",
            ),
            (
                "> Authorization: Basic YWRtaW46c2VjcmV0",
                "> Authorization:***",
            ),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn lines_cannot_be_forged() {
        assert_eq!(
            printable("a\nb\r\u{1b}[1;31merror\u{1b}[0m\tc\u{85}\u{2028}\u{202e}d\u{1b}"),
            "a\u{fffd}b\u{fffd}error c\u{fffd}\u{fffd}\u{fffd}d\u{fffd}"
        );
        assert_eq!(
            printable("[rtsp @ 0x5581d2d3c880] 401 @ 0xg"),
            "[rtsp] 401g"
        );
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_line(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(char::is_control));
        }

        #[test]
        fn no_password_of_a_url_survives(
            password in "[a-z0-9@:!$%.-]{4,12}", path in "[a-z0-9/?=.-]{0,12}", around in "[a-z :]{0,8}"
        ) {
            let secret = format!("Q{password}Q");
            let text = format!("{around}rtsp://admin:{secret}@host/{path} {around}");
            prop_assert!(!printable(&text).contains(&secret));
        }
    }
}
