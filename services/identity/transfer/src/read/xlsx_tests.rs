use rust_xlsxwriter::{Format as CellFormat, Formula, Workbook as Writer};

use super::super::samples::{archive, faults, file, rows, spreadsheet, table, text};
use super::super::{Change, ReadOptions, Table};
use super::*;

const HEADS: &str = "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>email</t></is></c>\
    <c r=\"B1\" t=\"inlineStr\"><is><t>external id</t></is></c><c r=\"C1\" t=\"inlineStr\"><is><t>expires</t></is></c></row>";

fn serials(properties: &str, serial: &str) -> Vec<(Option<String>, Option<String>)> {
    let rows_xml = format!(
        "{HEADS}<row r=\"2\">{}<c r=\"B2\" s=\"2\"><v>123</v></c><c r=\"C2\" s=\"1\"><v>{serial}</v></c></row>\
         <row r=\"3\">{}<c r=\"B3\"><v>12345678901234</v></c><c r=\"C3\"><v>{serial}</v></c></row>",
        text("A2", "a@x.org"),
        text("A3", "b@x.org"),
    );
    rows(&spreadsheet(&rows_xml, properties, b"<sst/>"))
        .into_iter()
        .map(|row| row.cells.unwrap())
        .map(|row| {
            let expires = row.expires.map(|change| match change {
                Change::Set(at) => dates::show(at),
                Change::Clear => "never".into(),
            });
            (row.external_id, expires)
        })
        .collect()
}

#[test]
fn s13_dates_and_numbers_become_what_a_person_sees_in_either_date_system() {
    for (properties, serial) in [("", "46387.75"), ("date1904=\"1\"", "44925.75")] {
        let day = || Some("2026-12-31T18:00:00Z".to_owned());
        let expected = vec![
            (Some("00123".to_owned()), day()),
            (Some("12345678901234".to_owned()), day()),
        ];
        assert_eq!(serials(properties, serial), expected, "{properties}");
    }
}

#[test]
fn l10_a_spreadsheet_as_people_make_it_is_read_with_its_row_numbers() {
    let mut workbook = Writer::new();
    let day = CellFormat::new().set_num_format("dd/mm/yyyy");
    let sheet = workbook.add_worksheet();
    for (column, head) in (0..).zip([
        "E-Mail",
        "Vorname",
        "Personalnummer",
        "Ablaufdatum",
        "Notiz",
        "Gruppen",
        "Aktiv",
    ]) {
        sheet.write_string(2, column, head).unwrap();
    }
    sheet.write_string(3, 0, " ana@example.org ").unwrap();
    sheet.write_string(3, 1, "Zoë & Söhne <1>").unwrap();
    sheet.write_number(3, 2, 4711).unwrap();
    sheet.write_number_with_format(3, 3, 46_387, &day).unwrap();
    sheet.write_string(3, 4, "two\nlines").unwrap();
    sheet.write_string(3, 5, "Year 7\nChoir | A/B").unwrap();
    sheet.write_boolean(3, 6, false).unwrap();
    sheet
        .write_formula(6, 0, Formula::new("=A1&\"x\"").set_result("bo@example.org"))
        .unwrap();
    sheet.write_string(6, 9, "beside the table").unwrap();
    sheet.write_string(7, 1, "nobody").unwrap();
    sheet.write_string(8, 0, "cy@example.org").unwrap();
    sheet.write_string(8, 1, "C\ny").unwrap();
    sheet
        .write_formula(9, 0, Formula::new("=1/0").set_result("#DIV/0!"))
        .unwrap();
    let bytes = workbook.save_to_buffer().unwrap();
    let found = rows(&bytes);
    let lines: Vec<u64> = found.iter().map(|row| row.line).collect();
    assert_eq!(lines, [4, 7, 8, 9, 10]);
    let ana = found[0].cells.as_ref().unwrap();
    assert_eq!(
        (ana.email.as_str(), ana.first_name.as_deref()),
        ("ana@example.org", Some("Zoë & Söhne <1>"))
    );
    assert_eq!((ana.external_id.as_deref(), ana.active), (Some("4711"), Some(false)));
    assert_eq!(ana.expires, Some(Change::Set(dates::parse("2026-12-31").unwrap())));
    assert_eq!(ana.groups, Some(vec!["Year 7".into(), "Choir".into(), "A/B".into()]));
    assert_eq!(found[1].address, "bo@example.org");
    let faults = faults(&bytes);
    let named: Vec<(u64, &str)> = faults
        .iter()
        .map(|(line, column, _)| (*line, column.as_str()))
        .collect();
    assert_eq!(named, [(8, "E-Mail"), (9, "Vorname"), (10, "E-Mail")]);
    assert!(faults[2].2.contains("#DIV/0!"), "{}", faults[2].2);
}

#[test]
fn l10_the_first_visible_sheet_is_read_unless_another_is_named() {
    let mut workbook = Writer::new();
    for (name, address) in [("Old", "old@x.org"), ("Now", "now@x.org"), ("Next", "next@x.org")] {
        let sheet = workbook.add_worksheet();
        sheet.set_name(name).unwrap().set_hidden(name == "Old");
        sheet
            .write_string(0, 0, "email")
            .unwrap()
            .write_string(1, 0, address)
            .unwrap();
        if name == "Now" {
            sheet.set_active(true);
        }
    }
    let saved = file(&workbook.save_to_buffer().unwrap());
    let first = |sheet: Option<&str>| {
        let options = ReadOptions {
            sheet: sheet.map(str::to_owned),
            ..ReadOptions::default()
        };
        let mut table = Table::open(saved.path(), &options)?;
        let row = table.next().unwrap()?;
        Ok::<_, FileFault>((row.address, table.notes()))
    };
    let (address, notes) = first(None).unwrap();
    assert_eq!((address.as_str(), notes.len()), ("now@x.org", 1));
    assert!(notes[0].contains("Next") && !notes[0].contains("Old"), "{notes:?}");
    assert_eq!(first(Some("Old")).unwrap(), ("old@x.org".to_owned(), vec![]));
    assert!(first(Some("Never")).unwrap_err().to_string().contains("Old, Now, Next"));
}

#[test]
fn l10_files_of_other_formats_are_named_in_one_line() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let compound = |name: &str| {
        let filler = vec![0; 64 * 1024 - 20];
        [&b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"[..], &filler, &utf16(name), &filler].concat()
    };
    for (bytes, word) in [
        (compound("EncryptedPackage"), "password"),
        (compound("Workbook"), "old .xls"),
        (
            archive(&[
                ("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
                ("content.xml", b"<x/>"),
            ]),
            "OpenDocument",
        ),
        (
            archive(&[("xl/workbook.bin", b""), ("[Content_Types].xml", b"<x/>")]),
            ".xlsb",
        ),
        (
            archive(&[("word/document.xml", b"<x/>"), ("[Content_Types].xml", b"<x/>")]),
            "Word",
        ),
        (archive(&[("users.csv", b"email\na@x.org\n")]), "archive"),
        (archive(&[("[Content_Types].xml", b"<x/>")]), "damaged"),
        (archive(&[]), "empty archive"),
        (b"%PDF-1.7".to_vec(), "PDF"),
        (b"\x1F\x8B\x08".to_vec(), "archive"),
    ] {
        let error = table(&bytes).unwrap_err().to_string();
        assert!(error.contains(word) && error.lines().count() == 1, "{word}: {error}");
    }
    let options = ReadOptions {
        format: Some(super::super::Format::Xlsx),
        ..ReadOptions::default()
    };
    let text = file(b"email\na@x.org\n");
    assert!(matches!(
        Table::open(text.path(), &options),
        Err(FileFault::OtherFormat(_))
    ));
}

#[test]
fn l10_a_spreadsheet_cut_or_changed_anywhere_is_a_fault_and_never_a_panic_or_a_wrong_row() {
    let row = |row: u32| text(&format!("A{row}"), &format!("u{row}@x.org"));
    let rows_xml: Vec<String> = (2..40)
        .map(|number| format!("<row r=\"{number}\">{}</row>", row(number)))
        .collect();
    let rows_xml = rows_xml.concat();
    let whole = spreadsheet(&format!("{HEADS}{rows_xml}"), "", b"<sst><si><t>x</t></si></sst>");
    assert_eq!(rows(&whole).len(), 38);
    for length in (4..whole.len()).step_by(whole.len() / 60) {
        assert!(table(&whole[..length]).is_err(), "{length}");
    }
    for at in (4..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        if let Ok(table) = table(&bytes) {
            let addresses = table.map_while(Result::ok).map(|row| row.address);
            assert!(
                addresses
                    .into_iter()
                    .all(|address| address.starts_with('u') && address.ends_with("@x.org")),
                "{at}"
            );
        }
    }
}

#[test]
fn l10_a_sheet_without_rows_or_with_too_many_columns_is_refused() {
    assert!(matches!(table(&spreadsheet("", "", b"<sst/>")), Err(FileFault::Empty)));
    let far = format!("<row r=\"1\">{}{}</row>", text("A1", "email"), text("XFD1", "far"));
    assert!(matches!(
        table(&spreadsheet(&far, "", b"<sst/>")),
        Err(FileFault::TooManyColumns(1_000))
    ));
}

#[test]
fn l10_a_zip_bomb_is_refused_whatever_it_declares() {
    let spaces = vec![b' '; 1 << 20];
    let bomb = |part: &str| {
        use std::io::Write as _;
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("[Content_Types].xml", options).unwrap();
        zip.start_file(part, options).unwrap();
        for _ in 0..=(super::super::MAX_UNPACKED >> 20) {
            zip.write_all(&spaces).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let bytes = bomb("xl/media/image1.png");
    assert!(bytes.len() < 4 << 20);
    let error = table(&bytes).unwrap_err().to_string();
    assert!(error.contains("512 MiB"), "{error}");
    // What the package says about its sizes is not believed.
    let declared = u32::try_from((super::super::MAX_UNPACKED) + (1 << 20))
        .unwrap()
        .to_le_bytes();
    let mut lying = bytes.clone();
    while let Some(at) = lying.windows(4).position(|window| window == declared) {
        lying[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    }
    assert_ne!(lying, bytes);
    assert!(table(&lying).is_err());
}

#[test]
fn l10_tables_that_only_pretend_to_be_small_are_refused() {
    let rows_xml = format!("{HEADS}<row r=\"2\">{}</row>", text("A2", "a@x.org"));
    for strings in [
        &b"<sst uniqueCount=\"88888888888\"></sst>"[..],
        b"<!DOCTYPE sst [<!ENTITY a \"b\">]><sst/>",
        &[b"<sst><si><t>", &vec![b'a'; 2 << 20][..], b"</t></si></sst>"].concat(),
    ] {
        assert!(matches!(
            table(&spreadsheet(&rows_xml, "", strings)),
            Err(FileFault::TooLarge(_))
        ));
    }
}
