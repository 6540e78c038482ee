//! Roles of a tenant's own, whoever is not active, and what lies beside accounts.

use super::*;

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
        .collect();
    assert!(open.is_empty(), "without a permission: {open:?}");
    Ok(())
}
