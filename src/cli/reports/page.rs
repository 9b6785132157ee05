//! A self-contained HTML page, in a light and a dark theme.

use super::svg::escaped;

pub(super) const STYLE: &str = include_str!("page.css");

/// A page with a title, which is escaped here, and a body of HTML.
pub(in crate::cli) fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\n{body}</main></body></html>\n"
    )
}
