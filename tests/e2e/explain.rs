//! Why an account stands where it stands (B6).

use anyhow::Result;
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, MutationOptions, UserStatus};

use crate::stage::{DAY, MINUTE, alone, refused, together};

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
