//! How much memory a large file takes, and how fast its rows go by. One test, for the peak is that of the whole process.
//!
//! `cargo test --release -p usher-transfer --test memory -- --nocapture` prints the figures.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use tempfile::NamedTempFile;
use usher_transfer::Format;
use usher_transfer::read::{ReadOptions, Table};
use usher_transfer::write::{ExportColumn, ExportRow, WriteOptions, Writer};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Without optimisation fewer, since that takes minutes; the bounds are the same.
const ROWS: u64 = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
const MIB: u64 = 1 << 20;

/// Kibibytes of a line of the process' status: `VmRSS`, `VmHWM`.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Runs something, and answers by how much its peak was above what the process had before. `None` where the system does
/// not tell, or does not let the peak be measured anew.
fn growth<T>(what: &str, run: impl FnOnce() -> T) -> (T, Option<u64>) {
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS").filter(|_| reset);
    let began = Instant::now();
    let answer = run();
    let milliseconds = began.elapsed().as_millis().max(1);
    let grown = before.and_then(|before| Some(status("VmHWM")?.saturating_sub(before) * 1024));
    let shown = grown.map_or("?".to_owned(), |grown| (grown / MIB).to_string());
    println!(
        "{what}: {} rows/s, {shown} MiB",
        u128::from(ROWS) * 1_000 / milliseconds
    );
    (answer, grown)
}

fn user(index: u64) -> ExportRow {
    ExportRow {
        user_id: Some(format!("0190b0a0-0000-7000-8000-{index:012}")),
        email: Some(format!("someone.number{index}@example.org")),
        external_id: Some(format!("EXT-{index}")),
        first_name: Some(format!("Zoë {index}")),
        last_name: Some(format!("Lindqvist-Müller {index}")),
        language: Some("de".into()),
        labels: vec!["Year 7".into(), "Choir".into()],
        status: Some("ACTIVE".into()),
        groups: vec![format!("School/Year {}", index % 12)],
        roles: vec!["learner".into()],
        expires: chrono::DateTime::from_timestamp(1_900_000_000, 0),
        created: chrono::DateTime::from_timestamp(1_700_000_000, 0),
        ..ExportRow::default()
    }
}

fn write(format: Format) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let mut writer = Writer::new(WriteOptions {
        format,
        columns: ExportColumn::ALL.to_vec(),
        language: "de".into(),
        folder: None,
    })
    .unwrap();
    for index in 0..ROWS {
        writer.push(&user(index)).unwrap();
        if writer.ready() > 64 * 1024 {
            file.write_all(&writer.take()).unwrap();
        }
    }
    let mut finished = writer.finish().unwrap();
    std::io::copy(&mut finished, &mut file).unwrap();
    file
}

fn read(file: &NamedTempFile) -> u64 {
    let rows = Table::open(file.path(), &ReadOptions::default()).unwrap();
    rows.map(|row| u64::from(row.unwrap().cells.is_ok())).sum()
}

/// As Excel saves it: texts in a table of their own, cells with their numbers.
fn with_shared_strings() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let mut zip = ZipWriter::new(file.reopen().unwrap());
    let mut part = |name: &str, lines: &mut dyn Iterator<Item = String>| {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        lines.for_each(|line| zip.write_all(line.as_bytes()).unwrap());
    };
    let mut one = |name: &str, text: &str| part(name, &mut std::iter::once(text.to_owned()));
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    one("[Content_Types].xml", "<Types/>");
    one(
        "_rels/.rels",
        &format!(
            "<Relationships><Relationship Id=\"r\" Type=\"{office}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
        ),
    );
    one(
        "xl/workbook.xml",
        &format!(
            "<workbook xmlns:r=\"{office}\"><sheets><sheet name=\"S\" sheetId=\"1\" r:id=\"r\"/></sheets></workbook>"
        ),
    );
    one(
        "xl/_rels/workbook.xml.rels",
        &format!(
            "<Relationships><Relationship Id=\"r\" Type=\"{office}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
        ),
    );
    let heads = ["email", "first name", "last name", "external id"].map(str::to_owned);
    let texts = (0..ROWS).flat_map(|index| {
        let user = user(index);
        [user.email, user.first_name, user.last_name, user.external_id].map(Option::unwrap_or_default)
    });
    let strings = heads
        .into_iter()
        .chain(texts)
        .map(|text| format!("<si><t>{text}</t></si>"));
    let sst = std::iter::once("<sst>".to_owned())
        .chain(strings)
        .chain(["</sst>".to_owned()]);
    part("xl/sharedStrings.xml", &mut { sst });
    let rows = (0..=ROWS).map(|row| {
        let mut xml = format!("<row r=\"{}\">", row + 1);
        for (column, letter) in (0..).zip(["A", "B", "C", "D"]) {
            write!(
                xml,
                "<c r=\"{letter}{}\" t=\"s\"><v>{}</v></c>",
                row + 1,
                row * 4 + column
            )
            .unwrap();
        }
        xml + "</row>"
    });
    let begin = "<worksheet><sheetData>".to_owned();
    let sheet = std::iter::once(begin)
        .chain(rows)
        .chain(["</sheetData></worksheet>".to_owned()]);
    part("xl/worksheets/sheet1.xml", &mut { sheet });
    zip.finish().unwrap();
    file
}

#[test]
fn l10_u7_a_file_of_very_many_rows_takes_the_memory_of_a_few() {
    let bounded = |grown: Option<u64>, bound: u64| assert!(grown.is_none_or(|grown| grown < bound * MIB), "{grown:?}");
    let (csv, grown) = growth("writing CSV", || write(Format::Csv));
    bounded(grown, 8);
    let (xlsx, grown) = growth("writing a spreadsheet", || write(Format::Xlsx));
    bounded(grown, 16);
    // What a reader keeps of each row are two hashes, by which it knows repeated rows: 9 MiB here.
    let (read_rows, grown) = growth("reading CSV", || read(&csv));
    assert_eq!(read_rows, ROWS);
    bounded(grown, 24);
    let (read_rows, grown) = growth("reading a spreadsheet", || read(&xlsx));
    assert_eq!(read_rows, ROWS);
    bounded(grown, 32);
    let shared = with_shared_strings();
    let (read_rows, grown) = growth("reading a spreadsheet with shared texts", || read(&shared));
    assert_eq!(read_rows, ROWS);
    bounded(grown, 96);
}
