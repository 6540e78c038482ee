//! Who brings whom in, and who only reads (L6, L7, U1).

use super::*;

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
