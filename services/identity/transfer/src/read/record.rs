//! One row of a CSV text (RFC 4180, and what spreadsheets make of it).

/// Why a quote is at fault.
pub(crate) const UNCLOSED: &str =
    "a quote is opened here and not closed; close it, or write \"\" for a quote in the text";
const AFTER_QUOTE: &str =
    "the quotes here end before the cell does; put all of the cell in quotes, and write \"\" for a quote in the text";

/// One record, which may span lines within quotes.
pub(crate) struct Record {
    /// Trimmed.
    pub(crate) cells: Vec<String>,
    /// Octets, with the line break at its end.
    pub(crate) length: usize,
    /// Lines of the file.
    pub(crate) lines: u64,
    /// The first cell with a line break in it.
    pub(crate) spanning: Option<usize>,
}

/// Why the cells of a record cannot be told apart.
pub(crate) struct Malformed {
    /// Where it shows, from 0.
    pub(crate) column: usize,
    /// The fault and the way out.
    pub(crate) reason: &'static str,
}

/// The first line and what follows its line break (CRLF, LF or CR).
pub(crate) fn cut_line(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() {
        return None;
    }
    let end = find_break(text).unwrap_or(text.len());
    Some((&text[..end], &text[end + line_break(&text[end..])..]))
}

/// Where the next line break begins.
pub(crate) fn find_break(text: &str) -> Option<usize> {
    text.bytes().position(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Octets of the line break that a text begins with.
pub(crate) fn line_break(text: &str) -> usize {
    match text.as_bytes() {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}

/// Reads one record from the beginning of a text.
pub(crate) fn record(text: &str, separator: char) -> Result<Record, Malformed> {
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
            let breaks = count_breaks(&cell);
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
        cells.push(if cell.trim().len() == cell.len() {
            cell
        } else {
            cell.trim().to_owned()
        });
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
            Some(_) if count_breaks(&cell) > 0 => Err(UNCLOSED),
            Some(_) => Err(AFTER_QUOTE),
        };
    }
}

fn count_breaks(text: &str) -> u64 {
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = find_break(rest) {
        count += 1;
        rest = &rest[at + line_break(&rest[at..])..];
    }
    count
}
