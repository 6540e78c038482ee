//! The permission matrix, as the running service answers it: every RPC, called by somebody with each of the default roles,
//! in their own scope, in a foreign one and with their own account (U1, U2, L6, L7, S9).
//!
//! What is expected is read from `services/identity/authorization/policies/MATRIX.md`, where it is written by hand beside
//! the policies; what was answered goes there too. `cast` has the people and the places, `calls` one call of each RPC.

mod calls;
mod cast;
mod over_time;
mod people;

use std::collections::BTreeMap;
use std::fs;

use super::*;
use calls::Answer;
use cast::{Cast, Holder};

const DOCUMENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../services/identity/authorization/policies/MATRIX.md"
);
/// Columns before those of the roles: RPC, permission, asked about.
const BEFORE: usize = 3;

/// A row of the document.
struct Row {
    method: String,
    about: String,
    /// By role: expected, and what was answered when it was last written.
    cells: Vec<(String, String)>,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let method = cells.next().filter(|method| method.contains("Service/"))?.to_owned();
        let about = cells.nth(1)?.to_owned();
        let rest: Vec<_> = cells.map(str::to_owned).collect();
        let cells = rest.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Some(Self { method, about, cells })
    }

    /// The line of the document, with what was answered now.
    fn line(&self, before: &str, answered: &[String]) -> String {
        let mut cells: Vec<&str> = before.split(" | ").take(BEFORE).collect();
        for ((expected, _), answered) in self.cells.iter().zip(answered) {
            cells.extend([expected.as_str(), answered]);
        }
        format!("{} |", cells.join(" | "))
    }
}

/// Whether a call was carried out, or would have been. Nothing that is not there is asked about, so what is not found is
/// hidden from whoever asks; an argument at fault would mean that nobody was asked.
fn was_allowed(what: &str, answer: Answer) -> bool {
    let status = match answer {
        Ok(allowed) => return allowed,
        Err(status) => status,
    };
    let told = Refused::of(&status);
    assert!(
        !matches!(
            told.code,
            Code::InvalidArgument | Code::Internal | Code::Unavailable | Code::Unimplemented
        ),
        "{what}: {status:?}"
    );
    let denied = ["PERMISSION_DENIED", "OWN_STATUS", "ACTOR_NOT_ACTIVE"];
    let hidden = ["USER_NOT_FOUND", "JOB_NOT_FOUND"];
    !denied.contains(&told.reason.as_str()) && !hidden.contains(&told.reason.as_str())
}

/// What somebody is answered, in the words of the document. Where a word stands for several places, the answer is the same
/// in all of them; but for whoever leads a session, which is a place of its own.
async fn answered(row: &Row, holder: &Holder, cast: &Cast<'_>) -> Result<String> {
    let mut by_word: Vec<(&str, Vec<bool>)> = Vec::new();
    for (word, spot) in cast.spots(&row.about, holder) {
        let Some(answer) = calls::call(&row.method, cast, holder, &spot).await? else {
            continue;
        };
        let what = format!("{} by {}, {word}", row.method, holder.role);
        let allowed = was_allowed(&what, answer);
        match by_word.iter_mut().find(|(known, _)| *known == word) {
            Some((_, answers)) => answers.push(allowed),
            None => by_word.push((word, vec![allowed])),
        }
    }
    anyhow::ensure!(!by_word.is_empty(), "{} was not asked by {}", row.method, holder.role);
    let allowed = by_word.iter().filter(|(_, answers)| answers.contains(&true));
    let words: Vec<String> = allowed
        .map(|(word, answers)| {
            let all = holder.leads() || !answers.contains(&false);
            if all {
                (*word).to_owned()
            } else {
                format!("some {word}")
            }
        })
        .collect();
    Ok(if words.is_empty() {
        "–".into()
    } else {
        words.join(" ")
    })
}

/// U1, U2, L6, L7, S9: as the document beside the policies says.
#[test]
fn the_service_answers_every_rpc_to_every_role_as_the_matrix_says() -> Result<()> {
    together(async |stage| {
        let text = fs::read_to_string(DOCUMENT)?;
        let rows: BTreeMap<String, Row> = text
            .lines()
            .filter_map(Row::read)
            .map(|row| (row.method.clone(), row))
            .collect();
        let methods = usher_authorization::METHODS
            .iter()
            .map(|(method, _)| (*method).to_owned());
        assert_eq!(
            rows.keys().cloned().collect::<Vec<_>>(),
            methods
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
            "the document has every RPC; write it anew: UPDATE=1 cargo test -p usher-authorization matrix"
        );
        let cast = Cast::assemble(&stage).await?;
        let (mut different, mut behind, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines() {
            let Some(row) = Row::read(line) else {
                lines.push(line.to_owned());
                continue;
            };
            assert_eq!(row.cells.len(), cast.holders.len(), "{}", row.method);
            let each = cast.holders.iter().map(|holder| answered(&row, holder, &cast));
            let answers = futures::future::try_join_all(each).await?;
            for ((holder, answer), (expected, written)) in cast.holders.iter().zip(&answers).zip(&row.cells) {
                let cell = format!("{} by {}: {answer}, ", row.method, holder.role);
                if answer != expected {
                    different.push(format!("{cell}expected {expected}"));
                }
                if answer != written {
                    behind.push(format!("{cell}written {written}"));
                }
            }
            lines.push(row.line(line, &answers));
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(DOCUMENT, lines.join("\n") + "\n")?;
            behind.clear();
        }
        assert!(different.is_empty(), "{different:#?}");
        let way_out = "run: UPDATE=1 cargo test -p usher-tests --test e2e matrix";
        assert!(behind.is_empty(), "MATRIX.md is behind; {way_out}\n{behind:#?}");
        Ok(())
    })
}
