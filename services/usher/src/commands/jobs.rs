//! `usher jobs`: work over many users, which runs in the service and outlives whoever started it (B7).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use usher_proto::identity::v1::{
    CancelJobRequest, DownloadJobReportRequest, GetJobRequest, Job, JobOutcome, JobState, ListJobItemsRequest,
    ListJobsRequest, RetryFailedRequest, UndoJobRequest,
};

use super::watch::{exit, headline, tell, to_the_end};
use super::{Change, Limit, Session, choice};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::file::complete;
use crate::output::{Show, short};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List jobs, the newest first.
    List {
        /// Only this state; repeat it for several.
        #[arg(long, value_parser = choice!(JobState, "JOB_STATE_", ["running", "done", "cancelled"]))]
        state: Vec<JobState>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one job.
    Show {
        /// The job's id.
        job: String,
    },
    /// Stay with a job until it has ended. Exits with 1 if some items failed or were skipped.
    Watch {
        /// The job's id.
        job: String,
    },
    /// Stop a job after the items under way; what was done stays.
    Cancel {
        /// The job's id.
        job: String,
        #[command(flatten)]
        change: Change,
    },
    /// Start a job over the items that failed or were skipped in one that has ended.
    Retry(Again),
    /// Start a job that takes back what one did, for each user who was not changed since.
    Undo(Again),
    /// List what became of each item.
    Items {
        /// The job's id.
        job: String,
        /// Only those that ended so; repeat it for several.
        #[arg(long, value_parser = choice!(JobOutcome, "JOB_OUTCOME_", ["changed", "unchanged", "skipped", "failed"]))]
        outcome: Vec<JobOutcome>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Write what became of each item to a CSV file; with --json, one item a line.
    Report {
        /// The job's id.
        job: String,
        /// The file; `-` is standard output.
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
    },
}

/// A job that is made from another.
#[derive(Debug, Args)]
pub(crate) struct Again {
    /// The job's id.
    job: String,
    /// Do not stay with the new job: print its id.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(command: &Jobs, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let tenant_id = client.tenant.clone();
    match command {
        Jobs::List { state, limit } => {
            let page = |page_size, page_token| {
                let request = ListJobsRequest {
                    tenant_id: tenant_id.clone(),
                    states: state.iter().map(|state| *state as i32).collect(),
                    page_size,
                    page_token,
                };
                async move {
                    let answer = client.bulk().list_jobs(request).await?.into_inner();
                    Ok((answer.jobs, answer.next_page_token))
                }
            };
            limit.show(session.out, page).await?;
            Ok(Exit::Done)
        }
        Jobs::Show { job } => show(session, &get(job, session).await?),
        Jobs::Watch { job } => to_the_end(get(job, session).await?, session).await,
        Jobs::Cancel { job, change } => {
            let request = CancelJobRequest {
                tenant_id,
                job_id: job.clone(),
                options: Some(change.options()),
            };
            let job = client.bulk().cancel_job(request).await?.into_inner().job;
            show(session, &job.ok_or_else(|| incomplete("job"))?)
        }
        Jobs::Retry(again) => {
            let request = RetryFailedRequest {
                tenant_id,
                job_id: again.job.clone(),
                options: Some(again.change.options()),
            };
            let job = client.bulk().retry_failed(request).await?.into_inner().job;
            started(job, again.detach, &again.change, session).await
        }
        Jobs::Undo(again) => {
            let request = UndoJobRequest {
                tenant_id,
                job_id: again.job.clone(),
                options: Some(again.change.options()),
            };
            let job = client.bulk().undo_job(request).await?.into_inner().job;
            started(job, again.detach, &again.change, session).await
        }
        Jobs::Items { job, outcome, limit } => {
            items(job, outcome, limit, session).await?;
            Ok(Exit::Done)
        }
        Jobs::Report { job, out } if session.out.json && out == Path::new("-") => {
            items(job, &[], &Limit { limit: 0 }, session).await?;
            Ok(Exit::Done)
        }
        Jobs::Report { job, out } => {
            report(job, out, session).await?;
            Ok(Exit::Done)
        }
    }
}

/// Stays with a job that was just started, or only says which it is.
pub(super) async fn started(
    job: Option<Job>,
    detach: bool,
    change: &Change,
    session: &Session,
) -> Result<Exit, Failure> {
    let job = job.ok_or_else(|| incomplete("job"))?;
    if change.dry_run {
        show(session, &job)
    } else if !detach {
        to_the_end(job, session).await
    } else if session.out.json {
        tell(&job, session).await?;
        Ok(Exit::Done)
    } else {
        crate::output::lines([&job.job_id])?;
        Ok(Exit::Done)
    }
}

async fn get(job: &str, session: &Session) -> Result<Job, Failure> {
    let request = GetJobRequest {
        tenant_id: session.client.tenant.clone(),
        job_id: job.to_owned(),
    };
    let job = session.client.bulk().get_job(request).await?.into_inner().job;
    job.ok_or_else(|| incomplete("job"))
}

/// Lists what became of a job's items: those that ended so, or all.
pub(super) async fn items(job: &str, outcomes: &[JobOutcome], limit: &Limit, session: &Session) -> Result<(), Failure> {
    let page = |page_size, page_token| {
        let request = ListJobItemsRequest {
            tenant_id: session.client.tenant.clone(),
            job_id: job.to_owned(),
            outcomes: outcomes.iter().map(|outcome| *outcome as i32).collect(),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.bulk().list_job_items(request).await?.into_inner();
            Ok((answer.items, answer.next_page_token))
        }
    };
    limit.show(session.out, page).await
}

/// Writes a job's report: to standard output as it comes, to a file that has its name when all of it is there.
pub(super) async fn report(job: &str, out: &Path, session: &Session) -> Result<(), Failure> {
    if out == Path::new("-") {
        return download(job, session, &mut std::io::stdout().lock()).await;
    }
    complete(out, |mut file| async move {
        download(job, session, &mut file).await?;
        Ok((file, ()))
    })
    .await
}

async fn download(job: &str, session: &Session, to: &mut impl Write) -> Result<(), Failure> {
    let request = DownloadJobReportRequest {
        tenant_id: session.client.tenant.clone(),
        job_id: job.to_owned(),
    };
    let mut stream = session
        .client
        .bulk_streams()
        .download_job_report(request)
        .await?
        .into_inner();
    while let Some(piece) = stream.message().await? {
        to.write_all(&piece.data).map_err(Failure::output)?;
    }
    to.flush().map_err(Failure::output)
}

fn show(session: &Session, job: &Job) -> Result<Exit, Failure> {
    session.out.one(job, &pairs(job))?;
    Ok(Exit::Done)
}

fn pairs(job: &Job) -> Vec<(&'static str, String)> {
    let undone = if job.can_be_undone {
        format!("with `usher jobs undo {}`", job.job_id)
    } else {
        String::new()
    };
    let retried = if exit(job) == Exit::Partly && job.failed_count + job.skipped_count > 0 && job.end_time.is_some() {
        format!("with `usher jobs retry {}`", job.job_id)
    } else {
        String::new()
    };
    vec![
        ("Job", job.job_id.clone()),
        ("Action", job.action.clone()),
        ("State", state(job).to_owned()),
        ("Outcome", headline(job)),
        ("Begun", time::show(job.create_time.as_ref())),
        ("Ended", time::show(job.end_time.as_ref())),
        ("By", job.actor_id.clone()),
        ("Why", job.reason.clone()),
        ("Made from", job.origin_job_id.clone()),
        ("Can be undone", undone),
        ("Can be retried", retried),
    ]
}

fn state(job: &Job) -> &'static str {
    short(job.state().as_str_name(), "JOB_STATE_")
}

impl Show for Job {
    const NAME: &'static str = "usher.identity.v1.Job";
    const COLUMNS: &'static [&'static str] = &["JOB ID", "ACTION", "STATE", "BEGUN", "BY", "OUTCOME"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.job_id.clone(),
            self.action.clone(),
            state(self).to_owned(),
            time::show(self.create_time.as_ref()),
            self.actor_id.clone(),
            headline(self),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_a_job_says_how_it_is_taken_back_and_how_what_failed_is_tried_again() {
        let job = Job {
            job_id: "j-1".into(),
            state: JobState::Done.into(),
            failed_count: 1,
            can_be_undone: true,
            end_time: Some(prost_types::Timestamp::default()),
            ..Job::default()
        };
        let shown = |job: &Job, name: &str| pairs(job).into_iter().find(|(found, _)| *found == name).unwrap().1;
        assert_eq!(shown(&job, "Can be undone"), "with `usher jobs undo j-1`");
        assert_eq!(shown(&job, "Can be retried"), "with `usher jobs retry j-1`");
        let whole = Job {
            failed_count: 0,
            can_be_undone: false,
            ..job
        };
        assert_eq!(shown(&whole, "Can be undone") + &shown(&whole, "Can be retried"), "");
    }
}
