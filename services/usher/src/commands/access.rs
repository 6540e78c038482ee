//! `usher access`

use clap::Subcommand;
use usher_proto::identity::v1::{AccessDecision, CheckAccessRequest};

use super::{Session, each};
use crate::failure::{Exit, Failure};
use crate::output::{Show, short};
use crate::time;

/// Ids in one call.
const BATCH: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// May they come in, until when, and why not? Exits with 1 if one of them may not.
    Check {
        /// Ids, addresses or external ids.
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
}

pub(super) async fn run(command: &Access, session: &Session) -> Result<Exit, Failure> {
    let Access::Check { users } = command;
    let (ids, mut exit) = each(users, |name| async move { session.client.user_id(&name).await }).await?;
    let mut decisions = Vec::new();
    for batch in ids.chunks(BATCH) {
        let request = CheckAccessRequest {
            tenant_id: session.client.tenant.clone(),
            user_ids: batch.to_vec(),
        };
        decisions.extend(
            session
                .client
                .access()
                .check_access(request)
                .await?
                .into_inner()
                .decisions,
        );
    }
    session.out.list(&decisions)?;
    if decisions.iter().any(|decision| !decision.allowed) {
        exit = Exit::Partly;
    }
    Ok(exit)
}

impl Show for AccessDecision {
    const NAME: &'static str = "usher.identity.v1.AccessDecision";
    const COLUMNS: &'static [&'static str] = &["USER ID", "MAY COME IN", "UNTIL", "WHY NOT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.user_id.clone(),
            if self.allowed { "yes" } else { "no" }.to_owned(),
            time::show(self.until.as_ref()),
            short(self.denial_reason().as_str_name(), "DENIAL_REASON_").to_owned(),
        ]
    }
}
