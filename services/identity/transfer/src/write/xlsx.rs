//! A spreadsheet that is written to disk while its rows come. Texts are written as texts: whatever they look like, they
//! are never formulas or links.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rust_xlsxwriter::{Format, Workbook, XlsxError};

use super::row::Value;
use super::{ExportColumn, ExportRow, WriteError};
use crate::dates;

/// Rows of a sheet, its header included.
pub(crate) const MAX_ROWS: u32 = 1_048_576;
/// UTF-16 units of a cell, as many as Excel takes.
const MAX_CELL: usize = 32_767;
const CUT: &str = "…";

pub(crate) struct Xlsx {
    workbook: Workbook,
    heads: Vec<&'static str>,
    bold: Format,
    date: Format,
    folder: PathBuf,
    /// Rows that a sheet takes; fewer than `MAX_ROWS` in tests only.
    max_rows: u32,
    /// The next row of the present sheet.
    row: u32,
    /// Cells that were longer than a spreadsheet allows.
    pub(crate) cut: u64,
}

impl Xlsx {
    pub(crate) fn new(heads: Vec<&'static str>, folder: &Path, max_rows: u32) -> Result<Self, WriteError> {
        let mut workbook = Workbook::new();
        workbook.set_tempdir(folder).map_err(refused)?;
        let mut xlsx = Self {
            workbook,
            heads,
            bold: Format::new().set_bold(),
            date: Format::new().set_num_format("yyyy-mm-dd hh:mm:ss"),
            folder: folder.to_owned(),
            max_rows,
            row: 0,
            cut: 0,
        };
        xlsx.add_sheet()?;
        Ok(xlsx)
    }

    pub(crate) fn push(&mut self, row: &ExportRow, columns: &[ExportColumn]) -> Result<(), WriteError> {
        if self.row == self.max_rows {
            self.add_sheet()?;
        }
        contained(|| self.write(row, columns))
    }

    fn write(&mut self, row: &ExportRow, columns: &[ExportColumn]) -> Result<(), WriteError> {
        let index = self.workbook.worksheets().len() - 1;
        let sheet = self.workbook.worksheet_from_index(index).map_err(refused)?;
        for (column, wanted) in (0..).zip(columns) {
            match row.value(*wanted) {
                Value::Empty => continue,
                Value::Text(text) => {
                    let (text, is_cut) = fit(&text);
                    self.cut += u64::from(is_cut);
                    sheet.write_string(self.row, column, text)
                }
                Value::Instant(at) => {
                    sheet.write_number_with_format(self.row, column, dates::to_serial(at), &self.date)
                }
            }
            .map_err(refused)?;
        }
        self.row += 1;
        Ok(())
    }

    fn add_sheet(&mut self) -> Result<(), WriteError> {
        contained(|| {
            let sheet = self.workbook.add_worksheet_with_constant_memory().map_err(refused)?;
            sheet.set_freeze_panes(1, 0).map_err(refused)?;
            for (column, head) in (0..).zip(&self.heads) {
                sheet.set_column_width(column, 22).map_err(refused)?;
                sheet
                    .write_string_with_format(0, column, *head, &self.bold)
                    .map_err(refused)?;
            }
            self.row = 1;
            Ok(())
        })
    }

    pub(crate) fn finish(mut self) -> Result<File, WriteError> {
        contained(|| {
            let mut file = tempfile::tempfile_in(&self.folder)?;
            let mut writer = BufWriter::with_capacity(256 * 1024, &file);
            self.workbook.save_to_writer(&mut writer).map_err(refused)?;
            writer.flush()?;
            drop(writer);
            file.rewind()?;
            Ok(file)
        })
    }
}

/// As much of a text as a cell takes.
fn fit(text: &str) -> (String, bool) {
    if text.len() <= MAX_CELL || text.encode_utf16().count() <= MAX_CELL {
        return (text.to_owned(), false);
    }
    let mut units = CUT.encode_utf16().count();
    let fitting = text.chars().take_while(|c| {
        units += c.len_utf16();
        units <= MAX_CELL
    });
    (fitting.chain(CUT.chars()).collect(), true)
}

/// The library panics when the disk is full; that must cost the export only.
fn contained<T>(write: impl FnOnce() -> Result<T, WriteError>) -> Result<T, WriteError> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| Err(WriteError::Disk))
}

fn refused(error: XlsxError) -> WriteError {
    match error {
        XlsxError::IoError(error) | XlsxError::TempFileError(_, error) => WriteError::Io(error),
        error => WriteError::Spreadsheet(error.to_string()),
    }
}
