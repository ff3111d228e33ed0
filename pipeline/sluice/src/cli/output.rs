//! What a command prints: JSON for programs, text for people.

use std::io::Write as _;

use serde::Serialize;

/// Form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output.
    Json,
}

/// Writes a command's answer to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    format: Format,
}

impl Printer {
    /// A printer of this form.
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> std::io::Result<()> {
        let mut out = match self.format {
            Format::Json => serde_json::to_string_pretty(value)?,
            Format::Text => text(value),
        };
        if !out.ends_with('\n') {
            out.push('\n');
        }
        Self::raw(&out)
    }

    /// Prints a text that is already as it is to be.
    pub(crate) fn raw(text: &str) -> std::io::Result<()> {
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            // The reader (`head`, say) has gone; that is not our failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// Lays out rows under their heads, columns as wide as their widest cell.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = line(&widths, heads.iter().copied());
    for row in rows {
        out.push_str(&line(&widths, row.iter().map(String::as_str)));
    }
    out
}

fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<String> =
        widths.iter().zip(cells).map(|(width, cell)| format!("{cell:<width$}")).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

/// A time as people read it: RFC 3339 in UTC with milliseconds.
pub(crate) fn time(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .map_or_else(|| format!("{at_ms} ms"), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["ID", "N"], &rows), "ID    N\na     1\nlong  2\n");
    }

    #[test]
    fn a_time_is_printed_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
    }
}
