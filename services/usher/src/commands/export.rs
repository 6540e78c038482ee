//! `usher export`: users into a file (U7). The file is there when all of it is there: until then it is called FILE.part.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use usher_proto::identity::v1::{ExportUsersRequest, FileFormat};

use super::filter::Whom;
use super::watch::count;
use super::{Session, choice};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::file::complete;
use crate::output;

/// What shows how far it is; how many there will be is not known before the end.
const SPINNER: &str = "{spinner} {pos} rows, {per_sec}";
/// How often it turns.
const TURN: Duration = Duration::from_millis(100);

/// Write users to a file for a spreadsheet: CSV or .xlsx.
///
/// Without filters it is everybody but the erased. A connection that breaks off is taken up again from the beginning; the
/// file has its name only when it is complete.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file, for example users.xlsx; `-` is standard output.
    file: PathBuf,
    /// The file's format; by the ending of its name if left out.
    #[arg(long, value_parser = choice!(FileFormat, "FILE_FORMAT_", ["csv", "xlsx"]))]
    format: Option<FileFormat>,
    /// Only these columns, in this order: user_id, email, external_id, first_name, last_name, language, time_zone, labels,
    /// status, status_since, groups, roles, expires, deletes, created, activated, last_login.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// The language of the columns' heads, for example fr; the tenant's if left out. (--language is a filter.)
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TAG")]
    head_language: String,
    #[command(flatten)]
    whom: Whom,
}

pub(super) async fn run(command: &Export, session: &Session) -> Result<Exit, Failure> {
    let request = ExportUsersRequest {
        tenant_id: session.client.tenant.clone(),
        selection: Some(command.whom.resolve(&session.client).await?),
        format: format(command)?.into(),
        columns: command.columns.clone(),
        language: command.head_language.clone(),
    };
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template(SPINNER).expect("a test reads this template"));
    bar.enable_steady_tick(TURN);
    let done = if command.file == Path::new("-") {
        download(&session.client, &request, &mut std::io::stdout().lock(), &bar).await
    } else {
        to_file(&session.client, &request, &command.file, &bar).await
    };
    bar.finish_and_clear();
    let rows = done?;
    if command.file != Path::new("-") {
        output::note(&format!("{rows} users written to {}.", command.file.display()));
    }
    Ok(Exit::Done)
}

fn format(command: &Export) -> Result<FileFormat, Failure> {
    if let Some(format) = command.format {
        return Ok(format);
    }
    let ending = command.file.extension().and_then(|ending| ending.to_str());
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("xlsx") => Ok(FileFormat::Xlsx),
        Some("csv") => Ok(FileFormat::Csv),
        None if command.file == Path::new("-") => Ok(FileFormat::Csv),
        _ => Err(Failure::Usage(
            "the file's name ends neither with .csv nor with .xlsx; say which with --format".into(),
        )),
    }
}

/// Writes the file, and gives it its name when it is complete. Answers how many rows there were.
pub(crate) async fn to_file(
    client: &Client,
    request: &ExportUsersRequest,
    path: &Path,
    bar: &ProgressBar,
) -> Result<i64, Failure> {
    complete(path, |mut file| async move {
        bar.set_position(0);
        let rows = download(client, request, &mut file, bar).await?;
        Ok((file, rows))
    })
    .await
}

/// Takes one stream to its end, and answers how many rows there were.
async fn download(
    client: &Client,
    request: &ExportUsersRequest,
    to: &mut impl Write,
    bar: &ProgressBar,
) -> Result<i64, Failure> {
    let mut stream = client.transfers().export_users(request.clone()).await?.into_inner();
    let mut rows = 0;
    while let Some(piece) = stream.message().await? {
        to.write_all(&piece.data).map_err(Failure::output)?;
        rows = piece.done_count;
        bar.set_position(count(rows));
    }
    to.flush().map_err(Failure::output)?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::transfer_double::{Double, serve};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        export: Export,
    }

    #[test]
    fn the_template_of_the_spinner_is_valid() {
        assert!(ProgressStyle::with_template(SPINNER).is_ok());
    }

    #[test]
    fn u7_the_ending_of_the_name_is_the_format_unless_one_is_given() {
        let format = |line: &str| format(&Line::parse_from(line.split(' ')).export);
        assert_eq!(format("x a.XLSX").unwrap(), FileFormat::Xlsx);
        assert_eq!(format("x a.csv").unwrap(), FileFormat::Csv);
        assert_eq!(format("x -").unwrap(), FileFormat::Csv);
        assert_eq!(format("x a.csv --format xlsx").unwrap(), FileFormat::Xlsx);
        assert!(matches!(format("x a.txt"), Err(Failure::Usage(_))));
    }

    #[tokio::test]
    async fn u7_an_export_that_breaks_off_begins_again_and_leaves_no_half_file() {
        let (client, double) = serve(Double::default().breaking(1)).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.csv");
        std::fs::write(&path, "before").unwrap();
        let request = ExportUsersRequest::default();
        let rows = to_file(&client, &request, &path, &ProgressBar::hidden()).await.unwrap();
        assert_eq!((rows, double.exports()), (2, 2));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first\nsecond\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn u7_an_export_that_is_refused_leaves_the_file_that_was_there() {
        let (client, double) = serve(Double::default().refusing()).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.csv");
        std::fs::write(&path, "before").unwrap();
        let request = ExportUsersRequest::default();
        let failure = to_file(&client, &request, &path, &ProgressBar::hidden())
            .await
            .unwrap_err();
        assert_eq!((failure.exit(), double.exports()), (Exit::Denied, 1));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
