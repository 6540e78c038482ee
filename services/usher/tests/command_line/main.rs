//! The program as a person has it: `usher up` in a folder of its own, and commands beside it.

mod administration;
mod files;
mod stage;
mod templates;

use std::process::Stdio;

use stage::Up;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/samples/users.csv");

fn people(count: usize) -> String {
    let row = |number| format!("personne{number}@école.example;Zoë;d’Été {number};A|B\r\n");
    std::iter::once("Courriel;Prénom;Nom;Étiquettes\r\n".to_owned())
        .chain((0..count).map(row))
        .collect()
}

#[test]
fn the_demonstration_imports_the_sample_and_the_next_start_goes_on_from_there() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &["--demo", SAMPLE]);
    assert_eq!(up.line_with("rows:"), "45 rows: 40 invited, 5 failed");
    assert_eq!(up.line_with("40 INVITED").trim(), "40 INVITED");
    let accept = up.line_with(" accept ");
    up.line_with("What happens from now on");
    assert_eq!(up.mails(), 40);

    let mail = accept.split_whitespace().last().unwrap();
    let input = b"correct horse battery staple\n";
    let arguments = [
        "accept",
        mail,
        "--first-name",
        "X",
        "--last-name",
        "Y",
        "--password-stdin",
    ];
    let (code, shown, _) = up.run_with(input, &arguments);
    assert!(code == 0 && shown.contains("ACTIVE"), "{shown}");
    up.line_with("INVITED → ACTIVE");
    assert_eq!(up.run_with(input, &arguments).0, 65, "a link works once");
    assert_eq!(up.stop(), Some(0));

    let up = Up::start(data.path(), &["--demo", SAMPLE]);
    assert_eq!(up.line_with("rows:"), "45 rows: 40 already there, 5 failed");
    up.line_with("What happens from now on");
    assert_eq!(up.mails(), 40, "nobody is mailed twice");
}

#[test]
fn l10_five_hundred_rows_go_through_and_each_one_that_fails_is_named() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let file = data.path().join("people.csv");
    let report = data.path().join("report.csv");
    let faulty = "no-address;A;B;\r\npersonne7@école.example;A;B;\r\nok@école.example;<b>A</b>;B\u{202e};\r\n";
    std::fs::write(&file, people(500) + faulty).unwrap();
    let arguments = ["import", file.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let (code, shown, told) = up.run(&arguments);
    assert_eq!(code, 1, "{shown}{told}");
    assert!(shown.ends_with("503 rows: 500 invited, 3 failed\n"), "{shown}");
    let report = std::fs::read_to_string(&report).unwrap();
    let failed: Vec<&str> = report.lines().filter(|line| line.contains("FAILED")).collect();
    assert_eq!(failed.len(), 4, "the last row has two faults: {failed:?}");
    for (line, (row, column)) in
        failed
            .iter()
            .zip([(502, "Courriel"), (503, "Courriel"), (504, "Prénom"), (504, "Nom")])
    {
        assert!(line.starts_with(&row.to_string()) && line.contains(column), "{line}");
    }
    up.eventually("500 mails", |up| up.mails() == 500);

    let (code, shown, _) = up.run(&arguments);
    assert!(
        code == 1 && shown.ends_with("503 rows: 500 already there, 3 failed\n"),
        "{shown}"
    );
}

#[test]
fn b1_an_import_that_was_killed_is_completed_by_the_next_and_mails_nobody_twice() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let file = data.path().join("people.csv");
    std::fs::write(&file, people(300)).unwrap();
    let arguments = ["import", file.to_str().unwrap()];
    let mut first = up.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
    up.eventually("the first import has begun", |up| {
        up.run(&["users", "list", "--limit", "50"]).1.lines().count() > 10
    });
    first.kill().unwrap();
    first.wait().unwrap();

    let (code, shown, told) = up.run(&arguments);
    assert_eq!(code, 0, "{shown}{told}");
    up.eventually("300 mails", |up| up.mails() >= 300);
    let (_, shown, _) = up.run(&["users", "list", "--limit", "0", "--json"]);
    assert_eq!(shown.lines().count(), 300);
    let (_, shown, _) = up.run(&["invitations", "list", "--all", "--limit", "0", "--json"]);
    assert_eq!(shown.lines().count(), 300, "no invitation was superseded");
    assert_eq!(up.mails(), 300);
}

#[test]
fn exit_codes_mean_what_the_help_says() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &["--rehearse"]);
    let code = |arguments: &[&str]| up.run(arguments).0;
    assert_eq!(
        code(&["users", "create", "ana@example.org", "--active", "--external-id", "S-1"]),
        0
    );
    assert_eq!(code(&["access", "check", "ANA@example.org", "S-1"]), 0);
    assert_eq!(code(&["users", "deactivate", "S-1", "nobody@example.org"]), 1);
    assert_eq!(code(&["access", "check", "S-1"]), 1);
    assert_eq!(code(&["users", "list", "--status", "gone"]), 2);
    assert_eq!(code(&["users", "show", "nobody@example.org"]), 65);
    assert_eq!(code(&["import", "/no/such/file.csv"]), 65);
    assert_eq!(code(&["--server", "http://127.0.0.1:9", "users", "list"]), 69);
    assert_eq!(code(&["config", "check", "usher-identity"]), 78);
    assert_eq!(code(&["healthcheck"]), 0);
}

#[test]
fn every_fault_of_a_request_is_shown_by_its_field() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let (code, _, told) = up.run(&["users", "create", "a@@b", "--first-name", "<b>", "--language", "French"]);
    assert_eq!(code, 65);
    for field in [
        "3 fields are not valid",
        "user.email: ",
        "user.first_name: ",
        "user.language: ",
    ] {
        assert!(told.contains(field), "{told}");
    }
}

#[test]
fn s5_time_can_be_rehearsed_and_an_expired_user_is_refused_at_that_instant() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &["--rehearse"]);
    let (_, shown, _) = up.run(&["users", "create", "ana@example.org", "--active", "--json"]);
    let user: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let created = user["create_time"].as_str().unwrap();
    let (year, rest) = created.split_at(4);
    let later = format!("{}{rest}", year.parse::<i32>().unwrap() + 1);
    assert_eq!(up.run(&["users", "expire", "ana@example.org", &later]).0, 0);
    assert_eq!(up.run(&["access", "check", "ana@example.org"]).0, 0);
    assert_eq!(up.run(&["clock", "advance", "53w"]).0, 0);
    up.eventually("refused", |up| {
        up.run(&["access", "check", "ana@example.org"]).1.contains("EXPIRED")
    });
    up.eventually("the event", |up| {
        up.run(&["events", "--type", "user.expired"])
            .1
            .contains("ACTIVE → EXPIRED")
    });
    let (_, shown, _) = up.run(&["users", "expire", "ana@example.org", "never"]);
    assert!(shown.contains("ACTIVE since"), "{shown}");
}

#[test]
fn a_list_whose_reader_has_seen_enough_is_no_failure() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let mut child = up
        .command(&["config", "defaults", "usher-identity"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
