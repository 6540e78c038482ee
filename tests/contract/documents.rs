//! `tests/README.md` shows which test proves which promise. Its table is made from the ids in the tests' doc comments, and
//! this test fails when the two differ. `UPDATE=1 cargo test -p usher-tests --test contract documents` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::dependencies::{files, root};

const BEGIN: &str = "<!-- rows: made from the tests by contract/documents.rs -->\n";
const END: &str = "<!-- end of rows -->";

/// Each promise that holds so far: its id, and what it says.
const ROWS: [(&str, &str); 61] = [
    ("S1", "PENDING: an account to which no invitation was sent"),
    ("S2", "INVITED once a mail server really took the mail, not earlier"),
    ("S3", "ACTIVE once registration is completed, or from the start"),
    ("S4", "DEACTIVATED: no access from that moment; everything else stays"),
    ("S5", "EXPIRED at the instant of the date, whatever is down"),
    ("S6", "An expired account is not switched on or off"),
    ("S7", "A later date gives back exactly the status before"),
    (
        "S8",
        "Active people have opened a course or not yet; both can be asked for",
    ),
    ("S9", "Nobody changes their own status"),
    ("S10", "Whoever is shut out learns why, if the password is right"),
    ("S11", "Reactivating gives back the status before, at once"),
    (
        "S12",
        "Erasure is for good, frees the seat, and leaves no personal data",
    ),
    ("S13", "A date can be set wherever accounts are made or changed"),
    ("L1", "Invite: a mail with a link, by which the person registers"),
    ("L2", "Create active, with a given or a mailed one-time password"),
    (
        "L3",
        "An address with an active account is refused, the others go through",
    ),
    ("L4", "Many addresses in one text, an answer for each"),
    ("L5", "What is chosen at the invitation is on the account"),
    (
        "L6",
        "An administrator of groups invites into those only, and sets no deletion date",
    ),
    ("L7", "Instructors invite learners into one group from their session"),
    ("L8", "Invitations are listed, cancelled and resent; old links are dead"),
    ("L9", "Roles chosen at creation hold in every group chosen with them"),
    ("L10", "Import of files with a report by row, column and reason"),
    ("L11", "The invitation's text: the default or one's own, per language"),
    ("L12", "A preview, and a test mail to oneself"),
    ("L13", "Addresses that bounced get no mail, until somebody lifts it"),
    ("L14", "Reminders up a ladder, until there is nothing to remind of"),
    (
        "L15",
        "Invitations that were sent too long ago are sent again in one action",
    ),
    ("L16", "Every mail with every try, kept and shown"),
    (
        "U1",
        "Roles: administrator, author, coach, instructor, learner, and one's own",
    ),
    ("U2", "A role is held on the platform, in a group or in a session"),
    ("U3", "Lists by status, role, group, label, language, activity and text"),
    ("U4", "Who never signed in, or not for long, and in that order"),
    ("U5", "One act over everybody who is chosen, or whom a filter matches"),
    ("U6", "A preview, and what runs is what was previewed"),
    ("U7", "Export as .xlsx and CSV"),
    (
        "U8",
        "Never one seat too many; who finds none is refused, or waits their turn",
    ),
    ("U9", "An erasure has a reason, a requester and a certificate"),
    ("U10", "A deletion date erases the account on that day"),
    ("K1", "State in one place, through sea-orm"),
    ("K2", "Lifecycle events on RabbitMQ"),
    ("K3", "Workers of their own for invitations, reminders and expirations"),
    (
        "K4",
        "Health per service; reflection, gRPC-Web and limits around the API",
    ),
    ("K5", "One trace from the call to the mail and back"),
    (
        "K6",
        "Configuration by file and environment, checked before anything listens",
    ),
    ("K8", "A top level that holds what a reader expects"),
    ("B1", "A repeated call answers what the first did, and does nothing"),
    ("B2", "A change on an old version is refused"),
    ("B3", "What would happen, without it happening"),
    ("B4", "May they in? Never wrongly yes for longer than a second"),
    ("B5", "The same events as a stream, from a cursor, without a gap"),
    ("B6", "Why this status, and what happens next"),
    ("B7", "Bulk jobs: progress, cancel, retry, report, undo"),
    (
        "B8",
        "Reminders in the recipient's morning, and a cap per person and day",
    ),
    ("B9", "Warnings before access ends, to the person and to administrators"),
    (
        "B10",
        "Inactivity: a warning, then deactivation; withdrawn by a sign-in",
    ),
    ("B11", "A lapsed link offers a fresh one"),
    ("B12", "Mail that may have gone out is never sent again by itself"),
    ("B13", "A ledger of seats, and what is to come"),
    ("B14", "An audit log in which tampering is found by a command"),
    ("B15", "Mail of a tenant is paused, and nothing else is"),
];
/// A test, by its file and its name; without a name, a whole file.
type Proof = (String, String);

/// The ids in a text; `S1 to S7` are all between.
fn ids(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|it| !it.is_empty())
        .collect();
    let id = |word: &str| {
        let (letter, digits) = word.split_at_checked(1)?;
        let number: u32 = digits.parse().ok()?;
        (("SLKBU").contains(letter) && digits.len() <= 2 && number > 0).then(|| (letter.to_owned(), number))
    };
    let mut found = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let Some((letter, first)) = id(word) else { continue };
        let until = match words.get(at + 1..at + 3) {
            Some(["to", last]) => id(last).filter(|(it, _)| *it == letter).map_or(first, |(_, last)| last),
            _ => first,
        };
        found.extend((first..=until.max(first)).map(|number| format!("{letter}{number}")));
    }
    found
}

/// What a file proves.
fn proofs(path: &str, text: &str, all: &mut BTreeMap<String, BTreeSet<Proof>>) {
    let mut add = |doc: &str, name: &str| {
        for id in ids(doc) {
            all.entry(id).or_default().insert((path.to_owned(), name.to_owned()));
        }
    };
    let (mut header, mut doc, mut is_test, mut any) = (String::new(), String::new(), false, false);
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("//!") {
            header.push_str(words);
        } else if let Some(words) = line.strip_prefix("///") {
            doc.push_str(words);
        } else if line.starts_with("#[") {
            is_test |= line.contains("test") && !line.contains("cfg");
        } else {
            let name = line
                .split_once("fn ")
                .and_then(|(_, rest)| rest.split(['(', '<']).next());
            if let Some(name) = name.filter(|_| !line.starts_with("//")) {
                // A macro may make tests of functions that it names, a line each.
                if is_test || text.contains(&format!("\n    {name},\n")) {
                    add(&doc, name);
                    any = true;
                }
            }
            doc.clear();
            is_test = false;
        }
    }
    if any || path.starts_with("tests/contract/bus") {
        add(&header, "");
    }
}

fn table(all: &BTreeMap<String, BTreeSet<Proof>>) -> Result<String> {
    let mut table = String::from("\n| row | promise | shown by |\n| --- | --- | --- |\n");
    for (id, promise) in ROWS {
        let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, name) in all.get(id).into_iter().flatten() {
            files.entry(path).or_default().push(name);
        }
        let cells = files.iter().map(|(path, names)| {
            let names: Vec<_> = names
                .iter()
                .filter(|name| !name.is_empty())
                .map(|name| format!("`{name}`"))
                .collect();
            let link = match path.strip_prefix("tests/") {
                Some(path) => format!("[{path}]({path})"),
                None => format!("[{path}](../{path})"),
            };
            if names.is_empty() {
                link
            } else {
                format!("{link}: {}", names.join(", "))
            }
        });
        writeln!(
            table,
            "| {id} | {promise} | {} |",
            cells.collect::<Vec<_>>().join("<br>")
        )?;
    }
    table.push('\n');
    Ok(table)
}

#[test]
fn the_table_of_promises_names_the_tests_that_there_are_and_no_promise_is_without_one() -> Result<()> {
    let root = root()?;
    let mut all = BTreeMap::new();
    for top in ["proto", "services", "workers", "tests"] {
        for path in files(&root.join(top))? {
            if path.extension().is_some_and(|it| it == "rs") {
                let relative = path.strip_prefix(&root)?.to_string_lossy().into_owned();
                proofs(&relative, &std::fs::read_to_string(&path)?, &mut all);
            }
        }
    }
    let lacking: Vec<_> = ROWS.iter().filter(|(id, _)| !all.contains_key(*id)).collect();
    assert!(
        lacking.is_empty(),
        "no test has these ids in its doc comment: {lacking:?}"
    );

    let path = root.join("tests/README.md");
    assert_current(&path, &table(&all)?)
}

fn assert_current(path: &Path, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("the line before the table")?;
    let (shown, after) = rest.split_once(END).context("the line after the table")?;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, [before, BEGIN, table, END, after].concat())?;
        return Ok(());
    }
    let changed: Vec<_> = table.lines().filter(|line| !shown.contains(line)).collect();
    let way_out = "run: UPDATE=1 cargo test -p usher-tests --test contract documents";
    assert!(
        shown == table,
        "tests/README.md is behind the tests; {way_out}\nfor {changed:#?}"
    );
    Ok(())
}

#[test]
fn ids_are_found_in_prose() {
    let found = |text| ids(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("S1 to S3, L4: not S, B100, X1 or SHA2"), "L4 S1 S2 S3");
    assert_eq!(found("(B1, B12)"), "B1 B12");
}
