//! `usher inactivity`: whom the inactivity policy is about, and what it did (B10).

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use usher_proto::identity::v1::{
    ApproveInactivityRunRequest, DismissInactivityRunRequest, InactiveUser, InactivityPolicy, InactivityRun,
    InactivityStep, ListInactivityRunsRequest, PreviewInactivityRequest,
};

use super::{Change, Limit, Session, choice};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, short};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Inactivity {
    /// List who will be warned or deactivated, and when. Also of a policy that is not set yet.
    Preview {
        /// Waiting for what.
        #[arg(long, default_value = "warn", value_parser = choice!(InactivityStep, "INACTIVITY_STEP_", ["warn", "deactivate"]))]
        step: InactivityStep,
        /// Whose turn comes until then; only those who are due now if left out.
        #[arg(long, value_name = "DATE", value_parser = time::parse)]
        until: Option<Timestamp>,
        #[command(flatten)]
        policy: Policy,
        #[command(flatten)]
        limit: Limit,
    },
    /// List the runs of deactivations, the newest first; PARKED ones wait for a decision.
    Runs {
        #[command(flatten)]
        limit: Limit,
    },
    /// Let a parked run go on.
    Approve {
        /// Its id.
        run_id: String,
        #[command(flatten)]
        change: Change,
    },
    /// Decide against a parked run: nobody is deactivated for now.
    Dismiss {
        /// Its id.
        run_id: String,
        #[command(flatten)]
        change: Change,
    },
}

/// An inactivity policy.
#[derive(Debug, Clone, Args)]
pub(crate) struct Policy {
    /// Warn people after so many days without a sign-in; 0: no inactivity policy.
    #[arg(long, value_name = "DAYS")]
    warn_after_days: Option<i32>,
    /// Deactivate them after so many days without a sign-in.
    #[arg(long, value_name = "DAYS", requires = "warn_after_days")]
    deactivate_after_days: Option<i32>,
    /// Do not spare administrators.
    #[arg(long, requires = "warn_after_days")]
    include_administrators: bool,
    /// The share of the active users that a day may deactivate without approval; 10 if left out.
    #[arg(long, value_name = "PERCENT", requires = "warn_after_days")]
    max_share_percent: Option<i32>,
}

impl Policy {
    /// As the API has it; `None` if none was given.
    pub(super) fn get(&self) -> Option<InactivityPolicy> {
        Some(InactivityPolicy {
            warn_after_days: self.warn_after_days?,
            deactivate_after_days: self.deactivate_after_days.unwrap_or_default(),
            include_administrators: self.include_administrators,
            max_share_percent: self.max_share_percent.unwrap_or_default(),
        })
    }
}

pub(super) async fn run(command: &Inactivity, session: &Session) -> Result<Exit, Failure> {
    match command {
        Inactivity::Preview {
            step,
            until,
            policy,
            limit,
        } => preview(*step, *until, policy, limit, session).await?,
        Inactivity::Runs { limit } => runs(limit, session).await?,
        Inactivity::Approve { run_id, change } => {
            let request = ApproveInactivityRunRequest {
                tenant_id: session.client.tenant.clone(),
                run_id: run_id.clone(),
                options: Some(change.options()),
            };
            let answer = session.client.inactivity().approve_inactivity_run(request).await?;
            show(session, answer.into_inner().run)?;
        }
        Inactivity::Dismiss { run_id, change } => {
            let request = DismissInactivityRunRequest {
                tenant_id: session.client.tenant.clone(),
                run_id: run_id.clone(),
                options: Some(change.options()),
            };
            let answer = session.client.inactivity().dismiss_inactivity_run(request).await?;
            show(session, answer.into_inner().run)?;
        }
    }
    Ok(Exit::Done)
}

async fn preview(
    step: InactivityStep,
    until: Option<Timestamp>,
    policy: &Policy,
    limit: &Limit,
    session: &Session,
) -> Result<(), Failure> {
    let page = |page_size, page_token: String| {
        let request = PreviewInactivityRequest {
            tenant_id: session.client.tenant.clone(),
            step: step.into(),
            policy: policy.get(),
            until,
            page_size,
            page_token: page_token.clone(),
        };
        async move {
            let answer = session
                .client
                .inactivity()
                .preview_inactivity(request)
                .await?
                .into_inner();
            if page_token.is_empty() {
                output::note(&format!(
                    "{} of {} active users.",
                    answer.total_count, answer.active_count
                ));
            }
            Ok((answer.users, answer.next_page_token))
        }
    };
    session.out.list(&limit.gather(page).await?)
}

async fn runs(limit: &Limit, session: &Session) -> Result<(), Failure> {
    let page = |page_size, page_token| {
        let request = ListInactivityRunsRequest {
            tenant_id: session.client.tenant.clone(),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.inactivity().list_inactivity_runs(request).await?;
            let answer = answer.into_inner();
            Ok((answer.runs, answer.next_page_token))
        }
    };
    session.out.list(&limit.gather(page).await?)
}

fn show(session: &Session, run: Option<InactivityRun>) -> Result<(), Failure> {
    let run = run.ok_or_else(|| incomplete("run"))?;
    let cells = run.cells();
    let pairs: Vec<(&str, String)> = InactivityRun::COLUMNS.iter().copied().zip(cells).collect();
    session.out.one(&run, &pairs)
}

impl Show for InactiveUser {
    const NAME: &'static str = "usher.identity.v1.InactiveUser";
    const COLUMNS: &'static [&'static str] = &[
        "USER ID",
        "EMAIL",
        "LAST SIGN-IN",
        "WARNED",
        "DEACTIVATED",
        "WAITS FOR RUN",
    ];

    fn cells(&self) -> Vec<String> {
        let user = self.user.clone().unwrap_or_default();
        vec![
            user.user_id,
            user.email,
            time::show(user.last_login_time.as_ref()),
            time::show(self.warn_time.as_ref()),
            time::show(self.deactivate_time.as_ref()),
            self.parked_run_id.clone(),
        ]
    }
}

impl Show for InactivityRun {
    const NAME: &'static str = "usher.identity.v1.InactivityRun";
    const COLUMNS: &'static [&'static str] = &[
        "RUN ID",
        "STATE",
        "CREATED",
        "DUE",
        "ACTIVE",
        "DEACTIVATED",
        "DECIDED BY",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.run_id.clone(),
            short(self.state().as_str_name(), "INACTIVITY_RUN_STATE_").to_owned(),
            time::show(self.create_time.as_ref()),
            self.due_count.to_string(),
            self.active_count.to_string(),
            self.deactivated_count.to_string(),
            self.decided_by.clone(),
        ]
    }
}
