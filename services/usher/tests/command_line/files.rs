//! Users from files and into files, by way of the server.

use std::fs::{read, read_dir, read_to_string, write};
use std::process::Stdio;

use crate::stage::{Up, interrupted};

const PEOPLE: &str = "Courriel;Prénom;Classe\nana@example.org;Ana;Maths\nno-address;Bo;\ncy@example.org;Cy;\n";

fn path(up: &Up, name: &str) -> String {
    up.data.join(name).to_str().unwrap().to_owned()
}

fn emails(up: &Up) -> Vec<String> {
    let (_, shown, _) = up.run(&["users", "list", "--order-by", "email", "--json", "--limit", "0"]);
    let email = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["email"].clone();
    shown
        .lines()
        .map(|line| email(line).as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn l10_a_file_is_imported_by_a_job_and_run_again_it_leaves_who_is_there_as_they_are() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    assert_eq!(up.run(&["groups", "create", "Maths"]).0, 0);
    let (file, report) = (path(&up, "people.csv"), path(&up, "report.csv"));
    write(&file, PEOPLE).unwrap();
    let import = |more: &[&str]| {
        let line = [&["import", &file, "--map", "Classe=groups"], more].concat();
        up.run(&line)
    };
    let (code, shown, told) = import(&["--dry-run"]);
    assert!(code == 1 && shown.contains("tried only: "), "{shown}{told}");
    assert_eq!(emails(&up), [""; 0], "a dry run makes nobody");

    let (code, shown, told) = import(&["--report", &report]);
    assert_eq!(code, 1, "{shown}{told}");
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..3], ["3", "no-address", "Courriel"], "{shown}");
    assert!(shown.ends_with("3 rows: 2 invited, 1 failed\n"), "{shown}");
    let report = read_to_string(&report).unwrap();
    let failed = report.lines().find(|line| line.contains("FAILED")).unwrap();
    assert!(failed.starts_with("3,") && failed.contains("Courriel"), "{failed}");
    assert_eq!(emails(&up), ["ana@example.org", "cy@example.org"]);
    assert_eq!(up.run(&["users", "list", "--group", "Maths"]).1.lines().count(), 2);
    up.eventually("two mails", |up| up.mails() == 2);

    let (code, shown, told) = import(&["--json"]);
    assert_eq!(code, 1, "{shown}{told}");
    let lines: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = |field: &str| lines[..3].iter().map(|row| row[field].clone()).collect::<Vec<_>>();
    assert_eq!(rows("position"), [2, 3, 4]);
    assert_eq!(rows("address"), ["ana@example.org", "no-address", "cy@example.org"]);
    assert_eq!(rows("detail"), ["already there", "", "already there"]);
    let job = &lines[3];
    assert_eq!(
        (&job["unchanged_count"], &job["failed_count"]),
        (&2.into(), &1.into()),
        "{job}"
    );
    assert_eq!(up.mails(), 2, "nobody is mailed twice");
    let failed = ["jobs", "items", job["job_id"].as_str().unwrap(), "--outcome", "failed"];
    let (code, shown, _) = up.run(&failed);
    assert!(
        code == 0 && shown.lines().count() == 2 && shown.contains("no-address"),
        "{shown}"
    );
}

#[test]
fn b7_an_import_that_is_interrupted_goes_on_and_the_same_command_finds_its_job() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let file = path(&up, "many.csv");
    let rows = (0..20_000).map(|number| format!("u{number}@example.org\n"));
    write(
        &file,
        std::iter::once("email\n".to_owned()).chain(rows).collect::<String>(),
    )
    .unwrap();
    let import = ["import", &file, "--no-invite"];
    let begun = up
        .command(&import)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    up.eventually("the job works", |up| {
        up.run(&["jobs", "list", "--state", "running"]).1.contains(" import ")
    });
    // By then the program knows of the job, too.
    up.eventually("the first are there", |up| {
        !up.run(&["users", "list", "--limit", "1"]).1.is_empty()
    });
    let told = interrupted(begun);
    assert!(told.contains("The job goes on: `usher jobs watch "), "{told}");
    let (code, shown, told) = up.run(&import);
    assert_eq!((code, shown.as_str()), (0, "20000 rows: 20000 created\n"), "{told}");
    assert!(told.contains("has been under way since"), "{told}");
    assert_eq!(up.run(&["jobs", "list"]).1.matches(" import ").count(), 1);
}

#[test]
fn l10_an_import_that_would_show_out_too_many_stops_before_the_first() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    for name in ["ana@example.org", "cy@example.org"] {
        assert_eq!(up.run(&["users", "create", name, "--active"]).0, 0);
    }
    let file = path(&up, "leavers.csv");
    write(&file, "email\nana@example.org\ncy@example.org\n").unwrap();
    let line = ["import", &file, "--mode", "deactivate"];
    let (code, _, told) = up.run(&line);
    assert!(code == 65 && told.contains("--max-deactivated-percent"), "{told}");
    let (code, shown, told) = up.run(&[&line[..], &["--max-deactivated-percent", "100"]].concat());
    assert_eq!((code, shown.as_str()), (0, "2 rows: 2 deactivated\n"), "{told}");

    write(&file, [0xFF, 0xFE, 0x00]).unwrap();
    let (code, _, told) = up.run(&line);
    assert!(code == 65 && told.contains("usher import --help"), "{told}");
}

#[test]
fn u7_an_export_that_is_interrupted_leaves_what_was_there_and_nothing_beside_it() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.csv");
    write(&file, "before").unwrap();
    up.signal("STOP");
    let mut begun = up.command(&["export", file.to_str().unwrap()]);
    let begun = begun.stderr(Stdio::piped()).spawn().unwrap();
    up.eventually("it writes", |_| read_dir(folder.path()).unwrap().count() == 2);
    let told = interrupted(begun);
    assert!(told.contains("users.csv was not written"), "{told}");
    assert_eq!(read_to_string(&file).unwrap(), "before");
    assert_eq!(read_dir(folder.path()).unwrap().count(), 1);
    up.signal("CONT");
}

#[test]
fn u7_a_selection_is_exported_as_csv_and_as_a_spreadsheet_that_can_be_imported() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    for (name, label) in [
        ("ana@example.org", "A"),
        ("bo@example.org", "A"),
        ("cy@example.org", "B"),
    ] {
        assert_eq!(up.run(&["users", "create", name, "--label", label]).0, 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, xlsx) = (file("users.csv"), file("users.xlsx"));
    let arguments = ["export", &csv, "--label", "A", "--columns", "email,labels,first_name"];
    let (code, _, told) = up.run(&arguments);
    assert!(code == 0 && told.contains("2 users written"), "{told}");
    let text = read_to_string(&csv).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("ana@example.org") && !text.contains("cy@example.org"),
        "{text}"
    );
    let (code, shown, _) = up.run(&["export", "-", "--user", "cy@example.org", "--columns", "email"]);
    assert!(code == 0 && shown.contains("cy@example.org"), "{shown}");

    let arguments = ["export", &xlsx, "--columns", "email,labels", "--head-language", "fr"];
    assert_eq!(up.run(&arguments).0, 0);
    assert!(read(&xlsx).unwrap().starts_with(b"PK"));
    assert_eq!(
        read_dir(folder.path()).unwrap().count(),
        2,
        "nothing is left beside them"
    );
    let (code, shown, told) = up.run(&["import", &xlsx, "--mode", "update"]);
    assert_eq!((code, shown.as_str()), (0, "3 rows: 3 unchanged\n"), "{told}");
}
