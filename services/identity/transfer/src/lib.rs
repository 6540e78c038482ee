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
