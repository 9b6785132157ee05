//! Tables, for a terminal and for HTML.

use super::cell::Cell;
use super::svg::escaped;
use std::fmt::Write as _;

/// A table with its heading as the first row.
pub(in crate::cli) struct Table {
    /// What its numbers are; may be empty.
    pub title: String,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The rows for a terminal: cells are padded to columns, the first to the left, the others to the right.
    pub(in crate::cli) fn aligned(&self) -> Vec<String> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|c| c.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let row = |row: &Vec<Cell>| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(i, (Cell { text: cell, .. }, &width))| {
                if i == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(row).collect()
    }

    /// The table in a box that scrolls where the page is too narrow for it. What loses says so.
    pub(in crate::cli) fn html(&self) -> String {
        let mut html = "<div class=\"scroll\" tabindex=\"0\"><table>".to_owned();
        for (i, row) in self.rows.iter().enumerate() {
            let cells = row.iter().enumerate().map(|(j, cell)| {
                let text = escaped(&cell.text);
                match (i, j) {
                    (0, _) => format!("<th scope=\"col\">{text}</th>"),
                    (_, 0) => format!("<th scope=\"row\">{text}</th>"),
                    _ => format!(
                        "<td{}>{text}{}</td>",
                        loses_class(cell.loses),
                        loses_words(cell.loses)
                    ),
                }
            });
            let _ = write!(html, "<tr>{}</tr>", cells.collect::<String>());
        }
        html + "</table></div>\n"
    }
}

pub(in crate::cli) fn loses_class(loses: bool) -> &'static str {
    if loses { " class=\"loses\"" } else { "" }
}

pub(in crate::cli) fn loses_words(loses: bool) -> &'static str {
    if loses { " <b>loses</b>" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::page::STYLE;
    use super::*;

    #[test]
    fn a_map_that_loses_says_so_in_words_and_colour() {
        let cell = |text: &str, loses| Cell {
            text: text.into(),
            loses,
        };
        let rows = vec![
            vec!["maps".into(), "photo".into(), "gain on raw".into()],
            vec!["soft <1>".into(), cell("70.0", true), cell("+1.0", false)],
        ];
        let table = Table {
            title: String::new(),
            rows,
        };
        let html = table.html();
        assert!(
            html.contains("<td class=\"loses\">70.0 <b>loses</b></td>"),
            "{html}"
        );
        assert!(
            html.contains("<td>+1.0</td>")
                && html.contains("<th scope=\"row\">soft &lt;1&gt;</th>")
        );
        assert!(
            STYLE.contains(".loses{color:var(--loses)}") && STYLE.matches("--loses:#").count() == 2
        );
        assert_eq!(
            table.aligned(),
            [
                "maps      photo  gain on raw",
                "soft <1>   70.0         +1.0"
            ]
        );
    }

    #[test]
    fn no_table_is_cut() {
        let html = Table {
            title: String::new(),
            rows: Vec::new(),
        }
        .html();
        // Tables lie in boxes that are never wider than the page, and scroll.
        assert!(html.starts_with("<div class=\"scroll\" tabindex=\"0\"><table>"));
        assert!(STYLE.contains(".scroll{max-width:100%;overflow-x:auto}"));
        assert!(!STYLE.contains("overflow:hidden") && !STYLE.contains("overflow-x:hidden"));
    }
}
