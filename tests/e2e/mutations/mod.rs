//! What every mutation takes: a request id, an expected version, "only validate" (B1 to B3).

mod versions;

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use prost::Message as _;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{
    BounceKind, DeliveryResolution, DeliveryState, InitialState, MutationOptions, UserStatus,
};
use usher_tests::environment::smtp_sink::Behaviour;

use crate::stage::{
    DAY, MINUTE, PASSWORD, PATIENCE, Together, alone, assert_refused, in_group, refused, together, token,
};

/// A mutation of which only the options are open: its name, and the call.
type Mutation = (
    &'static str,
    Box<dyn Fn(MutationOptions) -> BoxFuture<'static, Result<Vec<u8>, Status>>>,
);

macro_rules! mutation {
    ($client:expr, $method:ident, $request:expr) => {{
        let (client, request) = ($client, $request);
        let call = move |options: MutationOptions| {
            let (mut client, mut request) = (client.clone(), request.clone());
            request.options = Some(options);
            async move { Ok(client.$method(request).await?.into_inner().encode_to_vec()) }.boxed()
        };
        (stringify!($method), Box::new(call) as Box<_>)
    }};
}

/// One of each, in an order in which each of them changes something.
async fn one_of_each(stage: &Together) -> Result<Vec<Mutation>> {
    let tenant_id = || stage.tenant.clone();
    let (users, invitations) = (stage.clients.users(), stage.clients.invitations());
    let (tenants, deliveries, access) = (
        stage.clients.tenants(),
        stage.clients.deliveries(),
        stage.clients.access(),
    );
    let active = stage.active("active").await?.user_id;
    let pending = stage.create("pending", InitialState::Pending).await?.user_id;
    stage
        .create("one-time", InitialState::ActiveWithGeneratedPassword)
        .await?;
    let one_time = stage.mail("one-time", 1).await?.text;
    let one_time = one_time.split_once("one-time password\n").context("a password")?.1;
    let one_time = one_time.lines().next().unwrap_or_default().to_owned();
    let (_, cancelled) = stage.invited("cancelled").await?;
    let (_, sent_again) = stage.invited("sent-again").await?;
    stage.invited("accepts").await?;
    let link = token(&stage.mail("accepts", 1).await?)?;
    let gone = Behaviour::RefuseRecipient {
        code: 550,
        text: "5.1.1 gone".into(),
    };
    stage.sink.script(&stage.address("bounced"), [gone]);
    let (bounced, _) = stage.invite("bounced").await?;
    stage.mail_becomes(&bounced.user_id, DeliveryState::Failed).await?;
    stage
        .sink
        .script(&stage.address("unknown"), [Behaviour::HangUpAfterDot]);
    let (returning, _) = stage.invited("returned").await?;
    let returned = stage.mail_becomes(&returning.user_id, DeliveryState::Sent).await?;
    let (unknown, _) = stage.invite("unknown").await?;
    let uncertain = stage.mail_becomes(&unknown.user_id, DeliveryState::Uncertain).await?;
    let new = api::User {
        email: stage.address("created"),
        ..api::User::default()
    };
    let renamed = api::User {
        tenant_id: tenant_id(),
        user_id: active.clone(),
        first_name: "Zoë".into(),
        ..api::User::default()
    };
    let first_name = prost_types::FieldMask {
        paths: vec!["first_name".into()],
    };
    let school = api::Tenant {
        tenant_id: tenant_id(),
        sender_name: "Office".into(),
        ..api::Tenant::default()
    };
    let sender_name = prost_types::FieldMask {
        paths: vec!["sender_name".into()],
    };
    let change = api::ChangePasswordRequest {
        tenant_id: tenant_id(),
        email: stage.address("one-time"),
        current_password: one_time,
        new_password: PASSWORD.into(),
        options: None,
    };
    let deactivate = api::DeactivateUserRequest {
        tenant_id: tenant_id(),
        user_id: active.clone(),
        ..api::DeactivateUserRequest::default()
    };
    let reactivate = api::ReactivateUserRequest {
        tenant_id: tenant_id(),
        user_id: active.clone(),
        ..api::ReactivateUserRequest::default()
    };
    let expire = api::SetUserExpirationRequest {
        tenant_id: tenant_id(),
        user_id: active,
        expire_time: Some(stage.after(DAY)),
        ..api::SetUserExpirationRequest::default()
    };
    let send = api::SendInvitationRequest {
        tenant_id: tenant_id(),
        user_id: pending,
        ..api::SendInvitationRequest::default()
    };
    let cancel = api::CancelInvitationRequest {
        tenant_id: tenant_id(),
        invitation_id: cancelled.invitation_id,
        options: None,
    };
    let resend = api::ResendInvitationRequest {
        tenant_id: tenant_id(),
        invitation_id: sent_again.invitation_id,
        ..api::ResendInvitationRequest::default()
    };
    let test = api::SendTestInvitationRequest {
        tenant_id: tenant_id(),
        email: stage.address("me"),
        ..api::SendTestInvitationRequest::default()
    };
    let lift = api::RemoveSuppressionRequest {
        tenant_id: tenant_id(),
        email: stage.address("bounced"),
        options: None,
    };
    let report = api::ReportBounceRequest {
        tenant_id: tenant_id(),
        reports: vec![api::BounceReport {
            delivery_id: returned.delivery_id,
            kind: BounceKind::Hard.into(),
            status: "5.1.1".into(),
            ..api::BounceReport::default()
        }],
        options: None,
    };
    let resolve = api::ResolveDeliveryRequest {
        tenant_id: tenant_id(),
        delivery_id: uncertain.delivery_id,
        resolution: DeliveryResolution::Sent.into(),
        options: None,
    };
    let create = stage.new_user(new, InitialState::ActiveWithPassword);
    let invite = stage.inviting(format!("{} {}", stage.address("first"), stage.address("pending")));
    let update_user = api::UpdateUserRequest {
        user: Some(renamed),
        update_mask: Some(first_name),
        ..api::UpdateUserRequest::default()
    };
    let update_tenant = api::UpdateTenantRequest {
        tenant: Some(school),
        update_mask: Some(sender_name),
        options: None,
    };
    let mut all = vec![
        mutation!(users.clone(), create_user, create),
        mutation!(users.clone(), update_user, update_user),
        mutation!(users.clone(), deactivate_user, deactivate),
        mutation!(users.clone(), reactivate_user, reactivate),
        mutation!(users, set_user_expiration, expire),
        mutation!(invitations.clone(), invite_users, invite),
        mutation!(invitations.clone(), send_invitation, send),
        mutation!(invitations.clone(), cancel_invitation, cancel),
        mutation!(invitations.clone(), resend_invitation, resend),
        mutation!(invitations.clone(), send_test_invitation, test),
        mutation!(invitations, accept_invitation, stage.accepting(&link)),
        mutation!(access, change_password, change),
        mutation!(deliveries.clone(), remove_suppression, lift),
        mutation!(deliveries.clone(), report_bounce, report),
        mutation!(deliveries, resolve_delivery, resolve),
        mutation!(tenants, update_tenant, update_tenant),
    ];
    all.extend(one_of_each_of_groups_and_roles(stage).await?);
    Ok(all)
}

async fn one_of_each_of_groups_and_roles(stage: &Together) -> Result<Vec<Mutation>> {
    let tenant_id = || stage.tenant.clone();
    let (groups, roles) = (stage.clients.groups(), stage.clients.roles());
    let member = stage.create("member", InitialState::Pending).await?.user_id;
    let class = stage.group("Class", "").await?;
    stage.group("Below", &class).await?;
    let helper = stage.role("Helper", &["users.read"]).await?.role;
    let spare = stage.role("Spare", &["users.read"]).await?.role;
    let create_group = api::CreateGroupRequest {
        group: Some(api::Group {
            tenant_id: tenant_id(),
            name: "New".into(),
            ..api::Group::default()
        }),
        options: None,
    };
    let update_group = api::UpdateGroupRequest {
        group: Some(api::Group {
            tenant_id: tenant_id(),
            group_id: class.clone(),
            name: "Renamed".into(),
            ..api::Group::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["name".into()],
        }),
        ..api::UpdateGroupRequest::default()
    };
    let remove = api::RemoveGroupMembersRequest {
        tenant_id: tenant_id(),
        group_id: class.clone(),
        user_ids: vec![member.clone()],
        options: None,
    };
    let delete_group = api::DeleteGroupRequest {
        tenant_id: tenant_id(),
        group_id: class.clone(),
        ..api::DeleteGroupRequest::default()
    };
    let create_role = api::CreateRoleRequest {
        tenant_id: tenant_id(),
        display_name: "New".into(),
        permissions: vec!["users.read".into()],
        options: None,
    };
    let update_role = api::UpdateRoleRequest {
        tenant_id: tenant_id(),
        role: helper.clone(),
        permissions: vec!["groups.read".into()],
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["permissions".into()],
        }),
        ..api::UpdateRoleRequest::default()
    };
    let assign = stage.giving(&member, &helper, in_group(&class));
    let revoke = api::RevokeRolesRequest {
        tenant_id: tenant_id(),
        user_id: member.clone(),
        roles: assign.roles.clone(),
        options: None,
    };
    let delete_role = api::DeleteRoleRequest {
        tenant_id: tenant_id(),
        role: spare,
        options: None,
    };
    Ok(vec![
        mutation!(groups.clone(), create_group, create_group),
        mutation!(groups.clone(), update_group, update_group),
        mutation!(groups.clone(), add_group_members, stage.joining(&class, &[&member])),
        mutation!(roles.clone(), create_role, create_role),
        mutation!(roles.clone(), update_role, update_role),
        mutation!(roles.clone(), assign_roles, assign),
        mutation!(roles.clone(), revoke_roles, revoke),
        mutation!(roles, delete_role, delete_role),
        mutation!(groups.clone(), remove_group_members, remove),
        mutation!(groups, delete_group, delete_group),
    ])
}

/// Everything that a mutation could change.
#[derive(Debug, PartialEq)]
struct Snapshot {
    tenant: Option<api::Tenant>,
    users: Vec<api::ExplainUserResponse>,
    invitations: Vec<api::Invitation>,
    deliveries: Vec<api::Delivery>,
    suppressions: Vec<api::Suppression>,
    groups: Vec<(api::Group, Vec<String>)>,
    roles: Vec<api::Role>,
    held: Vec<api::RoleAssignment>,
    mails: usize,
}

async fn snapshot(stage: &Together) -> Result<Snapshot> {
    stage.settled().await?;
    let get = api::GetTenantRequest {
        tenant_id: stage.tenant.clone(),
    };
    let list = api::ListUsersRequest {
        tenant_id: stage.tenant.clone(),
        ..api::ListUsersRequest::default()
    };
    let suppressions = api::ListSuppressionsRequest {
        tenant_id: stage.tenant.clone(),
        ..api::ListSuppressionsRequest::default()
    };
    let mut users = Vec::new();
    let mut mails = stage.mails("me").len();
    for user in stage.clients.users().list_users(list).await?.into_inner().users {
        mails += stage.sink.received_by(&user.email).len();
        users.push(stage.explain(&user.user_id).await?);
    }
    let list = api::ListGroupsRequest {
        tenant_id: stage.tenant.clone(),
        ..api::ListGroupsRequest::default()
    };
    let mut groups = Vec::new();
    for group in stage.clients.groups().list_groups(list).await?.into_inner().groups {
        let members = api::UserFilter {
            group_ids: vec![group.group_id.clone()],
            ..api::UserFilter::default()
        };
        groups.push((group, stage.found(&stage.clients, members, "email").await?));
    }
    let roles = api::ListRolesRequest {
        tenant_id: stage.tenant.clone(),
    };
    Ok(Snapshot {
        groups,
        roles: stage.clients.roles().list_roles(roles).await?.into_inner().roles,
        held: stage.held("").await?,
        tenant: stage.clients.tenants().get_tenant(get).await?.into_inner().tenant,
        users,
        invitations: stage
            .invitations("", &(1..=7).filter_map(|it| it.try_into().ok()).collect::<Vec<_>>())
            .await?,
        deliveries: stage.deliveries("").await?,
        suppressions: stage
            .clients
            .deliveries()
            .list_suppressions(suppressions)
            .await?
            .into_inner()
            .suppressions,
        mails,
    })
}

fn named(request_id: &str) -> MutationOptions {
    MutationOptions {
        request_id: request_id.into(),
        ..MutationOptions::default()
    }
}

/// B1, B3
#[test]
fn every_mutation_can_be_planned_without_the_deed_and_repeated_without_a_second_one() -> Result<()> {
    together(async |stage| {
        let mutations = one_of_each(&stage).await?;
        for (name, call) in &mutations {
            let before = snapshot(&stage).await?;
            let plan = MutationOptions {
                validate_only: true,
                ..named(&format!("{name}-1"))
            };
            call(plan).await.with_context(|| format!("the plan of {name}"))?;
            assert_eq!(snapshot(&stage).await?, before, "the plan of {name} changed something");

            let first = call(named(&format!("{name}-1")))
                .await
                .with_context(|| (*name).to_owned())?;
            let done = snapshot(&stage).await?;
            assert_ne!(done, before, "{name} changed nothing");
            let repeated = call(named(&format!("{name}-1")))
                .await
                .with_context(|| format!("{name}, repeated"))?;
            assert_eq!(repeated, first, "{name} answers a repeat otherwise");
            assert_eq!(snapshot(&stage).await?, done, "the repeat of {name} changed something");
        }
        // The same id with another call is a mistake of the caller.
        let others = mutations.iter().cycle().skip(1);
        for ((name, _), (_, other)) in mutations.iter().zip(others) {
            let refusal = refused(other(named(&format!("{name}-1"))).await);
            let told = (refusal.code, refusal.reason.as_str(), refusal.fields.as_slice());
            let expected = (
                Code::InvalidArgument,
                "REQUEST_ID_REUSED",
                &["options.request_id".to_owned()][..],
            );
            assert_eq!(told, expected, "after {name}");
        }
        Ok(())
    })
}

/// B1, B3: a tenant is created by a call that has no tenant yet.
#[test]
fn creating_a_tenant_can_be_planned_and_repeated_too() -> Result<()> {
    together(async |stage| {
        let request = |tenant_id: &str, options| api::CreateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id: tenant_id.into(),
                display_name: "Lycée Curie".into(),
                ..api::Tenant::default()
            }),
            options: Some(options),
        };
        let mut tenants = stage.clients.tenants();
        let plan = MutationOptions {
            validate_only: true,
            ..MutationOptions::default()
        };
        let fresh = uuid::Uuid::from_u128(stage.tenant.parse::<uuid::Uuid>()?.as_u128() ^ 1).to_string();
        let planned = tenants
            .create_tenant(request(&fresh, plan))
            .await?
            .into_inner()
            .tenant
            .context("a tenant")?;
        assert_eq!(planned.tenant_id, fresh);
        let get = api::GetTenantRequest {
            tenant_id: fresh.clone(),
        };
        assert_refused(tenants.get_tenant(get).await, Code::NotFound, "TENANT_NOT_FOUND");

        let request_id = format!("make:{}", stage.tenant);
        let first = tenants
            .create_tenant(request("", named(&request_id)))
            .await?
            .into_inner();
        let repeated = tenants
            .create_tenant(request("", named(&request_id)))
            .await?
            .into_inner();
        assert_eq!(first, repeated);
        let id = first.tenant.context("a tenant")?.tenant_id;
        let taken = tenants.create_tenant(request(&id, MutationOptions::default())).await;
        assert_refused(taken, Code::AlreadyExists, "TENANT_EXISTS");
        Ok(())
    })
}

/// B1: what was in the future then need not be so now.
#[test]
fn a_call_can_be_repeated_after_the_expiration_that_it_set() -> Result<()> {
    alone(async |stage| {
        let at = Some(stage.after(MINUTE));
        let options = |request_id: &str| Some(named(request_id));
        let user = api::User {
            email: stage.address("ana"),
            expire_time: at,
            ..api::User::default()
        };
        let create = api::CreateUserRequest {
            options: options("create"),
            ..stage.new_user(user, InitialState::Pending)
        };
        let created = stage.clients.users().create_user(create.clone()).await?.into_inner();
        let invite = api::InviteUsersRequest {
            expire_time: at,
            options: options("invite"),
            ..stage.inviting(stage.address("bo"))
        };
        let invited = stage
            .clients
            .invitations()
            .invite_users(invite.clone())
            .await?
            .into_inner();
        let expire = api::SetUserExpirationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: stage.active("cy").await?.user_id,
            expire_time: at,
            expected_version: 0,
            options: options("expire"),
        };
        let expiring = stage
            .clients
            .users()
            .set_user_expiration(expire.clone())
            .await?
            .into_inner();
        stage.settled().await?;
        stage.system.advance(2 * MINUTE).await?;
        let mut users = stage.clients.users();
        assert_eq!(users.create_user(create.clone()).await?.into_inner(), created);
        assert_eq!(users.set_user_expiration(expire.clone()).await?.into_inner(), expiring);
        let again = stage.clients.invitations().invite_users(invite).await?;
        assert_eq!(again.into_inner(), invited);
        // For the first time it is a mistake.
        let first = api::SetUserExpirationRequest {
            options: options("first"),
            ..expire
        };
        let refusal = refused(users.set_user_expiration(first).await);
        assert_eq!(
            (refusal.code, refusal.fields),
            (Code::InvalidArgument, vec!["expire_time".into()])
        );
        Ok(())
    })
}

/// B1: also at the same moment, and at two replicas.
#[test]
fn calls_with_one_request_id_at_once_do_one_deed_and_get_one_answer() -> Result<()> {
    alone(async |stage| {
        let (mut replica, other) = stage.system.replica().await?;
        let user = api::User {
            email: stage.address("ana"),
            ..api::User::default()
        };
        let request = api::CreateUserRequest {
            options: Some(named("once")),
            ..stage.new_user(user, InitialState::Pending)
        };
        let invitation = api::InviteUsersRequest {
            options: Some(named("once:more")),
            ..stage.inviting(stage.address("bo"))
        };
        let calls = (0..60).map(|index| {
            let clients = if index % 2 == 0 { &stage.clients } else { &other };
            let (mut users, mut invitations) = (clients.users(), clients.invitations());
            let (request, invitation) = (request.clone(), invitation.clone());
            async move {
                let created = users.create_user(request).await?.into_inner().encode_to_vec();
                let invited = invitations.invite_users(invitation).await?.into_inner().encode_to_vec();
                Ok::<_, Status>((created, invited))
            }
        });
        let answers: HashSet<_> = join_all(calls).await.into_iter().collect::<Result<_, _>>()?;
        assert_eq!(answers.len(), 1);
        let list = api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListUsersRequest::default()
        };
        assert_eq!(
            stage.clients.users().list_users(list).await?.into_inner().users.len(),
            2
        );
        assert_eq!(stage.invitations("", &[]).await?.len(), 1);
        stage.mail("bo", 1).await?;
        stage.settled().await?;
        assert_eq!(stage.mails("bo").len(), 1);
        replica.terminate(PATIENCE).await?;
        Ok(())
    })
}
