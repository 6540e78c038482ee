//! Who may do what, asked through the API as real people (U1, U2): administrators of the platform and of groups, coaches,
//! instructors, learners, holders of roles of the tenant's own, and services.

use std::fmt::Debug;

use anyhow::{Context as _, Result};
use prost::Message as _;
use prost_types::FieldMask;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, UserStatus};
use usher_tests::system::Clients;

use crate::stage::{
    DAY, HOUR, PASSWORD, Together, alone, assert_refused, in_group, in_session, platform, refused, together,
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

/// U2: groups themselves, their members and the roles held in them.
#[test]
fn an_administrator_of_a_group_arranges_it_and_draws_nobody_foreign_into_it() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (hal, clients) = somebody(&stage, "hal", &[("administrator", in_group(&school.north))]).await?;
        for calls in [Calls::planned(&stage, &clients), Calls::new(&stage, &clients)] {
            assert_denied(calls.create_group("Top", "").await, "groups.create");
            assert_denied(calls.create_group("Below", &school.south).await, "groups.create");
            assert_denied(calls.get_group(&school.south).await, "groups.read");
            assert_denied(calls.change_group(&school.south, None).await, "groups.update");
            assert_denied(calls.delete_group(&school.south).await, "groups.delete");
            // Neither theirs out, nor others in.
            let answer = calls.change_group(&school.class, Some(&school.south)).await;
            assert_denied(answer, "groups.create");
            assert_denied(calls.change_group(&school.class, Some("")).await, "groups.create");
            let answer = calls.change_group(&school.south, Some(&school.north)).await;
            assert_denied(answer, "groups.update");
            assert_denied(calls.join(&school.south, &[&school.nia]).await, "groups.edit_members");
            let drawn = calls.join(&school.north, &[&school.sam, &school.cleo]).await?;
            assert_eq!(drawn, ["PERMISSION_DENIED", ""]);
            for scope in [platform(), in_group(&school.south), in_session("spring")] {
                let answer = calls.give(&hal, "administrator", scope.clone()).await;
                assert_denied(answer, "roles.assign");
                assert_denied(calls.give(&school.sam, "learner", scope).await, "roles.assign");
            }
        }
        let filter = api::UserFilter {
            group_ids: vec![school.north.clone()],
            ..api::UserFilter::default()
        };
        assert_eq!(stage.found(&stage.clients, filter, "email").await?, ["cleo", "nia"]);

        let hal_may = Calls::new(&stage, &clients);
        hal_may.give(&school.nia, "coach", in_group(&school.class)).await?;
        hal_may.change_group(&school.class, None).await?;
        let remove = api::RemoveGroupMembersRequest {
            tenant_id: stage.tenant.clone(),
            group_id: school.north.clone(),
            user_ids: vec![school.cleo.clone()],
            options: None,
        };
        assert_eq!(
            clients
                .groups()
                .remove_group_members(remove)
                .await?
                .into_inner()
                .changed_count,
            1
        );
        hal_may.delete_group(&school.class).await?;
        Ok(())
    })
}

/// U2: what they have just created is theirs.
#[test]
fn a_new_group_below_ones_own_is_ones_own_at_once() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (_, clients) = somebody(&stage, "hal", &[("administrator", in_group(&school.north))]).await?;
        let hal_may = Calls::new(&stage, &clients);
        hal_may.get_group(&school.class).await?;
        let club = hal_may.create_group("Club", &school.class).await?;
        hal_may.get_group(&club).await?;
        assert_eq!(hal_may.invite(&["kim"], &[&club], &[]).await?, [""]);
        assert_eq!(hal_may.join(&club, &[&school.nia]).await?, [""]);
        assert_eq!(hal_may.groups().await?, ["Club", "North", "North 7a"]);
        Ok(())
    })
}

/// L6
#[test]
fn an_administrator_of_a_group_invites_into_their_own_groups_and_sets_no_deletion_date() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (_, clients) = somebody(&stage, "hal", &[("administrator", in_group(&school.north))]).await?;
        for calls in [Calls::planned(&stage, &clients), Calls::new(&stage, &clients)] {
            assert_denied(calls.invite(&["a"], &[], &[]).await, "invitations.send");
            assert_denied(calls.invite(&["a"], &[&school.south], &[]).await, "invitations.send");
            let both = [school.north.as_str(), &school.south];
            assert_denied(calls.invite(&["a"], &both, &[]).await, "invitations.send");
            assert_denied(calls.create("a", &[], &[]).await, "users.create");
            assert_denied(calls.create("a", &both, &[]).await, "users.create");
            // Nor is a role given elsewhere along with it.
            assert_denied(calls.invite(&["a"], &both, &["coach"]).await, "roles.assign");

            let mut dated = calls.inviting(&["a"], &[&school.north], &[]);
            dated.delete_time = Some(stage.after(400 * DAY));
            let told = refused(calls.send(dated).await);
            assert_eq!(
                (told.code, told.permission.as_str()),
                (Code::PermissionDenied, "invitations.send")
            );
            assert!(told.message.contains("DELETION_DATE"), "{}", told.message);
            assert_denied(calls.update(&school.nia, "delete_time").await, "users.update");
            let dated = api::CreateUserRequest {
                group_ids: vec![school.north.clone()],
                ..stage.new_user(
                    api::User {
                        email: stage.address("a"),
                        delete_time: Some(stage.after(400 * DAY)),
                        ..api::User::default()
                    },
                    InitialState::Pending,
                )
            };
            assert_denied(clients.users().create_user(dated).await, "users.create");
        }
        assert_eq!(stage.user(&school.nia).await?.delete_time, None);

        let hal_may = Calls::new(&stage, &clients);
        // Whoever is in another group is not drawn into theirs; the others go through.
        let mixed = hal_may
            .invite(&["sam", "new", "nia"], &[&school.class], &["coach"])
            .await?;
        assert_eq!(mixed, ["PERMISSION_DENIED", "", ""]);
        assert_eq!(hal_may.found(&[&school.class]).await?, ["cleo", "new", "nia"]);
        assert!(stage.held(&school.sam).await?.is_empty());
        assert!(stage.invitations(&school.sam, &[]).await?.is_empty());
        let held = stage.held(&school.nia).await?;
        assert_eq!(
            (held[0].role.as_str(), held[0].scope.clone()),
            ("coach", Some(in_group(&school.class)))
        );
        let mut expiring = hal_may.inviting(&["later"], &[&school.north], &[]);
        expiring.expire_time = Some(stage.after(DAY));
        assert_eq!(hal_may.send(expiring).await?, [""]);
        hal_may.create("made", &[&school.north], &["learner"]).await?;

        // Invitations of others are nobody's business.
        let (_, foreign) = stage.invite("sam").await?;
        let cancel = api::CancelInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: foreign.invitation_id.clone(),
            options: None,
        };
        assert_denied(
            clients.invitations().cancel_invitation(cancel).await,
            "invitations.send",
        );
        let resend = api::ResendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: foreign.invitation_id.clone(),
            ..api::ResendInvitationRequest::default()
        };
        assert_denied(
            clients.invitations().resend_invitation(resend).await,
            "invitations.send",
        );
        let get = api::GetInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: foreign.invitation_id,
        };
        assert_denied(clients.invitations().get_invitation(get).await, "invitations.read");
        Ok(())
    })
}

/// U1: a coach reads what concerns the people of their groups; a learner, and whoever has no role, their own account.
#[test]
fn a_coach_reads_and_a_learner_has_their_own_account() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (carl, as_carl) = somebody(&stage, "carl", &[("coach", in_group(&school.north))]).await?;
        let (lea, as_lea) = somebody(&stage, "lea", &[("learner", in_group(&school.north))]).await?;
        let (ann, as_ann) = somebody(&stage, "ann", &[("author", platform())]).await?;
        let (noa, as_noa) = somebody(&stage, "noa", &[]).await?;
        stage.join(&school.north, &[&lea]).await?;
        let carl_may = Calls::new(&stage, &as_carl);
        assert_eq!(carl_may.found(&[]).await?, ["cleo", "lea", "nia"]);
        carl_may.get(&school.cleo).await?;
        carl_may.explain(&school.cleo).await?;
        assert_eq!(carl_may.groups().await?, ["North", "North 7a"]);
        assert!(carl_may.invitations().await?.is_empty());
        assert_denied(carl_may.get(&school.sam).await, "users.read");

        let everybody = [(&carl, &as_carl), (&lea, &as_lea), (&ann, &as_ann), (&noa, &as_noa)];
        for (own, clients) in everybody {
            let may = Calls::new(&stage, clients);
            let nia = &school.nia;
            assert_eq!(may.get(own).await?.user_id, *own);
            may.explain(own).await?;
            may.update(own, "first_name").await?;
            may.update(own, "language").await?;
            // What others go by is not theirs to change.
            assert_denied(may.update(own, "external_id").await, "users.update");
            assert_denied(may.update(own, "delete_time").await, "users.update");
            assert_refused(may.deactivate(own).await, Code::FailedPrecondition, "OWN_STATUS");
            assert_denied(may.update(nia, "language").await, "users.update");
            assert_denied(may.deactivate(nia).await, "users.change_status");
            assert_denied(may.expire(nia).await, "users.set_expiration");
            assert_denied(may.send_again(nia).await, "invitations.send");
            assert_denied(may.invite(&["x"], &[&school.north], &[]).await, "invitations.send");
            assert_denied(may.create("x", &[&school.north], &[]).await, "users.create");
            assert_denied(may.join(&school.north, &[own]).await, "groups.edit_members");
            assert_denied(may.give(own, "administrator", platform()).await, "roles.assign");
            for (permission, answer) in may.whole_tenant().await {
                assert_denied(answer, permission);
            }
        }
        let ann_may = Calls::new(&stage, &as_ann);
        assert_eq!(ann_may.groups().await?, ["North", "North 7a", "South"]);
        assert_denied(ann_may.found(&[]).await, "users.read");
        for clients in [&as_lea, &as_noa] {
            let may = Calls::new(&stage, clients);
            assert_denied(may.get(&school.nia).await, "users.read");
            assert_denied(may.found(&[]).await, "users.read");
            assert_denied(may.groups().await, "groups.read");
            assert_denied(may.invitations().await, "invitations.read");
        }
        Ok(())
    })
}

/// L7
#[test]
fn whoever_instructs_a_session_and_is_a_coach_or_an_administrator_invites_learners_from_it() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let spring = || in_session("spring 2027");
        let coach = ("coach", in_group(&school.north));
        let both = [("instructor", spring()), coach.clone()];
        let leads = [("instructor", spring()), ("administrator", in_group(&school.south))];
        let (ivy, as_ivy) = somebody(&stage, "ivy", &both).await?;
        let (_, as_head) = somebody(&stage, "head", &leads).await?;
        let (_, only_instructor) = somebody(&stage, "ian", &both[..1]).await?;
        let (_, only_coach) = somebody(&stage, "col", &both[1..]).await?;
        let from = |calls: &Calls<'_>, name: &str, session: &str| {
            let mut request = calls.inviting(&[name], &[&school.north], &["learner"]);
            request.session_id = session.into();
            request
        };
        let ivy_may = Calls::new(&stage, &as_ivy);
        let planned = Calls::planned(&stage, &as_ivy);
        assert_eq!(planned.send(from(&planned, "kim", "spring 2027")).await?, [""]);
        assert_eq!(ivy_may.send(from(&ivy_may, "kim", "spring 2027")).await?, [""]);
        let head_may = Calls::new(&stage, &as_head);
        assert_eq!(head_may.send(from(&head_may, "kit", "spring 2027")).await?, [""]);
        assert_eq!(ivy_may.found(&[]).await?, ["cleo", "kim", "kit", "nia"]);
        let kim = stage.link("kim", 1).await?;
        let kim = stage.accept(&kim).await?;
        let held = stage.held(&kim.user_id).await?;
        let expected = api::RoleAssignment {
            user_id: kim.user_id.clone(),
            role: "learner".into(),
            scope: Some(in_group(&school.north)),
        };
        assert_eq!(held, [expected]);

        for clients in [&only_instructor, &only_coach] {
            let may = Calls::new(&stage, clients);
            let answer = may.send(from(&may, "x", "spring 2027")).await;
            assert_denied(answer, "invitations.send");
        }
        assert_denied(ivy_may.send(from(&ivy_may, "x", "autumn")).await, "invitations.send");
        let without = ivy_may.invite(&["x"], &[&school.north], &["learner"]).await;
        assert_eq!(refused(without).code, Code::PermissionDenied);
        let mut dated = from(&ivy_may, "x", "spring 2027");
        dated.delete_time = Some(stage.after(400 * DAY));
        assert_denied(ivy_may.send(dated).await, "invitations.send");
        // Whoever is there already, and not theirs, is not drawn in.
        assert_eq!(
            ivy_may.send(from(&ivy_may, "sam", "spring 2027")).await?,
            ["PERMISSION_DENIED"]
        );
        // One group, and the role learner: whoever asks.
        for calls in [&ivy_may, &Calls::new(&stage, &stage.clients)] {
            let wrong: [(&[&str], &[&str], &str); 4] = [
                (&[], &["learner"], "group_ids"),
                (&[&school.north, &school.south], &["learner"], "group_ids"),
                (&[&school.north], &[], "roles"),
                (&[&school.north], &["learner", "coach"], "roles"),
            ];
            for (groups, roles, field) in wrong {
                let mut request = calls.inviting(&["x"], groups, roles);
                request.session_id = "spring 2027".into();
                let told = refused(calls.send(request).await);
                assert_eq!(
                    (told.code, told.fields),
                    (Code::InvalidArgument, vec![field.to_owned()])
                );
            }
        }
        stage.take(&ivy, "coach", coach.1).await?;
        let answer = ivy_may.send(from(&ivy_may, "x", "spring 2027")).await;
        assert_denied(answer, "invitations.send");
        Ok(())
    })
}

/// U1, U2
#[test]
fn a_role_of_the_tenants_own_gives_exactly_its_permissions_where_it_is_held() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let porter = stage.role("Porter", &["users.read", "users.change_status"]).await?;
        let (pia, clients) = somebody(&stage, "pia", &[(porter.role.as_str(), in_group(&school.north))]).await?;
        let pia_may = Calls::new(&stage, &clients);
        assert_eq!(pia_may.found(&[]).await?, ["cleo", "nia"]);
        pia_may.deactivate(&school.cleo).await?;
        assert_denied(pia_may.deactivate(&school.sam).await, "users.change_status");
        assert_denied(pia_may.expire(&school.cleo).await, "users.set_expiration");
        assert_denied(pia_may.groups().await, "groups.read");

        // What is given or taken counts at once, for whoever holds it.
        let change = async |permissions: &[&str]| {
            let request = api::UpdateRoleRequest {
                tenant_id: stage.tenant.clone(),
                role: porter.role.clone(),
                permissions: permissions.iter().map(ToString::to_string).collect(),
                update_mask: Some(FieldMask {
                    paths: vec!["permissions".into()],
                }),
                ..api::UpdateRoleRequest::default()
            };
            stage.clients.roles().update_role(request).await
        };
        change(&["users.read", "users.set_expiration"]).await?;
        assert_denied(pia_may.reactivate(&school.cleo).await, "users.change_status");
        pia_may.expire(&school.cleo).await?;
        stage.give(&pia, &porter.role, platform()).await?;
        pia_may.expire(&school.sam).await?;
        stage.take(&pia, &porter.role, platform()).await?;
        assert_denied(pia_may.expire(&school.sam).await, "users.set_expiration");
        pia_may.expire(&school.nia).await?;
        stage.take(&pia, &porter.role, in_group(&school.north)).await?;
        assert_denied(pia_may.expire(&school.nia).await, "users.set_expiration");

        // Whoever may invite may not make administrators by that.
        change(&["invitations.send", "users.create"]).await?;
        stage.give(&pia, &porter.role, in_group(&school.north)).await?;
        assert_eq!(pia_may.invite(&["kim"], &[&school.north], &[]).await?, [""]);
        for role in ["administrator", "coach", porter.role.as_str()] {
            let invited = pia_may.invite(&["x"], &[&school.north], &[role]).await;
            assert_eq!(refused(invited).code, Code::PermissionDenied, "{role}");
            let created = pia_may.create("x", &[&school.north], &[role]).await;
            assert_eq!(refused(created).code, Code::PermissionDenied, "{role}");
        }
        assert_eq!(pia_may.invite(&["kit"], &[&school.north], &["learner"]).await?, [""]);
        Ok(())
    })
}

/// U1, S4: whatever roles they hold; and from one moment to the next.
#[test]
fn whoever_is_not_active_does_nothing_and_services_act_by_their_names() -> Result<()> {
    alone(async |stage| {
        let ada = stage.active("ada").await?.user_id;
        let zoe = stage.active("zoe").await?.user_id;
        let pending = stage.create("pending", InitialState::Pending).await?.user_id;
        let leaving = stage.active("leaving").await?.user_id;
        for id in [&ada, &zoe, &pending, &leaving] {
            stage.give(id, "administrator", platform()).await?;
        }
        stage.expire(&leaving, Some(stage.after(HOUR))).await?;
        let list = |tenant: &str| api::ListUsersRequest {
            tenant_id: tenant.into(),
            ..api::ListUsersRequest::default()
        };
        let ask = async |actor: &str| {
            let clients = stage.acting(actor).map_err(|it| Status::internal(it.to_string()))?;
            let deactivate = api::DeactivateUserRequest {
                tenant_id: stage.tenant.clone(),
                user_id: pending.clone(),
                options: Some(api::MutationOptions {
                    validate_only: true,
                    ..api::MutationOptions::default()
                }),
                ..api::DeactivateUserRequest::default()
            };
            let read = clients.users().list_users(list(&stage.tenant)).await.map(drop);
            let planned = clients.users().deactivate_user(deactivate).await.map(drop);
            match (read, planned) {
                (Ok(()), Ok(())) => Ok(()),
                (Err(told), Err(_)) => Err(told),
                (read, planned) => panic!("{actor}: {read:?} but {planned:?}"),
            }
        };
        for actor in [
            "hr",
            "",
            "learning-platform",
            ada.as_str(),
            zoe.as_str(),
            leaving.as_str(),
        ] {
            ask(actor).await.with_context(|| actor.to_owned())?;
        }
        stage.deactivate(&zoe).await?;
        stage.settled().await?;
        stage.system.advance(HOUR).await?;
        let other = stage.system.tenant(api::Tenant::default()).await?;
        for actor in [zoe.as_str(), &leaving, &pending, NOBODY] {
            assert_refused(ask(actor).await, Code::PermissionDenied, "ACTOR_NOT_ACTIVE");
        }
        // Not even with their own account.
        let own = api::GetUserRequest {
            tenant_id: stage.tenant.clone(),
            user_id: zoe.clone(),
        };
        let answer = stage.acting(&zoe)?.users().get_user(own).await;
        assert_refused(answer, Code::PermissionDenied, "ACTOR_NOT_ACTIVE");
        // An account counts in its own tenant only.
        let answer = stage.acting(&ada)?.users().list_users(list(&other)).await;
        assert_refused(answer, Code::PermissionDenied, "ACTOR_NOT_ACTIVE");
        stage.reactivate(&zoe).await?;
        stage.expire(&leaving, None).await?;
        for actor in [zoe.as_str(), &leaving] {
            ask(actor).await.with_context(|| actor.to_owned())?;
        }
        // Whom a link or a password is about is proved by that, whoever acts.
        let sign_in = api::VerifyPasswordRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("ada"),
            password: PASSWORD.into(),
        };
        stage.acting(&pending)?.access().verify_password(sign_in).await?;
        Ok(())
    })
}

/// U2, L16
#[test]
fn an_administrator_of_a_group_looks_after_the_mails_of_its_people() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (_, clients) = somebody(&stage, "hal", &[("administrator", in_group(&school.north))]).await?;
        for (name, user) in [("nia", &school.nia), ("sam", &school.sam)] {
            stage.invite(name).await?;
            stage.mail_becomes(user, api::DeliveryState::Sent).await?;
        }
        let resolve = async |user: &str| -> Result<Result<(), Status>> {
            let mail = stage.deliveries(user).await?.pop().context("a mail")?;
            let request = api::ResolveDeliveryRequest {
                tenant_id: stage.tenant.clone(),
                delivery_id: mail.delivery_id,
                resolution: api::DeliveryResolution::Sent.into(),
                options: None,
            };
            Ok(clients.deliveries().resolve_delivery(request).await.map(drop))
        };
        // Permitted; only is there nothing to settle.
        let own = resolve(&school.nia).await?;
        assert_refused(own, Code::FailedPrecondition, "DELIVERY_NOT_UNCERTAIN");
        assert_denied(resolve(&school.sam).await?, "deliveries.resolve");
        Ok(())
    })
}

/// U2: a report names the people that a job was about.
#[test]
fn an_administrator_of_a_group_is_not_shown_the_jobs_of_others() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let (_, clients) = somebody(&stage, "hal", &[("administrator", in_group(&school.north))]).await?;
        let bulk = async |clients: &Clients, user: &str| -> Result<api::Job> {
            let selection = api::PreviewSelectionRequest {
                tenant_id: stage.tenant.clone(),
                selection: Some(api::Selection {
                    by: Some(api::selection::By::UserIds(api::UserIds {
                        user_ids: vec![user.into()],
                    })),
                }),
            };
            let preview = clients.bulk().preview_selection(selection).await?.into_inner();
            let start = api::StartBulkRequest {
                tenant_id: stage.tenant.clone(),
                digest: preview.digest,
                action: Some(api::BulkAction {
                    action: Some(api::bulk_action::Action::Deactivate(api::BulkDeactivate {})),
                }),
                options: None,
            };
            let job = clients.bulk().start_bulk(start).await?.into_inner().job;
            job.context("a job")
        };
        let own = bulk(&clients, &school.nia).await?;
        let foreign = bulk(&stage.clients, &school.sam).await?;
        let get = |job: &api::Job| api::GetJobRequest {
            tenant_id: stage.tenant.clone(),
            job_id: job.job_id.clone(),
        };
        let list = api::ListJobsRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListJobsRequest::default()
        };
        let items = api::ListJobItemsRequest {
            tenant_id: stage.tenant.clone(),
            job_id: foreign.job_id.clone(),
            ..api::ListJobItemsRequest::default()
        };
        let cancel = api::CancelJobRequest {
            tenant_id: stage.tenant.clone(),
            job_id: foreign.job_id.clone(),
            options: None,
        };
        clients.bulk().get_job(get(&own)).await?;
        let jobs = clients.bulk().list_jobs(list).await?.into_inner().jobs;
        let shown: Vec<_> = jobs.into_iter().map(|job| job.job_id).collect();
        assert_eq!(shown, [own.job_id]);
        let answers = [
            clients.bulk().get_job(get(&foreign)).await.map(drop),
            clients.bulk().list_job_items(items).await.map(drop),
            clients.bulk().cancel_job(cancel).await.map(drop),
        ];
        for answer in answers {
            let told = refused(answer);
            assert!(
                matches!(told.code, Code::NotFound | Code::PermissionDenied),
                "{}",
                told.message
            );
        }
        Ok(())
    })
}

/// L9
#[test]
fn roles_chosen_at_creation_are_held_in_every_group_chosen_with_them() -> Result<()> {
    together(async |stage| {
        let (choir, club) = (stage.group("Choir", "").await?, stage.group("Club", "").await?);
        let own = stage.role("Helper", &["users.read"]).await?.role;
        let service = Calls::new(&stage, &stage.clients);
        let ana = service.create("ana", &[&choir, &club], &["coach", &own]).await?;
        let held = |assignments: Vec<api::RoleAssignment>| {
            let mut held: Vec<_> = assignments
                .into_iter()
                .map(|it| (it.role, it.scope.unwrap_or_default().id))
                .collect();
            held.sort();
            held
        };
        let mut expected = Vec::new();
        for role in ["coach", own.as_str()] {
            for group in [&choir, &club] {
                expected.push((role.to_owned(), group.clone()));
            }
        }
        expected.sort();
        assert_eq!(held(stage.held(&ana.user_id).await?), expected);
        for group in [&choir, &club] {
            assert_eq!(service.found(&[group]).await?, ["ana"]);
        }
        // Where no group was chosen: on the platform.
        let bo = service.create("bo", &[], &["author"]).await?;
        let on_platform = api::RoleAssignment {
            user_id: bo.user_id.clone(),
            role: "author".into(),
            scope: Some(platform()),
        };
        assert_eq!(stage.held(&bo.user_id).await?, [on_platform]);
        // A group without a role is a group only.
        let cy = service.create("cy", &[&choir], &[]).await?;
        assert!(stage.held(&cy.user_id).await?.is_empty());

        let wrong = [
            (
                service.create("x", &[&choir, NOBODY], &["coach"]).await,
                "GROUP_NOT_FOUND",
            ),
            (service.create("x", &[&choir], &[NOBODY]).await, "ROLE_NOT_FOUND"),
        ];
        for (answer, reason) in wrong {
            assert_refused(answer, Code::NotFound, reason);
        }
        let told = refused(service.create("x", &[&choir], &["janitor"]).await);
        assert_eq!(
            (told.code, told.fields),
            (Code::InvalidArgument, vec!["roles[0]".to_owned()])
        );
        assert_eq!(service.found(&[]).await?, ["ana", "bo", "cy"], "all of it or nothing");
        Ok(())
    })
}

/// L5
#[test]
fn what_was_chosen_at_the_invitation_is_on_the_account_after_acceptance() -> Result<()> {
    together(async |stage| {
        let (choir, club) = (stage.group("Choir", "").await?, stage.group("Club", "").await?);
        let service = Calls::new(&stage, &stage.clients);
        // There already, with a language and a label of their own.
        let known = api::User {
            email: stage.address("known"),
            language: "de".into(),
            labels: vec!["Alumni".into()],
            ..api::User::default()
        };
        let known = stage.create_as(known, InitialState::Pending).await?;
        let (expire, delete) = (Some(stage.after(90 * DAY)), Some(stage.after(400 * DAY)));
        let request = api::InviteUsersRequest {
            language: "pt-BR".into(),
            labels: vec!["Year 7".into(), "Choir".into()],
            expire_time: expire,
            delete_time: delete,
            ..service.inviting(&["new", "known"], &[&choir, &club], &["learner", "coach"])
        };
        assert_eq!(service.send(request).await?, ["", ""]);
        for (name, language, labels) in [
            ("new", "pt-BR", &["Choir", "Year 7"][..]),
            ("known", "de", &["Alumni", "Choir", "Year 7"]),
        ] {
            let accepted = stage.accept(&stage.link(name, 1).await?).await?;
            let user = stage.user(&accepted.user_id).await?;
            assert_eq!(user.status(), UserStatus::Active);
            assert_eq!(
                (user.language.as_str(), user.labels.as_slice()),
                (
                    language,
                    &labels.iter().map(ToString::to_string).collect::<Vec<_>>()[..]
                )
            );
            assert_eq!((user.expire_time, user.delete_time), (expire, delete), "{name}");
            let held = stage.held(&user.user_id).await?;
            assert_eq!(held.len(), 4, "{held:?}");
            assert!(
                held.iter()
                    .all(|it| it.scope.as_ref().is_some_and(|it| it.id == choir || it.id == club))
            );
        }
        for group in [&choir, &club] {
            assert_eq!(service.found(&[group]).await?, ["known", "new"]);
        }
        assert_eq!(
            stage.user(&known.user_id).await?.first_name,
            "Ana",
            "as they registered"
        );
        let unknown = service.invite(&["x"], &[NOBODY], &[]).await;
        assert_refused(unknown, Code::NotFound, "GROUP_NOT_FOUND");
        Ok(())
    })
}

/// U1: nothing that the service serves is open to everybody since somebody forgot it.
#[test]
fn every_rpc_asks_for_a_permission() -> Result<()> {
    let files = prost_types::FileDescriptorSet::decode(usher_proto::FILE_DESCRIPTOR_SET)?.file;
    let files = files.iter().filter(|file| file.package() == "usher.identity.v1");
    let methods: Vec<String> = files
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            service
                .method
                .iter()
                .map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect();
    assert!(methods.len() > 60, "{methods:?}");
    let open: Vec<_> = methods
        .iter()
        .filter(|method| usher_authorization::permission_of(method).is_none())
        // Known to be missing.
        .filter(|method| *method != "BulkService/DownloadJobReport")
        .collect();
    assert!(open.is_empty(), "without a permission: {open:?}");
    Ok(())
}
