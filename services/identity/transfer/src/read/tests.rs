use super::samples::{faults, file, rows, table};
use super::*;
use usher_core::clock::Timestamp;

fn row(bytes: &str) -> ImportRow {
    rows(bytes.as_bytes()).swap_remove(0).cells.unwrap()
}

fn at(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

#[test]
fn l5_a_row_tells_what_it_sets_and_leaves_the_rest_as_it_is() {
    let heads =
        "email;external id;first name;last name;language;time zone;labels;groups;roles;expires;deletion date;status\n";
    let full = row(&format!(
        "{heads}ana@example.org;7;Ana;Lee;fr;Europe/Paris;Maths, Choir|Year 7;\"School/A; B\";coach | author;2027-06-30;never;active\n"
    ));
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        full,
        ImportRow {
            email: "ana@example.org".into(),
            external_id: Some("7".into()),
            first_name: Some("Ana".into()),
            last_name: Some("Lee".into()),
            language: Some("fr".into()),
            time_zone: Some("Europe/Paris".into()),
            labels: list(&["Maths", "Choir", "Year 7"]),
            groups: list(&["School/A", "B"]),
            roles: list(&["coach", "author"]),
            expires: Some(Change::Set(at("2027-06-30T00:00:00Z"))),
            deletes: Some(Change::Clear),
            active: Some(true),
        }
    );
    let only = ImportRow {
        email: "bo@example.org".into(),
        ..ImportRow::default()
    };
    assert_eq!(row(&format!("{heads}bo@example.org;;;;;;;;;;;\n")), only);
    assert_eq!(row("email\nbo@example.org\n"), only);
}

#[test]
fn b8_a_time_zone_is_found_by_its_usual_heads_and_that_of_moodles_site_is_none_of_the_persons() {
    for head in [
        "Time zone",
        "timezone",
        "Fuseau horaire",
        "Zeitzone",
        "Zona horaria",
        "Fuso horário",
        "Tijdzone",
    ] {
        let told = rows(format!("email;{head}\na@x.org;Asia/Tokyo\nb@x.org;99\nc@x.org;\n").as_bytes());
        let zones: Vec<_> = told.into_iter().map(|row| row.cells.map(|row| row.time_zone)).collect();
        assert_eq!(zones, [Ok(Some("Asia/Tokyo".to_owned())), Ok(None), Ok(None)], "{head}");
    }
}

#[test]
fn s13_an_expiration_is_set_cleared_or_left_and_an_ambiguous_one_is_named() {
    let file =
        "Courriel;Date d'expiration\na@x.org;31.12.2026\nb@x.org;Jamais\nc@x.org;\nd@x.org;03/04/2026\ne@x.org;46000\n";
    let expires: Vec<_> = rows(file.as_bytes())
        .into_iter()
        .map(|row| row.cells.map(|row| row.expires))
        .collect();
    assert_eq!(expires[0], Ok(Some(Change::Set(at("2026-12-31T00:00:00Z")))));
    assert_eq!(expires[1], Ok(Some(Change::Clear)));
    assert_eq!(expires[2], Ok(None));
    let faults = faults(file.as_bytes());
    assert_eq!((faults[0].0, faults[0].1.as_str()), (5, "Date d'expiration"));
    assert!(faults[0].2.contains("2026-04-03 or 2026-03-04"), "{}", faults[0].2);
    assert_eq!((faults.len(), faults[1].0), (2, 6));
}

#[test]
fn l10_people_are_deactivated_and_activated_in_the_words_of_each_platform() {
    for (head, cell, active) in [
        ("suspended", "1", Some(false)),
        ("suspended", "0", Some(true)),
        ("suspended", "", None),
        ("toDeactivate", "true", Some(false)),
        ("Deactivated", "no", Some(true)),
        ("Active", "1", Some(true)),
        ("Active", "0", Some(false)),
        ("status", "DEACTIVATED", Some(false)),
        ("Statut", "Désactivé", Some(false)),
        ("aktiv", "Ja", Some(true)),
        ("status", "INVITED", None),
        ("status", "EXPIRED", None),
    ] {
        assert_eq!(
            row(&format!("email;{head}\na@x.org;{cell}\n")).active,
            active,
            "{head} {cell}"
        );
    }
    for head in ["suspended", "status"] {
        let found = faults(format!("email;{head}\na@x.org;perhaps\n").as_bytes());
        assert_eq!((found[0].0, found[0].1.as_str()), (2, head));
    }
}

#[test]
fn l10_levels_of_docebo_become_roles_and_those_without_one_are_noted_by_row() {
    let file = "Email,Level\na@x.org,user\nb@x.org,SuperAdmin\nc@x.org,Power User\nd@x.org,\ne@x.org,king\n";
    let mut table = table(file.as_bytes()).unwrap();
    let found: Vec<Row> = table.by_ref().map(Result::unwrap).collect();
    let role = |index: usize| found[index].cells.as_ref().unwrap().roles.clone();
    assert_eq!(role(0), Some(vec!["learner".to_owned()]));
    assert_eq!(role(1), Some(vec!["administrator".to_owned()]));
    assert_eq!((role(2), role(3)), (None, None));
    assert_eq!(role(4), None);
    let notes = table.notes();
    assert!(
        notes.len() == 1 && notes[0].starts_with("2 rows have a Level") && notes[0].contains(": 4, 6."),
        "{notes:?}"
    );
}

#[test]
fn l10_whoever_moodle_calls_deleted_is_not_imported_but_named() {
    let found = faults(b"email,deleted\na@x.org,0\nb@x.org,1\nc@x.org,\n");
    assert_eq!((found.len(), found[0].0, found[0].1.as_str()), (1, 3, "deleted"));
}

#[test]
fn l10_user_names_are_addresses_where_they_look_like_them_and_external_ids_beside_addresses() {
    let mut addresses = table(b"username,firstname\nadmin,A\na@x.org,B\nb@x.org,C\n").unwrap();
    assert_eq!(
        addresses.notes(),
        ["The addresses were taken from the column username."]
    );
    let emails: Vec<String> = addresses.by_ref().map(|row| row.unwrap().address).collect();
    assert_eq!(emails, ["admin", "a@x.org", "b@x.org"]);
    assert_eq!(
        row("username,email\njdoe,a@x.org\n").external_id.as_deref(),
        Some("jdoe")
    );
    let both = row("username,email,idnumber\njdoe,a@x.org,7\n");
    assert_eq!(both.external_id.as_deref(), Some("7"));
    let error = table(b"username,firstname\njdoe,A\n").unwrap_err().to_string();
    assert!(error.contains("jdoe") && error.contains("`email`"), "{error}");
    assert_eq!(rows(b"username\n").len(), 0);
}

#[test]
fn l10_cohorts_of_moodle_are_groups_whichever_of_their_columns_they_stand_in() {
    let groups = row("email,cohort1,cohort2,cohort3\na@x.org,Year 3,,Choir\n").groups;
    assert_eq!(groups, Some(vec!["Year 3".to_owned(), "Choir".to_owned()]));
}

#[test]
fn l10_every_fault_of_a_row_is_named_with_its_column() {
    let found = faults("Mail;Vorname;Ablaufdatum;Status\n;Ana;soon;often\n".as_bytes());
    let named: Vec<&str> = found.iter().map(|(_, column, _)| column.as_str()).collect();
    assert_eq!(named, ["Mail", "Ablaufdatum", "Status"]);
    let found = faults(b"email,first_name\na@x.org,Zo\xC3\xAB\nb@x.org,Zo\xEB\n");
    assert_eq!((found[0].0, found[0].1.as_str()), (3, "first_name"));
    assert!(found[0].2.contains("cannot be read"));
}

#[test]
fn l10_a_repeated_address_names_the_row_that_counts_whatever_its_case() {
    let file = b"email;external_id\nAna@example.org;1\nbo@example.org;2\nana@EXAMPLE.org;3\ncy@example.org;2\n;\n";
    let found = faults(file);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].0, found[0].1.as_str()), (4, "email"));
    assert!(found[0].2.contains("row 2"));
    assert_eq!((found[1].0, found[1].1.as_str()), (5, "external_id"));
    assert!(found[1].2.contains("row 3"));
    assert!(faults(b"email,external_id\na@x.org,\nb@x.org,\n").is_empty());
    assert!(faults(b"email,external_id\na@x.org,b@x.org\nb@x.org,a@x.org\n").is_empty());
}

#[test]
fn l10_a_row_that_cannot_be_read_is_still_recognised_by_its_address() {
    let found = rows(b"name;email\nA;\"a@x.org\";x\nB;b@x.org;\"\n");
    let addresses: Vec<&str> = found.iter().map(|row| row.address.as_str()).collect();
    assert_eq!(addresses, ["a@x.org", "b@x.org"]);
    assert!(found.iter().all(|row| row.cells.is_err()));
}

#[test]
fn l10_a_guessed_encoding_and_unused_columns_are_told() {
    let mut table = table(b"email,first_name,phone\nzoe@x.org,Zo\xEB,1\n").unwrap();
    let notes = table.notes();
    assert!(
        notes[0].contains("windows-1252") && notes[1].contains("phone"),
        "{notes:?}"
    );
    let row = table.next().unwrap().unwrap().cells.unwrap();
    assert_eq!(row.first_name.as_deref(), Some("Zoë"));
    let options = ReadOptions {
        encoding: Some("windows-1251".into()),
        ..ReadOptions::default()
    };
    let mut table = Table::open(file(b"email,first_name\na@x.org,\xC0\xED\xED\xE0\n").path(), &options).unwrap();
    assert_eq!(
        table.next().unwrap().unwrap().cells.unwrap().first_name.as_deref(),
        Some("Анна")
    );
    assert!(table.notes().is_empty());
}

#[test]
fn l10_a_file_without_addresses_is_refused_as_a_whole() {
    for bytes in [&b""[..], b"\n\n", b"name,phone\nAna,1\n", b"\xFF\xFE", b";;;\n"] {
        let error = table(bytes).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{bytes:?}");
    }
    assert!(matches!(
        Table::open(Path::new("/nowhere"), &ReadOptions::default()),
        Err(FileFault::Io(_))
    ));
}

#[test]
fn l10_a_table_can_be_handed_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Table>();
    is_send::<crate::write::Writer>();
    is_send::<crate::write::Finished>();
}
