//! `usher import FILE --mode …`: the file goes to the server as it is, and a job of the server deals with its rows (L10).
//! What the call is named by follows from the file and what is to be done with it, so that the same import, run again after
//! an interruption, finds the job of the first (B1).

use std::path::Path;
use std::sync::Arc;

use futures::stream;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{ImportMode, ImportSettings, ImportUsersRequest, ImportUsersResponse, MutationOptions};

use super::import::Import;
use super::{Change, Session, jobs};
use crate::client::{Client, incomplete, patiently, read};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::time;

/// What the progress bar shows.
const BAR: &str = "{bar:40} {bytes}/{total_bytes} uploaded";
/// Octets in one message.
const PIECE: usize = 256 << 10;

pub(super) async fn run(command: &Import, mode: ImportMode, session: &Session) -> Result<Exit, Failure> {
    let file: Arc<[u8]> = read(&command.file)?.into();
    let settings = settings(command, mode, &file, &session.client.tenant)?;
    let bar = ProgressBar::new(file.len() as u64);
    bar.set_style(ProgressStyle::with_template(BAR).expect("a test reads this template"));
    let sent = patiently(|| send(&session.client, &settings, &file, &bar)).await;
    bar.finish_and_clear();
    let answer = sent?;
    for note in &answer.notes {
        output::note(note);
    }
    let job = answer.job.ok_or_else(|| incomplete("job"))?;
    let id = job.job_id.clone();
    // A server answers a repeated call as it answered the first: only the time tells which of the two this was.
    output::note(&format!(
        "This is job {id}, begun at {}. The same import again finds the same job; --again makes a new one.",
        time::show(job.create_time.as_ref())
    ));
    let change = Change {
        reason: String::new(),
        dry_run: false,
    };
    let exit = jobs::started(Some(job), command.detach, &change, session).await?;
    if let Some(path) = command
        .report
        .as_deref()
        .filter(|_| exit != Exit::Interrupted && !command.detach)
    {
        jobs::report(&id, path, session).await?;
    }
    Ok(exit)
}

fn settings(command: &Import, mode: ImportMode, file: &[u8], tenant: &str) -> Result<ImportSettings, Failure> {
    let mut settings = ImportSettings {
        tenant_id: tenant.to_owned(),
        mode: mode.into(),
        dry_run: command.dry_run,
        mapping: command.map.iter().cloned().collect(),
        encoding: command.encoding.clone().unwrap_or_default(),
        overwrite_edited: command.overwrite_edited,
        max_deactivated_percent: command.max_deactivated_percent.unwrap_or_default(),
        messages: command.message.messages()?,
        options: None,
    };
    let request_id = if command.again || command.dry_run {
        String::new()
    } else {
        request_id(&settings, &command.reason, file)
    };
    settings.options = Some(MutationOptions {
        request_id,
        validate_only: false,
        reason: command.reason.clone(),
    });
    Ok(settings)
}

/// The same for the same file with the same settings, and for no other.
fn request_id(settings: &ImportSettings, reason: &str, file: &[u8]) -> String {
    let mut mapping: Vec<(&String, &String)> = settings.mapping.iter().collect();
    mapping.sort();
    let texts = settings
        .messages
        .iter()
        .map(|message| (&message.subject, &message.text));
    let facts = format!(
        "{:?}",
        (
            &settings.tenant_id,
            settings.mode,
            mapping,
            &settings.encoding,
            settings.overwrite_edited,
            settings.max_deactivated_percent,
            texts.collect::<Vec<_>>(),
            reason,
        )
    );
    let hash = Sha256::new()
        .chain_update(Sha256::digest(file))
        .chain_update(facts.as_bytes())
        .finalize();
    let hex = hash.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("import:{}", hex.collect::<String>())
}

/// Sends the whole file once.
async fn send(
    client: &Client,
    settings: &ImportSettings,
    file: &Arc<[u8]>,
    bar: &ProgressBar,
) -> Result<ImportUsersResponse, Failure> {
    let (file, bar) = (Arc::clone(file), bar.clone());
    bar.set_position(0);
    let pieces = (0..file.len().div_ceil(PIECE)).map(move |number| {
        let from = number * PIECE;
        let piece = &file[from..file.len().min(from + PIECE)];
        bar.inc(piece.len() as u64);
        Part::Data(piece.to_vec())
    });
    let parts = std::iter::once(Part::Settings(settings.clone())).chain(pieces);
    let requests = stream::iter(parts.map(|part| ImportUsersRequest { part: Some(part) }));
    Ok(client.transfers().import_users(requests).await?.into_inner())
}

/// Whether a file can only be read by the server.
pub(super) fn is_spreadsheet(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("xlsx"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::client::DEMO_TENANT;
    use crate::transfer_double::{Double, serve};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        import: Import,
    }

    fn settings_of(line: &str, file: &[u8]) -> ImportSettings {
        let import = Line::parse_from(line.split(' ')).import;
        settings(&import, import.mode.unwrap(), file, DEMO_TENANT).unwrap()
    }

    fn id_of(line: &str, file: &[u8]) -> String {
        settings_of(line, file).options.unwrap().request_id
    }

    #[test]
    fn the_template_of_the_progress_bar_is_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn b1_the_same_import_has_the_same_name_and_another_has_another() {
        let line = "x f.csv --mode invite --map Mail=email --map Klasse=groups";
        let id = id_of(line, b"a");
        assert!(id.len() <= 64 && id.starts_with("import:"));
        assert_eq!(
            id,
            id_of("x g.csv --mode invite --map Klasse=groups --map Mail=email", b"a")
        );
        for (line, file) in [
            (line, &b"b"[..]),
            ("x f.csv --mode create --map Mail=email --map Klasse=groups", b"a"),
            ("x f.csv --mode invite --map Mail=email", b"a"),
            (
                "x f.csv --mode invite --map Mail=email --map Klasse=groups --reason new",
                b"a",
            ),
        ] {
            assert_ne!(id, id_of(line, file), "{line}");
        }
        assert!(id_of("x f.csv --mode invite --dry-run", b"a").is_empty());
        assert!(id_of("x f.csv --mode invite --again", b"a").is_empty());
    }

    #[test]
    fn l10_what_a_column_means_can_be_told() {
        let settings = settings_of("x f.csv --mode update --map E-mail=of=us=email --overwrite-edited", b"");
        assert_eq!(
            settings.mapping["E-mail=of=us"], "email",
            "a head may have the sign in it"
        );
        assert!(settings.overwrite_edited && settings.max_deactivated_percent == 0);
    }

    #[tokio::test]
    async fn l10_a_file_goes_up_in_pieces_and_again_from_the_beginning_where_it_broke_off() {
        let (client, double) = serve(Double::default().breaking(1)).await;
        let file: Arc<[u8]> = (0..PIECE * 2 + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let settings = settings_of("x f.csv --mode create", &file);
        let bar = ProgressBar::hidden();
        let answer = patiently(|| send(&client, &settings, &file, &bar)).await.unwrap();
        assert_eq!(answer.notes, ["taken"]);
        let uploads = double.uploads();
        assert_eq!(uploads.len(), 2);
        for upload in uploads {
            assert_eq!(upload.settings, settings);
            let sizes: Vec<usize> = upload.pieces.iter().map(Vec::len).collect();
            assert_eq!(sizes, [PIECE, PIECE, 7]);
            assert_eq!(upload.pieces.concat(), *file);
        }
        assert_eq!(bar.position(), file.len() as u64);
    }
}
