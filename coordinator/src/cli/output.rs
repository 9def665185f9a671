//! What commands print.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{
    error::{Error, Result},
    text::plain,
};

const GAP: &str = "  ";
const WIDEST_CELL: usize = 80;

/// Prints a text that ends its line. A reader who has gone is no error.
pub(super) fn line(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Refused(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a document.
pub(super) fn json(document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Error::Refused(format!("cannot write the document: {error}")))?;
    line(&text)
}

/// Prints rows under their heads.
pub(super) fn table(heads: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    line(&aligned(heads, rows))
}

/// Cells are cut and cleaned: what hosts and people wrote must not steer a terminal.
fn aligned(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads)
        .chain(rows.into_iter().map(|row| row.iter().map(|cell| plain(cell, WIDEST_CELL)).collect()))
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            cells.join(GAP).trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["vm112".to_owned(), "não".to_owned(), "1".to_owned()],
            vec!["proxmox".to_owned(), "sim".to_owned(), String::new()],
        ];
        assert_eq!(
            aligned(&["HOST", "UP", "N"], rows),
            "HOST     UP   N\n\
             vm112    não  1\n\
             proxmox  sim"
        );
    }

    #[test]
    fn a_cell_is_one_short_line_without_escapes() {
        let text = aligned(&["TEXT"], vec![vec![format!("a\u{1b}[31m\nb {}", "x".repeat(200))]]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDEST_CELL + 1));
    }

    #[test]
    fn nothing_to_list_leaves_the_heads() {
        assert_eq!(aligned(&["A", "B"], Vec::new()), "A  B");
    }
}
