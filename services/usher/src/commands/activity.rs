//! `usher activity`: what people did on the platform, reported by hand or from a file (S8, U4).

use std::path::{Path, PathBuf};

use clap::Subcommand;
use prost_types::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc;
use usher_proto::identity::v1::activity_report::User;
use usher_proto::identity::v1::activity_result::Outcome;
use usher_proto::identity::v1::{
    ActivityKind, ActivityReport, RecordActivityRequest, RecordActivityResponse, StreamActivityRequest,
    StreamActivityResponse,
};

use super::{Session, choice};
use crate::failure::{Exit, Failure};
use crate::output::{self, Show};
use crate::time;

/// Reports in one message.
const BATCH: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Activity {
    /// Report what users did. Repeating a report changes nothing.
    Record {
        /// Users: ids, addresses or external ids.
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
        /// What they did.
        #[arg(long, value_parser = choice!(ActivityKind, "ACTIVITY_KIND_", ["sign-in", "course-opened"]))]
        kind: ActivityKind,
        /// When.
        #[arg(long, value_name = "DATE", value_parser = time::parse)]
        at: Timestamp,
    },
    /// Report what a CSV file says: its columns are user, kind (sign-in or course-opened) and time.
    Import {
        /// The file, in UTF-8.
        file: PathBuf,
    },
}

pub(super) async fn run(command: &Activity, session: &Session) -> Result<Exit, Failure> {
    match command {
        Activity::Record { users, kind, at } => record(users, *kind, *at, session).await,
        Activity::Import { file } => import(file, session).await,
    }
}

async fn record(users: &[String], kind: ActivityKind, at: Timestamp, session: &Session) -> Result<Exit, Failure> {
    let mut sum = RecordActivityResponse::default();
    for users in users.chunks(BATCH) {
        let request = RecordActivityRequest {
            tenant_id: session.client.tenant.clone(),
            reports: users.iter().map(|user| report(user, kind, at)).collect(),
        };
        let answer = session.client.activity().record_activity(request).await?.into_inner();
        for (user, result) in users.iter().zip(&answer.results) {
            if let Some(Outcome::Refused(refusal)) = &result.outcome {
                output::note(&format!("{user}: {}", refusal.message));
            }
        }
        sum.recorded_count += answer.recorded_count;
        sum.known_count += answer.known_count;
        sum.refused_count += answer.refused_count;
        sum.results.extend(answer.results);
    }
    let counts = [sum.recorded_count, sum.known_count, sum.refused_count].map(i64::from);
    session.out.one(&sum, &pairs(counts))?;
    Ok(exit(sum.refused_count > 0))
}

async fn import(path: &Path, session: &Session) -> Result<Exit, Failure> {
    let fault = |error: csv::Error| Failure::Data(format!("{}: {error}", path.display()));
    let mut file = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(fault)?;
    // Two batches wait at most: the file is read as fast as the server takes it.
    let (sender, receiver) = mpsc::channel(2);
    let stream = stream(receiver);
    let tenant = session.client.tenant.clone();
    let reading = async move {
        let mut reports = Vec::new();
        for row in file.deserialize() {
            let row: Row = row.map_err(fault)?;
            reports.push(
                row.report()
                    .map_err(|why| Failure::Data(format!("{}: {why}", path.display())))?,
            );
            if reports.len() == BATCH {
                let full = message(&tenant, std::mem::take(&mut reports));
                if sender.send(full).await.is_err() {
                    // The server ended the stream: its answer says why.
                    return Ok(());
                }
            }
        }
        if !reports.is_empty() {
            let _ = sender.send(message(&tenant, reports)).await;
        }
        Ok::<(), Failure>(())
    };
    let mut client = session.client.activity_streams();
    let sending = async { Ok(client.stream_activity(stream).await?.into_inner()) };
    let ((), sum) = tokio::try_join!(reading, sending)?;
    for refused in &sum.refused {
        let why = refused.refusal.as_ref().map_or("", |refusal| refusal.message.as_str());
        output::note(&format!("Row {}: {why}", refused.index + 2));
    }
    let counts = [sum.recorded_count, sum.known_count, sum.refused_count];
    session.out.one(&sum, &pairs(counts))?;
    Ok(exit(sum.refused_count > 0))
}

fn stream(
    receiver: mpsc::Receiver<StreamActivityRequest>,
) -> impl futures::Stream<Item = StreamActivityRequest> + Send {
    futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|message| (message, receiver))
    })
}

fn message(tenant: &str, reports: Vec<ActivityReport>) -> StreamActivityRequest {
    StreamActivityRequest {
        tenant_id: tenant.to_owned(),
        reports,
    }
}

/// A row of a file.
#[derive(Debug, Deserialize)]
struct Row {
    user: String,
    kind: String,
    time: String,
}

impl Row {
    fn report(&self) -> Result<ActivityReport, String> {
        let kind = match self.kind.to_lowercase().replace('_', "-").as_str() {
            "sign-in" => ActivityKind::SignIn,
            "course-opened" => ActivityKind::CourseOpened,
            other => return Err(format!("{other:?} is no kind; write sign-in or course-opened")),
        };
        let at = time::parse(&self.time).map_err(|why| format!("{:?} {why}", self.time))?;
        Ok(report(&self.user, kind, at))
    }
}

fn report(user: &str, kind: ActivityKind, at: Timestamp) -> ActivityReport {
    let user = match user {
        id if uuid::Uuid::parse_str(id).is_ok() => User::UserId(id.to_owned()),
        email if email.contains('@') => User::Email(email.to_owned()),
        external_id => User::ExternalId(external_id.to_owned()),
    };
    ActivityReport {
        user: Some(user),
        kind: kind.into(),
        time: Some(at),
    }
}

fn pairs([recorded, known, refused]: [i64; 3]) -> Vec<(&'static str, String)> {
    vec![
        ("New", recorded.to_string()),
        ("Known before", known.to_string()),
        ("Refused", refused.to_string()),
    ]
}

fn exit(refused: bool) -> Exit {
    if refused { Exit::Partly } else { Exit::Done }
}

impl Show for RecordActivityResponse {
    const NAME: &'static str = "usher.identity.v1.RecordActivityResponse";
    const COLUMNS: &'static [&'static str] = &["NEW", "KNOWN BEFORE", "REFUSED"];

    fn cells(&self) -> Vec<String> {
        let counts = [self.recorded_count, self.known_count, self.refused_count];
        counts.iter().map(ToString::to_string).collect()
    }
}

impl Show for StreamActivityResponse {
    const NAME: &'static str = "usher.identity.v1.StreamActivityResponse";
    const COLUMNS: &'static [&'static str] = &["NEW", "KNOWN BEFORE", "REFUSED"];

    fn cells(&self) -> Vec<String> {
        let counts = [self.recorded_count, self.known_count, self.refused_count];
        counts.iter().map(ToString::to_string).collect()
    }
}
