//! Nobody gives more than they hold (U1), and nobody changes whoever holds more (U2): by whatever way in.

use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::import_users_request::Part;
use usher_tests::system::{Options, System, vars};

use super::*;
use crate::stage::apart;

/// A selection of these people, made by somebody.
async fn selected(stage: &Together, clients: &Clients, users: &[&str]) -> Result<String, Status> {
    let request = api::PreviewSelectionRequest {
        tenant_id: stage.tenant.clone(),
        selection: Some(api::Selection {
            by: Some(api::selection::By::UserIds(api::UserIds {
                user_ids: users.iter().map(ToString::to_string).collect(),
            })),
        }),
    };
    Ok(clients.bulk().preview_selection(request).await?.into_inner().digest)
}

impl Calls<'_> {
    /// Starts a job over these people.
    async fn start(&self, users: &[&str], action: Action) -> Result<api::Job, Status> {
        let request = api::StartBulkRequest {
            tenant_id: self.tenant(),
            digest: selected(self.stage, self.clients, users).await?,
            action: Some(api::BulkAction { action: Some(action) }),
            options: self.options.clone(),
        };
        let job = self.clients.bulk().start_bulk(request).await?.into_inner().job;
        Ok(job.unwrap_or_default())
    }

    /// Takes a job back.
    async fn undo(&self, job: &api::Job) -> Result<api::Job, Status> {
        let request = api::UndoJobRequest {
            tenant_id: self.tenant(),
            job_id: job.job_id.clone(),
            options: None,
        };
        let job = self.clients.bulk().undo_job(request).await?.into_inner().job;
        Ok(job.unwrap_or_default())
    }

    /// Imports a file.
    async fn import(&self, mode: api::ImportMode, file: String) -> Result<api::Job, Status> {
        let settings = Part::Settings(api::ImportSettings {
            tenant_id: self.tenant(),
            mode: mode.into(),
            ..api::ImportSettings::default()
        });
        let parts = [settings, Part::Data(file.into_bytes())];
        let parts = parts.map(|part| api::ImportUsersRequest { part: Some(part) });
        let answer = self
            .clients
            .transfer()
            .import_users(futures::stream::iter(parts))
            .await?;
        Ok(answer.into_inner().job.unwrap_or_default())
    }

    /// Why each item of a job was refused, or nothing.
    async fn reasons(&self, job: Result<api::Job, Status>) -> Result<Vec<String>> {
        let job = job?;
        self.stage.ended(&job).await?;
        let items = self.stage.items(&job, &[]).await?;
        Ok(items.into_iter().map(|item| item.reason).collect())
    }
}

fn roles_in(group: &str, assign: &[&str], revoke: &[&str]) -> Action {
    let roles = |names: &[&str]| -> Vec<api::RoleInScope> {
        let roles = names.iter().map(|role| api::RoleInScope {
            role: (*role).into(),
            scope: Some(in_group(group)),
        });
        roles.collect()
    };
    Action::EditRoles(api::BulkEditRoles {
        assign: roles(assign),
        revoke: roles(revoke),
    })
}

/// U1: not with a role that they assign, nor with an account, an invitation, a file or a job.
#[test]
fn whoever_assigns_roles_gives_none_that_may_more_than_they_do() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let held = [
            "roles.assign",
            "users.read",
            "users.create",
            "users.import",
            "invitations.send",
            "groups.edit_members",
            "jobs.run",
            "jobs.read",
        ];
        let own = stage.role("Assigner", &held).await?.role;
        let porter = stage.role("Porter", &["users.read", "users.change_status"]).await?.role;
        let reader = stage.role("Reader", &["users.read"]).await?.role;
        let north = in_group(&school.north);
        let (asa, clients) = somebody(&stage, "asa", &[(&own, north.clone())]).await?;
        // What each would take, beyond what they hold.
        let lacking = [
            ("administrator", "tenants.read"),
            ("coach", "users.explain"),
            ("author", "groups.read"),
            (porter.as_str(), "users.change_status"),
        ];
        for calls in [Calls::planned(&stage, &clients), Calls::new(&stage, &clients)] {
            for (role, permission) in lacking {
                for user in [&asa, &school.nia] {
                    assert_denied(calls.give(user, role, north.clone()).await, permission);
                }
                let into = [school.north.as_str()];
                assert_denied(calls.create("x", &into, &[role]).await, permission);
                assert_denied(calls.invite(&["x"], &into, &[role, "learner"]).await, permission);
                let job = calls.start(&[&school.nia], roles_in(&school.north, &[role], &[])).await;
                assert_denied(job, permission);
            }
        }
        let asa_may = Calls::new(&stage, &clients);
        let file = |role: &str| format!("email;groups;roles\n{};North;{role}\n", stage.address("filed"));
        for (role, expected) in [
            ("coach", "PERMISSION_DENIED"),
            ("Porter", "PERMISSION_DENIED"),
            ("Reader", ""),
        ] {
            let job = asa_may.import(api::ImportMode::Create, file(role)).await;
            assert_eq!(asa_may.reasons(job).await?, [expected], "{role}");
        }
        assert!(stage.held(&school.nia).await?.is_empty());

        // What they hold themselves, they give.
        for role in ["learner", &reader, &own] {
            asa_may.give(&school.nia, role, in_group(&school.class)).await?;
        }
        asa_may.create("made", &[&school.class], &[&reader]).await?;
        let job = asa_may
            .start(&[&school.nia], roles_in(&school.north, &[&reader], &[]))
            .await;
        assert_eq!(asa_may.reasons(job).await?, [""]);
        // … and take away what they could not give.
        stage.give(&school.cleo, "coach", north.clone()).await?;
        let job = asa_may
            .start(&[&school.cleo], roles_in(&school.north, &[], &["coach"]))
            .await?;
        assert_eq!(asa_may.reasons(Ok(job.clone())).await?, [""]);
        assert!(stage.held(&school.cleo).await?.is_empty());
        // But to take that back is to give it.
        assert_eq!(asa_may.reasons(asa_may.undo(&job).await).await?, ["PERMISSION_DENIED"]);
        assert!(stage.held(&school.cleo).await?.is_empty());
        // What an administrator of the group may, they may give there.
        let (_, as_hal) = somebody(&stage, "hal", &[("administrator", north.clone())]).await?;
        for role in ["administrator", "coach", "instructor", &porter] {
            Calls::new(&stage, &as_hal)
                .give(&school.nia, role, north.clone())
                .await?;
        }
        Ok(())
    })
}

/// U1: nor with a role that they make.
#[test]
fn whoever_defines_roles_makes_none_that_may_more_than_they_do() -> Result<()> {
    together(async |stage| {
        let maker = stage
            .role("Maker", &["roles.define", "roles.read", "users.read"])
            .await?
            .role;
        let wide = stage.role("Wide", &["users.read", "users.update"]).await?;
        let (_, clients) = somebody(&stage, "mia", &[(&maker, platform())]).await?;
        let options = |validate_only| {
            Some(api::MutationOptions {
                validate_only,
                ..api::MutationOptions::default()
            })
        };
        let change = |permissions: &[&str], path: &str, validate_only| api::UpdateRoleRequest {
            tenant_id: stage.tenant.clone(),
            role: wide.role.clone(),
            display_name: "Renamed".into(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            update_mask: Some(FieldMask {
                paths: vec![path.into()],
            }),
            options: options(validate_only),
            ..api::UpdateRoleRequest::default()
        };
        let create = |name: &str, permissions: &[&str], validate_only| api::CreateRoleRequest {
            tenant_id: stage.tenant.clone(),
            display_name: name.into(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            options: options(validate_only),
        };
        for planned in [true, false] {
            let more = create("More", &["users.read", "users.export"], planned);
            assert_denied(clients.roles().create_role(more).await, "users.export");
            let more = change(&["users.read", "users.update", "seats.read"], "permissions", planned);
            assert_denied(clients.roles().update_role(more).await, "seats.read");
        }
        clients
            .roles()
            .create_role(create("Less", &["users.read"], false))
            .await?;
        // It has more already; that is not theirs to give, and stays as it is.
        clients.roles().update_role(change(&[], "display_name", false)).await?;
        clients
            .roles()
            .update_role(change(&["users.update"], "permissions", false))
            .await?;
        let more = change(&["users.update", "users.export"], "permissions", false);
        assert_denied(clients.roles().update_role(more).await, "users.export");
        Ok(())
    })
}

/// U1: by their permissions.
#[test]
fn a_service_gives_what_it_may_itself() -> Result<()> {
    apart(async {
        // The last is for the check that every test ends with.
        let may = "tenants.create,users.create,users.read,groups.read,roles.assign,seats.read";
        let system = System::start(Options {
            sqlite: true,
            identity: vars([("USHER__AUTHORIZATION__SERVICES", may.into())]),
            ..Options::default()
        })
        .await?;
        let tenant_id = system.tenant(api::Tenant::default()).await?;
        let clients = system.clients_as("portal")?;
        let create = |name: &str, role: &str| api::CreateUserRequest {
            tenant_id: tenant_id.clone(),
            user: Some(api::User {
                email: format!("{name}@example.org"),
                ..api::User::default()
            }),
            roles: vec![role.into()],
            ..api::CreateUserRequest::default()
        };
        let ana = clients.users().create_user(create("ana", "author")).await?.into_inner();
        assert_denied(
            clients.users().create_user(create("bo", "coach")).await,
            "users.explain",
        );
        let give = |role: &str, validate_only| api::AssignRolesRequest {
            tenant_id: tenant_id.clone(),
            user_id: ana.user.clone().unwrap_or_default().user_id,
            roles: vec![api::RoleInScope {
                role: role.into(),
                scope: Some(platform()),
            }],
            options: Some(api::MutationOptions {
                validate_only,
                ..api::MutationOptions::default()
            }),
        };
        for planned in [true, false] {
            assert_denied(
                clients.roles().assign_roles(give("administrator", planned)).await,
                "tenants.read",
            );
        }
        clients.roles().assign_roles(give("learner", false)).await?;
        Ok(())
    })
}

/// U2: one by one, planned or not, in a file and in a job.
#[test]
fn an_administrator_of_a_group_does_not_change_whoever_may_more_elsewhere() -> Result<()> {
    together(async |stage| {
        let school = school(&stage).await?;
        let north = in_group(&school.north);
        let (hal, clients) = somebody(&stage, "hal", &[("administrator", north.clone())]).await?;
        let powers = stage.role("Powers", &["users.update"]).await?.role;
        let reader = stage.role("Reader", &["users.read"]).await?.role;
        let beyond = [
            ("ada", "administrator", platform()),
            ("sue", "administrator", in_group(&school.south)),
            ("pat", powers.as_str(), platform()),
        ];
        let within = [
            ("hug", "administrator", north.clone()),
            ("cas", "administrator", in_group(&school.class)),
            ("pam", powers.as_str(), in_group(&school.class)),
            ("rob", reader.as_str(), platform()),
            ("col", "coach", platform()),
            ("ivy", "instructor", in_session("spring")),
        ];
        let mut people = std::collections::BTreeMap::new();
        for (name, role, scope) in beyond.iter().chain(&within) {
            let (user, invitation) = stage.invite(name).await?;
            stage.join(&school.north, &[&user.user_id]).await?;
            stage.give(&user.user_id, role, scope.clone()).await?;
            people.insert(*name, (user.user_id, invitation.invitation_id));
        }
        let mail_of = async |user: &str| -> Result<String> {
            Ok(stage.deliveries(user).await?.pop().context("a mail")?.delivery_id)
        };
        for calls in [Calls::planned(&stage, &clients), Calls::new(&stage, &clients)] {
            for (name, ..) in &beyond {
                let (user, invitation) = &people[name];
                calls.get(user).await?;
                calls.explain(user).await?;
                assert_denied(calls.update(user, "first_name").await, "users.update");
                assert_denied(calls.deactivate(user).await, "users.change_status");
                assert_denied(calls.reactivate(user).await, "users.change_status");
                assert_denied(calls.expire(user).await, "users.set_expiration");
                assert_denied(calls.send_again(user).await, "invitations.send");
                let resend = api::ResendInvitationRequest {
                    tenant_id: stage.tenant.clone(),
                    invitation_id: invitation.clone(),
                    options: calls.options.clone(),
                    ..api::ResendInvitationRequest::default()
                };
                let answer = clients.invitations().resend_invitation(resend).await;
                assert_denied(answer, "invitations.send");
                let resolve = api::ResolveDeliveryRequest {
                    tenant_id: stage.tenant.clone(),
                    delivery_id: mail_of(user).await?,
                    resolution: api::DeliveryResolution::SendAgain.into(),
                    options: calls.options.clone(),
                };
                let answer = clients.deliveries().resolve_delivery(resolve).await;
                assert_denied(answer, "deliveries.resolve");
                let invited = calls.invite(&[name, "new"], &[&school.north], &[]).await?;
                assert_eq!(invited, ["PERMISSION_DENIED", ""]);
            }
        }
        let hal_may = Calls::new(&stage, &clients);
        let told = refused(hal_may.deactivate(&people["ada"].0).await);
        assert!(
            told.message.contains("ask an administrator of the platform"),
            "{}",
            told.message
        );

        let all = [&people["ada"].0, &people["sue"].0, &people["hug"].0, &people["col"].0];
        let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
        let mut reasons = hal_may
            .reasons(hal_may.start(&all, Action::Deactivate(api::BulkDeactivate {})).await)
            .await?;
        reasons.sort();
        assert_eq!(reasons, ["", "", "PERMISSION_DENIED", "PERMISSION_DENIED"]);
        let back = hal_may.start(&all, Action::Reactivate(api::BulkReactivate {})).await;
        hal_may.reasons(back).await?;
        for mode in [api::ImportMode::Update, api::ImportMode::Activate] {
            let row = |name: &str| format!("{};Renamed\n", stage.address(name));
            let file = format!("email;first_name\n{}{}", row("ada"), row("hug"));
            let reasons = hal_may.reasons(hal_may.import(mode, file).await).await?;
            assert_eq!(reasons, ["PERMISSION_DENIED", ""], "{mode:?}");
        }
        let ada = stage.user(&people["ada"].0).await?;
        assert_ne!(ada.status(), UserStatus::Deactivated);
        assert_ne!(ada.first_name, "Renamed");
        hal_may.reactivate(&people["hug"].0).await?;

        let (_, platform_wide) = somebody(&stage, "all", &[("administrator", platform())]).await?;
        let all_may = Calls::new(&stage, &platform_wide);
        for (name, ..) in &within {
            let user = &people[name].0;
            hal_may.update(user, "first_name").await?;
            hal_may.deactivate(user).await?;
            hal_may.reactivate(user).await?;
            hal_may.expire(user).await?;
        }
        for (name, ..) in &beyond {
            all_may.update(&people[name].0, "first_name").await?;
            all_may.deactivate(&people[name].0).await?;
        }
        // From the moment on in which the other has no more than they do.
        stage
            .take(&people["sue"].0, "administrator", in_group(&school.south))
            .await?;
        hal_may.update(&people["sue"].0, "language").await?;
        // One's own account is no other's.
        hal_may.update(&hal, "language").await?;
        Ok(())
    })
}
