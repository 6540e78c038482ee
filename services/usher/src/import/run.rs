//! Sends the rows of a file, many at a time. Each call has a `request_id` that follows from the file and the row, so
//! that the same import can be run again after whatever cut it off: what was done is not done twice (B1).

use std::sync::Mutex;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use usher_proto::identity::v1::lookup_user_request::Key;
use usher_proto::identity::v1::{
    CreateUserRequest, ErrorReason, InitialState, LookupUserRequest, MutationOptions, SendInvitationRequest, User,
    UserStatus,
};

use super::columns::Column;
use super::read::Fault;
use super::report::{Outcome, Report, RowReport, Stop};
use super::{Person, Prepared};
use crate::client::{Client, incomplete, patiently};
use crate::failure::Failure;

/// Rows under way at a time.
const IN_FLIGHT: usize = 32;

/// What is to be done with each row.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Invite those who are created.
    pub(crate) invite: bool,
    /// Only ask what would come of it.
    pub(crate) dry_run: bool,
    /// For the history.
    pub(crate) reason: String,
}

/// Sends all rows. `progress` is called after each. When `interrupt` fires, the rows under way are finished.
pub(crate) async fn run(
    client: &Client,
    prepared: &Prepared,
    plan: &Plan,
    interrupt: &CancellationToken,
    progress: impl Fn(),
) -> Report {
    let import = Import {
        client,
        prepared,
        plan,
        stop: interrupt.child_token(),
        failure: Mutex::new(None),
    };
    let mut rows = Vec::with_capacity(prepared.rows.len());
    let mut waiting = prepared.rows.iter();
    let mut under_way: FuturesUnordered<_> = waiting
        .by_ref()
        .take(IN_FLIGHT)
        .map(|person| import.row(person))
        .collect();
    while let Some(row) = under_way.next().await {
        rows.push(row);
        progress();
        if let Some(person) = waiting.next() {
            under_way.push(import.row(person));
        }
    }
    drop(under_way);
    rows.sort_by_key(|row| row.row);
    let failure = import
        .failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let interrupted = rows
        .iter()
        .any(|row| row.outcome == Outcome::NotSent)
        .then_some(Stop::Interrupted);
    Report {
        rows,
        stopped: failure.map(Stop::Failure).or(interrupted),
    }
}

struct Import<'a> {
    client: &'a Client,
    prepared: &'a Prepared,
    plan: &'a Plan,
    stop: CancellationToken,
    failure: Mutex<Option<Failure>>,
}

impl Import<'_> {
    async fn row(&self, person: &Person) -> RowReport {
        let report = |outcome, user_id: &str, faults| RowReport {
            row: person.row,
            email: person.email.clone(),
            outcome,
            user_id: user_id.to_owned(),
            faults,
        };
        let user = match &person.user {
            Err(faults) => return report(Outcome::Failed, "", faults.clone()),
            Ok(_) if self.stop.is_cancelled() => return report(Outcome::NotSent, "", Vec::new()),
            Ok(user) => user,
        };
        let failed = |failure: Failure, user_id: &str| {
            let faults = self.faults(&failure);
            let outcome = if self.is_fatal(failure) {
                Outcome::NotSent
            } else {
                Outcome::Failed
            };
            report(outcome, user_id, faults)
        };
        let known = match self.look_up(user).await {
            Ok(known) => known,
            Err(failure) => return failed(failure, ""),
        };
        // Whoever is there and pending may be there by this very import, cut off before the invitation.
        let unfinished = |known: &User| known.status() == UserStatus::Pending && self.plan.invite;
        if known.as_ref().is_some_and(|known| !unfinished(known)) {
            return report(Outcome::AlreadyThere, "", Vec::new());
        }
        let key = self.key(person.row, user);
        let user_id = match self.create(user, &key).await {
            Ok(_) if self.plan.dry_run => return report(Outcome::Valid, "", Vec::new()),
            Ok(created) => created.user_id,
            Err(failure) if is_already_there(&failure) => return report(Outcome::AlreadyThere, "", Vec::new()),
            Err(failure) => return failed(failure, ""),
        };
        if !self.plan.invite {
            return report(Outcome::Created, &user_id, Vec::new());
        }
        match self.invite(&user_id, &key).await {
            Ok(()) => report(Outcome::Invited, &user_id, Vec::new()),
            Err(failure) => failed(failure, &user_id),
        }
    }

    /// The account that has the address, if there is one. An address that is none is left to `create`, which names every
    /// fault.
    async fn look_up(&self, user: &User) -> Result<Option<User>, Failure> {
        let request = LookupUserRequest {
            tenant_id: self.client.tenant.clone(),
            key: Some(Key::Email(user.email.clone())),
        };
        let answer = patiently(|| async { Ok(self.client.users().lookup_user(request.clone()).await?) }).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner().user),
            Err(failure) => match failure.reason() {
                Some(ErrorReason::UserNotFound | ErrorReason::InvalidFields) => Ok(None),
                _ => Err(failure),
            },
        }
    }

    async fn create(&self, user: &User, key: &str) -> Result<User, Failure> {
        let request = CreateUserRequest {
            tenant_id: self.client.tenant.clone(),
            user: Some(user.clone()),
            initial_state: InitialState::Pending.into(),
            password: String::new(),
            options: Some(self.options(key, "create")),
            ..CreateUserRequest::default()
        };
        let answer = patiently(|| async { Ok(self.client.users().create_user(request.clone()).await?) }).await?;
        answer.into_inner().user.ok_or_else(|| incomplete("user"))
    }

    async fn invite(&self, user_id: &str, key: &str) -> Result<(), Failure> {
        let request = SendInvitationRequest {
            tenant_id: self.client.tenant.clone(),
            user_id: user_id.to_owned(),
            messages: Vec::new(),
            options: Some(self.options(key, "invite")),
        };
        patiently(|| async { Ok(self.client.invitations().send_invitation(request.clone()).await?) }).await?;
        Ok(())
    }

    fn options(&self, key: &str, step: &str) -> MutationOptions {
        MutationOptions {
            request_id: if self.plan.dry_run {
                String::new()
            } else {
                format!("import:{key}:{step}")
            },
            validate_only: self.plan.dry_run,
            reason: self.plan.reason.clone(),
        }
    }

    /// What the row's request ids are made of: the same for the same row of the same file, and for the same reason.
    fn key(&self, row: usize, user: &User) -> String {
        let mut hash = Sha256::new();
        hash.update(self.prepared.digest);
        hash.update(row.to_be_bytes());
        hash.update(user.encode_to_vec());
        hash.update(self.plan.reason.as_bytes());
        hash.finalize()
            .iter()
            .take(16)
            .fold(String::new(), |key, byte| format!("{key}{byte:02x}"))
    }

    /// Stops the import if the failure would be every row's.
    fn is_fatal(&self, failure: Failure) -> bool {
        let refused_everywhere = matches!(failure.exit(), crate::failure::Exit::Denied)
            || failure.reason() == Some(ErrorReason::TenantNotFound);
        let fatal = failure.is_passing() || refused_everywhere;
        if fatal {
            self.stop.cancel();
            let mut first = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert(failure);
        }
        fatal
    }

    fn faults(&self, failure: &Failure) -> Vec<Fault> {
        let columns = &self.prepared.columns;
        let violations = failure.violations();
        if violations.is_empty() {
            let column = match failure.reason() {
                Some(ErrorReason::ExternalIdTaken) => columns.head(Column::ExternalId),
                Some(ErrorReason::EmailTaken | ErrorReason::UserAlreadyActive | ErrorReason::AddressSuppressed) => {
                    columns.head(Column::Email)
                }
                _ => None,
            };
            return vec![Fault::new(column.unwrap_or_default(), failure.to_string())];
        }
        violations
            .into_iter()
            .map(|(field, reason)| Fault::new(columns.head_of(&field), reason))
            .collect()
    }
}

fn is_already_there(failure: &Failure) -> bool {
    matches!(
        failure.reason(),
        Some(ErrorReason::EmailTaken | ErrorReason::UserAlreadyActive)
    )
}
