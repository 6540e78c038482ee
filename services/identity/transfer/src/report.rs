//! What became of each row of an import, as a CSV file to work through (L10).

use crate::read::CellFault;
use crate::write::{MARK, one_line, record};

/// The heads of a report.
pub const HEADS: [&str; 6] = ["row", "address", "outcome", "user_id", "column", "reason"];

/// Writes a report: a line for each fault of a row, or one line for a row without any. UTF-8 with a mark, RFC 4180, and
/// like an export without a cell that could be read as a formula.
#[derive(Debug)]
pub struct ReportWriter {
    text: Vec<u8>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy)]
pub struct ReportRow<'a> {
    /// The row of the file; see [`crate::read::Row::line`].
    pub row: u64,
    /// The address as far as it can be told.
    pub address: &'a str,
    /// What became of it: `CREATED`.
    pub outcome: &'a str,
    /// The account, if there is one.
    pub user_id: &'a str,
    /// Everything that was wrong with it.
    pub faults: &'a [CellFault],
}

impl Default for ReportWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ReportWriter {
    /// Begins with the heads.
    pub fn new() -> Self {
        let mut text = MARK.to_vec();
        record(&mut text, HEADS);
        Self { text }
    }

    /// Goes on with a report whose beginning was written before: no mark and no heads.
    pub fn resume() -> Self {
        Self { text: Vec::new() }
    }

    /// Writes one row.
    pub fn push(&mut self, row: ReportRow) {
        let mut line = |column: &str, reason: &str| {
            let number = row.row.to_string();
            let cells = [&number, row.address, row.outcome, row.user_id, column, reason];
            let cells = cells.map(|cell| one_line(cell.into()));
            record(&mut self.text, cells.iter().map(AsRef::as_ref));
        };
        for fault in row.faults {
            line(&fault.column, &fault.reason);
        }
        if row.faults.is_empty() {
            line("", "");
        }
    }

    /// What was written and not taken yet.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l10_the_report_names_row_column_and_reason_and_carries_no_formula() {
        let mut report = ReportWriter::new();
        let row = |row, outcome, faults| ReportRow {
            row,
            address: "u@example.org",
            outcome,
            user_id: if row == 2 { "id" } else { "" },
            faults,
        };
        report.push(row(2, "CREATED", &[]));
        let faults = [
            CellFault::new("Mail", "has no @, or two"),
            CellFault::new("=Vorname", "a\nb"),
        ];
        report.push(row(4, "FAILED", &faults));
        let first = report.take();
        report.push(ReportRow {
            address: "=1+1",
            ..row(5, "NOT_SENT", &[])
        });
        let text = [first, report.take()].concat();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "\u{FEFF}row,address,outcome,user_id,column,reason\r\n\
             2,u@example.org,CREATED,id,,\r\n\
             4,u@example.org,FAILED,,Mail,\"has no @, or two\"\r\n\
             4,u@example.org,FAILED,,'=Vorname,a b\r\n\
             5,'=1+1,NOT_SENT,,,\r\n"
        );
    }
}
