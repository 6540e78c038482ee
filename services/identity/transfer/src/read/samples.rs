//! Files for tests: whatever octets, and spreadsheets whose parts are written by hand.

use std::io::{Cursor, Write as _};

use tempfile::NamedTempFile;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{FileFault, ReadOptions, Row, Table};

/// A file with these octets.
pub(crate) fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Opens a file with these octets as it comes.
pub(crate) fn table(bytes: &[u8]) -> Result<Table, FileFault> {
    Table::open(file(bytes).path(), &ReadOptions::default())
}

/// All rows of a file with these octets.
pub(crate) fn rows(bytes: &[u8]) -> Vec<Row> {
    table(bytes).unwrap().map(Result::unwrap).collect()
}

/// What is wrong with the rows: line, column, reason.
pub(crate) fn faults(bytes: &[u8]) -> Vec<(u64, String, String)> {
    let faults = |row: Row| {
        let faults = row.cells.err().unwrap_or_default();
        faults
            .into_iter()
            .map(move |fault| (row.line, fault.column, fault.reason))
    };
    rows(bytes).into_iter().flat_map(faults).collect()
}

/// An archive of these parts.
pub(crate) fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, part) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(part).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const TYPES: &[u8] = b"<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>";
const ROOT: &[u8] =
    b"<Relationships><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/\
    relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>";
const RELATIONS: &[u8] =
    b"<Relationships><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/\
    2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>";
/// Style 1 is a date, style 2 five digits.
const STYLES: &[u8] = b"<styleSheet><numFmts count=\"1\"><numFmt numFmtId=\"164\" formatCode=\"00000\"/></numFmts>\
    <cellXfs count=\"3\"><xf numFmtId=\"0\"/><xf numFmtId=\"14\" applyNumberFormat=\"1\"/>\
    <xf numFmtId=\"164\" applyNumberFormat=\"1\"/></cellXfs></styleSheet>";

/// A spreadsheet with one sheet of these rows, in XML. `properties` are attributes of the workbook.
pub(crate) fn spreadsheet(rows: &str, properties: &str, strings: &[u8]) -> Vec<u8> {
    let workbook = format!(
        "<workbook xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\">\
         <workbookPr {properties}/><sheets><sheet name=\"People\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"
    );
    let sheet = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>");
    archive(&[
        ("[Content_Types].xml", TYPES),
        ("_rels/.rels", ROOT),
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", RELATIONS),
        ("xl/styles.xml", STYLES),
        ("xl/sharedStrings.xml", strings),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
    ])
}

/// A cell with a text.
pub(crate) fn text(at: &str, text: &str) -> String {
    format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>")
}
