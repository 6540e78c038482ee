//! `usher import`: see [`crate::import`].

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use usher_proto::identity::v1::GetTenantRequest;

use super::Session;
use crate::client::read;
use crate::failure::{Exit, Failure};
use crate::import::report::{Report, Stop};
use crate::import::run::Plan;
use crate::import::{self, Prepared};
use crate::output;

/// What the progress bar shows.
const BAR: &str = "{bar:40} {pos}/{len} rows, {per_sec}, {eta} left";

/// Create and invite users from a CSV file, with a report for each row that failed.
///
/// The first line names the columns, in any order: email (required), first_name, last_name, language, labels (separated by
/// `|` or comma), expires (2027-06-30, or 2027-06-30T18:00:00+02:00; a day means its beginning in UTC), external_id. The
/// usual names in other languages do as well: courriel, Vorname, Apellidos. Separators (comma, semicolon, tab) and
/// encodings (UTF-8, UTF-16, Windows-1252) are recognised.
///
/// Good rows go through; each row that fails is named with its line, its column and the reason. An address that has an
/// account already is left as it is. The same import can be run again after an interruption: it goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// Create the accounts, and invite nobody yet.
    #[arg(long)]
    no_invite: bool,
    /// Only tell what is wrong with the file; create nobody.
    #[arg(long)]
    dry_run: bool,
    /// The file's encoding, where it cannot be told from the bytes, for example windows-1250.
    #[arg(long, value_name = "NAME")]
    encoding: Option<String>,
    /// Write what became of each row to this CSV file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
}

pub(super) async fn run(command: &Import, session: &Session) -> Result<Exit, Failure> {
    let prepared = import::prepare(&read(&command.file)?, command.encoding.as_deref())?;
    for note in &prepared.notes {
        output::note(note);
    }
    // Before the first row: a server that is away or a tenant that is not there is one fault, not one a row.
    let tenant_id = session.client.tenant.clone();
    session
        .client
        .tenants()
        .get_tenant(GetTenantRequest { tenant_id })
        .await?;

    let plan = Plan {
        invite: !command.no_invite,
        dry_run: command.dry_run,
        reason: command.reason.clone(),
    };
    let report = send(&prepared, &plan, session).await;
    if let Some(path) = &command.report {
        report.write(path)?;
    }
    report.print(session.out)?;
    if report.stopped.is_some() {
        output::note("The import stopped before its end; run it again, and it goes on where it was.");
    }
    report.exit()
}

/// Sends the rows behind a progress bar, which shows on a terminal only. Ctrl-C lets the rows under way finish.
async fn send(prepared: &Prepared, plan: &Plan, session: &Session) -> Report {
    let bar = ProgressBar::new(prepared.rows.len() as u64);
    let style = ProgressStyle::with_template(BAR).expect("a test reads this template");
    bar.set_style(style);
    let interrupt = CancellationToken::new();
    let rows = import::run::run(&session.client, prepared, plan, &interrupt, || bar.inc(1));
    tokio::pin!(rows);
    let mut report = tokio::select! {
        report = &mut rows => report,
        _ = tokio::signal::ctrl_c() => {
            interrupt.cancel();
            rows.await
        }
    };
    bar.finish_and_clear();
    if interrupt.is_cancelled() && report.stopped.is_none() {
        report.stopped = Some(Stop::Interrupted);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_of_the_progress_bar_is_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
