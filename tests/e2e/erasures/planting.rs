//! A marked person goes through every RPC that takes something about a person.

use anyhow::{Context as _, Result, bail, ensure};
use futures::stream;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::activity_report::User;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{DeliveryOutcome, ImportMode, JobState};
use usher_tests::environment::eventually;
use usher_tests::system::Clients;

use crate::stage::{PASSWORD, PATIENCE, platform};

/// Stands in every text about the person, and in no other.
pub(super) const MARK: &str = "zqxmarkvw";

fn external_id() -> String {
    format!("X-{MARK}")
}

/// Goes through the API with a marked person.
pub(super) struct Plant {
    pub(super) clients: Clients,
    pub(super) tenant: String,
    requests: u32,
}

impl Plant {
    pub(super) fn new(clients: Clients, tenant: String) -> Self {
        Self {
            clients,
            tenant,
            requests: 0,
        }
    }

    /// With a request id that names the person.
    #[expect(clippy::unnecessary_wraps, reason = "as the requests have it")]
    fn options(&mut self) -> Option<api::MutationOptions> {
        self.requests += 1;
        Some(api::MutationOptions {
            request_id: format!("plant-{}-{}", external_id(), self.requests),
            ..api::MutationOptions::default()
        })
    }

    /// With somebody's words about the person.
    fn told(&mut self) -> Option<api::MutationOptions> {
        let options = self.options()?;
        Some(api::MutationOptions {
            reason: format!("{MARK} married"),
            ..options
        })
    }

    fn messages() -> Vec<api::Message> {
        vec![api::Message {
            language: String::new(),
            subject: format!("For {MARK}"),
            text: format!("Dear {MARK}, \"welcome\" – à bientôt"),
        }]
    }

    async fn create(&mut self, email: &str, external_id: &str) -> Result<api::CreateUserResponse, tonic::Status> {
        let request = api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(api::User {
                email: email.into(),
                external_id: external_id.into(),
                first_name: format!("Ana {MARK}"),
                last_name: format!("Núñez {MARK}"),
                labels: vec![format!("class {MARK}")],
                ..api::User::default()
            }),
            options: self.options(),
            ..api::CreateUserRequest::default()
        };
        Ok(self.clients.users().create_user(request).await?.into_inner())
    }

    /// Of several people: what it is called by is no word about one of them.
    pub(super) async fn import(&mut self, mode: ImportMode, file: &str) -> Result<()> {
        self.requests += 1;
        let settings = api::ImportSettings {
            tenant_id: self.tenant.clone(),
            mode: mode.into(),
            options: Some(api::MutationOptions {
                request_id: format!("import-{}", self.requests),
                ..api::MutationOptions::default()
            }),
            ..api::ImportSettings::default()
        };
        let parts = vec![Part::Settings(settings), Part::Data(file.as_bytes().to_vec())];
        let parts = parts
            .into_iter()
            .map(|part| api::ImportUsersRequest { part: Some(part) });
        let mut client = self.clients.transfer();
        let answer = client.import_users(stream::iter(parts.collect::<Vec<_>>()));
        let job = answer.await?.into_inner().job.context("no job")?;
        self.ended(&job).await
    }

    async fn ended(&self, job: &api::Job) -> Result<()> {
        let request = api::GetJobRequest {
            tenant_id: self.tenant.clone(),
            job_id: job.job_id.clone(),
        };
        eventually("the end of the job", PATIENCE, async || {
            let job = self
                .clients
                .bulk()
                .get_job(request.clone())
                .await
                .ok()?
                .into_inner()
                .job?;
            (job.state() != JobState::Running).then_some(())
        })
        .await
    }

    async fn bulk(&mut self, user: &str, action: Action) -> Result<()> {
        let request = api::PreviewSelectionRequest {
            tenant_id: self.tenant.clone(),
            selection: Some(api::Selection {
                by: Some(api::selection::By::UserIds(api::UserIds {
                    user_ids: vec![user.into()],
                })),
            }),
        };
        let preview = self.clients.bulk().preview_selection(request).await?.into_inner();
        let request = api::StartBulkRequest {
            tenant_id: self.tenant.clone(),
            digest: preview.digest,
            action: Some(api::BulkAction { action: Some(action) }),
            options: self.told(),
        };
        let started = self.clients.bulk().start_bulk(request).await?.into_inner();
        self.ended(&started.job.context("no job")?).await
    }

    /// Sends the mails of somebody, as a worker that is refused for good with an answer that names the address.
    async fn bounce(&self, user: &str, email: &str) -> Result<()> {
        let request = api::ListDeliveriesRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ListDeliveriesRequest::default()
        };
        let found = self.clients.deliveries().list_deliveries(request).await?.into_inner();
        for delivery in found.deliveries {
            let request = api::BeginDeliveryRequest {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                delivery_id: delivery.delivery_id.clone(),
                worker_id: "test".into(),
            };
            let begun = self.clients.work().begin_delivery(request).await?.into_inner();
            let Some(api::begin_delivery_response::Outcome::Mail(mail)) = begun.outcome else {
                continue;
            };
            let request = api::FinishDeliveryRequest {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                delivery_id: delivery.delivery_id,
                claim_id: mail.claim_id,
                outcome: DeliveryOutcome::Failed.into(),
                response: format!("550 5.1.1 <{email}> is unknown here"),
                smtp_code: 550,
                phase: api::SmtpPhase::Recipient.into(),
            };
            self.clients.work().finish_delivery(request).await?;
        }
        Ok(())
    }

    /// Through every RPC that takes something about a person: see [`super::traces`]. Answers who it is.
    pub(super) async fn everything(&mut self) -> Result<String> {
        let first = format!("First.{MARK}@Example.org");
        let now = format!("now.{MARK}@münchen.example");
        let external = external_id();
        let created = self.create(&first, &external).await?.user.context("no user")?;
        let user = created.user_id.clone();
        ensure!(self.create(&first.to_uppercase(), "").await.is_err(), "it is taken");

        for addresses in [first.clone(), format!("{} {MARK}@@broken", first.to_lowercase())] {
            let request = api::InviteUsersRequest {
                tenant_id: self.tenant.clone(),
                addresses,
                messages: Self::messages(),
                options: self.options(),
                ..api::InviteUsersRequest::default()
            };
            let answer = self.clients.invitations().invite_users(request).await?.into_inner();
            ensure!(answer.invited_count == 1, "{answer:?}");
        }
        self.bounce(&user, &first).await?;
        let request = api::UpdateUserRequest {
            user: Some(api::User {
                email: now.clone(),
                first_name: format!("Anna {MARK}"),
                ..created
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["email".into(), "first_name".into()],
            }),
            options: self.told(),
            ..api::UpdateUserRequest::default()
        };
        self.clients.users().update_user(request).await?;
        let request = api::SendInvitationRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.clone(),
            messages: Self::messages(),
            options: self.told(),
        };
        let sent = self.clients.invitations().send_invitation(request).await?.into_inner();
        let request = api::ResendInvitationRequest {
            tenant_id: self.tenant.clone(),
            invitation_id: sent.invitation.context("no invitation")?.invitation_id,
            messages: Self::messages(),
            options: self.options(),
        };
        self.clients.invitations().resend_invitation(request).await?;
        let request = api::SendTestInvitationRequest {
            tenant_id: self.tenant.clone(),
            email: now.clone(),
            first_name: format!("Anna {MARK}"),
            messages: Self::messages(),
            options: self.options(),
            ..api::SendTestInvitationRequest::default()
        };
        self.clients.invitations().send_test_invitation(request).await?;

        // Rows that do, that fail for their values, and that fail for what is there: by all their addresses.
        let rows = format!(
            "email,first_name,last_name,language,external_id,labels\n\
             {now},Anna,{MARK},fr,{external},year {MARK}\n\
             {},Anna {MARK},,no-such-language-at-all,{external},\n\
             somebody@example.org,Anna,{MARK},,{external},\n\
             neighbour@example.org,Neigh,Bour,,N-1,\n",
            now.to_uppercase(),
        );
        self.import(ImportMode::Create, &rows).await?;
        self.import(ImportMode::Update, &rows).await?;
        self.bulk(
            &user,
            Action::EditLabels(api::BulkEditLabels {
                add: vec![format!("bulk {MARK}")],
                remove: vec![format!("class {MARK}")],
            }),
        )
        .await?;
        let messages = Self::messages();
        self.bulk(&user, Action::Invite(api::BulkInvite { messages })).await?;
        self.bounce(&user, &now).await?;
        self.register(&user, &now).await?;
        self.show_out_and_in(&user).await?;
        self.told_of_somebody_else(&now).await?;
        self.change_of_mind(&user).await?;
        Ok(user)
    }

    pub(super) async fn erase(&mut self, user: &str) -> Result<String> {
        let erasure = self.ask_for_erasure(user).await?;
        let item = api::DueErasure {
            tenant_id: self.tenant.clone(),
            erasure_id: erasure.clone(),
        };
        for _ in 0..2 {
            let items = vec![item.clone()];
            self.clients
                .work()
                .erase_users(api::EraseUsersRequest { items })
                .await?;
        }
        Ok(erasure)
    }

    async fn ask_for_erasure(&mut self, user: &str) -> Result<String> {
        let request = api::RequestErasureRequest {
            tenant_id: self.tenant.clone(),
            user_ids: vec![user.into()],
            reason: api::ErasureReason::RightToErasure.into(),
            note: format!("{MARK} wrote a letter"),
            options: self.told(),
        };
        let asked = self.clients.erasures().request_erasure(request).await?.into_inner();
        Ok(asked.erasures.into_iter().next().context("no erasure")?.erasure_id)
    }

    /// The address gets mail again; the person registers by the link, reports come back of the mail, and they sign in.
    async fn register(&mut self, user: &str, email: &str) -> Result<()> {
        let request = api::RemoveSuppressionRequest {
            tenant_id: self.tenant.clone(),
            email: email.into(),
            options: self.told(),
        };
        self.clients.deliveries().remove_suppression(request).await?;
        let request = api::UpdateUserRequest {
            user: Some(api::User {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                email: email.into(),
                ..api::User::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["email".into()],
            }),
            options: self.told(),
            ..api::UpdateUserRequest::default()
        };
        self.clients.users().update_user(request).await?;
        let request = api::SendInvitationRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            messages: Self::messages(),
            options: self.told(),
        };
        self.clients.invitations().send_invitation(request).await?;
        let (delivery, token) = self.deliver(user, email).await?;
        self.come_back(&delivery, email, api::BounceKind::Soft).await?;
        let request = api::AcceptInvitationRequest {
            tenant_id: self.tenant.clone(),
            token,
            first_name: format!("Anna {MARK}"),
            last_name: format!("{MARK} Núñez"),
            password: PASSWORD.into(),
            options: self.told(),
        };
        self.clients.invitations().accept_invitation(request).await?;
        self.come_back("", email, api::BounceKind::Hard).await?;

        let request = api::VerifyPasswordRequest {
            tenant_id: self.tenant.clone(),
            email: email.to_uppercase(),
            password: PASSWORD.into(),
        };
        self.clients.access().verify_password(request).await?;
        let request = api::ChangePasswordRequest {
            tenant_id: self.tenant.clone(),
            email: email.into(),
            current_password: PASSWORD.into(),
            new_password: format!("{MARK} is no good password"),
            options: self.told(),
        };
        self.clients.access().change_password(request).await?;
        let report = |user| api::ActivityReport {
            user: Some(user),
            kind: api::ActivityKind::CourseOpened.into(),
            time: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
        };
        let request = api::RecordActivityRequest {
            tenant_id: self.tenant.clone(),
            reports: vec![
                report(User::Email(email.into())),
                report(User::ExternalId(external_id())),
                report(User::Email(format!("unknown.{MARK}@example.org"))),
            ],
        };
        let recorded = self.clients.activity().record_activity(request).await?.into_inner();
        ensure!(
            (recorded.recorded_count, recorded.refused_count) == (1, 1),
            "{recorded:?}"
        );
        Ok(())
    }

    /// Hands the newest mail to a mail server; answers it with the token of its link.
    async fn deliver(&self, user: &str, email: &str) -> Result<(String, String)> {
        let request = api::ListDeliveriesRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ListDeliveriesRequest::default()
        };
        let found = self.clients.deliveries().list_deliveries(request).await?.into_inner();
        let delivery = found.deliveries.into_iter().next().context("no mail")?.delivery_id;
        let request = api::BeginDeliveryRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            delivery_id: delivery.clone(),
            worker_id: "test".into(),
        };
        let begun = self.clients.work().begin_delivery(request).await?.into_inner();
        let Some(api::begin_delivery_response::Outcome::Mail(claimed)) = begun.outcome else {
            bail!("{begun:?}");
        };
        let text = claimed.mail.context("no mail")?.text;
        let (_, rest) = text.split_once("token=").context("no link")?;
        let token = rest.split_whitespace().next().unwrap_or_default().to_owned();
        let request = api::FinishDeliveryRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            delivery_id: delivery.clone(),
            claim_id: claimed.claim_id,
            outcome: DeliveryOutcome::Sent.into(),
            response: format!("250 2.1.5 <{email}> accepted"),
            smtp_code: 250,
            phase: api::SmtpPhase::Content.into(),
        };
        self.clients.work().finish_delivery(request).await?;
        Ok((delivery, token))
    }

    /// Without a mail: the newest that went to the address.
    async fn come_back(&mut self, delivery: &str, email: &str, kind: api::BounceKind) -> Result<()> {
        let request = api::ReportBounceRequest {
            tenant_id: self.tenant.clone(),
            reports: vec![api::BounceReport {
                delivery_id: delivery.into(),
                recipient: email.into(),
                kind: kind.into(),
                status: if kind == api::BounceKind::Hard {
                    "5.1.1"
                } else {
                    "4.2.2"
                }
                .into(),
                diagnostic: format!("smtp; the mailbox of {MARK} is full"),
                ..api::BounceReport::default()
            }],
            options: self.told(),
        };
        let answer = self.clients.deliveries().report_bounce(request).await?.into_inner();
        let outcome = answer.results[0].outcome();
        ensure!(
            matches!(outcome, api::BounceOutcome::Suppressed | api::BounceOutcome::Recorded),
            "{answer:?}"
        );
        Ok(())
    }

    /// What operators say as they change where somebody stands and belongs.
    async fn show_out_and_in(&mut self, user: &str) -> Result<()> {
        let (tenant_id, user_id) = (self.tenant.clone(), user.to_owned());
        let mut users = self.clients.users();
        let request = api::DeactivateUserRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            options: self.told(),
            ..api::DeactivateUserRequest::default()
        };
        users.deactivate_user(request).await?;
        let request = api::ReactivateUserRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            options: self.told(),
            ..api::ReactivateUserRequest::default()
        };
        users.reactivate_user(request).await?;
        let request = api::SetUserExpirationRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            expire_time: Some(prost_types::Timestamp {
                seconds: 4_000_000_000,
                nanos: 0,
            }),
            options: self.told(),
            ..api::SetUserExpirationRequest::default()
        };
        users.set_user_expiration(request).await?;

        let request = api::CreateGroupRequest {
            group: Some(api::Group {
                tenant_id: tenant_id.clone(),
                name: "Choir".into(),
                ..api::Group::default()
            }),
            options: None,
        };
        let created = self.clients.groups().create_group(request).await?.into_inner();
        let group_id = created.group.context("no group")?.group_id;
        let request = api::AddGroupMembersRequest {
            tenant_id: tenant_id.clone(),
            group_id: group_id.clone(),
            user_ids: vec![user_id.clone()],
            options: self.told(),
        };
        self.clients.groups().add_group_members(request).await?;
        let request = api::RemoveGroupMembersRequest {
            tenant_id: tenant_id.clone(),
            group_id,
            user_ids: vec![user_id.clone()],
            options: self.told(),
        };
        self.clients.groups().remove_group_members(request).await?;
        let roles = vec![api::RoleInScope {
            role: "coach".into(),
            scope: Some(platform()),
        }];
        let request = api::AssignRolesRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            roles: roles.clone(),
            options: self.told(),
        };
        self.clients.roles().assign_roles(request).await?;
        let request = api::RevokeRolesRequest {
            tenant_id,
            user_id,
            roles,
            options: self.told(),
        };
        self.clients.roles().revoke_roles(request).await?;
        Ok(())
    }

    /// Somebody else is spoken of as them: by address, by external id, by name.
    async fn told_of_somebody_else(&mut self, email: &str) -> Result<()> {
        let request = api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(api::User {
                email: "twin@example.org".into(),
                ..api::User::default()
            }),
            ..api::CreateUserRequest::default()
        };
        let created = self.clients.users().create_user(request).await?.into_inner();
        let twin = created.user.context("no user")?.user_id;
        let words = [
            format!("duplicate of {}", email.to_uppercase()),
            format!("the same as {}", external_id()),
            format!("sister of Anna {MARK} {MARK} Núñez"),
            "left the school".to_owned(),
        ];
        for (number, reason) in words.into_iter().enumerate() {
            let options = Some(api::MutationOptions {
                reason,
                ..api::MutationOptions::default()
            });
            let (tenant_id, user_id) = (self.tenant.clone(), twin.clone());
            if number.is_multiple_of(2) {
                let request = api::DeactivateUserRequest {
                    tenant_id,
                    user_id,
                    options,
                    ..api::DeactivateUserRequest::default()
                };
                self.clients.users().deactivate_user(request).await?;
            } else {
                let request = api::ReactivateUserRequest {
                    tenant_id,
                    user_id,
                    options,
                    ..api::ReactivateUserRequest::default()
                };
                self.clients.users().reactivate_user(request).await?;
            }
        }
        Ok(())
    }

    /// An erasure that was asked for and cancelled, with its note.
    async fn change_of_mind(&mut self, user: &str) -> Result<()> {
        let erasure = self.ask_for_erasure(user).await?;
        let request = api::CancelErasureRequest {
            tenant_id: self.tenant.clone(),
            erasure_ids: vec![erasure],
            options: self.told(),
        };
        self.clients.erasures().cancel_erasure(request).await?;
        Ok(())
    }
}
