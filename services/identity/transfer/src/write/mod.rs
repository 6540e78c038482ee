//! Writing an export, row by row (U7). Memory stays the same for any number of rows: a CSV file is handed out while it
//! is written, a spreadsheet is put together on disk.

mod csv_record;
mod heads;
mod row;
mod xlsx;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

pub use self::heads::{ExportColumn, LANGUAGES};
pub use self::row::ExportRow;

pub(crate) use self::csv_record::{MARK, record};
pub(crate) use self::row::one_line;

use self::row::Value;
use self::xlsx::Xlsx;
use crate::dates;
use crate::read::Format;

/// What an export is to look like.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// CSV or a spreadsheet.
    pub format: Format,
    /// In this order; one of each at most makes sense.
    pub columns: Vec<ExportColumn>,
    /// The language of the heads (BCP 47).
    pub language: String,
    /// Where a spreadsheet is put together; the system's temporary folder if `None`. It needs room for the unpacked
    /// and the packed file.
    pub folder: Option<PathBuf>,
}

/// Why an export cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk failed.
    #[error("the export cannot be written to disk")]
    Io(#[from] io::Error),
    /// The disk failed while a row was written, most likely because it is full.
    #[error("the export cannot be written to disk; it may be full")]
    Disk,
    /// What the spreadsheet's library refuses.
    #[error("the spreadsheet cannot be written: {0}")]
    Spreadsheet(String),
}

/// Writes an export.
pub struct Writer {
    columns: Vec<ExportColumn>,
    to: To,
    rows: u64,
}

enum To {
    Csv(Vec<u8>),
    Xlsx(Box<Xlsx>),
}

impl Writer {
    /// Begins with the heads.
    pub fn new(options: WriteOptions) -> Result<Self, WriteError> {
        Self::with_rows(options, xlsx::MAX_ROWS)
    }

    fn with_rows(options: WriteOptions, max_rows: u32) -> Result<Self, WriteError> {
        let heads: Vec<&'static str> = options
            .columns
            .iter()
            .map(|column| column.head(&options.language))
            .collect();
        let to = match options.format {
            Format::Csv => {
                let mut text = MARK.to_vec();
                record(&mut text, heads);
                To::Csv(text)
            }
            Format::Xlsx => {
                let folder = options.folder.unwrap_or_else(std::env::temp_dir);
                To::Xlsx(Box::new(Xlsx::new(heads, &folder, max_rows)?))
            }
        };
        Ok(Self {
            columns: options.columns,
            to,
            rows: 0,
        })
    }

    /// Writes one user. Blocks for the disk where the export is a spreadsheet.
    pub fn push(&mut self, row: &ExportRow) -> Result<(), WriteError> {
        self.rows += 1;
        match &mut self.to {
            To::Xlsx(xlsx) => xlsx.push(row, &self.columns),
            To::Csv(text) => {
                let cells: Vec<String> = self.columns.iter().map(|column| cell(row.value(*column))).collect();
                record(text, cells.iter().map(String::as_str));
                Ok(())
            }
        }
    }

    /// What can be sent so far, and was not taken yet. Take often: it waits in memory. Of a spreadsheet nothing can be
    /// sent before its end.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.to {
            To::Csv(text) => std::mem::take(text),
            To::Xlsx(_) => Vec::new(),
        }
    }

    /// Octets that `take` would answer.
    pub fn ready(&self) -> usize {
        match &self.to {
            To::Csv(text) => text.len(),
            To::Xlsx(_) => 0,
        }
    }

    /// Ends the file and answers what was not taken yet.
    pub fn finish(self) -> Result<Finished, WriteError> {
        let (rest, cut) = match self.to {
            To::Csv(text) => (Rest::Text(Cursor::new(text)), 0),
            To::Xlsx(xlsx) => {
                let cut = xlsx.cut;
                (Rest::File(xlsx.finish()?), cut)
            }
        };
        Ok(Finished {
            rows: self.rows,
            cut,
            rest,
        })
    }
}

/// The rest of a finished export, to be read in chunks. A spreadsheet is a file that is gone once this is dropped.
pub struct Finished {
    rows: u64,
    cut: u64,
    rest: Rest,
}

enum Rest {
    Text(Cursor<Vec<u8>>),
    File(File),
}

impl Finished {
    /// Users that were written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Cells that were longer than a spreadsheet allows (32,767 characters) and end in an ellipsis.
    pub fn cut_cells(&self) -> u64 {
        self.cut
    }

    /// Octets in all that are left to be read, if nothing was yet.
    pub fn size(&self) -> io::Result<u64> {
        match &self.rest {
            Rest::Text(text) => Ok(text.get_ref().len() as u64),
            Rest::File(file) => Ok(file.metadata()?.len()),
        }
    }

    /// The next chunk, of `max` octets at most; empty at the end.
    pub fn chunk(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::new();
        self.by_ref().take(max as u64).read_to_end(&mut chunk)?;
        Ok(chunk)
    }
}

impl Read for Finished {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.rest {
            Rest::Text(text) => text.read(buffer),
            Rest::File(file) => file.read(buffer),
        }
    }
}

fn cell(value: Value) -> String {
    match value {
        Value::Empty => String::new(),
        Value::Text(text) => text.into_owned(),
        Value::Instant(at) => dates::show(at),
    }
}

#[cfg(test)]
mod tests;
