use std::io::Write as _;

use super::super::encoding;
use super::*;

/// What a file becomes: the line and the cells of each row, or the column and a part of the reason.
type Expected<'a> = Vec<(u64, Result<Vec<&'a str>, (&'a str, &'a str)>)>;

fn known(header: &[String]) -> usize {
    header
        .iter()
        .filter(|head| ["email", "name", "note"].contains(&head.as_str()))
        .count()
}

fn open(bytes: &[u8]) -> Result<(Csv, Vec<String>), FileFault> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let judged = encoding::judge(&file, None)?;
    Csv::open(Text::open(file, judged)?, known)
}

struct Row {
    line: u64,
    cells: Result<Vec<String>, CellFault>,
    address: String,
}

fn rows(bytes: &[u8]) -> Vec<Row> {
    let (mut csv, header) = open(bytes).unwrap();
    // `email` and `name` are imported, `note` is not.
    let used = ["email", "name"]
        .iter()
        .filter_map(|wanted| header.iter().position(|head| head == wanted))
        .collect();
    let layout = Layout {
        email: header.iter().position(|head| head == "email").unwrap(),
        header,
        used,
        single: Vec::new(),
    };
    std::iter::from_fn(|| csv.next(&layout).unwrap())
        .map(|row| Row {
            line: row.line,
            cells: row.cells.map(|cells| cells.into_iter().map(|cell| cell.text).collect()),
            address: row.address,
        })
        .collect()
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    std::iter::once(0xFEFF)
        .chain(text.encode_utf16())
        .flat_map(unit)
        .collect()
}

fn check(case: &str, bytes: &[u8], expected: Expected) {
    let found = rows(bytes);
    assert_eq!(found.len(), expected.len(), "{case}");
    for (row, (line, cells)) in found.iter().zip(expected) {
        assert_eq!(row.line, line, "{case}");
        match (&row.cells, cells) {
            (Ok(found), Ok(expected)) => assert_eq!(found, &expected, "{case}"),
            (Err(fault), Err((column, reason))) => {
                assert_eq!(fault.column, column, "{case}");
                assert!(fault.reason.contains(reason), "{case}: {}", fault.reason);
            }
            (found, expected) => panic!("{case}, line {line}: {found:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn l10_what_spreadsheets_write_is_read_the_same_way() {
    let two = || vec![(2, Ok(vec!["a@x.org", "Zoë"])), (3, Ok(vec!["b@x.org", "Bo"]))];
    check("plain", "email,name\na@x.org,Zoë\nb@x.org,Bo\n".as_bytes(), two());
    check(
        "no line break at the end",
        "email,name\na@x.org,Zoë\nb@x.org,Bo".as_bytes(),
        two(),
    );
    check(
        "byte-order mark",
        "\u{FEFF}email,name\na@x.org,Zoë\nb@x.org,Bo\n".as_bytes(),
        two(),
    );
    check("CRLF", "email,name\r\na@x.org,Zoë\r\nb@x.org,Bo\r\n".as_bytes(), two());
    check("CR alone", "email,name\ra@x.org,Zoë\rb@x.org,Bo\r".as_bytes(), two());
    check("semicolon", "email;name\na@x.org;Zoë\nb@x.org;Bo\n".as_bytes(), two());
    check("tab", "email\tname\na@x.org\tZoë\nb@x.org\tBo\n".as_bytes(), two());
    check(
        "quotes",
        "\"email\",\"name\"\n\"a@x.org\",\"Zoë\"\n \"b@x.org\" , \"Bo\" \n".as_bytes(),
        two(),
    );
    check(
        "white space",
        " email , name\n a@x.org,  Zoë  \nb@x.org,Bo\n".as_bytes(),
        two(),
    );
    check("Latin-1", b"email,name\na@x.org,Zo\xEB\nb@x.org,Bo\n", two());
    check(
        "UTF-16, little end first",
        &utf16("email,name\na@x.org,Zoë\nb@x.org,Bo\n", false),
        two(),
    );
    check(
        "UTF-16, big end first",
        &utf16("email,name\r\na@x.org,Zoë\r\nb@x.org,Bo\r\n", true),
        two(),
    );
    check(
        "empty columns at the end",
        "email,name,,\na@x.org,Zoë,,\nb@x.org,Bo,,\n".as_bytes(),
        two(),
    );
}

#[test]
fn l10_the_row_number_is_the_line_of_the_file() {
    check(
        "empty lines and empty rows",
        b"\nemail;name\n\na@x.org;A\n;\n;;\n   \nb@x.org;B\n\n",
        vec![(4, Ok(vec!["a@x.org", "A"])), (8, Ok(vec!["b@x.org", "B"]))],
    );
    check(
        "Excel's separator line",
        b"sep=|\nemail|name\na@x.org|A, B; C\n",
        vec![(3, Ok(vec!["a@x.org", "A, B; C"]))],
    );
    check(
        "a note over several lines",
        b"email,name,note\na@x.org,A,\"one\ntwo, three\r\nfour\"\nb@x.org,B,\n",
        vec![
            (2, Ok(vec!["a@x.org", "A", "one\ntwo, three\r\nfour"])),
            (5, Ok(vec!["b@x.org", "B", ""])),
        ],
    );
}

#[test]
fn l10_quotes_within_a_text_stay() {
    check(
        "doubled, and in mid-text",
        b"email,name\na@x.org,\"A \"\"Nan\"\" B\"\nb@x.org,B \"Bo\" C\nc@x.org,\"\"\n",
        vec![
            (2, Ok(vec!["a@x.org", "A \"Nan\" B"])),
            (3, Ok(vec!["b@x.org", "B \"Bo\" C"])),
            (4, Ok(vec!["c@x.org", ""])),
        ],
    );
}

#[test]
fn l10_a_row_with_too_many_or_too_few_cells_is_named_and_the_others_go_through() {
    check(
        "ragged",
        b"email,name,note\na@x.org,A\nb@x.org,B,b,B\nc@x.org,C,c\nd@x.org,D,d,,\n",
        vec![
            (2, Err(("", "2 cells and the header 3"))),
            (3, Err(("", "4 cells and the header 3"))),
            (4, Ok(vec!["c@x.org", "C", "c"])),
            (5, Ok(vec!["d@x.org", "D", "d"])),
        ],
    );
}

#[test]
fn l10_a_row_that_cannot_be_cut_into_cells_is_still_recognised_by_its_address() {
    let found = rows(b"email;name\n\"a@x.org\";A;x\nb@x.org;\"B\n");
    let addresses: Vec<&str> = found.iter().map(|row| row.address.as_str()).collect();
    assert_eq!(addresses, ["a@x.org", "b@x.org"]);
}

#[test]
fn l10_an_unclosed_quote_costs_its_own_row_only() {
    let b = || (3, Ok(vec!["b@x.org", "B"]));
    check(
        "to the end of the file",
        b"email,name\na@x.org,\"A\nb@x.org,B\n",
        vec![(2, Err(("name", "not closed"))), b()],
    );
    check(
        "in the last row",
        b"email,name\na@x.org,A\nb@x.org,\"B",
        vec![(2, Ok(vec!["a@x.org", "A"])), (3, Err(("name", "not closed")))],
    );
    check(
        "closed by another row's opening quote",
        b"email,name\na@x.org,\"A\nb@x.org,B\nc@x.org,\"C\"\n",
        vec![(2, Err(("name", "not closed"))), b(), (4, Ok(vec!["c@x.org", "C"]))],
    );
    check(
        "closed by a stray quote at the end of another row",
        b"email,name\na@x.org,\"A\nb@x.org,B\nc@x.org,C\"\n",
        vec![(2, Err(("name", "not closed"))), b(), (4, Ok(vec!["c@x.org", "C\""]))],
    );
    check(
        "in a column that is not used, closed rows later",
        b"email,name,note\na@x.org,A,\"x\nb@x.org,B,y\nc@x.org,C,z\"\n",
        vec![
            (2, Err(("note", "not closed"))),
            (3, Ok(vec!["b@x.org", "B", "y"])),
            (4, Ok(vec!["c@x.org", "C", "z\""])),
        ],
    );
    check(
        "a quote that ends before its cell",
        b"email,name\na@x.org,\"A\" x\nb@x.org,B\n",
        vec![(2, Err(("name", "end before the cell does"))), b()],
    );
}

#[test]
fn l10_no_line_is_lost_between_rows_and_faults() {
    // Whatever stands in a file, each address in it is in a row, or its line is within a row that is at fault.
    let pieces = [
        "a@x.org,A\n",
        "\"b@x.org\",\"B\"\n",
        "c@x.org,\"C\n",
        "d@x.org\n",
        "\"\n",
        "e@x.org,\"E\"e\n",
        ",\"\"\"\n",
    ];
    for code in 0..pieces.len().pow(4) {
        let body: String = (0..4)
            .map(|place| pieces[code / pieces.len().pow(place) % pieces.len()])
            .collect();
        let file = format!("email,name\n{body}");
        let found = rows(file.as_bytes());
        for (index, line) in file.lines().enumerate().skip(1).filter(|(_, line)| line.contains('@')) {
            assert!(
                found.iter().any(|row| row.line == index as u64 + 1),
                "line {} of {file:?}: {line}",
                index + 1
            );
        }
    }
}

#[test]
fn l10_the_separator_is_the_one_that_makes_columns_that_are_known() {
    let header = |text: &str| {
        let (csv, header) = open(text.as_bytes()).unwrap();
        (csv.separator, header.len())
    };
    assert_eq!(header("email;name, first, last, full\n"), (';', 2));
    assert_eq!(header("email\n"), (',', 1));
    assert_eq!(header("x;y;z\n"), (';', 3));
    assert_eq!(header("\"email;\",name\n"), (',', 2));
}

#[test]
fn l10_damaged_bytes_in_a_utf8_file_cost_their_own_rows_only() {
    let found = rows(b"email,name\na@x.org,Zo\xC3\xAB\nb@x.org,Zo\xEB\n");
    assert_eq!(found[0].cells, Ok(vec!["a@x.org".to_owned(), "Zoë".to_owned()]));
    assert!(found[1].cells.as_ref().unwrap()[1].contains(char::REPLACEMENT_CHARACTER));
}

#[test]
fn l10_a_file_without_a_header_that_can_be_read_is_refused_as_a_whole() {
    for text in ["", "  \n \n", "sep=;\n", "\u{FEFF}\r\n"] {
        assert!(matches!(open(text.as_bytes()), Err(FileFault::Empty)), "{text:?}");
    }
    assert!(matches!(open(b"email,\"name\na@x.org,A\n"), Err(FileFault::Header)));
    let wide = "email,".repeat(1_001) + "\n";
    assert!(matches!(open(wide.as_bytes()), Err(FileFault::TooManyColumns(1_000))));
}

#[test]
fn l10_a_row_longer_than_a_megabyte_costs_itself_only() {
    let long = "x".repeat(3 * MAX_RECORD);
    let file = format!("email,name\na@x.org,{long}\r\nb@x.org,B\n\"c@x.org,{long}\nd@x.org,D\ne@x.org,{long}");
    check(
        "long",
        file.as_bytes(),
        vec![
            (2, Err(("", "longer than a megabyte"))),
            (3, Ok(vec!["b@x.org", "B"])),
            (4, Err(("", "longer than a megabyte"))),
            (5, Ok(vec!["d@x.org", "D"])),
            (6, Err(("", "longer than a megabyte"))),
        ],
    );
}

#[test]
fn l10_a_quote_that_is_not_closed_within_a_megabyte_costs_its_own_row_only() {
    let others = "b@x.org,B,\n".repeat(MAX_RECORD / 5);
    let file = format!("email,name,note\na@x.org,A,\"x\n{others}");
    let found = rows(file.as_bytes());
    assert!(
        found[0]
            .cells
            .as_ref()
            .is_err_and(|fault| fault.column == "note" && fault.reason.contains("not closed"))
    );
    assert!(found[1..].iter().all(|row| row.cells.is_ok()));
    assert_eq!(found.last().unwrap().line, 2 + MAX_RECORD as u64 / 5);
}

#[test]
fn l10_rows_stay_whole_wherever_the_window_over_the_file_ends() {
    for shift in (0..40).step_by(3) {
        let filler = "x".repeat(2 * MAX_RECORD - 200 + shift);
        let (one, two) = filler.split_at(MAX_RECORD - 100);
        let file =
            format!("email,name,note\r\na@x.org,A,{one}\r\nb@x.org,B,\"{two}\"\r\nc@x.org,Zoë,\r\nd@x.org,D,\r\n");
        let found = rows(file.as_bytes());
        let lines: Vec<u64> = found.iter().map(|row| row.line).collect();
        assert_eq!(lines, [2, 3, 4, 5], "{shift}");
        assert_eq!(found[2].cells.as_ref().unwrap()[1], "Zoë");
    }
}

#[test]
fn l10_the_apostrophe_that_an_export_puts_before_a_formula_is_taken_off() {
    check(
        "guarded",
        "email,name\na@x.org,'=1+1\nb@x.org,'t Hooft\nc@x.org,\"a;'-b\"\n".as_bytes(),
        vec![
            (2, Ok(vec!["a@x.org", "=1+1"])),
            (3, Ok(vec!["b@x.org", "'t Hooft"])),
            (4, Ok(vec!["c@x.org", "a;-b"])),
        ],
    );
}
