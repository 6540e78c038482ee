use std::collections::BTreeMap;
use std::io::Write as _;

use chrono::DateTime;
use proptest::prelude::*;
use tempfile::NamedTempFile;
use usher_core::clock::Timestamp;
use usher_core::text;

use super::*;
use crate::read::{Change, ImportRow, ReadOptions, Row, Table};

fn options(format: Format, language: &str) -> WriteOptions {
    WriteOptions {
        format,
        columns: ExportColumn::ALL.to_vec(),
        language: language.to_owned(),
        folder: None,
    }
}

fn saved(mut writer: Writer, rows: &[ExportRow]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for row in rows {
        writer.push(row).unwrap();
        file.write_all(&writer.take()).unwrap();
    }
    let mut finished = writer.finish().unwrap();
    assert_eq!(finished.rows(), rows.len() as u64);
    loop {
        let chunk = finished.chunk(1_000).unwrap();
        if chunk.is_empty() {
            return file;
        }
        file.write_all(&chunk).unwrap();
    }
}

fn exported(format: Format, language: &str, rows: &[ExportRow]) -> NamedTempFile {
    saved(Writer::new(options(format, language)).unwrap(), rows)
}

fn imported(file: &NamedTempFile) -> Vec<Row> {
    Table::open(file.path(), &ReadOptions::default())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn ana() -> ExportRow {
    ExportRow {
        user_id: Some("0190b0a0-0000-7000-8000-000000000001".into()),
        email: Some("ana@example.org".into()),
        external_id: Some("=00123".into()),
        first_name: Some("Zoë \"Z\", the 1st; =x".into()),
        last_name: Some("山田 محمد".into()),
        language: Some("pt-BR".into()),
        time_zone: Some("America/Sao_Paulo".into()),
        labels: vec!["Smith, Lee".into(), "=1|2".into()],
        status: Some("DEACTIVATED".into()),
        status_since: Some(at(1_800_000_001)),
        groups: vec!["School/Year 7".into(), "-B".into()],
        roles: vec!["author".into()],
        expires: Some(at(1_900_000_000)),
        deletes: None,
        created: Some(at(1_700_000_000)),
        activated: None,
        last_login: Some(at(1_800_000_000)),
    }
}

/// What an import makes of an exported user.
fn expected(row: &ExportRow) -> ImportRow {
    let list = |names: &[String]| (!names.is_empty()).then(|| names.to_vec());
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    ImportRow {
        email: row.email.clone().unwrap(),
        external_id: text(&row.external_id),
        first_name: text(&row.first_name),
        last_name: text(&row.last_name),
        language: text(&row.language),
        time_zone: text(&row.time_zone),
        labels: list(&row.labels),
        groups: list(&row.groups),
        roles: list(&row.roles),
        expires: row.expires.map(Change::Set),
        deletes: row.deletes.map(Change::Set),
        active: match row.status.as_deref() {
            Some("ACTIVE") => Some(true),
            Some("DEACTIVATED") => Some(false),
            _ => None,
        },
    }
}

#[test]
fn u7_an_exported_file_can_be_imported_in_every_language_and_format() {
    for language in LANGUAGES {
        for format in [Format::Csv, Format::Xlsx] {
            let file = exported(format, language, &[ana()]);
            let mut table = Table::open(file.path(), &ReadOptions::default()).unwrap();
            let notes = table.notes();
            assert_eq!(notes.len(), 1, "{language}: {notes:?}");
            assert!(
                notes[0].starts_with("Columns that an import does not change"),
                "{language}: {notes:?}"
            );
            assert_eq!(table.columns().len(), 12, "{language}");
            let row = table.next().unwrap().unwrap();
            assert_eq!(row.line, 2);
            assert_eq!(row.cells, Ok(expected(&ana())), "{language} {format:?}");
            assert!(table.next().is_none());
        }
    }
}

#[test]
fn u7_a_csv_export_is_utf8_with_a_mark_and_lines_that_end_in_crlf() {
    let mut writer = Writer::new(WriteOptions {
        columns: vec![
            ExportColumn::Email,
            ExportColumn::FirstName,
            ExportColumn::Labels,
            ExportColumn::Expires,
        ],
        ..options(Format::Csv, "fr")
    })
    .unwrap();
    writer.push(&ana()).unwrap();
    assert_eq!(
        String::from_utf8(writer.take()).unwrap(),
        "\u{FEFF}Adresse e-mail,Prénom,Étiquettes,Date d'expiration\r\n\
         ana@example.org,\"Zoë \"\"Z\"\", the 1st;' =x\",'=1\\|2,2030-03-17T17:46:40Z\r\n"
            .replace("'=1\\|2", "\"Smith\\, Lee | =1\\|2\"")
    );
    assert_eq!(writer.ready(), 0);
    assert_eq!(writer.finish().unwrap().size().unwrap(), 0);
}

#[test]
fn u7_a_spreadsheet_goes_on_in_a_second_sheet_with_its_heads_and_says_so_when_it_is_read() {
    let rows: Vec<ExportRow> = (0..5)
        .map(|index| ExportRow {
            email: Some(format!("u{index}@example.org")),
            ..ExportRow::default()
        })
        .collect();
    let file = saved(Writer::with_rows(options(Format::Xlsx, "en"), 4).unwrap(), &rows);
    let mut table = Table::open(file.path(), &ReadOptions::default()).unwrap();
    assert_eq!(table.by_ref().count(), 3);
    assert!(table.notes()[0].contains("Only the sheet Sheet1 was read; the file also has: Sheet2"));
    let second = ReadOptions {
        sheet: Some("Sheet2".into()),
        ..ReadOptions::default()
    };
    let rows: Vec<Row> = Table::open(file.path(), &second).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        (rows.len(), rows[0].address.as_str(), rows[0].line),
        (2, "u3@example.org", 2)
    );
}

#[test]
fn u7_texts_of_a_spreadsheet_are_texts_and_dates_are_dates() {
    use calamine::{Data, Reader as _};
    let file = exported(Format::Xlsx, "en", &[ana()]);
    let mut workbook: calamine::Xlsx<_> = calamine::open_workbook(file.path()).unwrap();
    let formulas = workbook.worksheet_formula("Sheet1").unwrap();
    assert!(formulas.used_cells().all(|(_, _, formula)| formula.is_empty()));
    let range = workbook.worksheet_range("Sheet1").unwrap();
    assert_eq!(range.get((1, 2)), Some(&Data::String("=00123".into())));
    let date = range.get((1, 12)).unwrap();
    assert!(matches!(date, Data::DateTime(date) if date.is_datetime()), "{date:?}");
}

#[test]
fn u7_a_cell_longer_than_a_spreadsheet_allows_is_cut_and_counted() {
    let row = ExportRow {
        email: Some("a@x.org".into()),
        groups: (0..5_000).map(|index| format!("𝒢roup {index}")).collect(),
        ..ExportRow::default()
    };
    let mut writer = Writer::new(options(Format::Xlsx, "en")).unwrap();
    writer.push(&row).unwrap();
    assert_eq!(writer.finish().unwrap().cut_cells(), 1);
}

#[test]
fn u7_line_breaks_and_control_characters_become_spaces_so_that_a_row_stays_a_line() {
    for format in [Format::Csv, Format::Xlsx] {
        let row = ExportRow {
            first_name: Some("A\r\nB\u{0}C\tD".into()),
            ..ana()
        };
        let rows = imported(&exported(format, "en", &[row]));
        assert_eq!(
            rows[0].cells.as_ref().unwrap().first_name.as_deref(),
            Some("A  B C D"),
            "{format:?}"
        );
    }
}

#[test]
fn u7_a_folder_that_is_not_there_is_an_error() {
    let options = WriteOptions {
        folder: Some("/nowhere/at/all".into()),
        ..options(Format::Xlsx, "en")
    };
    assert!(matches!(Writer::new(options), Err(WriteError::Io(_))));
}

/// Texts as the service keeps them: trimmed, in NFC, on one line.
fn texts() -> impl Strategy<Value = String> {
    let odd = "[=+@＝＋－＠'\";,|\\\\\u{200C}\u{200D} -]{0,6}";
    let letters = "[a-zéàßøğñ山田太郎محمد אב한글😀]{0,12}";
    (odd, prop_oneof![letters.boxed(), "\\PC{0,20}".boxed()], odd)
        .prop_map(|(before, text, after)| before + &text + &after)
        .prop_filter_map("not a text that the service keeps", |given| {
            text::line(&given, 200).ok()
        })
        .prop_filter("the reader refuses what could not be read", |text| {
            !text.contains(char::REPLACEMENT_CHARACTER)
        })
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(
        texts().prop_filter("names are not empty", |name| !name.is_empty()),
        0..4,
    )
}

fn users() -> impl Strategy<Value = ExportRow> {
    let instants = prop::option::of((0_i64..4_000_000_000).prop_map(at));
    let statuses = prop::sample::select(vec!["PENDING", "INVITED", "ACTIVE", "DEACTIVATED", "EXPIRED"]);
    let profile = (
        texts(),
        texts(),
        texts(),
        "[a-z]{2}(-[A-Z]{2})?",
        "[A-Z][a-z]{2,5}/[A-Z][a-z_]{2,8}",
    );
    (profile, names(), names(), names(), instants.clone(), instants, statuses).prop_map(
        |(
            (external_id, first_name, last_name, language, time_zone),
            labels,
            groups,
            roles,
            expires,
            deletes,
            status,
        )| ExportRow {
            external_id: Some(external_id),
            first_name: Some(first_name),
            last_name: Some(last_name),
            language: Some(language),
            time_zone: Some(time_zone),
            status: Some(status.to_owned()),
            created: expires,
            labels,
            groups,
            roles,
            expires,
            deletes,
            ..ExportRow::default()
        },
    )
}

/// Gives each its own address and external id.
fn distinct(mut users: Vec<ExportRow>) -> Vec<ExportRow> {
    for (index, user) in users.iter_mut().enumerate() {
        user.email = Some(format!("u{index}@example.org"));
        user.external_id = user
            .external_id
            .take()
            .filter(|id| !id.is_empty())
            .map(|id| format!("{id}{index}"));
    }
    users
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn u7_whatever_is_exported_comes_back_by_an_import(
        users in prop::collection::vec(users(), 1..6),
        language in prop::sample::select(LANGUAGES.to_vec()),
        is_csv in any::<bool>(),
    ) {
        let users = distinct(users);
        let format = if is_csv { Format::Csv } else { Format::Xlsx };
        let rows = imported(&exported(format, language, &users));
        prop_assert_eq!(rows.len(), users.len());
        for (index, (row, user)) in rows.iter().zip(&users).enumerate() {
            prop_assert_eq!(row.line, index as u64 + 2);
            prop_assert_eq!(row.cells.as_ref(), Ok(&expected(user)));
        }
    }

    #[test]
    fn u7_another_csv_reader_sees_the_same_rows_and_no_cell_that_begins_a_formula(
        users in prop::collection::vec(users(), 1..6),
    ) {
        let users = distinct(users);
        let file = exported(Format::Csv, "en", &users);
        for separator in [b',', b';', b'\t'] {
            let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(separator).from_path(file.path()).unwrap();
            let records: Vec<_> = reader.records().map(Result::unwrap).collect();
            if separator == b',' {
                prop_assert_eq!(records.len(), users.len());
                prop_assert!(records.iter().all(|record| record.len() == ExportColumn::ALL.len()));
            }
            for cell in records.iter().flatten() {
                let visible = |c: &char| !c.is_whitespace() && !usher_core::email::is_invisible(*c);
                let first = cell.chars().find(visible);
                prop_assert!(!first.is_some_and(|c| "=+-@＝＋－＠".contains(c)), "{:?}", cell);
            }
        }
    }
}

#[test]
fn u7_a_mapping_reads_an_export_whose_heads_were_changed() {
    let file = exported(Format::Xlsx, "en", &[ana()]);
    let mapping = BTreeMap::from([
        ("Labels".to_owned(), "groups".to_owned()),
        ("Groups".to_owned(), "ignore".to_owned()),
    ]);
    let options = ReadOptions {
        mapping,
        ..ReadOptions::default()
    };
    let row = Table::open(file.path(), &options)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .cells
        .unwrap();
    assert_eq!((row.labels, row.groups.unwrap().len()), (None, 2));
}
