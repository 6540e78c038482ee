//! Where an account can stand, and how it gets from there to elsewhere (S1 to S13).

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DenialReason, InitialState, InvitationState, UserStatus};
use usher_tests::environment::eventually;
use usher_tests::environment::smtp_sink::Behaviour;
use usher_tests::system::Worker;

use crate::stage::{DAY, HOUR, MINUTE, PASSWORD, PATIENCE, alone, assert_refused, platform, refused, together};

/// S1
#[test]
fn a_pending_account_exists_may_not_come_in_and_got_no_mail() -> Result<()> {
    together(async |stage| {
        let user = stage.create("ana", InitialState::Unspecified).await?;
        assert_eq!(user.status(), UserStatus::Pending);
        assert_eq!(stage.user(&user.user_id).await?, user);
        let access = stage.access(&user.user_id).await?;
        assert_eq!(
            (access.allowed, access.denial_reason()),
            (false, DenialReason::NotRegistered)
        );
        assert!(stage.deliveries(&user.user_id).await?.is_empty());
        assert!(stage.invitations(&user.user_id, &[]).await?.is_empty());
        Ok(())
    })
}

/// S2
#[test]
fn an_invited_person_is_pending_until_the_mail_server_took_the_mail() -> Result<()> {
    alone(async |stage| {
        let late = Behaviour::ConfirmAfter(std::time::Duration::from_secs(1));
        let not_now = Behaviour::RefuseRecipient {
            code: 451,
            text: "4.2.0 come back later".into(),
        };
        stage.sink.script(&stage.address("ana"), [not_now, late]);
        let (user, invitation) = stage.invite("ana").await?;
        stage.mail_becomes(&user.user_id, api::DeliveryState::Deferred).await?;
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Pending);

        stage.system.advance(HOUR).await?;
        // Received, and not confirmed yet: the mail server may still refuse it.
        stage.mail("ana", 1).await?;
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Pending);
        let open = stage.invitations(&user.user_id, &[]).await?;
        assert_eq!((open[0].state(), open[0].send_time), (InvitationState::Queued, None));

        stage.becomes(&user.user_id, UserStatus::Invited).await?;
        let open = stage.invitations(&user.user_id, &[]).await?;
        assert_eq!(
            (&open[0].invitation_id, open[0].state()),
            (&invitation.invitation_id, InvitationState::Sent)
        );
        assert!(open[0].send_time.is_some());
        let history = stage.history(&user.user_id).await?;
        assert_eq!(
            history,
            ["user.created", "invitation.queued", "user.invited", "invitation.sent"]
        );
        Ok(())
    })
}

/// S3
#[test]
fn whoever_completed_the_registration_is_active_and_may_come_in() -> Result<()> {
    together(async |stage| {
        let (user, _) = stage.invite("ana").await?;
        let accepted = stage.accept(&stage.link("ana", 1).await?).await?;
        assert_eq!(
            (&accepted.user_id, accepted.status()),
            (&user.user_id, UserStatus::Active)
        );
        assert!(accepted.activate_time.is_some());
        assert!(stage.access(&user.user_id).await?.allowed);
        let signed_in = stage.sign_in("ana", PASSWORD).await?.into_inner();
        assert!(!signed_in.must_change_password);

        let created = stage.active("bo").await?;
        assert_eq!(created.status(), UserStatus::Active);
        assert!(stage.access(&created.user_id).await?.allowed);
        Ok(())
    })
}

/// S4
#[test]
fn deactivating_ends_access_at_once_and_touches_nothing_else() -> Result<()> {
    together(async |stage| {
        let given = api::User {
            email: stage.address("ana"),
            external_id: "S-1".into(),
            first_name: "Zoë".into(),
            last_name: "d’Arc".into(),
            language: "pt-BR".into(),
            labels: vec!["Choir".into(), "Year 7".into()],
            expire_time: Some(stage.after(90 * DAY)),
            ..api::User::default()
        };
        let user = stage.create_as(given, InitialState::ActiveWithPassword).await?;
        assert!(stage.access(&user.user_id).await?.allowed);
        let before = stage.history(&user.user_id).await?;

        let out = stage
            .deactivate(&user.user_id)
            .await?
            .into_inner()
            .user
            .context("a user")?;
        let access = stage.access(&user.user_id).await?;
        assert_eq!(
            (access.allowed, access.denial_reason()),
            (false, DenialReason::Deactivated)
        );
        assert_eq!(
            (out.status(), out.restores()),
            (UserStatus::Deactivated, UserStatus::Active)
        );
        let untouched = |user: &api::User| {
            (
                (
                    user.email.clone(),
                    user.external_id.clone(),
                    user.language.clone(),
                    user.labels.clone(),
                ),
                (
                    user.first_name.clone(),
                    user.last_name.clone(),
                    user.expire_time,
                    user.activate_time,
                ),
            )
        };
        assert_eq!(untouched(&out), untouched(&user));
        let after = stage.history(&user.user_id).await?;
        assert_eq!(after, [before.as_slice(), &["user.deactivated".to_owned()]].concat());

        // Doing it again changes nothing.
        let again = stage
            .deactivate(&user.user_id)
            .await?
            .into_inner()
            .user
            .context("a user")?;
        assert_eq!(again, out);
        Ok(())
    })
}

/// S5, S10
#[test]
fn an_expiration_ends_access_at_its_instant_also_while_every_worker_is_down() -> Result<()> {
    alone(async |mut stage| {
        let user = stage.active("ana").await?;
        let at = stage.after(HOUR);
        stage.expire(&user.user_id, Some(at)).await?;
        // A mail under way would have the account touched, and the expiry written down with that.
        stage.settled().await?;
        for worker in stage.system.workers.values_mut() {
            worker.kill();
        }
        stage.system.advance(59 * MINUTE).await?;
        let access = stage.access(&user.user_id).await?;
        assert_eq!((access.allowed, access.until), (true, Some(at)));

        stage.system.advance(MINUTE).await?;
        let access = stage.access(&user.user_id).await?;
        assert_eq!((access.allowed, access.denial_reason()), (false, DenialReason::Expired));
        let expired = stage.user(&user.user_id).await?;
        assert_eq!(
            (expired.status(), expired.restores()),
            (UserStatus::Expired, UserStatus::Active)
        );
        assert_eq!(expired.status_time, Some(at));
        assert_refused(
            stage.sign_in("ana", PASSWORD).await,
            Code::PermissionDenied,
            "ACCOUNT_EXPIRED",
        );
        let listed = api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            filter: Some(api::UserFilter {
                statuses: vec![UserStatus::Expired.into()],
                ..api::UserFilter::default()
            }),
            ..api::ListUsersRequest::default()
        };
        let listed = stage.clients.users().list_users(listed).await?.into_inner().users;
        assert_eq!(listed, [expired]);
        // Nobody wrote it down yet.
        assert!(!stage.history(&user.user_id).await?.contains(&"user.expired".to_owned()));

        for worker in stage.system.workers.values_mut() {
            worker.restart().await?;
        }
        stage.happens(&user.user_id, "user.expired").await?;
        let written = stage.user(&user.user_id).await?;
        assert_eq!((written.status(), written.status_time), (UserStatus::Expired, Some(at)));
        Ok(())
    })
}

/// S6
#[test]
fn the_status_of_an_expired_account_cannot_be_switched() -> Result<()> {
    alone(async |stage| {
        let user = stage.active("ana").await?;
        stage.expire(&user.user_id, Some(stage.after(HOUR))).await?;
        stage.system.advance(HOUR + MINUTE).await?;
        assert_refused(
            stage.deactivate(&user.user_id).await,
            Code::FailedPrecondition,
            "USER_EXPIRED",
        );
        assert_refused(
            stage.reactivate(&user.user_id).await,
            Code::FailedPrecondition,
            "USER_EXPIRED",
        );
        // The same once the worker wrote it down.
        stage.happens(&user.user_id, "user.expired").await?;
        assert_refused(
            stage.deactivate(&user.user_id).await,
            Code::FailedPrecondition,
            "USER_EXPIRED",
        );
        assert_refused(
            stage.reactivate(&user.user_id).await,
            Code::FailedPrecondition,
            "USER_EXPIRED",
        );
        Ok(())
    })
}

/// S7
#[test]
fn a_later_expiration_restores_exactly_the_status_before_expiry() -> Result<()> {
    alone(async |mut stage| {
        let pending = stage.create("pending", InitialState::Pending).await?;
        let (invited, _) = stage.invited("invited").await?;
        let active = stage.active("active").await?;
        let out = stage.active("out").await?;
        stage.deactivate(&out.user_id).await?;
        let (out_invited, _) = stage.invited("out-invited").await?;
        stage.deactivate(&out_invited.user_id).await?;
        let before = [
            (&pending, UserStatus::Pending, UserStatus::Unspecified),
            (&invited, UserStatus::Invited, UserStatus::Unspecified),
            (&active, UserStatus::Active, UserStatus::Unspecified),
            (&out, UserStatus::Deactivated, UserStatus::Active),
            (&out_invited, UserStatus::Deactivated, UserStatus::Invited),
        ];
        // Once while the expiry only follows from the clock, once when it was written down.
        for written_down in [false, true] {
            let worker = stage.system.workers.get_mut(&Worker::Expiration).context("a worker")?;
            if written_down {
                worker.restart().await?;
            } else {
                worker.kill();
            }
            for (user, ..) in before {
                stage.expire(&user.user_id, Some(stage.after(HOUR))).await?;
            }
            stage.system.advance(HOUR + MINUTE).await?;
            for (index, (user, status, restores)) in before.into_iter().enumerate() {
                let expired = stage.user(&user.user_id).await?;
                assert_eq!((expired.status(), expired.restores()), (UserStatus::Expired, status));
                if written_down {
                    eventually("the expiry is written down", PATIENCE, async || {
                        let history = stage.history(&user.user_id).await.ok()?;
                        let count = history.iter().filter(|event| *event == "user.expired").count();
                        let restored = history.iter().filter(|event| *event == "user.restored").count();
                        (count > restored).then_some(())
                    })
                    .await?;
                }
                let at = (index % 2 == 0).then(|| stage.after(30 * DAY));
                let restored = stage
                    .expire(&user.user_id, at)
                    .await?
                    .into_inner()
                    .user
                    .context("a user")?;
                assert_eq!(
                    (restored.status(), restored.restores()),
                    (status, restores),
                    "{}",
                    user.email
                );
                assert_eq!(restored.expire_time, at);
                let allowed = stage.access(&user.user_id).await?.allowed;
                assert_eq!(allowed, status == UserStatus::Active, "{}", user.email);
                let last = stage.history(&user.user_id).await?.pop();
                assert_eq!(last.as_deref(), Some("user.restored"));
            }
        }
        // And the deactivated still remember what they were.
        let back = stage
            .reactivate(&out_invited.user_id)
            .await?
            .into_inner()
            .user
            .context("a user")?;
        assert_eq!(back.status(), UserStatus::Invited);
        Ok(())
    })
}

/// S9
#[test]
fn nobody_changes_the_status_of_the_account_that_they_act_as() -> Result<()> {
    together(async |stage| {
        let admin = stage.active("admin").await?;
        let other = stage.active("other").await?;
        for user in [&admin, &other] {
            stage.give(&user.user_id, "administrator", platform()).await?;
        }
        let own = stage.system.clients_as(&admin.user_id)?;
        let (tenant_id, user_id) = (stage.tenant.clone(), admin.user_id.clone());
        let deactivation = api::DeactivateUserRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            ..api::DeactivateUserRequest::default()
        };
        let answer = own.users().deactivate_user(deactivation.clone()).await;
        assert_refused(answer, Code::FailedPrecondition, "OWN_STATUS");
        let reactivation = api::ReactivateUserRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            ..api::ReactivateUserRequest::default()
        };
        assert_refused(
            own.users().reactivate_user(reactivation).await,
            Code::FailedPrecondition,
            "OWN_STATUS",
        );
        let expiration = api::SetUserExpirationRequest {
            tenant_id,
            user_id: user_id.clone(),
            expire_time: Some(stage.after(DAY)),
            ..api::SetUserExpirationRequest::default()
        };
        assert_refused(
            own.users().set_user_expiration(expiration).await,
            Code::FailedPrecondition,
            "OWN_STATUS",
        );
        assert_eq!(stage.user(&user_id).await?, admin);

        // Another's they may, and another may theirs.
        let others = api::DeactivateUserRequest {
            user_id: other.user_id.clone(),
            ..deactivation.clone()
        };
        own.users().deactivate_user(others).await?;
        stage.reactivate(&other.user_id).await?;
        let by_other = stage.system.clients_as(&other.user_id)?;
        by_other.users().deactivate_user(deactivation).await?;
        assert_eq!(stage.user(&user_id).await?.status(), UserStatus::Deactivated);
        Ok(())
    })
}

/// S10
#[test]
fn only_the_right_password_tells_that_an_account_is_shut() -> Result<()> {
    alone(async |stage| {
        let wrong = "not their password";
        let unknown = refused(stage.sign_in("nobody", wrong).await);
        assert_eq!(
            (unknown.code, unknown.reason.as_str()),
            (Code::Unauthenticated, "WRONG_CREDENTIALS")
        );

        stage.active("active").await?;
        let out = stage.active("out").await?;
        stage.deactivate(&out.user_id).await?;
        let gone = stage.active("gone").await?;
        stage.expire(&gone.user_id, Some(stage.after(HOUR))).await?;
        stage.create("pending", InitialState::Pending).await?;
        stage.system.advance(HOUR).await?;
        for name in ["active", "out", "gone", "pending"] {
            assert_eq!(refused(stage.sign_in(name, wrong).await), unknown, "{name}");
        }
        stage.sign_in("active", PASSWORD).await?;
        for (name, reason) in [("out", "ACCOUNT_DEACTIVATED"), ("gone", "ACCOUNT_EXPIRED")] {
            let told = refused(stage.sign_in(name, PASSWORD).await);
            assert_eq!((told.code, told.reason.as_str()), (Code::PermissionDenied, reason));
            assert!(told.message.contains("contact an administrator"), "{}", told.message);
        }
        Ok(())
    })
}

/// S11
#[test]
fn reactivating_restores_the_earlier_status_with_everything_intact() -> Result<()> {
    together(async |stage| {
        let pending = stage.create("pending", InitialState::Pending).await?;
        let (invited, _) = stage.invited("invited").await?;
        let active = stage.active("active").await?;
        let link = stage.link("invited", 1).await?;
        for user in [&pending, &invited, &active] {
            let before = stage.user(&user.user_id).await?;
            stage.deactivate(&user.user_id).await?;
            let after = stage
                .reactivate(&user.user_id)
                .await?
                .into_inner()
                .user
                .context("a user")?;
            assert_eq!(after.status(), before.status());
            let same = |user: api::User| api::User {
                version: 0,
                status_time: None,
                update_time: None,
                ..user
            };
            assert_eq!(same(after), same(before));
        }
        assert!(stage.access(&active.user_id).await?.allowed);
        stage.sign_in("active", PASSWORD).await?;
        // The link of the mail that was sent before the deactivation is good again.
        assert_eq!(stage.accept(&link).await?.status(), UserStatus::Active);
        // On somebody who is not deactivated it changes nothing.
        let unchanged = stage
            .reactivate(&active.user_id)
            .await?
            .into_inner()
            .user
            .context("a user")?;
        assert_eq!(unchanged, stage.user(&active.user_id).await?);
        Ok(())
    })
}

/// S4, S11
#[test]
fn a_link_cannot_be_used_while_the_account_is_shut() -> Result<()> {
    together(async |stage| {
        let (user, _) = stage.invited("ana").await?;
        let link = stage.link("ana", 1).await?;
        stage.deactivate(&user.user_id).await?;
        assert_refused(stage.accept(&link).await, Code::FailedPrecondition, "USER_DEACTIVATED");
        assert_refused(stage.inspect(&link).await, Code::FailedPrecondition, "USER_DEACTIVATED");
        stage.reactivate(&user.user_id).await?;
        assert_eq!(stage.inspect(&link).await?.email, stage.address("ana"));
        Ok(())
    })
}

/// S13; by CSV: see `school_year`.
#[test]
fn an_expiration_can_be_set_at_creation_at_invitation_and_by_editing() -> Result<()> {
    alone(async |stage| {
        let at = stage.after(DAY);
        let given = api::User {
            email: stage.address("created"),
            expire_time: Some(at),
            ..api::User::default()
        };
        let created = stage.create_as(given, InitialState::ActiveWithPassword).await?;
        let addresses = [stage.address("one"), stage.address("two"), stage.address("there")].join(",");
        let there = stage.create("there", InitialState::Pending).await?;
        let invitation = api::InviteUsersRequest {
            expire_time: Some(at),
            ..stage.inviting(addresses)
        };
        let invited = stage.clients.invitations().invite_users(invitation).await?.into_inner();
        let mut ids = vec![created.user_id];
        for result in invited.results {
            let Some(api::invite_result::Outcome::Invited(invited)) = result.outcome else {
                panic!("not invited: {result:?}")
            };
            ids.push(invited.user.context("a user")?.user_id);
        }
        assert!(ids.contains(&there.user_id));
        let edited = stage.active("edited").await?;
        stage.expire(&edited.user_id, Some(stage.after(30 * DAY))).await?;
        stage.expire(&edited.user_id, Some(at)).await?;
        ids.push(edited.user_id);
        let spared = stage.active("spared").await?;
        stage.expire(&spared.user_id, Some(at)).await?;
        stage.expire(&spared.user_id, None).await?;
        for id in &ids {
            assert_eq!(stage.user(id).await?.expire_time, Some(at));
        }
        assert_eq!(stage.user(&spared.user_id).await?.expire_time, None);

        stage.system.advance(DAY + MINUTE).await?;
        for id in &ids {
            assert_eq!(stage.user(id).await?.status(), UserStatus::Expired);
            stage.happens(id, "user.expired").await?;
        }
        assert!(stage.access(&spared.user_id).await?.allowed);
        Ok(())
    })
}
