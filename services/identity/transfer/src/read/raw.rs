//! Rows before anything is made of their cells, whichever format they come from.

use usher_core::clock::Timestamp;

use super::fault::CellFault;

/// Columns that a file can have.
pub(crate) const MAX_COLUMNS: usize = 1_000;

/// One row below the header.
#[derive(Debug)]
pub(crate) struct RawRow {
    /// As the person sees it in their editor or spreadsheet, from 1.
    pub(crate) line: u64,
    /// As many cells as the header has; or why they cannot be told apart.
    pub(crate) cells: Result<Vec<Cell>, CellFault>,
    /// What stands where the address should be, to recognise the row by.
    pub(crate) address: String,
}

/// One cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cell {
    /// As a person sees it, trimmed.
    pub(crate) text: String,
    /// What it is beside that.
    pub(crate) kind: Kind,
}

/// What a spreadsheet knows about a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Kind {
    /// A text.
    #[default]
    Text,
    /// A number without a date's format.
    Number(f64),
    /// A date.
    Date(Timestamp),
    /// A formula that failed; the text names the error.
    Error,
}

impl Cell {
    /// A text.
    pub(crate) fn text(text: String) -> Self {
        Self { text, kind: Kind::Text }
    }
}

/// What reading rows needs to know of the columns.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The heads.
    pub(crate) header: Vec<String>,
    /// Which column the addresses are in.
    pub(crate) email: usize,
    /// Which columns are used.
    pub(crate) used: Vec<usize>,
    /// Which of them hold one text and no list.
    pub(crate) single: Vec<usize>,
}

impl Layout {
    /// Whether a column is used.
    pub(crate) fn is_used(&self, column: usize) -> bool {
        self.used.contains(&column)
    }
}

/// The head of a column, or its number where it has none.
pub(crate) fn head(header: &[String], index: usize) -> String {
    match header.get(index) {
        Some(head) if !head.is_empty() => head.clone(),
        _ => format!("column {}", index + 1),
    }
}
