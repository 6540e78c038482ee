//! `usher explain`

use clap::Args;
use usher_proto::identity::v1::{ExplainUserRequest, ExplainUserResponse};

use super::Session;
use super::users::{pairs, status};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, json};
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Id, address or external id.
    user: String,
}

pub(super) async fn run(command: &Explain, session: &Session) -> Result<Exit, Failure> {
    let request = ExplainUserRequest {
        tenant_id: session.client.tenant.clone(),
        user_id: session.client.user_id(&command.user).await?,
    };
    let answer = session.client.users().explain_user(request).await?.into_inner();
    let out = session.out;
    if out.json {
        output::lines([json(&answer)])?;
        return Ok(Exit::Done);
    }
    let user = answer.user.as_ref().ok_or_else(|| incomplete("user"))?;
    output::pairs(&pairs(user))?;
    output::lines(["", &answer.summary])?;
    if !answer.next_steps.is_empty() {
        output::lines(["", "What comes next, if nothing happens before:"])?;
        let rows = answer
            .next_steps
            .iter()
            .map(|step| vec![time::show(step.time.as_ref()), step.description.clone()]);
        output::table(&["WHEN", "WHAT"], rows)?;
    }
    if let Some(stopped) = &answer.suppression {
        let since = time::show(stopped.create_time.as_ref());
        let line = format!("{} gets no mail since {since}: {}", stopped.email, stopped.cause);
        output::lines(["", &line])?;
    }
    if !answer.mail_returns.is_empty() {
        output::lines(["", "What came back of their mail, the newest first:"])?;
        let rows = answer.mail_returns.iter().map(|mail| {
            vec![
                time::show(mail.time.as_ref()),
                mail.description.clone(),
                mail.response.clone(),
            ]
        });
        output::table(&["WHEN", "WHAT", "SAID"], rows)?;
    }
    output::lines(["", "What led here, the newest first:"])?;
    output::table(ExplainUserResponse::COLUMNS, history(&answer).into_iter())?;
    Ok(Exit::Done)
}

fn history(answer: &ExplainUserResponse) -> Vec<Vec<String>> {
    let row = |entry: &usher_proto::identity::v1::HistoryEntry| {
        vec![
            time::show(entry.time.as_ref()),
            entry.event_type.clone(),
            transition(status(entry.from_status()), status(entry.to_status())),
            entry.actor_id.clone(),
            entry.reason.clone(),
        ]
    };
    answer.history.iter().map(row).collect()
}

/// `INVITED → ACTIVE`, or as much of it as there is.
pub(crate) fn transition(from: &str, to: &str) -> String {
    match (from, to) {
        ("", to) => to.to_owned(),
        (from, to) if from == to => to.to_owned(),
        (from, to) => format!("{from} → {to}"),
    }
}

impl Show for ExplainUserResponse {
    const NAME: &'static str = "usher.identity.v1.ExplainUserResponse";
    const COLUMNS: &'static [&'static str] = &["WHEN", "EVENT", "STATUS", "BY", "REASON"];

    fn cells(&self) -> Vec<String> {
        vec![self.summary.clone()]
    }
}
