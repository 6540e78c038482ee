//! The program as a person has it: `usher up` in a folder of its own, and commands beside it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/samples/users.csv");

/// A running `usher up`. It is killed when it is dropped.
struct Up {
    process: Child,
    lines: Receiver<String>,
    server: String,
    data: PathBuf,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("USHER")) {
        command.env_remove(name);
    }
    command
}

impl Up {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut process = program()
            .args(["up", "--data"])
            .arg(data)
            .args(arguments)
            .env("USHER__GRPC__LISTEN", "127.0.0.1:0")
            .env("USHER__ADMIN__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut up = Self {
            process,
            lines,
            server: String::new(),
            data: data.to_owned(),
        };
        up.server = up.line_with("API ").split_whitespace().nth(1).unwrap().into();
        up
    }

    /// The next line that contains a text.
    fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("no line with {text:?}: {error}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .env("USHER_SERVER", &self.server)
            .env("USHER_DATA", &self.data);
        command
    }

    /// Runs a command: exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        ended(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// The same with something on its standard input.
    fn run_with(&self, input: &[u8], arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        ended(child.wait_with_output().unwrap())
    }

    fn mails(&self) -> usize {
        let files = std::fs::read_dir(self.data.join("mail")).unwrap();
        files
            .filter(|file| {
                file.as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|end| end == "eml")
            })
            .count()
    }

    /// Waits until a look at the system shows what is expected.
    fn eventually(&self, what: &str, look: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !look(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, and answers its exit code.
    fn stop(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ended(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

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
    assert_eq!(up.line_with("rows:"), "45 rows: 40 created, 40 invited, 5 failed");
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
    assert!(
        shown.ends_with("503 rows: 500 created, 500 invited, 3 failed\n"),
        "{shown}"
    );
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
