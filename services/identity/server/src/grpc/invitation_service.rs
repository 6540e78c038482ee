//! Invitations, from the administrator's side. The page behind a link is in `link`.

use std::collections::HashSet;

use tonic::{Request, Response, Status};
use usher_authorization::Intent;
use usher_core::account::Detached;
use usher_core::account::{Account, NewUser, Placement, ProfileUpdate};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::delivery::TestContent;
use usher_core::email::{EmailAddress, split_addresses};
use usher_core::ids::{InvitationId, TenantId, UserId};
use usher_core::invitation::{InvitationState, Message};
use usher_core::ports::{After, InvitationQuery, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::{BuiltInRole, Permission, RoleRef};
use usher_core::text;
use usher_core::user::Profile;
use usher_proto::identity::v1::invitation_service_server::InvitationService;
use usher_proto::identity::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, CancelInvitationRequest, CancelInvitationResponse,
    GetInvitationRequest, GetInvitationResponse, InspectInvitationRequest, InspectInvitationResponse, InviteResult,
    InviteUsersRequest, InviteUsersResponse, Invited, ListInvitationsRequest, ListInvitationsResponse,
    PreviewInvitationRequest, PreviewInvitationResponse, RequestFreshInvitationRequest, RequestFreshInvitationResponse,
    ResendInvitationRequest, ResendInvitationResponse, SendInvitationRequest, SendInvitationResponse,
    SendTestInvitationRequest, SendTestInvitationResponse, invite_result,
};

use crate::app::App;
use crate::audit::{note_detail, note_read, note_user};
use crate::authorize::Caller;
use crate::call::{account_keys, finish, tenant as parse_tenant};
use crate::convert;
use crate::grpc::role_service::{check_placement, placement_keys};
use crate::judge::Asking;
use crate::operations::engine::Failure;
use crate::operations::world::World;
use crate::page::{Question, instant_key};
use crate::parse::{Faults, check_ahead};
use crate::render;
use crate::status::{item, refused, tell_of_item};

/// Addresses of one call at most.
const MAX_ADDRESSES: usize = 1_000;
/// Characters of one call's addresses at most.
const MAX_TEXT: usize = 500_000;

#[tonic::async_trait]
impl InvitationService for App {
    async fn invite_users(
        &self,
        request: Request<InviteUsersRequest>,
    ) -> Result<Response<InviteUsersResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("InviteUsers", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let items = addresses(&body.addresses, &mut faults);
        let batch = Batch {
            tenant,
            language: faults.take("language", text::language(&body.language)),
            labels: faults.labels("labels", &body.labels),
            expires_at: faults.expiration("expire_time", body.expire_time, self.now()),
            deletes_at: faults.expiration("delete_time", body.delete_time, self.now()),
            placement: faults.placement(&body.group_ids, &body.roles),
            messages: faults.messages("messages", &body.messages),
        };
        check_session(&body.session_id, &batch.placement, &mut faults);
        finish(faults)?;
        let judge = self
            .permit_invitations(
                &caller,
                tenant,
                &batch.placement,
                &body.session_id,
                batch.deletes_at.is_some(),
            )
            .await?;
        let emails = items.iter().filter_map(|item| item.email.as_ref().ok());
        let mut keys = Keys {
            tenants: [tenant].into(),
            emails: emails.map(|email| (tenant, email.key().to_owned())).collect(),
            with_mail: true,
            with_belonging: judge.is_user() || !batch.placement.is_empty(),
            ..placement_keys(tenant, &batch.placement)
        };
        self.warn_of_erased(&mut keys);
        let weight = items.len();
        let mut command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            world.tenant(tenant)?;
            check_ahead("expire_time", batch.expires_at, world.now)?;
            check_ahead("delete_time", batch.deletes_at, world.now)?;
            let mut asking = judge.asker();
            check_placement(world, tenant, &batch.placement, &mut asking)?;
            let mut asking = judge.is_user().then_some(asking);
            let mut results = Vec::with_capacity(items.len());
            for item in &items {
                let outcome = match &item.email {
                    Ok(email) => {
                        let known = world.loaded.emails.get(&(tenant, email.key().to_owned())).copied();
                        let invited = batch.invite(email, asking.as_mut(), world, &act, changes);
                        tell_of_item(changes, (tenant, known), &invited);
                        invited.map(|invited| Invited {
                            erased_before: invited.created && world.was_erased(tenant, email.key()),
                            ..invited
                        })
                    }
                    Err(fault) => Err(Refusal::field("addresses", format!("{}: {fault}", item.text))),
                };
                results.push(InviteResult {
                    address: item.text.clone(),
                    outcome: Some(item_outcome(outcome)),
                });
            }
            let refused = results
                .iter()
                .filter(|r| matches!(r.outcome, Some(invite_result::Outcome::Refused(_))))
                .count();
            let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
            Ok(InviteUsersResponse {
                invited_count: count(results.len() - refused),
                refused_count: count(refused),
                results,
            })
        });
        command.weight = weight;
        let answer = self.engine.run(command).await?;
        note_known(tenant, &answer);
        Ok(Response::new(answer))
    }

    async fn send_invitation(
        &self,
        request: Request<SendInvitationRequest>,
    ) -> Result<Response<SendInvitationResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("SendInvitation", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let user: UserId = faults.id("user_id", &body.user_id);
        let messages = faults.messages("messages", &body.messages);
        finish(faults)?;
        self.permit_on_user(&caller, tenant, Permission::InvitationsSend, user, &Intent::default())
            .await?;
        let command = mutation
            .clone()
            .command(tenant, account_keys(tenant, user), move |world, changes| {
                let act = mutation.act(world.now);
                world.account(tenant, user)?.decide(changes, |account, changes| {
                    account.invite(choose(&messages, account), &act, changes)?;
                    Ok(SendInvitationResponse {
                        invitation: newest(account, act.now),
                    })
                })
            });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn get_invitation(
        &self,
        request: Request<GetInvitationRequest>,
    ) -> Result<Response<GetInvitationResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: InvitationId = faults.id("invitation_id", &body.invitation_id);
        finish(faults)?;
        self.permit_on_invitation(&caller, tenant, Permission::InvitationsRead, id)
            .await?;
        let found = self.store.invitation(tenant, id).await.map_err(Failure::from)?;
        let found = found.ok_or_else(|| refused(&Refusal::InvitationNotFound(id.to_string())))?;
        note_read(1, body, &self.keys);
        Ok(Response::new(GetInvitationResponse {
            invitation: Some(convert::invitation(&found, self.now())),
        }))
    }

    async fn list_invitations(
        &self,
        request: Request<ListInvitationsRequest>,
    ) -> Result<Response<ListInvitationsResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let mut states = Vec::new();
        for (index, state) in body.states.iter().enumerate() {
            match convert::invitation_state_name(*state) {
                Some(state) => states.push(state),
                None => faults.add(format!("states[{index}]"), "is no state"),
            }
        }
        if states.is_empty() {
            states = vec![InvitationState::Queued, InvitationState::Sent];
        }
        let user: Option<UserId> = faults.optional_id("user_id", &body.user_id);
        let sent_before = faults.instant("sent_before", body.sent_before);
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListInvitations", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        let groups = self
            .permit_list(&caller, tenant, Permission::InvitationsRead, user)
            .await?;
        let now = self.now();
        let query = InvitationQuery {
            tenant,
            groups,
            states,
            user,
            sent_before,
            after,
            limit,
            now,
        };
        let found = self.store.list_invitations(&query).await.map_err(Failure::from)?;
        note_read(found.len(), &body, &self.keys);
        let next_page_token = question.next(&found, limit, |row| After {
            key: instant_key(row.created_at),
            id: row.id.0,
        });
        let invitations = found.iter().map(|row| convert::invitation(row, now)).collect();
        Ok(Response::new(ListInvitationsResponse {
            invitations,
            next_page_token,
        }))
    }

    async fn cancel_invitation(
        &self,
        request: Request<CancelInvitationRequest>,
    ) -> Result<Response<CancelInvitationResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("CancelInvitation", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: InvitationId = faults.id("invitation_id", &body.invitation_id);
        finish(faults)?;
        self.permit_on_invitation(&caller, tenant, Permission::InvitationsSend, id)
            .await?;
        let command = mutation
            .clone()
            .command(tenant, invitation_keys(tenant, id), move |world, changes| {
                let act = mutation.act(world.now);
                world
                    .account_by_invitation(tenant, id)?
                    .decide(changes, |account, changes| {
                        account.cancel_invitation(id, &act, changes)?;
                        Ok(CancelInvitationResponse {
                            invitation: newest(account, act.now),
                        })
                    })
            });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn resend_invitation(
        &self,
        request: Request<ResendInvitationRequest>,
    ) -> Result<Response<ResendInvitationResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("ResendInvitation", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: InvitationId = faults.id("invitation_id", &body.invitation_id);
        let messages = faults.messages("messages", &body.messages);
        finish(faults)?;
        self.permit_on_invitation(&caller, tenant, Permission::InvitationsSend, id)
            .await?;
        let command = mutation
            .clone()
            .command(tenant, invitation_keys(tenant, id), move |world, changes| {
                let act = mutation.act(world.now);
                world
                    .account_by_invitation(tenant, id)?
                    .decide(changes, |account, changes| {
                        account.resend(id, choose(&messages, account), &act, changes)?;
                        Ok(ResendInvitationResponse {
                            invitation: newest(account, act.now),
                        })
                    })
            });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn preview_invitation(
        &self,
        request: Request<PreviewInvitationRequest>,
    ) -> Result<Response<PreviewInvitationResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let language = faults.take("language", text::language(&body.language));
        let first_name = faults.take("first_name", text::name(&body.first_name, text::MAX_NAME));
        let messages = faults.messages("messages", &body.messages);
        if !(0..=10).contains(&body.reminder_step) {
            faults.add("reminder_step", "must be 0 for the invitation, or a step from 1 to 10");
        }
        finish(faults)?;
        self.permit_somewhere(&caller, tenant, Permission::InvitationsPreview)
            .await?;
        let tenant = self.tenant(tenant).await?;
        let message = Message::choose(&messages, &language, &tenant.settings.default_language).cloned();
        let content = TestContent {
            language,
            first_name,
            message,
        };
        let rendered = render::sample(self, &tenant, &content, body.reminder_step, false).await?;
        Ok(Response::new(PreviewInvitationResponse {
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            language: rendered.language,
        }))
    }

    async fn send_test_invitation(
        &self,
        request: Request<SendTestInvitationRequest>,
    ) -> Result<Response<SendTestInvitationResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("SendTestInvitation", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let email = faults.email("email", &body.email);
        let language = faults.take("language", text::language(&body.language));
        let first_name = faults.take("first_name", text::name(&body.first_name, text::MAX_NAME));
        let messages = faults.messages("messages", &body.messages);
        finish(faults)?;
        self.permit_somewhere(&caller, tenant, Permission::InvitationsPreview)
            .await?;
        let keys = Keys {
            tenants: [tenant].into(),
            emails: [(tenant, email.key().to_owned())].into(),
            ..Keys::default()
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            let settings = world.tenant(tenant)?;
            if world.is_suppressed(tenant, email.key()) {
                return Err(Refusal::AddressSuppressed(email.as_str().to_owned()));
            }
            let message = Message::choose(&messages, &language, &settings.settings.default_language).cloned();
            let content = TestContent {
                language: language.clone(),
                first_name: first_name.clone(),
                message,
            };
            let test = Detached::new(tenant, &email, content, &act).queue(&act, changes);
            Ok(SendTestInvitationResponse {
                delivery_id: test.0.id.to_string(),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn inspect_invitation(
        &self,
        request: Request<InspectInvitationRequest>,
    ) -> Result<Response<InspectInvitationResponse>, Status> {
        self.permit_program(&Caller::of(request.metadata())?, Permission::InvitationsAccept)?;
        self.inspect_link(request.into_inner()).await.map(Response::new)
    }

    async fn accept_invitation(
        &self,
        request: Request<AcceptInvitationRequest>,
    ) -> Result<Response<AcceptInvitationResponse>, Status> {
        self.permit_program(&Caller::of(request.metadata())?, Permission::InvitationsAccept)?;
        self.accept_link(request).await.map(Response::new)
    }

    async fn request_fresh_invitation(
        &self,
        request: Request<RequestFreshInvitationRequest>,
    ) -> Result<Response<RequestFreshInvitationResponse>, Status> {
        self.permit_program(&Caller::of(request.metadata())?, Permission::InvitationsAccept)?;
        self.refresh_link(request.into_inner()).await.map(Response::new)
    }
}

/// What all addresses of a call have in common.
struct Batch {
    tenant: TenantId,
    language: String,
    labels: Vec<String>,
    expires_at: Option<Timestamp>,
    deletes_at: Option<Timestamp>,
    placement: Placement,
    messages: Vec<Message>,
}

impl Batch {
    fn invite(
        &self,
        email: &EmailAddress,
        asking: Option<&mut Asking<'_>>,
        world: &mut World,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Invited, Refusal> {
        if let Some(account) = world.account_by_email(self.tenant, email.key()) {
            return account.decide(changes, |account, changes| {
                // Whoever is there already is not drawn into a group by somebody who has no say about them (L6).
                if let Some(asking) = asking {
                    asking.require(
                        Permission::InvitationsSend,
                        &asking.resource(account),
                        &Intent::default(),
                    )?;
                }
                account.invite(choose(&self.messages, account), act, changes)?;
                if !self.labels.is_empty() {
                    account.add_labels(&self.labels, act, changes)?;
                }
                if self.expires_at.is_some() {
                    account.set_expiration(self.expires_at, act, changes)?;
                }
                if self.deletes_at.is_some() {
                    let update = ProfileUpdate {
                        deletes_at: Some(self.deletes_at),
                        ..ProfileUpdate::default()
                    };
                    account.update(update, act, changes)?;
                }
                account.place(&self.placement, act, changes)?;
                Ok(invited(account, act.now, false))
            });
        }
        if world.is_suppressed(self.tenant, email.key()) {
            return Err(Refusal::AddressSuppressed(email.as_str().to_owned()));
        }
        let new = NewUser {
            id: UserId::mint(act.now),
            profile: Profile {
                language: self.language.clone(),
                labels: self.labels.clone(),
                ..Profile::of(email.clone())
            },
            credential: None,
            expires_at: self.expires_at,
            deletes_at: self.deletes_at,
        };
        let mut own = Changeset::default();
        let (tenant, seats) = (world.tenant(self.tenant)?, world.seats(self.tenant));
        let mut account = Account::create(tenant, seats, new, false, act, &mut own)?;
        account.invite(choose(&self.messages, &account), act, &mut own)?;
        account.place(&self.placement, act, &mut own)?;
        changes.extend(own);
        let invited = invited(&account, act.now, true);
        world.insert(account);
        Ok(invited)
    }
}

/// From a programme session, the invited become learners of exactly one group (L7).
fn check_session(session: &str, placement: &Placement, faults: &mut Faults) {
    if session.is_empty() {
        return;
    }
    faults.session("session_id", session);
    if placement.groups.len() != 1 {
        faults.add("group_ids", "must be exactly one where session_id is given");
    }
    if placement.roles != [RoleRef::BuiltIn(BuiltInRole::Learner)].into() {
        faults.add("roles", "must be \"learner\" where session_id is given");
    }
}

/// One address of a text.
struct Item {
    text: String,
    email: Result<EmailAddress, String>,
}

/// The addresses of a text (L4): duplicates fold into the first.
fn addresses(text: &str, faults: &mut Faults) -> Vec<Item> {
    if text.len() > 4 * MAX_TEXT || text.chars().count() > MAX_TEXT {
        faults.add(
            "addresses",
            format!("has more than {MAX_TEXT} characters; split it over several calls"),
        );
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for piece in split_addresses(text) {
        let email = EmailAddress::parse(piece).map_err(|fault| fault.to_string());
        let key = email
            .as_ref()
            .map_or_else(|_| piece.to_owned(), |email| email.key().to_owned());
        if seen.insert(key) {
            items.push(Item {
                text: piece.to_owned(),
                email,
            });
        }
    }
    if items.is_empty() {
        faults.add(
            "addresses",
            "has no address; separate addresses by comma, semicolon, white space or line break",
        );
    } else if items.len() > MAX_ADDRESSES {
        faults.add(
            "addresses",
            format!(
                "has {} addresses; give at most {MAX_ADDRESSES} in one call",
                items.len()
            ),
        );
        items.clear();
    }
    items
}

/// Whose accounts the answer tells: it is a read of them where nothing was changed (B14).
fn note_known(tenant: TenantId, answer: &InviteUsersResponse) {
    let invited = answer.results.iter().filter_map(|result| match &result.outcome {
        Some(invite_result::Outcome::Invited(invited)) if !invited.created => invited.user.as_ref(),
        _ => None,
    });
    let known: Vec<UserId> = invited
        .filter_map(|user| Some(UserId(user.user_id.parse().ok()?)))
        .collect();
    if let [one] = known.as_slice() {
        note_user(tenant, *one);
    }
    if !known.is_empty() {
        note_detail("count", known.len().to_string());
    }
}

fn item_outcome(outcome: Result<Invited, Refusal>) -> invite_result::Outcome {
    match outcome {
        Ok(invited) => invite_result::Outcome::Invited(invited),
        Err(refusal) => invite_result::Outcome::Refused(item(&refusal)),
    }
}

fn invited(account: &Account, now: Timestamp, created: bool) -> Invited {
    Invited {
        user: Some(convert::user(&account.user, now)),
        invitation: newest(account, now),
        created,
        erased_before: false,
    }
}

fn newest(account: &Account, now: Timestamp) -> Option<usher_proto::identity::v1::Invitation> {
    account
        .invitation
        .as_ref()
        .map(|invitation| convert::invitation(invitation, now))
}

fn choose(messages: &[Message], account: &Account) -> Option<Message> {
    let default = &account.tenant.settings.default_language;
    Message::choose(messages, &account.user.profile.language, default).cloned()
}

fn invitation_keys(tenant: TenantId, id: InvitationId) -> Keys {
    Keys {
        invitations: [(tenant, id)].into(),
        with_mail: true,
        ..Keys::default()
    }
}
