//! Why an account stands where it stands (B6).

use std::time::Duration;

use anyhow::Result;
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{BounceKind, DeliveryKind, DeliveryOutcome, InitialState, MutationOptions, UserStatus};
use usher_tests::environment::eventually;

use crate::command_line::{printed, usher};
use crate::pacing::morning_zone;
use crate::stage::{DAY, MINUTE, PATIENCE, alone, refused, together};

/// B6
#[test]
fn an_account_tells_who_and_what_led_here_and_what_comes_next_and_when() -> Result<()> {
    alone(async |stage| {
        let (user, invitation) = stage.invited("ana").await?;
        let end = stage.after(20 * DAY);
        let expire = api::SetUserExpirationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: user.user_id.clone(),
            expire_time: Some(end),
            expected_version: 0,
            options: Some(MutationOptions {
                request_id: "hr:42".into(),
                reason: "leaves at the end of term".into(),
                ..MutationOptions::default()
            }),
        };
        stage
            .system
            .clients_as("hr-system")?
            .users()
            .set_user_expiration(expire)
            .await?;
        stage.settled().await?;
        let told = stage.explain(&user.user_id).await?;
        assert!(told.summary.contains("handed to a mail server"), "{}", told.summary);
        let newest = &told.history[0];
        assert_eq!(
            (
                newest.event_type.as_str(),
                newest.actor_id.as_str(),
                newest.reason.as_str(),
                newest.request_id.as_str()
            ),
            ("user.updated", "hr-system", "leaves at the end of term", "hr:42")
        );
        let invited = told.history.iter().find(|it| it.event_type == "user.invited");
        let statuses = invited.map(|it| (it.from_status(), it.to_status(), it.actor_id.as_str()));
        assert_eq!(statuses, Some((UserStatus::Pending, UserStatus::Invited, "usher")));
        let sent = stage.invitations(&user.user_id, &[]).await?[0]
            .send_time
            .unwrap_or_default();
        let steps: Vec<_> = told
            .next_steps
            .iter()
            .map(|step| (step.action.as_str(), step.time))
            .collect();
        let three_days = prost_types::Timestamp {
            seconds: sent.seconds + 3 * 86_400,
            ..sent
        };
        let expected = [
            ("send_reminder", Some(three_days)),
            ("expire", Some(end)),
            ("lapse_invitation", invitation.lapse_time),
        ];
        assert_eq!(steps, expected);
        assert!(
            told.next_steps[0].description.contains("Reminder 1"),
            "{:?}",
            told.next_steps
        );

        stage.system.advance(3 * DAY + MINUTE).await?;
        stage.mail("ana", 2).await?;
        stage.settled().await?;
        let next = stage.explain(&user.user_id).await?.next_steps;
        assert!(next[0].description.contains("Reminder 2"), "{next:?}");
        stage.accept(&stage.link("ana", 2).await?).await?;
        let told = stage.explain(&user.user_id).await?;
        assert!(
            told.summary.starts_with("Registration is complete since"),
            "{}",
            told.summary
        );
        let steps: Vec<_> = told.next_steps.iter().map(|step| step.action.as_str()).collect();
        assert_eq!(steps, ["expire"]);
        // By the link: the person acts for themselves.
        let activated = told.history.iter().find(|it| it.event_type == "user.activated");
        assert_eq!(activated.map(|it| it.actor_id.as_str()), Some(user.user_id.as_str()));
        Ok(())
    })
}

/// B6
#[test]
fn a_deactivated_account_tells_what_it_goes_back_to_and_another_tenant_is_told_nothing() -> Result<()> {
    together(async |stage| {
        let user = stage.create("ana", InitialState::Pending).await?;
        let before = stage.explain(&user.user_id).await?;
        assert!(
            before.summary.contains("no invitation is under way"),
            "{}",
            before.summary
        );
        assert!(before.next_steps.is_empty());
        stage.deactivate(&user.user_id).await?;
        let told = stage.explain(&user.user_id).await?;
        assert!(
            told.summary.contains("reactivating restores PENDING"),
            "{}",
            told.summary
        );
        let foreign = api::ExplainUserRequest {
            tenant_id: stage.system.tenant(api::Tenant::default()).await?,
            user_id: user.user_id,
        };
        let refusal = refused(stage.clients.users().explain_user(foreign).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::NotFound, "USER_NOT_FOUND")
        );
        Ok(())
    })
}

/// B6, L13
#[test]
fn an_account_tells_what_came_back_of_its_mail_and_whether_its_address_still_gets_any() -> Result<()> {
    alone(async |stage| {
        let (user, _) = stage.invited("ana").await?;
        let report = async |kind: BounceKind, status: &str, said: &str| {
            let report = api::BounceReport {
                recipient: stage.address("ana"),
                kind: kind.into(),
                status: status.into(),
                diagnostic: said.into(),
                ..api::BounceReport::default()
            };
            let request = api::ReportBounceRequest {
                tenant_id: stage.tenant.clone(),
                reports: vec![report],
                options: None,
            };
            stage.clients.deliveries().report_bounce(request).await
        };
        assert!(stage.explain(&user.user_id).await?.mail_returns.is_empty());
        report(BounceKind::Soft, "4.2.2", "452 4.2.2 mailbox full").await?;
        let told = stage.explain(&user.user_id).await?;
        let returned: Vec<_> = told
            .mail_returns
            .iter()
            .map(|mail| (mail.outcome(), mail.stops_mail))
            .collect();
        assert_eq!(returned, [(DeliveryOutcome::SoftBounced, false)]);
        assert_eq!(
            (told.suppression, told.next_steps[0].action.as_str()),
            (None, "send_reminder")
        );

        stage.system.advance(MINUTE).await?;
        report(BounceKind::Hard, "5.1.1", "550 5.1.1 no such user").await?;
        let told = stage.explain(&user.user_id).await?;
        let newest = &told.mail_returns[0];
        let seconds = |mail: &api::MailReturn| mail.time.map(|at| at.seconds);
        assert_eq!(
            (
                newest.kind(),
                newest.outcome(),
                newest.response.as_str(),
                newest.stops_mail
            ),
            (
                DeliveryKind::Invitation,
                DeliveryOutcome::Bounced,
                "550 5.1.1 no such user",
                true
            )
        );
        assert!(seconds(newest) > seconds(&told.mail_returns[1]) && newest.description.contains("undeliverable"));
        let stopped = told.suppression.unwrap_or_default();
        assert_eq!(
            (stopped.email, stopped.cause.contains("no such user")),
            (stage.address("ana"), true)
        );
        assert!(told.summary.contains("Their address gets no mail."), "{}", told.summary);
        assert!(told.next_steps.iter().all(|step| !step.action.starts_with("send_")));
        let server = format!("http://127.0.0.1:{}", stage.system.port);
        let arguments = ["explain", &user.user_id, "--server", &server, "--tenant", &stage.tenant];
        let printed = printed(&usher(&arguments).await?);
        assert!(
            printed.contains("no such user") && printed.contains("gets no mail since"),
            "{printed}"
        );

        report(BounceKind::Complaint, "", "abuse").await?;
        let lift = api::RemoveSuppressionRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("ana"),
            options: None,
        };
        stage.clients.deliveries().remove_suppression(lift).await?;
        let told = stage.explain(&user.user_id).await?;
        let outcomes: Vec<_> = told.mail_returns.iter().map(api::MailReturn::outcome).collect();
        let expected = [
            DeliveryOutcome::Complained,
            DeliveryOutcome::Bounced,
            DeliveryOutcome::SoftBounced,
        ];
        assert_eq!((outcomes.as_slice(), told.suppression), (expected.as_slice(), None));
        Ok(())
    })
}

/// B6, B8, U9, U10: a cap is counted; the end of the cool-off, or the deletion date if that is first.
#[test]
fn an_account_tells_when_mail_that_is_held_goes_out_and_when_it_is_erased() -> Result<()> {
    alone(async |mut stage| {
        let settings = api::Tenant {
            daily_mail_cap: 1,
            expiry_warnings: vec![prost_types::Duration {
                seconds: 10 * 86_400,
                nanos: 0,
            }],
            time_zone: morning_zone(&stage),
            ..api::Tenant::default()
        };
        stage.settings(settings).await?;
        let user = stage.active("ana").await?;
        stage.mail("ana", 1).await?;
        stage.settled().await?;
        stage.expire(&user.user_id, Some(stage.after(5 * DAY))).await?;
        stage.system.advance(16 * MINUTE).await?;
        let now = stage.after(Duration::ZERO).seconds;
        let step = eventually("the warning is put off", PATIENCE, async || {
            let steps = stage.explain(&user.user_id).await.ok()?.next_steps;
            let at = steps.iter().find(|step| step.action == "send_expiry_warning")?.time?;
            (at.seconds > now + 6 * 3_600).then_some(at)
        });
        assert!(step.await?.seconds <= now + 86_400, "the next day");

        let date = stage.after(3 * DAY);
        let dated = api::UpdateUserRequest {
            user: Some(api::User {
                tenant_id: stage.tenant.clone(),
                user_id: user.user_id.clone(),
                delete_time: Some(date),
                ..api::User::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["delete_time".into()],
            }),
            ..api::UpdateUserRequest::default()
        };
        stage.clients.users().update_user(dated).await?;
        let erased = async || -> Result<_> {
            let steps = stage.explain(&user.user_id).await?.next_steps;
            Ok(steps
                .into_iter()
                .find(|step| step.action == "erase")
                .and_then(|step| step.time))
        };
        assert_eq!(erased().await?, Some(date));

        let pause = api::PauseMailRequest {
            tenant_id: stage.tenant.clone(),
            options: None,
        };
        stage.clients.tenants().pause_mail(pause).await?;
        let told = stage.explain(&user.user_id).await?;
        assert!(told.summary.contains("; one mail to them waits."), "{}", told.summary);
        assert!(told.next_steps.iter().all(|step| step.action != "send_expiry_warning"));
        Ok(())
    })
}
