//! Importing people from a CSV file: [`read`] makes rows of text from whatever bytes a spreadsheet wrote, [`columns`]
//! makes users of them, [`run`] sends them, [`report`] tells what became of each row (L10).
//!
//! Good rows go through, whatever the others are like. A row that cannot be understood for certain is not guessed at:
//! it is named, with its column and the reason.

pub(crate) mod columns;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod run;

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use usher_core::email::EmailAddress;
use usher_proto::identity::v1::User;

use self::columns::{Column, Columns};
use self::read::{Fault, Sheet};
use crate::failure::Failure;

/// A file that was read and is ready to be sent.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Which column is what.
    pub(crate) columns: Columns,
    /// In the order of the file.
    pub(crate) rows: Vec<Person>,
    /// What whoever imports it should know about how it was read.
    pub(crate) notes: Vec<String>,
    /// Of the file's bytes.
    digest: [u8; 32],
}

/// One row.
#[derive(Debug)]
pub(crate) struct Person {
    /// The line of the file that it begins on.
    pub(crate) row: usize,
    /// The address, as far as it can be told.
    pub(crate) email: String,
    /// The user to be created, or why there is none.
    pub(crate) user: Result<User, Vec<Fault>>,
}

/// Reads a file. `encoding` is the name of its encoding, if whoever imports it knows better than the bytes tell.
pub(crate) fn prepare(bytes: &[u8], encoding: Option<&str>) -> Result<Prepared, Failure> {
    let refuse = |error: &dyn std::fmt::Display| Failure::Data(error.to_string());
    let text = read::decode(bytes, encoding).map_err(|error| refuse(&error))?;
    let sheet = Sheet::open(&text.text, columns::recognised).map_err(|error| refuse(&error))?;
    let columns = Columns::find(&sheet.header).map_err(|error| refuse(&error))?;
    let mut rows: Vec<Person> = sheet
        .rows(&columns.used(), columns.email())
        .into_iter()
        .map(|row| match row.cells {
            Ok(cells) => Person {
                row: row.line,
                email: columns.cell(&cells, Column::Email).to_owned(),
                user: columns.user(&cells),
            },
            Err(fault) => Person {
                row: row.line,
                email: row.address,
                user: Err(vec![fault]),
            },
        })
        .collect();
    refuse_repeats(&mut rows, &columns);
    let mut notes = Vec::new();
    if text.guessed {
        notes.push(format!(
            "The file is not UTF-8; it was read as {}. If accents look wrong below, name its encoding with --encoding.",
            text.encoding
        ));
    }
    let ignored = columns.ignored();
    if !ignored.is_empty() {
        notes.push(format!("Columns that are not used: {}.", ignored.join(", ")));
    }
    Ok(Prepared {
        columns,
        rows,
        notes,
        digest: Sha256::digest(bytes).into(),
    })
}

/// The first row with an address or an external id counts; the later ones are told which it is.
fn refuse_repeats(rows: &mut [Person], columns: &Columns) {
    let mut seen: HashMap<(Column, String), usize> = HashMap::new();
    for person in rows {
        let Ok(user) = &person.user else { continue };
        let email =
            EmailAddress::parse(&user.email).map_or_else(|_| user.email.clone(), |email| email.key().to_owned());
        let keys = [(Column::Email, email), (Column::ExternalId, user.external_id.clone())];
        let faults: Vec<Fault> = keys
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|key| {
                let first = seen.get(key)?;
                let head = columns.head(key.0).unwrap_or_default();
                Some(Fault::new(
                    head,
                    format!("is the same as in row {first}, which counts; remove one of the two"),
                ))
            })
            .collect();
        if faults.is_empty() {
            seen.extend(keys.into_iter().map(|key| (key, person.row)));
        } else {
            person.user = Err(faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(prepared: &Prepared) -> Vec<(usize, String, String)> {
        let row = |person: &Person| {
            let faults = person.user.as_ref().err().cloned().unwrap_or_default();
            faults
                .into_iter()
                .map(|fault| (person.row, fault.column, fault.reason))
                .collect::<Vec<_>>()
        };
        prepared.rows.iter().flat_map(row).collect()
    }

    #[test]
    fn a_repeated_address_names_the_row_that_counts_whatever_its_case_l10() {
        let file = "email;external_id\nAna@example.org;1\nbo@example.org;2\nana@EXAMPLE.org;3\ncy@example.org;2\n;\n";
        let prepared = prepare(file.as_bytes(), None).unwrap();
        let found = faults(&prepared);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, found[0].1.as_str()), (4, "email"));
        assert!(found[0].2.contains("row 2"));
        assert_eq!((found[1].0, found[1].1.as_str()), (5, "external_id"));
        assert!(found[1].2.contains("row 3"));
    }

    #[test]
    fn an_address_without_external_id_repeats_nothing() {
        let prepared = prepare(b"email,external_id\na@x.org,\nb@x.org,\n", None).unwrap();
        assert!(faults(&prepared).is_empty());
    }

    #[test]
    fn a_guessed_encoding_and_unused_columns_are_told() {
        let prepared = prepare(b"email,first_name,phone\nzoe@x.org,Zo\xEB,1\n", None).unwrap();
        assert_eq!(prepared.rows[0].user.as_ref().unwrap().first_name, "Zoë");
        assert!(prepared.notes[0].contains("windows-1252") && prepared.notes[1].contains("phone"));
    }

    #[test]
    fn a_file_without_addresses_is_refused_as_a_whole() {
        for bytes in [&b""[..], b"\n\n", b"name,phone\nAna,1\n", b"\xFF\xFE"] {
            assert!(matches!(prepare(bytes, None), Err(Failure::Data(_))), "{bytes:?}");
        }
    }
}
