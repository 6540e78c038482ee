//! `usher import`: a file goes to the service as it is, and a job deals with its rows (L10).

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use usher_proto::identity::v1::{ImportMode, ImportSettings, Job};

use super::invite::Text;
use super::upload::Upload;
use super::{Change, Session, choice, jobs};
use crate::client::{incomplete, read};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::time;

/// Create, invite, update, activate or deactivate users from a file, with a report for each row that failed.
///
/// The file is CSV or .xlsx. Its first line names the columns, in any order: email (required), first_name, last_name,
/// language, time_zone (Europe/Paris), labels (separated by `|` or comma), groups, roles (coach, held in the row's groups, or
/// coach@School/Year 7), expires and deletes (2027-06-30, or 2027-06-30T18:00:00+02:00; a day means its beginning in UTC),
/// active, external_id. The usual names in other languages
/// do as well: courriel, Vorname, Apellidos; so do those of Moodle, Docebo and 360Learning. Separators (comma, semicolon, tab)
/// and encodings (UTF-8, UTF-16, Windows-1252) are recognised.
///
/// Good rows go through; each row that fails is named with its line, its column and the reason. A job of the server works
/// through them and goes on when this command ends. The same import, run again while it works, stays with that job; run
/// again later, it leaves whoever is there already as they are.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Import {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// What is done with each row: create accounts that there are not, invite besides, update those that there are,
    /// activate or deactivate. Invite, if left out.
    #[arg(long, value_parser = choice!(ImportMode, "IMPORT_MODE_", ["create", "invite", "update", "activate", "deactivate"]))]
    mode: Option<ImportMode>,
    /// Create the accounts, and invite nobody yet: --mode create.
    #[arg(long, conflicts_with = "mode")]
    no_invite: bool,
    /// Only tell what would come of it; change nobody.
    #[arg(long)]
    dry_run: bool,
    /// The file's encoding, where it cannot be told from the bytes, for example windows-1250.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    encoding: String,
    /// What a column is whose head does not tell: email, first_name, last_name, language, time_zone, labels, groups, roles,
    /// expires, deletes, external_id or active. Repeat it for several.
    #[arg(long, value_name = "HEAD=FIELD", value_parser = head_and_field)]
    map: Vec<(String, String)>,
    /// With --mode update: also the fields that a person edited themselves.
    #[arg(long, requires = "mode")]
    overwrite_edited: bool,
    /// With --mode deactivate: refuse a file that names more than this share of the active users; 20 if left out.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(i32).range(1..=100), requires = "mode")]
    max_deactivated_percent: Option<i32>,
    #[command(flatten)]
    message: Text,
    /// Do not stay with the job: print its id.
    #[arg(long, conflicts_with = "report")]
    detach: bool,
    /// Write what became of each row to this CSV file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
}

/// Reads `HEAD=FIELD`. A head may have the sign in it, a field has none.
fn head_and_field(text: &str) -> Result<(String, String), String> {
    let (head, field) = text
        .rsplit_once('=')
        .ok_or("write the column's head, = and the field, for example Mail=email")?;
    Ok((head.to_owned(), field.to_owned()))
}

pub(super) async fn run(command: &Import, session: &Session) -> Result<Exit, Failure> {
    let settings = settings(command, &session.client.tenant)?;
    let upload = Upload::new(settings, &command.reason, read(&command.file)?);
    let job = tokio::select! {
        job = begin(&upload, session) => job?,
        _ = tokio::signal::ctrl_c() => {
            let told = "interrupted before the server began: the same command finds its job, or sends the file again";
            return Err(Failure::Interrupted(told.into()));
        }
    };
    let id = job.job_id.clone();
    let change = Change {
        reason: String::new(),
        dry_run: false,
    };
    let exit = jobs::started(Some(job), command.detach, &change, session).await?;
    if let Some(path) = command.report.as_deref().filter(|_| exit != Exit::Interrupted) {
        jobs::report(&id, path, session).await?;
    }
    Ok(exit)
}

/// Finds the job that is at work on it, or sends the file and begins one.
async fn begin(upload: &Upload, session: &Session) -> Result<Job, Failure> {
    if let Some(job) = upload.under_way(&session.client).await? {
        output::note(&format!(
            "The same import has been under way since {}: this is its job.",
            time::show(job.create_time.as_ref())
        ));
        return Ok(job);
    }
    let answer = upload.send(&session.client, &ProgressBar::new(0)).await?;
    for note in &answer.notes {
        output::note(note);
    }
    answer.job.ok_or_else(|| incomplete("job"))
}

fn settings(command: &Import, tenant: &str) -> Result<ImportSettings, Failure> {
    let default = if command.no_invite {
        ImportMode::Create
    } else {
        ImportMode::Invite
    };
    Ok(ImportSettings {
        tenant_id: tenant.to_owned(),
        mode: command.mode.unwrap_or(default).into(),
        dry_run: command.dry_run,
        mapping: command.map.iter().cloned().collect(),
        encoding: command.encoding.clone(),
        overwrite_edited: command.overwrite_edited,
        max_deactivated_percent: command.max_deactivated_percent.unwrap_or_default(),
        messages: command.message.messages()?,
        options: None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::client::DEMO_TENANT;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        import: Import,
    }

    fn settings_of(line: &str) -> ImportSettings {
        settings(&Line::parse_from(line.split(' ')).import, DEMO_TENANT).unwrap()
    }

    #[test]
    fn l10_an_import_invites_unless_it_is_told_otherwise() {
        for (line, mode) in [
            ("x f.csv", ImportMode::Invite),
            ("x f.csv --no-invite", ImportMode::Create),
            ("x f.csv --mode update", ImportMode::Update),
        ] {
            assert_eq!(settings_of(line).mode(), mode, "{line}");
        }
    }

    #[test]
    fn l10_what_a_column_means_can_be_told() {
        let settings = settings_of("x f.csv --mode update --map E-mail=of=us=email --overwrite-edited");
        assert_eq!(
            settings.mapping["E-mail=of=us"], "email",
            "a head may have the sign in it"
        );
        assert!(settings.overwrite_edited && settings.max_deactivated_percent == 0);
    }
}
