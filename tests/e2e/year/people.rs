//! What administrators and people do in a year, through the API, and what they were told.

use anyhow::{Context as _, Result, bail, ensure};
use chrono::TimeDelta;
use chrono_tz::Tz;
use prost_types::FieldMask;
use tonic::Status;
use usher_core::clock::Timestamp;
use usher_core::ids::UserId;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::activity_report;
use usher_proto::identity::v1::invite_result::Outcome;
use usher_tests::system::Clients;

use super::plan::Action;
use super::post::Post;
use crate::stage::{PASSWORD, Refused};

/// What was done to somebody and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Order {
    Expires(Option<Timestamp>),
    SignedIn(Timestamp),
    /// To be erased at an instant.
    ErasureAsked(Timestamp),
    ErasureCancelled,
    /// The deletion date.
    Deletes(Timestamp),
}

/// Somebody, as the test knows them.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) email: String,
    pub(super) zone: Tz,
    pub(super) is_administrator: bool,
    /// Once they have an account.
    pub(super) user: Option<UserId>,
    /// In order.
    pub(super) orders: Vec<(Timestamp, Order)>,
}

/// Who calls, and at what instant.
#[derive(Clone)]
pub(super) struct Desk<'a> {
    pub(super) clients: &'a Clients,
    pub(super) post: &'a Post,
    pub(super) tenant: &'a str,
    pub(super) now: Timestamp,
}

/// The refusals that a year like this may meet.
const EXPECTED: [&str; 12] = [
    "USER_NOT_FOUND",
    "USER_ALREADY_ACTIVE",
    "USER_EXPIRED",
    "USER_DEACTIVATED",
    "USER_ERASED",
    "ADDRESS_SUPPRESSED",
    "INVITATION_NOT_USABLE",
    "INVITATION_CLOSED",
    "SEAT_LIMIT",
    "WAITS_FOR_SEAT",
    "ERASURE_EXISTS",
    "ERASURE_TOO_LATE",
];

/// What was answered; `None`: it was refused for a reason that may be.
fn expected<T>(answer: Result<tonic::Response<T>, Status>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if EXPECTED.contains(&Refused::of(&status).reason.as_str()) => Ok(None),
        Err(status) => bail!("not to be expected: {status:?}"),
    }
}

pub(super) fn proto(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

impl Desk<'_> {
    /// Invites all of them at once, and writes down where they live.
    pub(super) async fn invite(&self, people: &mut [&mut Person], tenant_zone: Tz) -> Result<()> {
        for class in people.chunks_mut(200) {
            let addresses: Vec<&str> = class.iter().map(|person| person.email.as_str()).collect();
            let request = api::InviteUsersRequest {
                tenant_id: self.tenant.into(),
                addresses: addresses.join(", "),
                ..api::InviteUsersRequest::default()
            };
            let answer = self.clients.invitations().invite_users(request).await?.into_inner();
            ensure!(answer.results.len() == class.len(), "a result for each");
            for (person, result) in class.iter_mut().zip(answer.results) {
                let Some(Outcome::Invited(invited)) = result.outcome else {
                    bail!("{} was not invited", person.email);
                };
                let user = invited.user.context("no user")?;
                ensure!(user.email == person.email, "in order");
                person.user = Some(UserId(user.user_id.parse()?));
                if person.zone != tenant_zone {
                    let user = api::User {
                        time_zone: person.zone.name().into(),
                        ..user
                    };
                    self.update(user, "time_zone").await?;
                }
            }
        }
        Ok(())
    }

    async fn update(&self, user: api::User, path: &str) -> Result<bool> {
        let request = api::UpdateUserRequest {
            user: Some(user),
            update_mask: Some(FieldMask {
                paths: vec![path.into()],
            }),
            ..api::UpdateUserRequest::default()
        };
        Ok(expected(self.clients.users().update_user(request).await)?.is_some())
    }

    /// Reports sign-ins: who, and when it was.
    pub(super) async fn signed_in(&self, reports: &[(UserId, Timestamp)]) -> Result<()> {
        for reports in reports.chunks(1_000) {
            let report = |(user, at): &(UserId, Timestamp)| api::ActivityReport {
                user: Some(activity_report::User::UserId(user.to_string())),
                kind: api::ActivityKind::SignIn.into(),
                time: Some(proto(*at)),
            };
            let request = api::RecordActivityRequest {
                tenant_id: self.tenant.into(),
                reports: reports.iter().map(report).collect(),
            };
            self.clients.activity().record_activity(request).await?;
        }
        Ok(())
    }

    /// Does one thing; answers what there is to remember of it.
    pub(super) async fn act(
        &self,
        user: UserId,
        email: &str,
        action: Action,
        cool_off: TimeDelta,
    ) -> Result<Option<Order>> {
        let (tenant_id, user_id) = (self.tenant.to_owned(), user.to_string());
        match action {
            Action::Invite | Action::SignIn { .. } => bail!("done for many at once"),
            Action::Accept => self.accept(email).await.map(|()| None),
            Action::OpenCourse => {
                let request = api::RecordActivityRequest {
                    tenant_id,
                    reports: vec![api::ActivityReport {
                        user: Some(activity_report::User::UserId(user_id)),
                        kind: api::ActivityKind::CourseOpened.into(),
                        time: Some(proto(self.now)),
                    }],
                };
                self.clients.activity().record_activity(request).await?;
                Ok(None)
            }
            Action::Deactivate => {
                let request = api::DeactivateUserRequest {
                    tenant_id,
                    user_id,
                    ..api::DeactivateUserRequest::default()
                };
                expected(self.clients.users().deactivate_user(request).await).map(|_| None)
            }
            Action::Reactivate => {
                let request = api::ReactivateUserRequest {
                    tenant_id,
                    user_id,
                    ..api::ReactivateUserRequest::default()
                };
                expected(self.clients.users().reactivate_user(request).await).map(|_| None)
            }
            Action::Expire(after) => {
                let at = after.map(|after| self.now + after);
                let request = api::SetUserExpirationRequest {
                    tenant_id,
                    user_id,
                    expire_time: at.map(proto),
                    ..api::SetUserExpirationRequest::default()
                };
                let set = expected(self.clients.users().set_user_expiration(request).await)?;
                Ok(set.map(|_| Order::Expires(at)))
            }
            Action::DeleteAfter(after) => {
                let at = self.now + after;
                let user = api::User {
                    tenant_id,
                    user_id,
                    delete_time: Some(proto(at)),
                    ..api::User::default()
                };
                Ok(self.update(user, "delete_time").await?.then_some(Order::Deletes(at)))
            }
            Action::Resend => self.resend(&user_id).await.map(|()| None),
            Action::Refresh => {
                if let Some(token) = self.post.link(email) {
                    let request = api::RequestFreshInvitationRequest { tenant_id, token };
                    expected(self.clients.invitations().request_fresh_invitation(request).await)?;
                }
                Ok(None)
            }
            Action::AskErasure => {
                let request = api::RequestErasureRequest {
                    tenant_id,
                    user_ids: vec![user_id],
                    reason: api::ErasureReason::PersonRequest.into(),
                    ..api::RequestErasureRequest::default()
                };
                let asked = expected(self.clients.erasures().request_erasure(request).await)?;
                Ok(asked.map(|_| Order::ErasureAsked(self.now + cool_off)))
            }
            Action::CancelErasure => self.cancel_erasure(&user_id).await,
            Action::Complain => self.complain(email).await.map(|()| None),
        }
    }

    async fn accept(&self, email: &str) -> Result<()> {
        let Some(token) = self.post.link(email) else {
            return Ok(());
        };
        let request = api::AcceptInvitationRequest {
            tenant_id: self.tenant.into(),
            token,
            first_name: "Ana".into(),
            last_name: "Silva".into(),
            password: PASSWORD.into(),
            options: None,
        };
        expected(self.clients.invitations().accept_invitation(request).await).map(drop)
    }

    async fn resend(&self, user_id: &str) -> Result<()> {
        let request = api::ListInvitationsRequest {
            tenant_id: self.tenant.into(),
            user_id: user_id.into(),
            ..api::ListInvitationsRequest::default()
        };
        let open = self.clients.invitations().list_invitations(request).await?.into_inner();
        for invitation in open.invitations {
            let request = api::ResendInvitationRequest {
                tenant_id: self.tenant.into(),
                invitation_id: invitation.invitation_id,
                ..api::ResendInvitationRequest::default()
            };
            expected(self.clients.invitations().resend_invitation(request).await)?;
        }
        Ok(())
    }

    async fn cancel_erasure(&self, user_id: &str) -> Result<Option<Order>> {
        let request = api::ListErasuresRequest {
            tenant_id: self.tenant.into(),
            user_id: user_id.into(),
            states: vec![api::ErasureState::CoolingOff.into()],
            ..api::ListErasuresRequest::default()
        };
        let waiting = self
            .clients
            .erasures()
            .list_erasures(request)
            .await?
            .into_inner()
            .erasures;
        let Some(erasure) = waiting.into_iter().next() else {
            return Ok(None);
        };
        let request = api::CancelErasureRequest {
            tenant_id: self.tenant.into(),
            erasure_ids: vec![erasure.erasure_id],
            options: None,
        };
        let cancelled = expected(self.clients.erasures().cancel_erasure(request).await)?;
        Ok(cancelled.map(|_| Order::ErasureCancelled))
    }

    /// Calls the newest mail unwanted.
    async fn complain(&self, email: &str) -> Result<()> {
        let Some(mail) = self.post.last(email) else {
            return Ok(());
        };
        let request = api::ReportBounceRequest {
            tenant_id: self.tenant.into(),
            reports: vec![api::BounceReport {
                message_id: mail.message_id,
                recipient: email.into(),
                kind: api::BounceKind::Complaint.into(),
                ..api::BounceReport::default()
            }],
            options: None,
        };
        let answer = self.clients.deliveries().report_bounce(request).await?.into_inner();
        if answer
            .results
            .iter()
            .any(|result| result.outcome() == api::BounceOutcome::Suppressed)
        {
            self.post.bury(email);
        }
        Ok(())
    }
}
