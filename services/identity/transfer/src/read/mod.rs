//! Reading a file of users, row by row. However large the file is, what is in memory at a time stays the same: about
//! three megabytes for a CSV file; for a spreadsheet its table of shared texts, which may have 128 MiB, and some rows.
//!
//! Good rows come through, whatever the others are like. A row that cannot be understood for certain is not guessed at:
//! it is named, with its column and the reason (L10).

mod columns;
mod csv;
mod encoding;
mod fault;
mod gauge;
mod heads;
mod package;
mod person;
mod raw;
mod record;
mod repeats;
mod text;
mod xlsx;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::Path;

pub use self::fault::{CellFault, FileFault};
pub use self::package::{Format, MAX_UNPACKED};
pub use self::person::{Change, ImportRow};

use self::columns::{Columns, Mapping};
use self::csv::Csv;
use self::person::Reader;
use self::raw::{Layout, RawRow};
use self::repeats::Repeats;
use self::text::Text;
use self::xlsx::Xlsx;
use crate::field::Field;

/// Rows that are looked at to tell whether user names are addresses.
const PEEKED: usize = 100;
/// Rows that a note names.
const NAMED: usize = 10;

/// What whoever imports a file knows about it.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Told by the file's content if `None`. A spreadsheet is read as one whatever stands here.
    pub format: Option<Format>,
    /// The name of a CSV file's encoding, where the bytes do not tell.
    pub encoding: Option<String>,
    /// Heads of the file, and for each the name of a field ([`Field::as_str`]), or `ignore`.
    pub mapping: BTreeMap<String, String>,
    /// The sheet of a spreadsheet; the first visible one if `None`.
    pub sheet: Option<String>,
    /// The fields that matter; empty: all. Columns of others are not looked at, whatever is in them.
    pub fields: Vec<Field>,
}

/// One row below the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line of the file or the row of the sheet, as a person sees it in their editor.
    pub line: u64,
    /// What it says, or everything that is wrong with it.
    pub cells: Result<ImportRow, Vec<CellFault>>,
    /// The address as far as it can be told, to recognise the row by.
    pub address: String,
}

/// A file of users. Iterating answers its rows; after a fault of the file as a whole there are no more.
pub struct Table {
    source: Source,
    columns: Columns,
    layout: Layout,
    is_1904: bool,
    peeked: VecDeque<RawRow>,
    repeats: Repeats,
    notes: Vec<String>,
    unclear_levels: (u64, Vec<u64>),
    ended: bool,
}

enum Source {
    Csv(Csv),
    Xlsx(Xlsx),
}

impl Source {
    fn next(&mut self, layout: &Layout) -> Result<Option<RawRow>, FileFault> {
        match self {
            Self::Csv(csv) => csv.next(layout),
            Self::Xlsx(xlsx) => xlsx.next(layout),
        }
    }
}

impl Table {
    /// Opens a file and reads its header. Blocks; so does iterating.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, FileFault> {
        Self::from_file(File::open(path)?, options)
    }

    /// As [`Self::open`], for a file that was opened, from its beginning.
    pub fn from_file(mut file: File, options: &ReadOptions) -> Result<Self, FileFault> {
        // A spreadsheet is one whatever it was called.
        let format = package::tell(&mut file)?;
        if format == Format::Csv && options.format == Some(Format::Xlsx) {
            return Err(FileFault::OtherFormat("a text, and no spreadsheet"));
        }
        let mapping = Mapping(&options.mapping);
        let mut notes = Vec::new();
        let (source, header, is_1904) = match format {
            Format::Csv => {
                let judged = encoding::judge(&file, options.encoding.as_deref())?;
                if judged.guessed {
                    notes.push(format!(
                        "The file is not UTF-8; it was read as {}. If accents look wrong, name its encoding.",
                        judged.encoding.name()
                    ));
                }
                let (csv, header) = Csv::open(Text::open(file, judged)?, |header| mapping.recognised(header))?;
                (Source::Csv(csv), header, false)
            }
            Format::Xlsx => {
                package::check(&mut file)?;
                let (xlsx, opened) = Xlsx::open(file, options.sheet.clone())?;
                notes.extend(opened.note);
                (Source::Xlsx(xlsx), opened.header, opened.is_1904)
            }
        };
        let columns = Columns::find(&header, &mapping, &options.fields)?;
        notes.extend(columns.notes());
        let mut table = Self {
            source,
            layout: columns.layout(),
            columns,
            is_1904,
            peeked: VecDeque::new(),
            repeats: Repeats::default(),
            notes,
            unclear_levels: (0, Vec::new()),
            ended: false,
        };
        if let Some(username) = table.columns.username {
            table.check_usernames(username)?;
        }
        Ok(table)
    }

    /// What whoever imports it should know about how it was read, a sentence each. Complete after the last row.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let (count, lines) = &self.unclear_levels;
        if let Some(level) = self.columns.level.filter(|_| *count > 0) {
            let lines: Vec<String> = lines.iter().map(u64::to_string).collect();
            let more = if *count > lines.len() as u64 { " and more" } else { "" };
            notes.push(format!(
                "{count} rows have a {} for which no role stands, and got none: {}{more}. Give such people roles in a \
                 column `roles`.",
                self.columns.head(level),
                lines.join(", ")
            ));
        }
        notes
    }

    /// The fields that the file has columns for, each with the head of its column. Groups can have several.
    pub fn columns(&self) -> Vec<(Field, String)> {
        self.columns
            .fields
            .iter()
            .map(|(field, index)| (*field, self.columns.head(*index)))
            .collect()
    }

    /// The head of a field's column, by which the person who made the file knows it.
    pub fn head(&self, field: Field) -> Option<String> {
        self.columns.index(field).map(|index| self.columns.head(index))
    }

    /// User names are addresses if most of them look like that.
    fn check_usernames(&mut self, username: usize) -> Result<(), FileFault> {
        let (mut addresses, mut others) = (0, Vec::new());
        while self.peeked.len() < PEEKED
            && let Some(row) = self.source.next(&self.layout)?
        {
            if let Ok(cells) = &row.cells {
                match cells[username].text.as_str() {
                    "" => {}
                    text if text.contains('@') => addresses += 1,
                    text => others.push(text.to_owned()),
                }
            }
            self.peeked.push_back(row);
        }
        if addresses >= others.len() {
            return Ok(());
        }
        Err(FileFault::UsernamesOnly {
            head: self.columns.head(username),
            example: others.swap_remove(0).chars().take(50).collect(),
        })
    }

    fn read(&mut self, raw: RawRow) -> Row {
        let reader = Reader {
            columns: &self.columns,
            is_1904: self.is_1904,
        };
        let cells = raw
            .cells
            .map_err(|fault| vec![fault])
            .and_then(|cells| reader.row(&cells));
        let cells = cells.and_then(|(row, is_unclear)| {
            let faults = self.repeats.check(raw.line, &row, &self.columns);
            if !faults.is_empty() {
                return Err(faults);
            }
            if is_unclear {
                let (count, lines) = &mut self.unclear_levels;
                *count += 1;
                if lines.len() < NAMED {
                    lines.push(raw.line);
                }
            }
            Ok(row)
        });
        let address = cells.as_ref().map_or(raw.address, |row| row.email.clone());
        Row {
            line: raw.line,
            cells,
            address,
        }
    }
}

impl Iterator for Table {
    type Item = Result<Row, FileFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let raw = match self.peeked.pop_front() {
            Some(raw) => Ok(Some(raw)),
            None => self.source.next(&self.layout),
        };
        match raw {
            Ok(Some(raw)) => Some(Ok(self.read(raw))),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(fault) => {
                self.ended = true;
                Some(Err(fault))
            }
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
