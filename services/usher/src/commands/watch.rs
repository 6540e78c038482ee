//! Stays with a job until it has ended: a progress bar, connections taken up again, and Ctrl-C, which leaves the job
//! running (B7).

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;
use usher_proto::identity::v1::{Job, JobItem, JobOutcome, JobState, ListJobItemsRequest, WatchJobRequest};

use super::jobs::items;
use super::{Limit, Session};
use crate::client::{Client, incomplete, patiently};
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, short};

/// What the progress bar shows.
const BAR: &str = "{bar:40} {pos}/{len}, {per_sec}, {eta} left";
/// How long to wait before a stream that broke off is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// Items shown of those that did not go through.
const SHOWN: i32 = 20;

/// Watches a job behind a progress bar, which shows on a terminal only, and tells what came of it.
pub(super) async fn to_the_end(job: Job, session: &Session) -> Result<Exit, Failure> {
    let id = job.job_id.clone();
    let bar = ProgressBar::new(count(job.total_count));
    bar.set_style(ProgressStyle::with_template(BAR).expect("a test reads this template"));
    let ended = tokio::select! {
        ended = follow(job, &session.client, &bar) => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    bar.finish_and_clear();
    let leads_on = format!("`usher jobs watch {id}` shows the job, `usher jobs cancel {id}` stops it");
    match ended {
        Some(Ok(job)) => {
            tell(&job, session).await?;
            Ok(exit(&job))
        }
        Some(Err(failure)) => {
            if failure.is_passing() {
                output::note(&format!("The job goes on without a spectator: {leads_on}."));
            }
            Err(failure)
        }
        None => {
            output::note(&format!("The job goes on: {leads_on}."));
            Ok(Exit::Interrupted)
        }
    }
}

/// Follows a job until it has ended, over as many streams as that takes.
pub(crate) async fn follow(mut job: Job, client: &Client, bar: &ProgressBar) -> Result<Job, Failure> {
    while !has_ended(&job) {
        let request = WatchJobRequest {
            tenant_id: job.tenant_id.clone(),
            job_id: job.job_id.clone(),
        };
        let open = || async { Ok(client.bulk_streams().watch_job(request.clone()).await?) };
        let mut stream = patiently(open).await?.into_inner();
        loop {
            match stream.message().await.map_err(Failure::from) {
                Ok(Some(answer)) => {
                    job = answer.job.ok_or_else(|| incomplete("job"))?;
                    bar.set_length(count(job.total_count));
                    bar.set_position(count(job.done_count));
                }
                Ok(None) => break,
                Err(failure) if failure.is_passing() => break,
                Err(failure) => return Err(failure),
            }
        }
        if !has_ended(&job) {
            sleep(PAUSE).await;
        }
    }
    Ok(job)
}

/// Tells what came of a job: for people its counts, and why some items did not go through; for programs the job, and before
/// it, where it was an import, what became of each row.
pub(crate) async fn tell(job: &Job, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        if is_import(job) && has_ended(job) {
            items(&job.job_id, &[], &Limit { limit: 0 }, session).await?;
        }
        return session.out.list(std::slice::from_ref(job));
    }
    let refused = job.failed_count + job.skipped_count;
    if refused > 0 {
        let request = ListJobItemsRequest {
            tenant_id: job.tenant_id.clone(),
            job_id: job.job_id.clone(),
            outcomes: vec![JobOutcome::Failed.into(), JobOutcome::Skipped.into()],
            page_size: SHOWN,
            page_token: String::new(),
        };
        let items = session.client.bulk().list_job_items(request).await?.into_inner().items;
        output::table(columns(job), items.iter().map(|item| cells(job, item)))?;
        if count(refused) > items.len() as u64 {
            output::note(&format!("All of them: `usher jobs report {}`.", job.job_id));
        }
    }
    output::lines([headline(job)])
}

/// In an import, items are rows and have columns; elsewhere they are users.
fn columns(job: &Job) -> &'static [&'static str] {
    if is_import(job) {
        &["ROW", "ADDRESS", "COLUMN", "REASON"]
    } else {
        &["ADDRESS", "OUTCOME", "REASON"]
    }
}

fn cells(job: &Job, item: &JobItem) -> Vec<String> {
    if is_import(job) {
        vec![
            item.position.to_string(),
            item.address.clone(),
            item.column.clone(),
            item.message.clone(),
        ]
    } else {
        vec![whom(item), outcome(item).to_owned(), item.message.clone()]
    }
}

/// Whom an item is about, as far as it can be told.
fn whom(item: &JobItem) -> String {
    let names = [&item.address, &item.user_id];
    names
        .into_iter()
        .find(|name| !name.is_empty())
        .cloned()
        .unwrap_or_default()
}

fn is_import(job: &Job) -> bool {
    job.action == "import"
}

/// An outcome as people read it.
pub(super) fn outcome(item: &JobItem) -> &'static str {
    short(item.outcome().as_str_name(), "JOB_OUTCOME_")
}

/// One line: what came of a job so far.
pub(super) fn headline(job: &Job) -> String {
    let things = match (is_import(job), job.total_count) {
        (true, 1) => "row",
        (true, _) => "rows",
        (false, 1) => "user",
        (false, _) => "users",
    };
    let state = match job.state() {
        JobState::Running => " so far",
        JobState::Cancelled => ", then cancelled",
        JobState::Done | JobState::Unspecified => "",
    };
    let counts = counts(job);
    let counts = if counts.is_empty() { "nothing done" } else { &counts };
    let tried = if job.dry_run { "tried only: " } else { "" };
    format!("{} {things}: {tried}{counts}{state}", job.total_count)
}

/// `3 changed, 1 skipped`, or what an import makes of rows; what there is none of is left out.
pub(super) fn counts(job: &Job) -> String {
    let (changed, unchanged) = match job.import_mode.as_str() {
        "create" => ("created", "already there"),
        "invite" => ("invited", "already there"),
        "update" => ("updated", "unchanged"),
        "activate" => ("activated", "unchanged"),
        "deactivate" => ("deactivated", "unchanged"),
        _ => ("changed", "unchanged"),
    };
    let counts = [
        (job.changed_count, changed),
        (job.unchanged_count, unchanged),
        (job.skipped_count, "skipped"),
        (job.failed_count, "failed"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    counts.join(", ")
}

/// Whether all of it went through.
pub(super) fn exit(job: &Job) -> Exit {
    let cut_off = job.state() == JobState::Cancelled && job.done_count < job.total_count;
    if job.failed_count > 0 || job.skipped_count > 0 || cut_off {
        Exit::Partly
    } else {
        Exit::Done
    }
}

/// Whether nothing more comes of it.
pub(super) fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Done | JobState::Cancelled)
}

/// For a progress bar.
pub(super) fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

impl Show for JobItem {
    const NAME: &'static str = "usher.identity.v1.JobItem";
    const COLUMNS: &'static [&'static str] = &["NO", "ADDRESS", "OUTCOME", "COLUMN", "MORE"];

    fn cells(&self) -> Vec<String> {
        let more = if self.message.is_empty() {
            &self.detail
        } else {
            &self.message
        };
        vec![
            self.position.to_string(),
            whom(self),
            outcome(self).to_owned(),
            self.column.clone(),
            more.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: JobState, action: &str) -> Job {
        Job {
            action: action.into(),
            state: state.into(),
            total_count: 5,
            done_count: 4,
            changed_count: 3,
            skipped_count: 1,
            ..Job::default()
        }
    }

    #[test]
    fn the_template_of_the_progress_bar_is_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn b7_the_headline_tells_the_counts_and_how_it_ended() {
        let shown = |state, action| headline(&job(state, action));
        assert_eq!(
            shown(JobState::Running, "deactivate"),
            "5 users: 3 changed, 1 skipped so far"
        );
        assert_eq!(
            shown(JobState::Cancelled, "import"),
            "5 rows: 3 changed, 1 skipped, then cancelled"
        );
        let tried = Job {
            dry_run: true,
            ..job(JobState::Done, "import")
        };
        assert_eq!(headline(&tried), "5 rows: tried only: 3 changed, 1 skipped");
        let invited = Job {
            unchanged_count: 1,
            skipped_count: 0,
            import_mode: "invite".into(),
            ..job(JobState::Done, "import")
        };
        assert_eq!(headline(&invited), "5 rows: 3 invited, 1 already there");
        assert_eq!(headline(&Job::default()), "0 users: nothing done");
        let one = Job {
            total_count: 1,
            changed_count: 1,
            ..Job::default()
        };
        assert_eq!(headline(&one), "1 user: 1 changed");
    }

    #[test]
    fn items_that_were_skipped_make_a_part_of_it_as_does_a_job_that_was_cut_off() {
        let whole = Job {
            skipped_count: 0,
            done_count: 5,
            ..job(JobState::Done, "invite")
        };
        assert_eq!(exit(&whole), Exit::Done);
        assert_eq!(exit(&job(JobState::Done, "invite")), Exit::Partly);
        let cut_off = Job {
            state: JobState::Cancelled.into(),
            done_count: 3,
            ..whole
        };
        assert_eq!(exit(&cut_off), Exit::Partly);
    }

    #[test]
    fn l10_an_item_of_an_import_is_a_row_with_a_column_and_a_reason() {
        let item = JobItem {
            position: 7,
            outcome: JobOutcome::Failed.into(),
            column: "Courriel".into(),
            message: "has no @".into(),
            address: "ana".into(),
            ..JobItem::default()
        };
        let import = job(JobState::Done, "import");
        assert_eq!(cells(&import, &item), ["7", "ana", "Courriel", "has no @"]);
        assert_eq!(columns(&import).len(), cells(&import, &item).len());
        let other = job(JobState::Done, "invite");
        assert_eq!(columns(&other).len(), cells(&other, &item).len());
    }
}
