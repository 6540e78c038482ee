//! `usher suppressions`

use clap::Subcommand;
use usher_proto::identity::v1::{ListSuppressionsRequest, RemoveSuppressionRequest, Suppression};

use super::{Change, Limit, Session, each};
use crate::failure::{Exit, Failure};
use crate::output::Show;
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Suppressions {
    /// List the addresses that get no mail, the newest first.
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Let mail go to addresses again. The history records who did it.
    Remove {
        /// The addresses.
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
}

pub(super) async fn run(command: &Suppressions, session: &Session) -> Result<Exit, Failure> {
    let tenant_id = &session.client.tenant;
    match command {
        Suppressions::List { limit } => {
            let page = |page_size, page_token| async move {
                let request = ListSuppressionsRequest {
                    tenant_id: tenant_id.clone(),
                    page_size,
                    page_token,
                };
                let answer = session
                    .client
                    .deliveries()
                    .list_suppressions(request)
                    .await?
                    .into_inner();
                Ok((answer.suppressions, answer.next_page_token))
            };
            limit.show(session.out, page).await?;
            Ok(Exit::Done)
        }
        Suppressions::Remove { addresses, change } => {
            let remove = |email: String| async move {
                let request = RemoveSuppressionRequest {
                    tenant_id: tenant_id.clone(),
                    email,
                    options: Some(change.options()),
                };
                session.client.deliveries().remove_suppression(request).await?;
                Ok(())
            };
            Ok(each(addresses, remove).await?.1)
        }
    }
}

impl Show for Suppression {
    const NAME: &'static str = "usher.identity.v1.Suppression";
    const COLUMNS: &'static [&'static str] = &["ADDRESS", "SINCE", "CAUSE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.email.clone(),
            time::show(self.create_time.as_ref()),
            self.cause.clone(),
        ]
    }
}
