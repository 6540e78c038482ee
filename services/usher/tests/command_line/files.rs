//! Users from files and into files, by way of the server.

use std::fs::{read, read_dir, read_to_string, write};

use crate::stage::Up;

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
fn l10_a_file_is_imported_by_a_job_and_run_again_it_finds_that_job() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    assert_eq!(up.run(&["groups", "create", "Maths"]).0, 0);
    let (file, report) = (path(&up, "people.csv"), path(&up, "report.csv"));
    write(&file, PEOPLE).unwrap();
    let import = |more: &[&str]| {
        let line = [&["import", &file, "--mode", "invite", "--map", "Classe=groups"], more].concat();
        up.run(&line)
    };
    let (code, shown, told) = import(&["--dry-run"]);
    assert!(code == 1 && shown.contains("tried only: "), "{shown}{told}");
    assert_eq!(emails(&up), [""; 0], "a dry run makes nobody");

    let (code, shown, first) = import(&["--report", &report]);
    assert_eq!(code, 1, "{shown}{first}");
    assert!(shown.ends_with("3 rows: 2 changed, 1 failed\n"), "{shown}");
    assert!(shown.contains("Courriel"), "the column at fault is named: {shown}");
    let report = read_to_string(&report).unwrap();
    let failed = report.lines().find(|line| line.contains("FAILED")).unwrap();
    assert!(failed.starts_with("3,") && failed.contains("Courriel"), "{failed}");
    assert_eq!(emails(&up), ["ana@example.org", "cy@example.org"]);
    assert_eq!(up.run(&["users", "list", "--group", "Maths"]).1.lines().count(), 2);
    up.eventually("two mails", |up| up.mails() == 2);

    let (code, shown, told) = import(&[]);
    assert!(
        code == 1 && shown.ends_with("3 rows: 2 changed, 1 failed\n"),
        "{shown}{told}"
    );
    assert_eq!(told, first, "the job that it is, and since when");
    let imports = |up: &Up| up.run(&["jobs", "list"]).1.matches(" import ").count();
    assert_eq!(imports(&up), 2, "the one that was tried, and the one that was run");
    let (code, shown, told) = import(&["--again"]);
    assert!(code == 1 && imports(&up) == 3, "{shown}{told}");
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
    assert_eq!((code, shown.as_str()), (0, "2 rows: 2 changed\n"), "{told}");

    write(&file, [0xFF, 0xFE, 0x00]).unwrap();
    let (code, _, told) = up.run(&line);
    assert!(code == 65 && told.contains("usher import --help"), "{told}");
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
