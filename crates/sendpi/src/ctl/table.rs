//! Tables for people: columns as wide as they must be.

use std::fmt;

/// A table.
#[derive(Debug)]
pub(super) struct TextTable {
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl TextTable {
    /// Returns a table with these names of columns.
    pub(super) fn new(names: &[&str]) -> Self {
        Self { rows: vec![names.iter().map(|name| (*name).to_owned()).collect()], notes: Vec::new() }
    }

    /// Returns a single line.
    pub(super) fn line(text: String) -> Self {
        Self { rows: Vec::new(), notes: vec![text] }
    }

    /// Returns the rows, the names of the columns first.
    pub(super) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Returns how wide each column must be.
    pub(super) fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a line below the rows.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let mut lines: Vec<String> = Vec::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
        }
        lines.extend(self.notes.iter().cloned());
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let mut table = TextTable::new(&["ROOM", "N"]);
        table.row(["lobby".to_owned(), "7".to_owned()]);
        table.note("3 more".to_owned());
        assert_eq!(table.to_string(), "ROOM   N\nlobby  7\n3 more");
        assert_eq!(TextTable::line("done".to_owned()).to_string(), "done");
    }
}
