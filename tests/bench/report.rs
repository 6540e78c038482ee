//! The table.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<[String; 5]>,
    notes: Vec<String>,
}

impl Report {
    /// Ours against the floor, both a second; `wanted` is the ratio to reach.
    pub(crate) fn ratio(&mut self, work: &str, floor: &[f64], ours: &[f64], wanted: f64) {
        let (floor, ours) = (median(floor), median(ours));
        let ratio = ours / floor;
        let verdict = if ratio >= wanted { "reached" } else { "falls short" };
        eprintln!("{work}: floor {floor:.0}/s, ours {ours:.0}/s, {ratio:.2} × (wanted {wanted} ×)");
        self.rows.push([
            work.to_owned(),
            format!("{floor:.0}/s"),
            format!("{ours:.0}/s"),
            format!("{ratio:.2} ×"),
            format!("≥ {wanted} ×: {verdict}"),
        ]);
    }

    /// What something costs among many, against what it costs among few; `most` is the ratio to stay below.
    pub(crate) fn growth(&mut self, work: &str, few: Duration, many: Duration, most: u32) {
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        let verdict = if ratio < f64::from(most) {
            "reached"
        } else {
            "falls short"
        };
        eprintln!("{work}: among few {few:.1?}, among many {many:.1?}, {ratio:.2} × (wanted < {most} ×)");
        self.rows.push([
            work.to_owned(),
            format!("{few:.1?}"),
            format!("{many:.1?}"),
            format!("{ratio:.2} ×"),
            format!("< {most} ×: {verdict}"),
        ]);
    }

    /// A figure without a floor.
    pub(crate) fn note(&mut self, text: String) {
        eprintln!("{text}");
        self.notes.push(text);
    }

    /// The resident memory of a process.
    pub(crate) fn memory(&mut self, when: &str, process: Option<u32>) -> Result<()> {
        self.measure("resident memory", "VmRSS:", when, process)
    }

    /// The most memory that a process had resident so far.
    pub(crate) fn peak(&mut self, when: &str, process: Option<u32>) -> Result<()> {
        self.measure("most resident memory", "VmHWM:", when, process)
    }

    fn measure(&mut self, what: &str, field: &str, when: &str, process: Option<u32>) -> Result<()> {
        let id = process.context("a process that runs")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("a field")?;
        let kilobytes: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        self.note(format!("{what}, {when}: {:.0} MB", kilobytes / 1024.0));
        Ok(())
    }

    /// Prints it as Markdown.
    pub(crate) fn print(&self) {
        println!("| work | floor | ours | ratio | wanted |\n| --- | --- | --- | --- | --- |");
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        println!();
        for note in &self.notes {
            println!("- {note}");
        }
    }
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
