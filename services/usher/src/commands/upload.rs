//! Files on their way to the service, where a job deals with their rows (L10). What an import is called by follows from the
//! file and what is to be done with it, so that the same import, run again after an interruption, finds the job of the first
//! while that works, and sends nothing twice (B1).

use std::sync::Arc;

use futures::stream;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{
    ImportSettings, ImportUsersRequest, ImportUsersResponse, Job, JobState, ListJobsRequest, MutationOptions,
};
use uuid::Uuid;

use crate::client::{Client, patiently};
use crate::failure::{Exit, Failure};

/// What the progress bar shows.
const BAR: &str = "{bar:40} {bytes}/{total_bytes} uploaded";
/// Octets in one message.
const PIECE: usize = 256 << 10;

/// A file, and what is to be done with it.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    settings: ImportSettings,
    file: Arc<[u8]>,
    name: String,
}

impl Upload {
    /// Of these settings; their options are made here.
    pub(crate) fn new(mut settings: ImportSettings, reason: &str, file: Vec<u8>) -> Self {
        let name = name(&settings, reason, &file);
        // What is sent again because the connection broke off is the same import; the next import is another.
        let once = Uuid::new_v4().simple().to_string();
        settings.options = Some(MutationOptions {
            request_id: format!("{name}:{}", &once[..16]),
            validate_only: false,
            reason: reason.to_owned(),
        });
        let file = file.into();
        Self { settings, file, name }
    }

    /// The job that is at work on the same import already.
    pub(crate) async fn under_way(&self, client: &Client) -> Result<Option<Job>, Failure> {
        let request = ListJobsRequest {
            tenant_id: client.tenant.clone(),
            states: vec![JobState::Running.into()],
            page_size: 1_000,
            page_token: String::new(),
        };
        let list = || async { Ok(client.bulk().list_jobs(request.clone()).await?) };
        match patiently(list).await {
            Ok(answer) => Ok(answer.into_inner().jobs.into_iter().find(|job| self.is_made_by(job))),
            // Who may import need not be one who may look at jobs.
            Err(failure) if failure.exit() == Exit::Denied => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn is_made_by(&self, job: &Job) -> bool {
        let made = job.request_id.rsplit_once(':');
        made.is_some_and(|(name, _)| name == self.name) && job.action == "import"
    }

    /// Sends the file behind a progress bar, from the beginning as often as it takes.
    pub(crate) async fn send(&self, client: &Client, bar: &ProgressBar) -> Result<ImportUsersResponse, Failure> {
        bar.set_style(ProgressStyle::with_template(BAR).expect("a test reads this template"));
        bar.set_length(self.file.len() as u64);
        let sent = patiently(|| self.attempt(client, bar)).await;
        bar.finish_and_clear();
        sent
    }

    async fn attempt(&self, client: &Client, bar: &ProgressBar) -> Result<ImportUsersResponse, Failure> {
        let (file, bar) = (Arc::clone(&self.file), bar.clone());
        bar.set_position(0);
        let pieces = (0..file.len().div_ceil(PIECE)).map(move |number| {
            let from = number * PIECE;
            let piece = &file[from..file.len().min(from + PIECE)];
            bar.inc(piece.len() as u64);
            Part::Data(piece.to_vec())
        });
        let parts = std::iter::once(Part::Settings(self.settings.clone())).chain(pieces);
        let requests = stream::iter(parts.map(|part| ImportUsersRequest { part: Some(part) }));
        Ok(client.transfers().import_users(requests).await?.into_inner())
    }
}

/// The same for the same file with the same settings, and for no other.
fn name(settings: &ImportSettings, reason: &str, file: &[u8]) -> String {
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
            settings.dry_run,
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

#[cfg(test)]
mod tests {
    use usher_proto::identity::v1::ImportMode;

    use super::*;
    use crate::client::DEMO_TENANT;
    use crate::transfer_double::{Double, serve};

    fn settings(mode: ImportMode, mapping: &[(&str, &str)]) -> ImportSettings {
        let mapping = mapping.iter().map(|(head, field)| ((*head).into(), (*field).into()));
        ImportSettings {
            tenant_id: DEMO_TENANT.into(),
            mode: mode.into(),
            mapping: mapping.collect(),
            ..ImportSettings::default()
        }
    }

    #[test]
    fn the_template_of_the_progress_bar_is_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn b1_the_same_import_finds_its_job_and_another_does_not() {
        let import = |mode, mapping: &[(&str, &str)], reason, file: &[u8]| {
            Upload::new(settings(mode, mapping), reason, file.to_vec())
        };
        let two = [("Mail", "email"), ("Klasse", "groups")];
        let first = import(ImportMode::Invite, &two, "", b"a");
        let job = Job {
            action: "import".into(),
            request_id: first.settings.options.clone().unwrap().request_id,
            ..Job::default()
        };
        assert!(job.request_id.len() <= 64);
        let swapped = [two[1], two[0]];
        assert!(import(ImportMode::Invite, &swapped, "", b"a").is_made_by(&job));
        for other in [
            import(ImportMode::Invite, &two, "", b"b"),
            import(ImportMode::Create, &two, "", b"a"),
            import(ImportMode::Invite, &two[..1], "", b"a"),
            import(ImportMode::Invite, &two, "new", b"a"),
        ] {
            assert!(!other.is_made_by(&job), "{other:?}");
        }
        assert!(!first.is_made_by(&Job::default()));
    }

    #[tokio::test]
    async fn l10_a_file_goes_up_in_pieces_and_again_from_the_beginning_where_it_broke_off() {
        let (client, double) = serve(Double::default().breaking(1)).await;
        let file: Vec<u8> = (0..PIECE * 2 + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let upload = Upload::new(settings(ImportMode::Create, &[]), "", file.clone());
        let bar = ProgressBar::hidden();
        let answer = upload.send(&client, &bar).await.unwrap();
        assert_eq!(answer.notes, ["taken"]);
        let uploads = double.uploads();
        assert_eq!(uploads.len(), 2);
        for sent in uploads {
            assert_eq!(sent.settings, upload.settings, "the same import");
            let sizes: Vec<usize> = sent.pieces.iter().map(Vec::len).collect();
            assert_eq!(sizes, [PIECE, PIECE, 7]);
            assert_eq!(sent.pieces.concat(), file);
        }
        assert_eq!(bar.position(), file.len() as u64);
    }
}
