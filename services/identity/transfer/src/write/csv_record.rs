//! CSV as RFC 4180 has it: commas, quotes where they are needed, CRLF; in UTF-8 with a mark, by which spreadsheets know
//! it.

use crate::guard::guard;

/// The byte-order mark.
pub(crate) const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Appends one record. The cells are protected against being read as formulas.
pub(crate) fn record<'a>(to: &mut Vec<u8>, cells: impl IntoIterator<Item = &'a str>) {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        let cell = guard(cell);
        let is_plain = !cell.contains([',', ';', '"', '\r', '\n', '\t']) && cell.trim().len() == cell.len();
        if is_plain {
            to.extend_from_slice(cell.as_bytes());
        } else {
            to.push(b'"');
            to.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            to.push(b'"');
        }
    }
    to.extend_from_slice(b"\r\n");
}
