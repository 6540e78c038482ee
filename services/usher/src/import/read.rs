//! From the bytes of a CSV file to rows of text: encoding, separator, quotes, line breaks (RFC 4180, and what
//! spreadsheets make of it).
//!
//! A quote that is not closed where its cell ends would swallow the rows after it. Here it costs its own row only: that
//! row is named, and reading goes on with the next line.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// What cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the file is empty; its first line must name the columns")]
    Empty,
    #[error(
        "the file is not UTF-8, and no other encoding is certain; save it as UTF-8, or name its encoding with --encoding"
    )]
    Encoding,
    #[error("{0} is not an encoding that is known; write for example windows-1252, iso-8859-15 or utf-16le")]
    UnknownEncoding(String),
    #[error("the first line, which must name the columns, opens a quote and does not close it; correct it")]
    Header,
}

/// A text, and how it was found in the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Without a byte-order mark. What could not be read is U+FFFD.
    pub(crate) text: String,
    /// Which encoding it was taken for.
    pub(crate) encoding: &'static str,
    /// Whether that was a guess.
    pub(crate) guessed: bool,
}

/// What is wrong with a cell, or with the row where there is no column to name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Fault {
    /// The column's head, as it stands in the file.
    pub(crate) column: String,
    /// The fault and the way out.
    pub(crate) reason: String,
}

impl Fault {
    /// Names a column and its fault.
    pub(crate) fn new(column: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            column: column.into(),
            reason: reason.into(),
        }
    }
}

/// One row below the header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line of the file that it begins on; the header is on line 1 unless something stands above it.
    pub(crate) line: usize,
    /// As many cells as the header has, trimmed; or why they cannot be told apart.
    pub(crate) cells: Result<Vec<String>, Fault>,
    /// What stands where the address should be, to recognise the row by.
    pub(crate) address: String,
}

/// A file, cut at its separators.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sheet {
    /// The heads of the columns, without empty ones at the end.
    pub(crate) header: Vec<String>,
    /// What separates the cells.
    pub(crate) separator: char,
    body: String,
    first_line: usize,
}

/// Finds out the encoding: the one that was named, a byte-order mark, UTF-8, or Windows-1252 (and with it Latin-1) where
/// the bytes speak for it.
pub(crate) fn decode(bytes: &[u8], named: Option<&str>) -> Result<Decoded, ReadError> {
    let done = |encoding: &'static Encoding, bytes: &[u8], guessed| Decoded {
        text: encoding.decode_without_bom_handling(bytes).0.into_owned(),
        encoding: encoding.name(),
        guessed,
    };
    let mark = Encoding::for_bom(bytes);
    let unmarked = &bytes[mark.map_or(0, |(_, length)| length)..];
    if let Some(name) = named {
        let encoding =
            Encoding::for_label(name.trim().as_bytes()).ok_or_else(|| ReadError::UnknownEncoding(name.to_owned()))?;
        return Ok(done(encoding, unmarked, false));
    }
    if let Some((encoding, _)) = mark {
        return Ok(done(encoding, unmarked, false));
    }
    if bytes.contains(&0) {
        return Err(ReadError::Encoding);
    }
    if std::str::from_utf8(bytes).is_ok() || has_utf8_letters(bytes) {
        // In a UTF-8 file with a few damaged bytes only the rows that have them are at fault.
        return Ok(done(UTF_8, bytes, false));
    }
    if is_western(bytes) {
        Ok(done(WINDOWS_1252, bytes, true))
    } else {
        Err(ReadError::Encoding)
    }
}

/// Whether there is a letter beyond ASCII in valid UTF-8: chance hardly makes one in a Western text.
fn has_utf8_letters(bytes: &[u8]) -> bool {
    bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii())
}

/// Whether the bytes beyond ASCII look like accented letters of Western Europe: all of them are assigned, and no three
/// stand together, as they would all the time in Greek, Cyrillic, Hebrew or Arabic.
fn is_western(bytes: &[u8]) -> bool {
    let assigned = bytes
        .iter()
        .all(|byte| !matches!(byte, 0x81 | 0x8D | 0x8F | 0x90 | 0x9D));
    assigned && bytes.windows(3).all(|three| three.iter().any(u8::is_ascii))
}

impl Sheet {
    /// Finds the header and the separator. `recognised` says how many of some heads are columns that are known: the
    /// separator that gives the most is taken, and among equals the one that gives the most heads.
    pub(crate) fn open(text: &str, recognised: impl Fn(&[String]) -> usize) -> Result<Self, ReadError> {
        let mut rest = text;
        let mut line = 1;
        let mut named = None;
        while let Some((first, after)) = cut_line(rest) {
            if let Some(separator) = first
                .trim()
                .strip_prefix("sep=")
                .and_then(|given| given.chars().find(|c| *c != '"'))
            {
                named = Some(separator);
            } else if !first.trim().is_empty() {
                break;
            }
            rest = after;
            line += 1;
        }
        if rest.trim().is_empty() {
            return Err(ReadError::Empty);
        }
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
            .ok_or(ReadError::Header)?;
        let mut heads = header.cells;
        while heads.last().is_some_and(String::is_empty) {
            heads.pop();
        }
        Ok(Self {
            header: heads,
            separator,
            body: rest[header.length..].to_owned(),
            first_line: line + header.lines,
        })
    }

    /// The rows; empty ones are left out. `imported` are the indices of the columns that are used, and `email` that of the
    /// address: in a column that is used no cell spans lines.
    pub(crate) fn rows(&self, imported: &[usize], email: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut rest = self.body.as_str();
        let mut line = self.first_line;
        while let Some((first, after)) = cut_line(rest) {
            let address = first.split(self.separator).nth(email).unwrap_or_default();
            let address = address.trim_matches([' ', '"']).to_owned();
            let found = record(rest, self.separator)
                .map_err(|malformed| Fault::new(self.head(malformed.column), malformed.reason))
                .and_then(|record| self.check_lines(record, rest, imported, email));
            match found {
                Ok(record) => {
                    if record.cells.iter().any(|cell| !cell.is_empty()) {
                        rows.push(Row {
                            line,
                            cells: self.check_width(record.cells),
                            address,
                        });
                    }
                    rest = &rest[record.length..];
                    line += record.lines;
                }
                Err(fault) => {
                    rows.push(Row {
                        line,
                        cells: Err(fault),
                        address,
                    });
                    rest = after;
                    line += 1;
                }
            }
        }
        rows
    }

    /// The head of a column, or its number where it has none.
    pub(crate) fn head(&self, index: usize) -> String {
        match self.header.get(index) {
            Some(head) if !head.is_empty() => head.clone(),
            _ => format!("column {}", index + 1),
        }
    }

    /// A quoted cell over several lines is a note with line breaks, or a quote that was forgotten and swallowed rows.
    fn check_lines(&self, record: Record, rest: &str, imported: &[usize], email: usize) -> Result<Record, Fault> {
        let Some(column) = record.spanning else {
            return Ok(record);
        };
        let mut swallowed = rest[..record.length].lines().skip(1);
        if imported.contains(&column) || swallowed.any(|line| self.is_row(line, email)) {
            return Err(Fault::new(self.head(column), UNCLOSED));
        }
        Ok(record)
    }

    fn is_row(&self, line: &str, email: usize) -> bool {
        record(line, self.separator)
            .is_ok_and(|row| row.cells.len() == self.header.len() && row.cells[email].contains('@'))
    }

    fn check_width(&self, mut cells: Vec<String>) -> Result<Vec<String>, Fault> {
        let (found, wanted) = (cells.len(), self.header.len());
        if found > wanted && cells[wanted..].iter().all(String::is_empty) {
            cells.truncate(wanted);
        }
        if cells.len() == wanted {
            return Ok(cells);
        }
        let way_out = if found > wanted {
            format!("put a text that contains `{}` in quotes", shown(self.separator))
        } else {
            "leave empty cells in, so that each row has all of them".into()
        };
        Err(Fault::new(
            "",
            format!("the row has {found} cells and the header {wanted}; {way_out}"),
        ))
    }
}

fn shown(separator: char) -> String {
    if separator == '\t' {
        "tab".into()
    } else {
        separator.into()
    }
}

const UNCLOSED: &str = "a quote is opened here and not closed; close it, or write \"\" for a quote in the text";
const AFTER_QUOTE: &str =
    "the quotes here end before the cell does; put all of the cell in quotes, and write \"\" for a quote in the text";

/// One record, which may span lines within quotes.
struct Record {
    cells: Vec<String>,
    /// Octets, with the line break at its end.
    length: usize,
    /// Lines of the file.
    lines: usize,
    /// The first cell with a line break in it.
    spanning: Option<usize>,
}

struct Malformed {
    column: usize,
    reason: &'static str,
}

/// The first line and what follows its line break (CRLF, LF or CR).
fn cut_line(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() {
        return None;
    }
    let end = text.find(['\r', '\n']).unwrap_or(text.len());
    Some((&text[..end], &text[end + line_break(&text[end..])..]))
}

/// Octets of the line break that a text begins with.
fn line_break(text: &str) -> usize {
    match text.as_bytes() {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}

/// Reads one record from the beginning of a text.
fn record(text: &str, separator: char) -> Result<Record, Malformed> {
    let mut cells = Vec::new();
    let mut at = 0;
    let mut lines = 1;
    let mut spanning = None;
    loop {
        let column = cells.len();
        let blank = text.len() - at - text[at..].trim_start_matches(' ').len();
        let cell = if text[at + blank..].starts_with('"') {
            let (cell, length) =
                quoted(&text[at + blank + 1..], separator).map_err(|reason| Malformed { column, reason })?;
            at += blank + 1 + length;
            let breaks = count_lines(&cell);
            if breaks > 0 {
                lines += breaks;
                spanning = spanning.or(Some(column));
            }
            cell
        } else {
            let length = text[at..].find([separator, '\r', '\n']).unwrap_or(text.len() - at);
            let cell = text[at..at + length].to_owned();
            at += length;
            cell
        };
        cells.push(cell.trim().to_owned());
        if text[at..].starts_with(separator) {
            at += separator.len_utf8();
            continue;
        }
        return Ok(Record {
            cells,
            length: at + line_break(&text[at..]),
            lines,
            spanning,
        });
    }
}

/// Reads what follows an opening quote, up to the end of the cell: its text, and how many octets were read.
fn quoted(text: &str, separator: char) -> Result<(String, usize), &'static str> {
    let mut cell = String::new();
    let mut at = 0;
    loop {
        let length = text[at..].find('"').ok_or(UNCLOSED)?;
        cell.push_str(&text[at..at + length]);
        at += length + 1;
        if text[at..].starts_with('"') {
            cell.push('"');
            at += 1;
            continue;
        }
        let rest = text[at..].trim_start_matches(' ');
        at = text.len() - rest.len();
        return match rest.chars().next() {
            None | Some('\r' | '\n') => Ok((cell, at)),
            Some(c) if c == separator => Ok((cell, at)),
            Some(_) if count_lines(&cell) > 0 => Err(UNCLOSED),
            Some(_) => Err(AFTER_QUOTE),
        };
    }
}

fn count_lines(text: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['\r', '\n']) {
        count += 1;
        rest = &rest[at + line_break(&rest[at..])..];
    }
    count
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
