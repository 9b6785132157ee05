//! Makes text that a child process wrote fit for a line of the log and for a fault: no control characters, no passwords.

use std::ops::Range;

/// What the name of a parameter or header contains if its value is secret, in lower case.
const SECRET: [&str; 8] = [
    "pass", "pwd", "secret", "token", "apikey", "api-key", "api_key", "cookie",
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
        // A password may hold a slash and another `@`; rather too much is masked than too little.
        let has_password = authority[..at].contains(':');
        return if has_password {
            url.rfind('@')
        } else {
            Some(at)
        };
    }
    // A password may hold a slash that should have been escaped. What follows a host's colon is a number.
    let (_, port) = authority.split_once(':')?;
    let is_host = authority.starts_with('[') || port.bytes().all(|b| b.is_ascii_digit());
    if is_host { None } else { url.rfind('@') }
}

/// Masks the values of secret parameters: `password=…`, `"token": "…"`, `--password …`, `Cookie: …`.
fn mask_parameters(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((name, end)) = next_secret(rest) {
        let value = value_of(&rest[end..], name);
        masked.push_str(&rest[..end + value.start]);
        if !value.is_empty() {
            masked.push_str(MASK);
        }
        rest = &rest[end + value.end..];
    }
    masked.push_str(rest);
    masked
}

/// The next name of a secret in a text, and where it ends.
fn next_secret(text: &str) -> Option<(&str, usize)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut from = 0;
    loop {
        let start = from + text[from..].find(is_name)?;
        let len = text[start..].find(|c: char| !is_name(c));
        let end = len.map_or(text.len(), |len| start + len);
        if is_secret(&text[start..end].to_ascii_lowercase()) {
            return Some((&text[start..end], end));
        }
        from = end;
    }
}

fn is_secret(name: &str) -> bool {
    let of_header = name.ends_with("authorization");
    let auth =
        name.starts_with("auth") && !["author", "authent"].iter().any(|w| name.starts_with(w));
    // `loginpas` of Foscam cameras.
    of_header || auth || name.ends_with("pas") || SECRET.iter().any(|word| name.contains(word))
}

/// Where the value of the secret `name` is in what follows it; empty if this gives it none.
fn value_of(text: &str, name: &str) -> Range<usize> {
    let quoted = text.trim_start_matches(['"', '\'']);
    let separated = quoted.strip_prefix(['=', ':']);
    let value = match separated {
        Some(value) => value.trim_start().trim_start_matches(['"', '\'', ' ']),
        // An option and its value.
        None if name.starts_with('-') && text.starts_with([' ', '=']) => text.trim_start(),
        None => return 0..0,
    };
    let start = text.len() - value.len();
    let of_header = quoted.starts_with(':');
    let lower = name.to_ascii_lowercase();
    // A header's value reaches to the end of the line.
    if of_header && (lower.ends_with("authorization") || lower.ends_with("cookie")) {
        return start..text.len();
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',' | '"' | '\'' | '`');
    start..value.find(ends).map_or(text.len(), |n| start + n)
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
                "> Authorization: ***",
            ),
            (
                "rtsp://user:p@ss/w@cam/s?authbasic=YWRt&ch=1",
                "rtsp://***@cam/s?authbasic=***&ch=1",
            ),
            (
                "srt://h:1?passphrase=geheim loginpas=x apikey=1;client_secret=2",
                "srt://h:1?passphrase=*** loginpas=*** apikey=***;client_secret=***",
            ),
            (
                "{\"password\":\"x\", \"token\": \"y\"} --password z -v Cookie: a=b; c",
                "{\"password\":\"***\", \"token\": \"***\"} --password *** -v Cookie: ***",
            ),
            (
                "401 Unauthorized: the author of the bypass is unknown",
                "401 Unauthorized: the author of the bypass is unknown",
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
