//! Tables for the terminal.

use std::fmt;

/// Rows of text, each column as wide as its widest cell. Columns whose cells all start with a digit are set flush right,
/// the others flush left.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with the headings of its columns.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(headings);
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        self.rows.push(cells.iter().map(|cell| cell.as_ref().to_owned()).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column)).map(String::as_str);
        let figures = |column| cells(column).skip(1).all(|cell| cell.starts_with(|c: char| c.is_ascii_digit()));
        let width = |column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let layout: Vec<_> = (0..columns).map(|column| (width(column), figures(column))).collect();
        for row in &self.rows {
            let cell = |(cell, &(width, figures)): (&String, &_)| match figures {
                true => format!("{cell:>width$}   "),
                false => format!("{cell:<width$}   "),
            };
            let line: String = row.iter().zip(&layout).map(cell).collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["what", "figure", "note"]);
        table.row(&["x", "1.25", "longer"]);
        assert_eq!(table.to_string(), "what   figure   note\nx        1.25   longer\n");
    }
}
