//! What became of each row: for people, for programs, and as a CSV file to work through (L10).

use std::path::Path;

use serde::Serialize;

use super::read::Fault;
use crate::failure::{Exit, Failure};
use crate::output::{self, Output};

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Outcome {
    /// Created, and the invitation is on its way.
    Invited,
    /// Created, without an invitation.
    Created,
    /// It would be created.
    Valid,
    /// The address had an account before, which was left as it is.
    AlreadyThere,
    /// Refused; see the faults.
    Failed,
    /// The import stopped before it.
    NotSent,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "INVITED",
            Self::Created => "CREATED",
            Self::Valid => "VALID",
            Self::AlreadyThere => "ALREADY_THERE",
            Self::Failed => "FAILED",
            Self::NotSent => "NOT_SENT",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RowReport {
    /// The line of the file that it begins on.
    pub(crate) row: usize,
    /// As it stands in the file.
    pub(crate) email: String,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Empty unless the account was created.
    pub(crate) user_id: String,
    /// Everything that was wrong with it.
    pub(crate) faults: Vec<Fault>,
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// In the order of the file.
    pub(crate) rows: Vec<RowReport>,
    /// Why it stopped before the end.
    pub(crate) stopped: Option<Stop>,
}

/// Why an import stops before the end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// What would fail every row.
    Failure(Failure),
    /// Ctrl-C.
    Interrupted,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Summary {
    rows: usize,
    created: usize,
    invited: usize,
    valid: usize,
    already_there: usize,
    failed: usize,
    not_sent: usize,
}

impl Report {
    fn summary(&self) -> Summary {
        let count = |outcome| self.rows.iter().filter(|row| row.outcome == outcome).count();
        Summary {
            rows: self.rows.len(),
            created: self.rows.iter().filter(|row| !row.user_id.is_empty()).count(),
            invited: count(Outcome::Invited),
            valid: count(Outcome::Valid),
            already_there: count(Outcome::AlreadyThere),
            failed: count(Outcome::Failed),
            not_sent: count(Outcome::NotSent),
        }
    }

    /// One line: what came of the file.
    pub(crate) fn headline(&self) -> String {
        let summary = self.summary();
        let parts = [
            (summary.valid, "would be created"),
            (summary.created, "created"),
            (summary.invited, "invited"),
            (summary.already_there, "already there"),
            (summary.failed, "failed"),
            (summary.not_sent, "not sent"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        format!(
            "{} rows: {}",
            summary.rows,
            if parts.is_empty() {
                "nothing to do".into()
            } else {
                parts.join(", ")
            }
        )
    }

    /// A table of the rows that failed, for people; an object for each row and one for their sum, for programs.
    pub(crate) fn print(&self, out: Output) -> Result<(), Failure> {
        if out.json {
            output::lines(self.rows.iter().map(|row| serde_json::json!(row)))?;
            return output::lines([serde_json::json!({ "summary": self.summary() })]);
        }
        let failed = self.rows.iter().filter(|row| row.outcome == Outcome::Failed);
        let rows = failed.flat_map(|row| {
            row.faults.iter().map(|fault| {
                vec![
                    row.row.to_string(),
                    row.email.clone(),
                    fault.column.clone(),
                    fault.reason.clone(),
                ]
            })
        });
        output::table(&["ROW", "ADDRESS", "COLUMN", "REASON"], rows)?;
        output::lines([self.headline()])
    }

    /// Writes a CSV file with a line for each fault, or for each row without one.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |cause| Failure::io(format!("cannot write {}", path.display()), cause);
        let file = std::fs::File::create(path).map_err(failed)?;
        self.write_to(file).map_err(|error| failed(error.into()))
    }

    fn write_to(&self, to: impl std::io::Write) -> Result<(), csv::Error> {
        let mut csv = csv::Writer::from_writer(to);
        csv.write_record(["row", "email", "outcome", "user_id", "column", "reason"])?;
        let none = [Fault::new("", "")];
        for row in &self.rows {
            let faults = if row.faults.is_empty() {
                &none
            } else {
                row.faults.as_slice()
            };
            for fault in faults {
                csv.write_record([
                    &row.row.to_string(),
                    &inert(&row.email),
                    row.outcome.as_str(),
                    &row.user_id,
                    &inert(&fault.column),
                    &inert(&fault.reason),
                ])?;
            }
        }
        csv.flush()?;
        Ok(())
    }

    /// The exit code.
    pub(crate) fn exit(self) -> Result<Exit, Failure> {
        match self.stopped {
            Some(Stop::Failure(failure)) => Err(failure),
            Some(Stop::Interrupted) => Ok(Exit::Interrupted),
            None if self.rows.iter().any(|row| row.outcome == Outcome::Failed) => Ok(Exit::Partly),
            None => Ok(Exit::Done),
        }
    }
}

/// A text from the file that a spreadsheet will not take for a formula.
fn inert(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: usize, outcome: Outcome, faults: &[(&str, &str)]) -> RowReport {
        RowReport {
            row,
            email: format!("u{row}@example.org"),
            outcome,
            user_id: if outcome == Outcome::Invited {
                "id".into()
            } else {
                String::new()
            },
            faults: faults
                .iter()
                .map(|(column, reason)| Fault::new(*column, *reason))
                .collect(),
        }
    }

    fn report() -> Report {
        let rows = vec![
            row(2, Outcome::Invited, &[]),
            row(3, Outcome::AlreadyThere, &[("email", "is there")]),
            row(4, Outcome::Failed, &[("Mail", "has no @, or two"), ("Vorname", "=1+1")]),
        ];
        Report { rows, stopped: None }
    }

    #[test]
    fn the_headline_counts_each_outcome_and_leaves_out_what_there_is_none_of() {
        assert_eq!(
            report().headline(),
            "3 rows: 1 created, 1 invited, 1 already there, 1 failed"
        );
        assert_eq!(Report::default().headline(), "0 rows: nothing to do");
    }

    #[test]
    fn the_csv_report_names_row_column_and_reason_and_carries_no_formula_l10() {
        let mut text = Vec::new();
        report().write_to(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "row,email,outcome,user_id,column,reason\n\
             2,u2@example.org,INVITED,id,,\n\
             3,u3@example.org,ALREADY_THERE,,email,is there\n\
             4,u4@example.org,FAILED,,Mail,\"has no @, or two\"\n\
             4,u4@example.org,FAILED,,Vorname,'=1+1\n"
        );
    }

    #[test]
    fn rows_that_failed_make_a_part_of_it_and_an_interruption_is_told_from_that() {
        assert_eq!(report().exit().unwrap(), Exit::Partly);
        let skipped = Report {
            rows: vec![row(2, Outcome::AlreadyThere, &[])],
            stopped: None,
        };
        assert_eq!(skipped.exit().unwrap(), Exit::Done);
        let interrupted = Report {
            stopped: Some(Stop::Interrupted),
            ..report()
        };
        assert_eq!(interrupted.exit().unwrap(), Exit::Interrupted);
    }
}
