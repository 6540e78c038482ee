//! `usher access`

use clap::Subcommand;
use usher_proto::identity::v1::{AccessDecision, ChangePasswordRequest, CheckAccessRequest, VerifyPasswordRequest};

use super::{Change, Session, each, users};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, short};
use crate::password::{self, Password, ask, from_stdin};
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
    /// Is this their password, and may they come in? Exits with 77 if not.
    VerifyPassword {
        /// Whose.
        #[arg(value_name = "ADDRESS")]
        email: String,
        #[command(flatten)]
        password: Password,
    },
    /// Change a password, by whoever knows the current one, a one-time password included. Both are asked for.
    ChangePassword {
        /// Whose.
        #[arg(value_name = "ADDRESS")]
        email: String,
        /// Read the current password from the first line of standard input, and the new one from the second.
        #[arg(long)]
        passwords_stdin: bool,
        #[command(flatten)]
        change: Change,
    },
}

pub(super) async fn run(command: &Access, session: &Session) -> Result<Exit, Failure> {
    let tenant_id = session.client.tenant.clone();
    match command {
        Access::Check { users } => check(users, session).await,
        Access::VerifyPassword { email, password } => {
            let request = VerifyPasswordRequest {
                tenant_id,
                email: email.clone(),
                password: password.known_or_asked()?,
            };
            let answer = session.client.access().verify_password(request).await?.into_inner();
            if answer.must_change_password {
                output::note("It is right, and must be changed before anything else: `usher access change-password`.");
            }
            users::show(session, &answer.user.ok_or_else(|| incomplete("user"))?)?;
            Ok(Exit::Done)
        }
        Access::ChangePassword {
            email,
            passwords_stdin,
            change,
        } => {
            let (current_password, new_password) = if *passwords_stdin {
                (from_stdin()?, from_stdin()?)
            } else {
                (ask("Current password: ", true)?, password::new()?)
            };
            let request = ChangePasswordRequest {
                tenant_id,
                email: email.clone(),
                current_password,
                new_password,
                options: Some(change.options()),
            };
            let user = session
                .client
                .access()
                .change_password(request)
                .await?
                .into_inner()
                .user;
            users::show(session, &user.ok_or_else(|| incomplete("user"))?)?;
            Ok(Exit::Done)
        }
    }
}

async fn check(users: &[String], session: &Session) -> Result<Exit, Failure> {
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
