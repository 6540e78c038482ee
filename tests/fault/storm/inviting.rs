//! The client: invites, and repeats each call with its `request_id` until it is answered (B1).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use usher_proto::identity::v1::{InviteUsersRequest, MutationOptions};
use usher_tests::system::Clients;

use super::killing::Progress;
use super::plan::{Call, PEOPLE_OF_A_CALL, Plan};

/// Calls under way at once.
const AT_ONCE: usize = 5;
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// How the calls went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Calls {
    answered: usize,
    repeats: usize,
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls answered after {} repeats", self.answered, self.repeats)
    }
}

/// Invites everybody.
pub(crate) async fn invite(clients: &Clients, tenant: &str, plan: &Plan, progress: &Progress) -> Result<Calls> {
    let repeats: Vec<usize> = stream::iter(plan.calls.iter().enumerate())
        .map(async |(number, call)| {
            while progress.kills.load(Ordering::SeqCst) < call.after_kills {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(call.then).await;
            until_answered(clients, request(tenant, number, call, &progress.ahead)).await
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(Calls {
        answered: repeats.len(),
        repeats: repeats.iter().sum(),
    })
}

fn request(tenant: &str, number: usize, call: &Call, ahead: &AtomicU64) -> InviteUsersRequest {
    #[expect(
        clippy::disallowed_methods,
        reason = "the database, whose clock counts, is on this machine"
    )]
    let now = chrono::Utc::now().timestamp() + i64::try_from(ahead.load(Ordering::SeqCst)).unwrap_or(0);
    let expire_time = call.expires_after.map(|after| prost_types::Timestamp {
        seconds: now + i64::try_from(after.as_secs()).unwrap_or(0),
        nanos: 0,
    });
    InviteUsersRequest {
        tenant_id: tenant.to_owned(),
        addresses: call.addresses.join("\n"),
        expire_time,
        options: Some(MutationOptions {
            request_id: format!("storm-{number}"),
            ..MutationOptions::default()
        }),
        ..InviteUsersRequest::default()
    }
}

/// Repeats a call until it is answered; how often that took.
async fn until_answered(clients: &Clients, request: InviteUsersRequest) -> Result<usize> {
    for repeats in 0..1_000 {
        let mut invitations = clients.invitations();
        match timeout(DEADLINE, invitations.invite_users(request.clone())).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let invited = usize::try_from(answer.invited_count)?;
                ensure!(invited == PEOPLE_OF_A_CALL, "not everybody was invited: {answer:?}");
                return Ok(repeats);
            }
            Ok(Err(status)) if !is_lost(&status) => bail!("InviteUsers: {status:?}"),
            Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
        }
    }
    bail!("InviteUsers was never answered")
}

/// Nobody answered, or the connection was lost on the way.
fn is_lost(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    ) || std::error::Error::source(status).is_some()
}
