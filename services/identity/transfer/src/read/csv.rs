//! Rows of a CSV file: separator, quotes, line breaks, widths.
//!
//! A quote that is not closed where its cell ends would swallow the rows after it. Here it costs its own row only: that
//! row is named, and reading goes on with the next line.

use super::fault::{CellFault, FileFault};
use super::raw::{Cell, Layout, MAX_COLUMNS, RawRow, head};
use super::record::{Malformed, Record, UNCLOSED, cut_line, find_break, line_break, record};
use super::text::{MAX_RECORD, Text};
use crate::guard::unguard;

const TOO_LONG: &str = "the row is longer than a megabyte; look for a quote that is not closed, or shorten it";

/// A CSV file below its header.
pub(crate) struct Csv {
    text: Text,
    separator: char,
    line: u64,
}

impl Csv {
    /// Finds the separator and the header. `recognised` says how many of some heads are columns that are known: the
    /// separator that gives the most is taken, and among equals the one that gives the most heads.
    pub(crate) fn open(
        mut text: Text,
        recognised: impl Fn(&[String]) -> usize,
    ) -> Result<(Self, Vec<String>), FileFault> {
        let mut line = 1;
        let mut named = None;
        loop {
            let (rest, _) = text.rest()?;
            let (first, after) = cut_line(rest).ok_or(FileFault::Empty)?;
            let given = first
                .trim()
                .strip_prefix("sep=")
                .and_then(|given| given.chars().find(|c| *c != '"'));
            if given.is_some() {
                named = given;
            } else if !first.trim().is_empty() {
                break;
            }
            let length = rest.len() - after.len();
            text.skip(length);
            line += 1;
        }
        let (rest, _) = text.rest()?;
        let candidates = named.map_or_else(|| vec![',', ';', '\t'], |separator| vec![separator]);
        let parsed: Vec<_> = candidates
            .into_iter()
            .map(|separator| (record(rest, separator), separator))
            .collect();
        let malformed = parsed.iter().any(|(header, _)| header.is_err());
        let (header, separator) = parsed
            .into_iter()
            .filter_map(|(header, separator)| Some((header.ok()?, separator)))
            .rev()
            .max_by_key(|(header, _)| (recognised(&header.cells), header.cells.len()))
            .filter(|(header, _)| !malformed || recognised(&header.cells) > 0)
            .ok_or(FileFault::Header)?;
        let mut heads: Vec<String> = header.cells.into_iter().map(unguard).collect();
        while heads.last().is_some_and(String::is_empty) {
            heads.pop();
        }
        if heads.len() > MAX_COLUMNS {
            return Err(FileFault::TooManyColumns(MAX_COLUMNS));
        }
        text.skip(header.length);
        let csv = Self {
            text,
            separator,
            line: line + header.lines,
        };
        Ok((csv, heads))
    }

    /// The next row that is not empty. In a column that is used no cell spans lines.
    pub(crate) fn next(&mut self, layout: &Layout) -> Result<Option<RawRow>, FileFault> {
        loop {
            let (rest, all) = self.text.rest()?;
            let Some((first, after)) = cut_line(rest) else {
                return Ok(None);
            };
            let line = self.line;
            let address = first.split(self.separator).nth(layout.email).unwrap_or_default();
            let address: String = address.trim_matches([' ', '"']).chars().take(320).collect();
            if first.len() >= MAX_RECORD {
                self.skip_line()?;
                let cells = Err(CellFault::new("", TOO_LONG));
                return Ok(Some(RawRow { line, cells, address }));
            }
            let found = record(rest, self.separator)
                .and_then(|record| {
                    // What reaches the end of the window may go on behind it.
                    match record.spanning {
                        Some(column) if record.length > MAX_RECORD || (record.length == rest.len() && !all) => {
                            Err(Malformed {
                                column,
                                reason: UNCLOSED,
                            })
                        }
                        _ => Ok(record),
                    }
                })
                .map_err(|malformed| CellFault::new(head(&layout.header, malformed.column), malformed.reason))
                .and_then(|record| check_lines(record, rest, self.separator, layout));
            let (length, lines, cells) = match found {
                Ok(record) => {
                    let (length, lines) = (record.length, record.lines);
                    if record.cells.iter().all(String::is_empty) {
                        self.text.skip(length);
                        self.line += lines;
                        continue;
                    }
                    (
                        length,
                        lines,
                        check_width(record.cells, self.separator, layout.header.len()),
                    )
                }
                Err(fault) => (rest.len() - after.len(), 1, Err(fault)),
            };
            self.text.skip(length);
            self.line += lines;
            let cells = cells.map(|cells| cells.into_iter().map(|cell| Cell::text(unguard(cell))).collect());
            return Ok(Some(RawRow { line, cells, address }));
        }
    }

    fn skip_line(&mut self) -> Result<(), FileFault> {
        self.line += 1;
        loop {
            let (rest, all) = self.text.rest()?;
            let found = find_break(rest);
            let length = found.unwrap_or(rest.len());
            self.text.skip(length);
            if found.is_some() || all {
                break;
            }
        }
        let (rest, _) = self.text.rest()?;
        let length = line_break(rest);
        self.text.skip(length);
        Ok(())
    }
}

/// A quoted cell over several lines is a note with line breaks, or a quote that was forgotten and swallowed rows.
fn check_lines(record: Record, rest: &str, separator: char, layout: &Layout) -> Result<Record, CellFault> {
    let Some(column) = record.spanning else {
        return Ok(record);
    };
    let mut swallowed = rest[..record.length].lines().skip(1);
    if layout.is_used(column) || swallowed.any(|line| is_row(line, separator, layout)) {
        return Err(CellFault::new(head(&layout.header, column), UNCLOSED));
    }
    Ok(record)
}

fn is_row(line: &str, separator: char, layout: &Layout) -> bool {
    record(line, separator)
        .is_ok_and(|row| row.cells.len() == layout.header.len() && row.cells[layout.email].contains('@'))
}

fn check_width(mut cells: Vec<String>, separator: char, wanted: usize) -> Result<Vec<String>, CellFault> {
    let found = cells.len();
    if found > wanted && cells[wanted..].iter().all(String::is_empty) {
        cells.truncate(wanted);
    }
    if cells.len() == wanted {
        return Ok(cells);
    }
    let way_out = if found > wanted {
        let shown = if separator == '\t' {
            "tab".into()
        } else {
            separator.to_string()
        };
        format!("put a text that contains `{shown}` in quotes")
    } else {
        "leave empty cells in, so that each row has all of them".into()
    };
    Err(CellFault::new(
        "",
        format!("the row has {found} cells and the header {wanted}; {way_out}"),
    ))
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
