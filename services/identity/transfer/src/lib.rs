//! Users in files: reading what people import, writing what they export, and the report that an import leaves.
//!
//! [`read::Table`] makes rows of a CSV file or a spreadsheet, [`write::Writer`] makes files of users in either format,
//! [`report::ReportWriter`] tells what became of each row. All three go row by row, so that the size of a file does not
//! matter to memory. What is exported can be imported again: the reader knows the heads that the writer writes, in every
//! language, and takes the protection against formulas off again.
//!
//! Nothing here knows a database or a wire. Everything blocks: call it where blocking is allowed.

mod dates;
mod field;
mod guard;
mod list;
pub mod read;
pub mod report;
pub mod write;

pub use self::field::Field;
pub use self::read::Format;

/// What a CSV file begins with, so that spreadsheets know that it is UTF-8.
pub const CSV_MARK: &[u8] = write::MARK;

/// Appends one line of a CSV file (RFC 4180); no cell of it is read as a formula, and each stays on its line.
pub fn csv_line<'a>(to: &mut Vec<u8>, cells: impl IntoIterator<Item = &'a str>) {
    let cells: Vec<_> = cells.into_iter().map(|cell| write::one_line(cell.into())).collect();
    write::record(to, cells.iter().map(AsRef::as_ref));
}
