//! `usher import`: with --mode the server reads the file, see [`super::upload`]; without it this program does, see
//! [`crate::import`].

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use usher_proto::identity::v1::{GetTenantRequest, ImportMode};

use super::invite::Text;
use super::{Session, choice, upload};
use crate::client::read;
use crate::failure::{Exit, Failure};
use crate::import::report::{Report, Stop};
use crate::import::run::Plan;
use crate::import::{self, Prepared};
use crate::output;

/// What the progress bar shows.
const BAR: &str = "{bar:40} {pos}/{len} rows, {per_sec}, {eta} left";

/// Create, invite, update, activate or deactivate users from a file, with a report for each row that failed.
///
/// The first line names the columns, in any order: email (required), first_name, last_name, language, labels (separated by
/// `|` or comma), expires (2027-06-30, or 2027-06-30T18:00:00+02:00; a day means its beginning in UTC), external_id. The
/// usual names in other languages do as well: courriel, Vorname, Apellidos. Separators (comma, semicolon, tab) and
/// encodings (UTF-8, UTF-16, Windows-1252) are recognised.
///
/// Good rows go through; each row that fails is named with its line, its column and the reason. The same import can be run
/// again after an interruption: it goes on where it was.
///
/// With --mode the server reads the file, CSV or .xlsx, and works through it in a job of its own, which goes on when this
/// command ends; it knows the columns groups, roles, deletes and active, too. Without --mode, this command creates and
/// invites row by row; an address that has an account already is left as it is.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Import {
    /// The file; `-` is standard input.
    pub(super) file: PathBuf,
    /// What the server does with each row: create accounts that there are not, invite besides, update those that there
    /// are, activate or deactivate.
    #[arg(long, value_parser = choice!(ImportMode, "IMPORT_MODE_", ["create", "invite", "update", "activate", "deactivate"]))]
    pub(super) mode: Option<ImportMode>,
    /// Create the accounts, and invite nobody yet. With --mode, that is `create`.
    #[arg(long, conflicts_with = "mode")]
    no_invite: bool,
    /// Only tell what would come of it; change nobody.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The file's encoding, where it cannot be told from the bytes, for example windows-1250.
    #[arg(long, value_name = "NAME")]
    pub(super) encoding: Option<String>,
    /// What a column is whose head does not tell: email, first_name, last_name, language, labels, groups, roles, expires,
    /// deletes, external_id or active. Repeat it for several.
    #[arg(long, value_name = "HEAD=FIELD", value_parser = head_and_field, requires = "mode")]
    pub(super) map: Vec<(String, String)>,
    /// With --mode update: also the fields that a person edited themselves.
    #[arg(long, requires = "mode")]
    pub(super) overwrite_edited: bool,
    /// With --mode deactivate: refuse a file that names more than this share of the active users; 20 if left out.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(i32).range(1..=100), requires = "mode")]
    pub(super) max_deactivated_percent: Option<i32>,
    #[command(flatten)]
    pub(super) message: Text,
    /// Run an import once more that was run before.
    #[arg(long, requires = "mode")]
    pub(super) again: bool,
    /// Do not stay with the job: print its id.
    #[arg(long, requires = "mode", conflicts_with = "report")]
    pub(super) detach: bool,
    /// Write what became of each row to this CSV file.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(super) reason: String,
}

/// Reads `HEAD=FIELD`. A head may have the sign in it, a field has none.
fn head_and_field(text: &str) -> Result<(String, String), String> {
    let (head, field) = text
        .rsplit_once('=')
        .ok_or("write the column's head, = and the field, for example Mail=email")?;
    Ok((head.to_owned(), field.to_owned()))
}

pub(super) async fn run(command: &Import, session: &Session) -> Result<Exit, Failure> {
    if let Some(mode) = command.mode {
        return upload::run(command, mode, session).await;
    }
    if upload::is_spreadsheet(&command.file) || !command.message.is_default() {
        return Err(Failure::Usage(
            "spreadsheets and texts of your own need --mode, for example --mode invite".into(),
        ));
    }
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
