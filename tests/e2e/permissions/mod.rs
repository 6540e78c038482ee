//! Who may do what, asked through the API as real people (U1, U2): administrators of the platform and of groups, coaches,
//! instructors, learners, holders of roles of the tenant's own, and services.

mod beyond;
mod inviting;
mod limits;
mod matrix;

use std::fmt::Debug;

use anyhow::{Context as _, Result};
use prost::Message as _;
use prost_types::FieldMask;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, UserStatus};
use usher_tests::system::Clients;

use crate::stage::{
    DAY, HOUR, PASSWORD, Refused, Together, alone, assert_refused, in_group, in_session, platform, refused, together,
};

/// An id that nothing has.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// Checks that a call was refused since this permission is missing.
#[track_caller]
fn assert_denied<T: Debug>(answer: Result<T, Status>, permission: &str) {
    let told = refused(answer);
    assert_eq!(
        (told.code, told.reason.as_str(), told.permission.as_str()),
        (Code::PermissionDenied, "PERMISSION_DENIED", permission),
        "{}",
        told.message
    );
    assert!(
        told.message.contains(permission),
        "it names what is missing: {}",
        told.message
    );
}

/// A school with two houses, and somebody in each place.
struct School {
    north: String,
    /// Below north.
    class: String,
    south: String,
    /// In north, in the class, and in south.
    nia: String,
    cleo: String,
    sam: String,
}

async fn school(stage: &Together) -> Result<School> {
    let north = stage.group("North", "").await?;
    let class = stage.group("North 7a", &north).await?;
    let south = stage.group("South", "").await?;
    let nia = stage.create("nia", InitialState::Pending).await?.user_id;
    let cleo = stage.create("cleo", InitialState::Pending).await?.user_id;
    let sam = stage.create("sam", InitialState::Pending).await?.user_id;
    stage.join(&north, &[&nia]).await?;
    stage.join(&class, &[&cleo]).await?;
    stage.join(&south, &[&sam]).await?;
    Ok(School {
        north,
        class,
        south,
        nia,
        cleo,
        sam,
    })
}

/// Somebody active who holds these roles: the id, and clients that act as them.
async fn somebody(stage: &Together, name: &str, roles: &[(&str, api::Scope)]) -> Result<(String, Clients)> {
    let id = stage.active(name).await?.user_id;
    for (role, scope) in roles {
        stage.give(&id, role, scope.clone()).await?;
    }
    Ok((id.clone(), stage.acting(&id)?))
}

/// What one person would do to another, or somewhere.
struct Calls<'a> {
    stage: &'a Together,
    clients: &'a Clients,
    options: Option<api::MutationOptions>,
}

impl<'a> Calls<'a> {
    fn new(stage: &'a Together, clients: &'a Clients) -> Self {
        Self {
            stage,
            clients,
            options: None,
        }
    }

    /// The same, without the deed (B3).
    fn planned(stage: &'a Together, clients: &'a Clients) -> Self {
        let options = Some(api::MutationOptions {
            validate_only: true,
            ..api::MutationOptions::default()
        });
        Self {
            options,
            ..Self::new(stage, clients)
        }
    }

    fn tenant(&self) -> String {
        self.stage.tenant.clone()
    }

    async fn get(&self, user: &str) -> Result<api::User, Status> {
        let request = api::GetUserRequest {
            tenant_id: self.tenant(),
            user_id: user.into(),
        };
        Ok(self
            .clients
            .users()
            .get_user(request)
            .await?
            .into_inner()
            .user
            .unwrap_or_default())
    }

    async fn explain(&self, user: &str) -> Result<(), Status> {
        let request = api::ExplainUserRequest {
            tenant_id: self.tenant(),
            user_id: user.into(),
        };
        self.clients.users().explain_user(request).await.map(drop)
    }

    /// Changes one field.
    async fn update(&self, user: &str, path: &str) -> Result<(), Status> {
        let request = api::UpdateUserRequest {
            user: Some(api::User {
                tenant_id: self.tenant(),
                user_id: user.into(),
                first_name: "Zoë".into(),
                language: "fr".into(),
                external_id: format!("E-{user}"),
                delete_time: Some(self.stage.after(400 * DAY)),
                ..api::User::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec![path.into()],
            }),
            expected_version: 0,
            options: self.options.clone(),
        };
        self.clients.users().update_user(request).await.map(drop)
    }

    async fn deactivate(&self, user: &str) -> Result<(), Status> {
        let request = api::DeactivateUserRequest {
            tenant_id: self.tenant(),
            user_id: user.into(),
            expected_version: 0,
            options: self.options.clone(),
        };
        self.clients.users().deactivate_user(request).await.map(drop)
    }

    async fn reactivate(&self, user: &str) -> Result<(), Status> {
        let request = api::ReactivateUserRequest {
            tenant_id: self.tenant(),
            user_id: user.into(),
            expected_version: 0,
            options: self.options.clone(),
        };
        self.clients.users().reactivate_user(request).await.map(drop)
    }

    async fn expire(&self, user: &str) -> Result<(), Status> {
        let request = api::SetUserExpirationRequest {
            tenant_id: self.tenant(),
            user_id: user.into(),
            expire_time: Some(self.stage.after(40 * DAY)),
            expected_version: 0,
            options: self.options.clone(),
        };
        self.clients.users().set_user_expiration(request).await.map(drop)
    }

    async fn create(&self, name: &str, groups: &[&str], roles: &[&str]) -> Result<api::User, Status> {
        let user = api::User {
            email: self.stage.address(name),
            ..api::User::default()
        };
        let request = api::CreateUserRequest {
            group_ids: groups.iter().map(ToString::to_string).collect(),
            roles: roles.iter().map(ToString::to_string).collect(),
            options: self.options.clone(),
            ..self.stage.new_user(user, InitialState::Pending)
        };
        let created = self.clients.users().create_user(request).await?.into_inner();
        Ok(created.user.unwrap_or_default())
    }

    fn inviting(&self, names: &[&str], groups: &[&str], roles: &[&str]) -> api::InviteUsersRequest {
        let addresses: Vec<_> = names.iter().map(|name| self.stage.address(name)).collect();
        api::InviteUsersRequest {
            group_ids: groups.iter().map(ToString::to_string).collect(),
            roles: roles.iter().map(ToString::to_string).collect(),
            options: self.options.clone(),
            ..self.stage.inviting(addresses.join(" "))
        }
    }

    /// Invites: why each address was refused, or nothing.
    async fn send(&self, request: api::InviteUsersRequest) -> Result<Vec<String>, Status> {
        let answer = self.clients.invitations().invite_users(request).await?.into_inner();
        let outcomes = answer.results.into_iter().map(|result| match result.outcome {
            Some(api::invite_result::Outcome::Refused(refused)) => refused.reason,
            _ => String::new(),
        });
        Ok(outcomes.collect())
    }

    async fn invite(&self, names: &[&str], groups: &[&str], roles: &[&str]) -> Result<Vec<String>, Status> {
        self.send(self.inviting(names, groups, roles)).await
    }

    async fn send_again(&self, user: &str) -> Result<(), Status> {
        let request = api::SendInvitationRequest {
            tenant_id: self.tenant(),
            user_id: user.into(),
            options: self.options.clone(),
            ..api::SendInvitationRequest::default()
        };
        self.clients.invitations().send_invitation(request).await.map(drop)
    }

    async fn create_group(&self, name: &str, parent: &str) -> Result<String, Status> {
        let request = api::CreateGroupRequest {
            group: Some(api::Group {
                tenant_id: self.tenant(),
                name: name.into(),
                parent_group_id: parent.into(),
                ..api::Group::default()
            }),
            options: self.options.clone(),
        };
        let created = self.clients.groups().create_group(request).await?.into_inner();
        Ok(created.group.unwrap_or_default().group_id)
    }

    async fn get_group(&self, group: &str) -> Result<(), Status> {
        let request = api::GetGroupRequest {
            tenant_id: self.tenant(),
            group_id: group.into(),
        };
        self.clients.groups().get_group(request).await.map(drop)
    }

    /// Renames a group, or moves it.
    async fn change_group(&self, group: &str, parent: Option<&str>) -> Result<(), Status> {
        let path = if parent.is_some() { "parent_group_id" } else { "name" };
        let request = api::UpdateGroupRequest {
            group: Some(api::Group {
                tenant_id: self.tenant(),
                group_id: group.into(),
                name: format!("Renamed {group}"),
                parent_group_id: parent.unwrap_or_default().into(),
                ..api::Group::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec![path.into()],
            }),
            expected_version: 0,
            options: self.options.clone(),
        };
        self.clients.groups().update_group(request).await.map(drop)
    }

    async fn delete_group(&self, group: &str) -> Result<(), Status> {
        let request = api::DeleteGroupRequest {
            tenant_id: self.tenant(),
            group_id: group.into(),
            expected_version: 0,
            options: self.options.clone(),
        };
        self.clients.groups().delete_group(request).await.map(drop)
    }

    /// Adds people to a group: why each was refused, or nothing.
    async fn join(&self, group: &str, users: &[&str]) -> Result<Vec<String>, Status> {
        let request = api::AddGroupMembersRequest {
            options: self.options.clone(),
            ..self.stage.joining(group, users)
        };
        let added = self.clients.groups().add_group_members(request).await?.into_inner();
        let reasons = added.results.into_iter();
        Ok(reasons
            .map(|it| it.refused.map(|it| it.reason).unwrap_or_default())
            .collect())
    }

    async fn give(&self, user: &str, role: &str, scope: api::Scope) -> Result<(), Status> {
        let request = api::AssignRolesRequest {
            options: self.options.clone(),
            ..self.stage.giving(user, role, scope)
        };
        self.clients.roles().assign_roles(request).await.map(drop)
    }

    async fn define_role(&self, name: &str) -> Result<(), Status> {
        let request = api::CreateRoleRequest {
            tenant_id: self.tenant(),
            display_name: name.into(),
            permissions: vec!["users.read".into()],
            options: self.options.clone(),
        };
        self.clients.roles().create_role(request).await.map(drop)
    }

    /// Whom a list shows.
    async fn found(&self, groups: &[&str]) -> Result<Vec<String>, Status> {
        let filter = api::UserFilter {
            group_ids: groups.iter().map(ToString::to_string).collect(),
            ..api::UserFilter::default()
        };
        self.stage.found(self.clients, filter, "email").await
    }

    async fn groups(&self) -> Result<Vec<String>, Status> {
        let request = api::ListGroupsRequest {
            tenant_id: self.tenant(),
            ..api::ListGroupsRequest::default()
        };
        let groups = self.clients.groups().list_groups(request).await?.into_inner().groups;
        Ok(groups.into_iter().map(|group| group.name).collect())
    }

    /// The addresses of open invitations.
    async fn invitations(&self) -> Result<Vec<String>, Status> {
        let request = api::ListInvitationsRequest {
            tenant_id: self.tenant(),
            ..api::ListInvitationsRequest::default()
        };
        let listed = self.clients.invitations().list_invitations(request).await?.into_inner();
        Ok(listed.invitations.into_iter().map(|it| it.email).collect())
    }

    async fn mails(&self) -> Result<Vec<String>, Status> {
        let request = api::ListDeliveriesRequest {
            tenant_id: self.tenant(),
            ..api::ListDeliveriesRequest::default()
        };
        let listed = self.clients.deliveries().list_deliveries(request).await?.into_inner();
        Ok(listed.deliveries.into_iter().map(|it| it.user_id).collect())
    }

    /// What concerns the tenant as a whole: the permission of each call, and whether it was answered.
    async fn whole_tenant(&self) -> Vec<(&'static str, Result<(), Status>)> {
        let tenant_id = self.tenant();
        let tenant = api::GetTenantRequest {
            tenant_id: tenant_id.clone(),
        };
        let usage = api::GetSeatUsageRequest {
            tenant_id: tenant_id.clone(),
        };
        let ledger = api::ListSeatLedgerRequest {
            tenant_id: tenant_id.clone(),
            ..api::ListSeatLedgerRequest::default()
        };
        let forecast = api::GetSeatForecastRequest {
            tenant_id: tenant_id.clone(),
        };
        let suppressions = api::ListSuppressionsRequest {
            tenant_id: tenant_id.clone(),
            ..api::ListSuppressionsRequest::default()
        };
        let check = api::CheckAccessRequest {
            tenant_id: tenant_id.clone(),
            user_ids: vec![NOBODY.into()],
        };
        let watch = api::WatchEventsRequest {
            tenant_id: tenant_id.clone(),
            ..api::WatchEventsRequest::default()
        };
        let rename = api::UpdateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id,
                sender_name: "Office".into(),
                ..api::Tenant::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["sender_name".into()],
            }),
            options: self.options.clone(),
        };
        let clients = self.clients;
        vec![
            ("tenants.read", clients.tenants().get_tenant(tenant).await.map(drop)),
            (
                "tenants.update",
                clients.tenants().update_tenant(rename).await.map(drop),
            ),
            ("seats.read", clients.seats().get_seat_usage(usage).await.map(drop)),
            ("seats.read", clients.seats().list_seat_ledger(ledger).await.map(drop)),
            (
                "seats.read",
                clients.seats().get_seat_forecast(forecast).await.map(drop),
            ),
            (
                "suppressions.read",
                clients.deliveries().list_suppressions(suppressions).await.map(drop),
            ),
            ("access.check", clients.access().check_access(check).await.map(drop)),
            ("events.watch", clients.events().watch_events(watch).await.map(drop)),
            (
                "roles.define",
                self.define_role(&format!("Role {}", uuid::Uuid::new_v4())).await,
            ),
        ]
    }
}

/// U1, S9
#[test]
fn an_administrator_of_the_platform_does_everything_but_make_tenants_and_change_their_own_status() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (ada, clients) = somebody(&stage, "ada", &[("administrator", platform())]).await?;
        let ada_may = Calls::new(&stage, &clients);
        for user in [&school.nia, &school.cleo, &school.sam] {
            ada_may.get(user).await?;
            ada_may.explain(user).await?;
            ada_may.update(user, "external_id").await?;
            ada_may.update(user, "delete_time").await?;
            ada_may.deactivate(user).await?;
            ada_may.reactivate(user).await?;
            ada_may.expire(user).await?;
            ada_may.send_again(user).await?;
        }
        ada_may.create("new", &[&school.south], &["administrator"]).await?;
        let mut dated = ada_may.inviting(&["invited"], &[], &["coach"]);
        dated.delete_time = Some(stage.after(400 * DAY));
        assert_eq!(ada_may.send(dated).await?, [""]);
        let group = ada_may.create_group("West", "").await?;
        assert_eq!(ada_may.join(&group, &[&school.sam]).await?, [""]);
        ada_may.change_group(&group, Some(&school.north)).await?;
        ada_may.delete_group(&group).await?;
        ada_may.give(&school.sam, "author", platform()).await?;
        assert_eq!(
            ada_may.found(&[]).await?,
            ["ada", "cleo", "invited", "new", "nia", "sam"]
        );
        for (permission, answer) in ada_may.whole_tenant().await {
            answer.with_context(|| permission.to_owned())?;
        }
        // Whatever form the id of whoever acts is written in.
        let shouting = stage.acting(&ada.to_uppercase())?;
        for clients in [&clients, &shouting] {
            let own = Calls::new(&stage, clients);
            let answers = [
                own.deactivate(&ada).await,
                own.reactivate(&ada).await,
                own.expire(&ada).await,
            ];
            for answer in answers {
                assert_refused(answer, Code::FailedPrecondition, "OWN_STATUS");
            }
        }
        assert_eq!(stage.user(&ada).await?.status(), UserStatus::Active);

        let tenant = api::CreateTenantRequest {
            tenant: Some(api::Tenant {
                display_name: "Another".into(),
                ..api::Tenant::default()
            }),
            options: None,
        };
        let answer = clients.tenants().create_tenant(tenant).await;
        assert_eq!(refused(answer).code, Code::PermissionDenied);
        let begin = api::BeginDeliveryRequest {
            tenant_id: stage.tenant.clone(),
            delivery_id: NOBODY.into(),
            worker_id: "w".into(),
            ..api::BeginDeliveryRequest::default()
        };
        assert_denied(clients.work().begin_delivery(begin).await, "work.perform");
        Ok(())
    })
}

/// U2
#[test]
fn an_administrator_of_a_group_manages_its_people_and_those_below_and_nobody_else() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (hal, clients) = somebody(&stage, "hal", &[("administrator", in_group(&school.north))]).await?;
        stage.join(&school.north, &[&hal]).await?;
        for name in ["nia", "cleo", "sam"] {
            stage.invite(name).await?;
        }
        let hal_may = Calls::new(&stage, &clients);
        for user in [&school.nia, &school.cleo] {
            hal_may.get(user).await?;
            hal_may.explain(user).await?;
            hal_may.update(user, "external_id").await?;
            hal_may.deactivate(user).await?;
            hal_may.reactivate(user).await?;
            hal_may.expire(user).await?;
            hal_may.send_again(user).await?;
        }
        // Planned or not, the answer is the same (B3).
        for calls in [Calls::planned(&stage, &clients), Calls::new(&stage, &clients)] {
            let sam = &school.sam;
            assert_denied(calls.get(sam).await, "users.read");
            assert_denied(calls.explain(sam).await, "users.explain");
            assert_denied(calls.update(sam, "language").await, "users.update");
            assert_denied(calls.deactivate(sam).await, "users.change_status");
            assert_denied(calls.reactivate(sam).await, "users.change_status");
            assert_denied(calls.expire(sam).await, "users.set_expiration");
            assert_denied(calls.send_again(sam).await, "invitations.send");
            assert_denied(calls.get(NOBODY).await, "users.read");
            for own in [calls.deactivate(&hal).await, calls.expire(&hal).await] {
                assert_refused(own, Code::FailedPrecondition, "OWN_STATUS");
            }
        }
        assert_ne!(stage.user(&school.sam).await?.status(), UserStatus::Deactivated);

        // Lists show what is theirs.
        assert_eq!(hal_may.found(&[]).await?, ["cleo", "hal", "nia"]);
        assert_eq!(hal_may.found(&[&school.class]).await?, ["cleo"]);
        assert_eq!(hal_may.found(&[&school.south, &school.class]).await?, ["cleo"]);
        assert_denied(hal_may.found(&[&school.south]).await, "users.read");
        assert_eq!(hal_may.groups().await?, ["North", "North 7a"]);
        let mut invited = hal_may.invitations().await?;
        invited.sort();
        assert_eq!(invited, [stage.address("cleo"), stage.address("nia")]);
        let mails = hal_may.mails().await?;
        assert!(mails.contains(&school.nia) && !mails.contains(&school.sam), "{mails:?}");
        let batch = api::BatchGetUsersRequest {
            tenant_id: stage.tenant.clone(),
            user_ids: vec![school.sam.clone(), school.nia.clone(), NOBODY.into()],
        };
        let batch = clients.users().batch_get_users(batch).await?.into_inner();
        assert_eq!(batch.users.len(), 1);
        assert_eq!(batch.missing_user_ids, [school.sam.as_str(), NOBODY]);

        for (permission, answer) in hal_may.whole_tenant().await {
            assert_denied(answer, permission);
        }
        Ok(())
    })
}
