//! The deployment that most tests share: five processes, PostgreSQL, RabbitMQ and a mail server that does what it is told.
//! Each test has a tenant and a mail domain of its own. Tests that move the clock or stop a process have it for themselves
//! meanwhile.

mod people;

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use prost_types::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;
use usher_proto::identity::v1 as api;
use usher_tests::environment::eventually;
use usher_tests::environment::mail::ParsedMail;
use usher_tests::environment::smtp_sink::{Received, SmtpSink};
use usher_tests::system::{Clients, Options, System};

/// What everybody chooses as their password.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// How long what happens by itself may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// Outlives each test, as the deployment does.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime can be started"));
static SHARED: OnceCell<Shared> = OnceCell::const_new();

struct Shared {
    system: RwLock<System>,
    sink: SmtpSink,
}

/// What a test stands on.
pub(crate) struct Stage<G> {
    /// The deployment.
    pub(crate) system: G,
    /// The mail server.
    pub(crate) sink: &'static SmtpSink,
    /// Acts as nobody in particular.
    pub(crate) clients: Clients,
    /// The test's own.
    pub(crate) tenant: String,
    domain: String,
}

/// Beside other tests.
pub(crate) type Together = Stage<RwLockReadGuard<'static, System>>;
/// Without other tests: may move the clock and stop processes.
pub(crate) type Alone = Stage<RwLockWriteGuard<'static, System>>;

/// Runs a test beside others.
pub(crate) fn together(test: impl AsyncFnOnce(Together) -> Result<()>) -> Result<()> {
    RUNTIME.block_on(async {
        let shared = shared().await?;
        let outcome = test(Stage::new(shared.system.read().await, &shared.sink).await?).await;
        outcome.and(shared.system.read().await.check_seats().await)
    })
}

/// Runs a test that moves the clock or stops processes.
pub(crate) fn alone(test: impl AsyncFnOnce(Alone) -> Result<()>) -> Result<()> {
    RUNTIME.block_on(async {
        let shared = shared().await?;
        let mut system = shared.system.write().await;
        revive(&mut system).await?;
        let outcome = test(Stage::new(system, &shared.sink).await?).await;
        outcome.and(shared.system.read().await.check_seats().await)
    })
}

/// Runs a test that has nothing to do with the shared deployment.
pub(crate) fn apart(test: impl Future<Output = Result<()>>) -> Result<()> {
    RUNTIME.block_on(test)
}

async fn shared() -> Result<&'static Shared> {
    SHARED
        .get_or_try_init(async || {
            let sink = SmtpSink::start().await?;
            let options = Options {
                smtp_port: Some(sink.port()),
                ..Options::default()
            };
            let system = RwLock::new(System::start(options).await?);
            Ok(Shared { system, sink })
        })
        .await
}

/// What a test that failed left stopped.
async fn revive(system: &mut System) -> Result<()> {
    let System { identity, workers, .. } = system;
    for process in std::iter::once(identity).chain(workers.values_mut()) {
        if process.id().is_none() || process.exit_status().is_some() {
            process.restart().await?;
        }
    }
    Ok(())
}

impl<G: Deref<Target = System>> Stage<G> {
    async fn new(system: G, sink: &'static SmtpSink) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let clients = system.clients()?;
        let tenant = system.tenant(api::Tenant::default()).await?;
        let domain = format!("t{}.example", NUMBER.fetch_add(1, Ordering::Relaxed));
        Ok(Self {
            system,
            sink,
            clients,
            tenant,
            domain,
        })
    }

    /// Goes on in a tenant with these settings.
    pub(crate) async fn settings(&mut self, settings: api::Tenant) -> Result<()> {
        self.tenant = self.system.tenant(settings).await?;
        Ok(())
    }

    /// An address that no other test has.
    pub(crate) fn address(&self, name: &str) -> String {
        format!("{name}@{}", self.domain)
    }

    /// An instant of the service's clock, this far from now.
    pub(crate) fn after(&self, time: Duration) -> Timestamp {
        timestamp(self.system.now() + time)
    }

    /// Creates an account; one with a password has [`PASSWORD`].
    pub(crate) async fn create(&self, name: &str, initial: api::InitialState) -> Result<api::User> {
        let user = api::User {
            email: self.address(name),
            ..api::User::default()
        };
        self.create_as(user, initial).await
    }

    /// Creates an account with these fields.
    pub(crate) async fn create_as(&self, user: api::User, initial: api::InitialState) -> Result<api::User> {
        let created = self.clients.users().create_user(self.new_user(user, initial)).await?;
        created.into_inner().user.context("no user in the answer")
    }

    /// The request that creates an account.
    pub(crate) fn new_user(&self, user: api::User, initial: api::InitialState) -> api::CreateUserRequest {
        let with_password = initial == api::InitialState::ActiveWithPassword;
        api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(user),
            initial_state: initial.into(),
            password: if with_password { PASSWORD.into() } else { String::new() },
            ..api::CreateUserRequest::default()
        }
    }

    /// An account with a password.
    pub(crate) async fn active(&self, name: &str) -> Result<api::User> {
        self.create(name, api::InitialState::ActiveWithPassword).await
    }

    /// The request that invites these addresses.
    pub(crate) fn inviting(&self, addresses: impl Into<String>) -> api::InviteUsersRequest {
        api::InviteUsersRequest {
            tenant_id: self.tenant.clone(),
            addresses: addresses.into(),
            ..api::InviteUsersRequest::default()
        }
    }

    /// Invites somebody who must be invited by that.
    pub(crate) async fn invite(&self, name: &str) -> Result<(api::User, api::Invitation)> {
        let invited = self
            .clients
            .invitations()
            .invite_users(self.inviting(self.address(name)))
            .await?;
        let result = invited.into_inner().results.pop().context("no result")?;
        match result.outcome {
            Some(api::invite_result::Outcome::Invited(it)) => {
                Ok((it.user.context("no user")?, it.invitation.context("no invitation")?))
            }
            other => bail!("not invited: {other:?}"),
        }
    }

    /// Invites somebody and waits until the mail was handed over.
    pub(crate) async fn invited(&self, name: &str) -> Result<(api::User, api::Invitation)> {
        let (user, invitation) = self.invite(name).await?;
        Ok((self.becomes(&user.user_id, api::UserStatus::Invited).await?, invitation))
    }

    /// The mails that were received for somebody so far.
    pub(crate) fn mails(&self, name: &str) -> Vec<ParsedMail> {
        let received = self.sink.received_by(&self.address(name));
        received.iter().filter_map(Received::parsed).collect()
    }

    /// Waits for somebody's mail with this number, from 1.
    pub(crate) async fn mail(&self, name: &str, number: usize) -> Result<ParsedMail> {
        let what = format!("mail {number} for {}", self.address(name));
        eventually(&what, PATIENCE, async || self.mails(name).into_iter().nth(number - 1)).await
    }

    /// Waits for the link in somebody's mail with this number, and answers its token.
    pub(crate) async fn link(&self, name: &str, number: usize) -> Result<String> {
        token(&self.mail(name, number).await?)
    }

    /// The request that accepts an invitation.
    pub(crate) fn accepting(&self, token: &str) -> api::AcceptInvitationRequest {
        api::AcceptInvitationRequest {
            tenant_id: self.tenant.clone(),
            token: token.into(),
            first_name: "Ana".into(),
            last_name: "Silva".into(),
            password: PASSWORD.into(),
            options: None,
        }
    }

    /// Completes a registration.
    pub(crate) async fn accept(&self, token: &str) -> Result<api::User, Status> {
        let accepted = self
            .clients
            .invitations()
            .accept_invitation(self.accepting(token))
            .await?;
        Ok(accepted.into_inner().user.unwrap_or_default())
    }

    /// Whether a link can be used.
    pub(crate) async fn inspect(&self, token: &str) -> Result<api::InspectInvitationResponse, Status> {
        let request = api::InspectInvitationRequest {
            tenant_id: self.tenant.clone(),
            token: token.into(),
        };
        Ok(self
            .clients
            .invitations()
            .inspect_invitation(request)
            .await?
            .into_inner())
    }

    /// An account as it is now.
    pub(crate) async fn user(&self, id: &str) -> Result<api::User> {
        let request = api::GetUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
        };
        let user = self.clients.users().get_user(request).await?.into_inner().user;
        user.context("no user in the answer")
    }

    /// Waits until an account has a status.
    pub(crate) async fn becomes(&self, id: &str, status: api::UserStatus) -> Result<api::User> {
        let what = format!("{id} becomes {}", status.as_str_name());
        let user = eventually(&what, PATIENCE, async || match self.user(id).await {
            Ok(user) => (user.status() == status).then_some(Ok(user)),
            Err(error) => Some(Err(error)),
        });
        user.await?
    }

    /// Whether somebody may come in.
    pub(crate) async fn access(&self, id: &str) -> Result<api::AccessDecision> {
        let request = api::CheckAccessRequest {
            tenant_id: self.tenant.clone(),
            user_ids: vec![id.into()],
        };
        let mut answer = self.clients.access().check_access(request).await?.into_inner();
        answer.decisions.pop().context("no decision")
    }

    /// Signs in.
    pub(crate) async fn sign_in(
        &self,
        name: &str,
        password: &str,
    ) -> Result<Response<api::VerifyPasswordResponse>, Status> {
        let request = api::VerifyPasswordRequest {
            tenant_id: self.tenant.clone(),
            email: self.address(name),
            password: password.into(),
        };
        self.clients.access().verify_password(request).await
    }

    /// Shows somebody out.
    pub(crate) async fn deactivate(&self, id: &str) -> Result<Response<api::DeactivateUserResponse>, Status> {
        let request = api::DeactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
            ..api::DeactivateUserRequest::default()
        };
        self.clients.users().deactivate_user(request).await
    }

    /// Lets somebody in again.
    pub(crate) async fn reactivate(&self, id: &str) -> Result<Response<api::ReactivateUserResponse>, Status> {
        let request = api::ReactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
            ..api::ReactivateUserRequest::default()
        };
        self.clients.users().reactivate_user(request).await
    }

    /// Sets, moves or clears an expiration.
    pub(crate) async fn expire(
        &self,
        id: &str,
        at: Option<Timestamp>,
    ) -> Result<Response<api::SetUserExpirationResponse>, Status> {
        let request = api::SetUserExpirationRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
            expire_time: at,
            ..api::SetUserExpirationRequest::default()
        };
        self.clients.users().set_user_expiration(request).await
    }

    /// Why an account stands where it stands.
    pub(crate) async fn explain(&self, id: &str) -> Result<api::ExplainUserResponse> {
        let request = api::ExplainUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
        };
        Ok(self.clients.users().explain_user(request).await?.into_inner())
    }

    /// The types of the events in an account's history, the oldest first.
    pub(crate) async fn history(&self, id: &str) -> Result<Vec<String>> {
        let entries = self.explain(id).await?.history.into_iter();
        Ok(entries.rev().map(|entry| entry.event_type).collect())
    }

    /// Waits until an event is in an account's history.
    pub(crate) async fn happens(&self, id: &str, event: &str) -> Result<()> {
        eventually(&format!("{event} of {id}"), PATIENCE, async || {
            let history = self.history(id).await.ok()?;
            history.iter().any(|it| it == event).then_some(())
        })
        .await
    }

    /// Somebody's mails as the service knows them, the oldest first.
    pub(crate) async fn deliveries(&self, id: &str) -> Result<Vec<api::Delivery>> {
        let request = api::ListDeliveriesRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
            page_size: 1_000,
            ..api::ListDeliveriesRequest::default()
        };
        let mut answer = self.clients.deliveries().list_deliveries(request).await?.into_inner();
        answer.deliveries.reverse();
        Ok(answer.deliveries)
    }

    /// Waits until one of somebody's mails is in a state, and answers the newest of those.
    pub(crate) async fn mail_becomes(&self, id: &str, state: api::DeliveryState) -> Result<api::Delivery> {
        let what = format!("a mail of {id} becomes {}", state.as_str_name());
        let mail = eventually(&what, PATIENCE, async || match self.deliveries(id).await {
            Ok(mails) => mails.into_iter().rfind(|mail| mail.state() == state).map(Ok),
            Err(error) => Some(Err(error)),
        });
        mail.await?
    }

    /// Waits until no mail of the tenant is under way or due.
    pub(crate) async fn settled(&self) -> Result<()> {
        let waits = |mail: &api::Delivery, now: &Timestamp| match mail.state() {
            api::DeliveryState::Claimed | api::DeliveryState::Transmitting => true,
            api::DeliveryState::Queued | api::DeliveryState::Deferred => mail
                .due_time
                .as_ref()
                .is_some_and(|due| (due.seconds, due.nanos) <= (now.seconds, now.nanos)),
            _ => false,
        };
        eventually("every mail that was due has ended", PATIENCE, async || {
            let mails = self.deliveries("").await.ok()?;
            let now = self.after(Duration::ZERO);
            (!mails.iter().any(|mail| waits(mail, &now))).then_some(())
        })
        .await
    }

    /// An account's invitations in these states; none: the open ones.
    pub(crate) async fn invitations(&self, id: &str, states: &[api::InvitationState]) -> Result<Vec<api::Invitation>> {
        let request = api::ListInvitationsRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
            states: states.iter().map(|state| (*state).into()).collect(),
            page_size: 1_000,
            ..api::ListInvitationsRequest::default()
        };
        Ok(self
            .clients
            .invitations()
            .list_invitations(request)
            .await?
            .into_inner()
            .invitations)
    }
}

/// The token of the link in a mail.
pub(crate) fn token(mail: &ParsedMail) -> Result<String> {
    let rest = mail
        .text
        .split_once("token=")
        .with_context(|| format!("no link in {}", mail.text))?
        .1;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

/// The whole tenant.
pub(crate) fn platform() -> api::Scope {
    api::Scope {
        kind: api::ScopeKind::Platform.into(),
        id: String::new(),
    }
}

/// A group and those below it.
pub(crate) fn in_group(id: &str) -> api::Scope {
    api::Scope {
        kind: api::ScopeKind::Group.into(),
        id: id.into(),
    }
}

/// A programme session.
pub(crate) fn in_session(id: &str) -> api::Scope {
    api::Scope {
        kind: api::ScopeKind::Session.into(),
        id: id.into(),
    }
}

/// An instant of the service's clock.
pub(crate) fn timestamp(since_epoch: Duration) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since_epoch.subsec_micros()).unwrap_or(0) * 1_000,
    }
}

/// A refusal, as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Of the BadRequest detail, in its order.
    pub(crate) fields: Vec<String>,
    /// The permission that is missing, if that is why.
    pub(crate) permission: String,
}

impl Refused {
    /// Takes a status apart. Every refusal of Usher names its reason.
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details
            .error_info()
            .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
        assert_eq!(info.domain, "usher", "{status:?}");
        let violations = details
            .bad_request()
            .map(|it| it.field_violations.clone())
            .unwrap_or_default();
        for violation in &violations {
            assert!(!violation.description.is_empty(), "{violation:?} says nothing");
        }
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            fields: violations.into_iter().map(|violation| violation.field).collect(),
            permission: info.metadata.get("permission").cloned().unwrap_or_default(),
        }
    }
}

/// What a call was refused with.
#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, Status>) -> Refused {
    Refused::of(&answer.expect_err("a refusal"))
}

/// Checks that a call was refused, with this code and this reason.
#[track_caller]
pub(crate) fn assert_refused<T: Debug>(answer: Result<T, Status>, code: Code, reason: &str) {
    let refused = refused(answer);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (code, reason),
        "{}",
        refused.message
    );
}
