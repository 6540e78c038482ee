//! What becomes of mails: bounces, reminders, tries, and those of which nobody knows (L13, L14, L16, B12).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{
    DeliveryKind, DeliveryOutcome, DeliveryResolution, DeliveryState, InitialState, InvitationState, SmtpPhase,
    UserStatus,
};
use usher_tests::environment::eventually;
use usher_tests::environment::smtp_sink::Behaviour;
use usher_tests::system::Worker;

use crate::stage::{Alone, DAY, HOUR, MINUTE, PATIENCE, alone, assert_refused, together};

const ALMOST_A_DAY: Duration = Duration::from_mins(24 * 60 - 1);

fn refuse(code: u16, text: &str) -> Behaviour {
    Behaviour::RefuseRecipient {
        code,
        text: text.into(),
    }
}

/// L13
#[test]
fn an_address_that_bounced_is_refused_before_sending_until_an_administrator_lifts_that() -> Result<()> {
    together(async |stage| {
        stage
            .sink
            .script(&stage.address("ana"), [refuse(550, "5.1.1 no such user")]);
        let (user, invitation) = stage.invite("ana").await?;
        let failed = stage.mail_becomes(&user.user_id, DeliveryState::Failed).await?;
        assert_eq!(failed.attempts[0].smtp_code, 550);
        let dead = stage
            .invitations(&user.user_id, &[InvitationState::Undeliverable])
            .await?;
        assert_eq!(dead[0].invitation_id, invitation.invitation_id);
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Pending);
        let list = api::ListSuppressionsRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListSuppressionsRequest::default()
        };
        let listed = stage
            .clients
            .deliveries()
            .list_suppressions(list.clone())
            .await?
            .into_inner()
            .suppressions;
        assert_eq!((listed.len(), &listed[0].email), (1, &stage.address("ana")));
        assert!(listed[0].cause.contains("5.1.1 no such user") && listed[0].create_time.is_some());

        // Whatever would send a mail there is refused, and nothing is sent.
        let again = stage
            .clients
            .invitations()
            .invite_users(stage.inviting(stage.address("ANA")))
            .await?
            .into_inner();
        let Some(api::invite_result::Outcome::Refused(refusal)) = &again.results[0].outcome else {
            panic!("{again:?}")
        };
        assert_eq!(refusal.reason, "ADDRESS_SUPPRESSED");
        assert!(refusal.message.contains(&stage.address("ana")), "{}", refusal.message);
        let send = api::SendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: user.user_id.clone(),
            ..api::SendInvitationRequest::default()
        };
        let answer = stage.clients.invitations().send_invitation(send.clone()).await;
        assert_refused(answer, Code::FailedPrecondition, "ADDRESS_SUPPRESSED");
        let test = api::SendTestInvitationRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("ana"),
            ..api::SendTestInvitationRequest::default()
        };
        let answer = stage.clients.invitations().send_test_invitation(test).await;
        assert_refused(answer, Code::FailedPrecondition, "ADDRESS_SUPPRESSED");
        assert_eq!(stage.deliveries("").await?.len(), 1);

        let lifting = api::RemoveSuppressionRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("Ana"),
            options: Some(api::MutationOptions {
                reason: "the mailbox was made yesterday".into(),
                ..api::MutationOptions::default()
            }),
        };
        stage
            .system
            .clients_as("admin-7")?
            .deliveries()
            .remove_suppression(lifting.clone())
            .await?;
        let audited = stage.explain(&user.user_id).await?.history.swap_remove(0);
        assert_eq!(
            (
                audited.event_type.as_str(),
                audited.actor_id.as_str(),
                audited.reason.as_str()
            ),
            ("user.updated", "admin-7", "the mailbox was made yesterday")
        );
        let answer = stage.clients.deliveries().remove_suppression(lifting).await;
        assert_refused(answer, Code::NotFound, "SUPPRESSION_NOT_FOUND");
        assert!(
            stage
                .clients
                .deliveries()
                .list_suppressions(list)
                .await?
                .into_inner()
                .suppressions
                .is_empty()
        );
        stage.clients.invitations().send_invitation(send).await?;
        stage.mail("ana", 1).await?;
        stage.becomes(&user.user_id, UserStatus::Invited).await?;
        Ok(())
    })
}

/// L13: a refusal for another reason says nothing about the address.
#[test]
fn a_refusal_that_is_no_hard_bounce_suppresses_nobody() -> Result<()> {
    together(async |stage| {
        stage
            .sink
            .script(&stage.address("policy"), [refuse(550, "5.7.1 your server is listed")]);
        let content = Behaviour::RefuseContent {
            code: 554,
            text: "5.6.0 we do not like this text".into(),
        };
        stage.sink.script(&stage.address("content"), [content]);
        for name in ["policy", "content"] {
            let (user, _) = stage.invite(name).await?;
            stage.mail_becomes(&user.user_id, DeliveryState::Failed).await?;
            stage.invite(name).await?;
            stage.becomes(&user.user_id, UserStatus::Invited).await?;
        }
        Ok(())
    })
}

/// L14
#[test]
fn reminders_follow_the_ladder_and_stop_for_whoever_needs_none() -> Result<()> {
    alone(async |stage| {
        let mut ids = BTreeMap::new();
        for name in [
            "stays",
            "accepts",
            "cancelled",
            "out",
            "back",
            "expires",
            "bounces",
            "late",
        ] {
            ids.insert(name, stage.invited(name).await?);
        }
        let id = |name: &str| ids[name].0.user_id.as_str();
        stage.accept(&stage.link("accepts", 1).await?).await?;
        let cancel = api::CancelInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: ids["cancelled"].1.invitation_id.clone(),
            options: None,
        };
        stage.clients.invitations().cancel_invitation(cancel).await?;
        stage.deactivate(id("out")).await?;
        stage.deactivate(id("back")).await?;
        stage.expire(id("expires"), Some(stage.after(2 * DAY))).await?;
        stage
            .sink
            .script(&stage.address("bounces"), [refuse(550, "5.1.1 left")]);

        stage.system.advance(2 * DAY + ALMOST_A_DAY).await?;
        let next = stage.explain(id("stays")).await?.next_steps;
        assert_eq!(next[0].action, "send_reminder");
        assert_eq!(stage.mails("stays").len(), 1);
        for (pause, mails) in [(2 * MINUTE, 2), (4 * DAY, 3), (7 * DAY, 4)] {
            stage.system.advance(pause).await?;
            let reminder = stage.mail("stays", mails).await?;
            assert!(
                reminder.subject.contains("your invitation to École des Tests"),
                "{}",
                reminder.subject
            );
            // The same link as in the invitation, so that any of the mails will do.
            assert_eq!(stage.link("stays", mails).await?, stage.link("stays", 1).await?);
            stage.settled().await?;
            if mails == 3 {
                stage.accept(&stage.link("late", 1).await?).await?;
                stage.reactivate(id("back")).await?;
                stage.mail("back", 2).await?;
                stage.settled().await?;
            }
        }
        let steps = |mails: Vec<api::Delivery>| {
            let sent = mails.into_iter().filter(|mail| mail.state() == DeliveryState::Sent);
            sent.map(|mail| mail.reminder_step).collect::<Vec<_>>()
        };
        let expected: [(&str, &[i32]); 8] = [
            ("stays", &[0, 1, 2, 3]),
            ("accepts", &[0]),
            ("cancelled", &[0]),
            ("out", &[0]),
            // What was missed meanwhile is not made up for one by one.
            ("back", &[0, 2, 3]),
            ("expires", &[0]),
            ("bounces", &[0]),
            ("late", &[0, 1, 2]),
        ];
        stage.system.advance(10 * DAY).await?;
        stage.settled().await?;
        for (name, wanted) in expected {
            assert_eq!(steps(stage.deliveries(id(name)).await?), wanted, "{name}");
            assert_eq!(stage.mails(name).len(), wanted.len(), "{name}");
        }
        let listed = stage.invitations(id("stays"), &[]).await?;
        assert_eq!(listed[0].reminders, 3);
        Ok(())
    })
}

/// L14
#[test]
fn a_tenant_has_a_ladder_of_its_own_or_none() -> Result<()> {
    alone(async |mut stage| {
        let step = |minutes: i64| prost_types::Duration {
            seconds: minutes * 60,
            nanos: 0,
        };
        stage
            .settings(api::Tenant {
                no_reminders: true,
                ..api::Tenant::default()
            })
            .await?;
        let (without, _) = stage.invited("without").await?;
        stage
            .settings(api::Tenant {
                reminder_ladder: vec![step(10), step(20)],
                default_language: "de".into(),
                ..api::Tenant::default()
            })
            .await?;
        let (user, _) = stage.invited("ana").await?;
        stage.system.advance(10 * MINUTE).await?;
        assert!(stage.mail("ana", 2).await?.subject.contains("Erinnerung"));
        stage.settled().await?;
        stage.system.advance(10 * MINUTE).await?;
        stage.mail("ana", 3).await?;
        stage.settled().await?;
        stage.system.advance(15 * DAY).await?;
        stage.settled().await?;
        let (next, _) = stage.invited("next").await?;
        assert_eq!(stage.deliveries(&user.user_id).await?.len(), 3);
        assert_eq!(
            stage.deliveries(&next.user_id).await?.len(),
            2,
            "the mail, and the first reminder to come"
        );
        assert_eq!((stage.mails("ana").len(), stage.mails("without").len()), (3, 1));
        assert_eq!(without.status(), UserStatus::Invited);
        Ok(())
    })
}

/// L16
#[test]
fn every_try_of_a_mail_can_be_looked_up_with_the_servers_answer() -> Result<()> {
    alone(async |stage| {
        let script = [
            refuse(451, "4.7.1 greylisted, come back"),
            Behaviour::HangUpBeforeGoAhead,
        ];
        stage.sink.script(&stage.address("ana"), script);
        let (user, invitation) = stage.invite("ana").await?;
        stage.mail_becomes(&user.user_id, DeliveryState::Deferred).await?;
        for tries in 2..=3 {
            stage.system.advance(HOUR).await?;
            eventually("one try more", PATIENCE, async || {
                let mails = stage.deliveries(&user.user_id).await.ok()?;
                let attempts = &mails.first()?.attempts;
                (attempts.len() == tries && attempts.iter().all(|it| it.end_time.is_some())).then_some(())
            })
            .await?;
        }
        stage.becomes(&user.user_id, UserStatus::Invited).await?;
        let mails = stage.deliveries(&user.user_id).await?;
        let mail = &mails[0];
        assert_eq!(
            (mail.state(), mail.kind()),
            (DeliveryState::Sent, DeliveryKind::Invitation)
        );
        assert_eq!(
            (&mail.email, &mail.invitation_id),
            (&stage.address("ana"), &invitation.invitation_id)
        );
        assert_eq!(mail.message_id, stage.mail("ana", 1).await?.message_id);
        assert!(mail.end_time.is_some());
        let seen: Vec<_> = mail
            .attempts
            .iter()
            .map(|it| (it.number, it.outcome(), it.smtp_code, it.phase()))
            .collect();
        let expected = [
            (1, DeliveryOutcome::Deferred, 451, SmtpPhase::Recipient),
            (2, DeliveryOutcome::Deferred, 0, SmtpPhase::Data),
            (3, DeliveryOutcome::Sent, 250, SmtpPhase::Content),
        ];
        assert_eq!(seen, expected);
        assert!(mail.attempts[0].response.contains("4.7.1 greylisted, come back"));
        assert!(!mail.attempts[1].response.is_empty());
        assert!(
            mail.attempts[2].response.contains("2.0.0 taken"),
            "{}",
            mail.attempts[2].response
        );
        let mut before = None;
        for attempt in &mail.attempts {
            assert!(!attempt.worker_id.is_empty());
            let time = |at: Option<prost_types::Timestamp>| at.map(|at| (at.seconds, at.nanos));
            assert!(before < time(attempt.start_time) && time(attempt.start_time) <= time(attempt.end_time));
            before = time(attempt.end_time);
        }

        // By state, and page by page.
        let (other, _) = stage.invited("bo").await?;
        let asked = |states: &[DeliveryState], page_token: &str| api::ListDeliveriesRequest {
            tenant_id: stage.tenant.clone(),
            states: states.iter().map(|state| (*state).into()).collect(),
            page_size: 1,
            page_token: page_token.into(),
            ..api::ListDeliveriesRequest::default()
        };
        let mut deliveries = stage.clients.deliveries();
        let first = deliveries
            .list_deliveries(asked(&[DeliveryState::Sent], ""))
            .await?
            .into_inner();
        assert_eq!(first.deliveries[0].user_id, other.user_id);
        let rest = asked(&[DeliveryState::Sent], &first.next_page_token);
        let second = deliveries.list_deliveries(rest).await?.into_inner();
        assert_eq!(second.deliveries, mails[..1]);
        let none = asked(&[DeliveryState::Uncertain, DeliveryState::Failed], "");
        assert!(
            deliveries
                .list_deliveries(none)
                .await?
                .into_inner()
                .deliveries
                .is_empty()
        );
        Ok(())
    })
}

async fn resolve(stage: &Alone, id: &str, resolution: DeliveryResolution) -> Result<api::Delivery, tonic::Status> {
    let request = api::ResolveDeliveryRequest {
        tenant_id: stage.tenant.clone(),
        delivery_id: id.into(),
        resolution: resolution.into(),
        options: None,
    };
    let answer = stage.clients.deliveries().resolve_delivery(request).await?.into_inner();
    Ok(answer.delivery.unwrap_or_default())
}

/// B12, L14: the connection is lost after the content was sent, and before the server's answer.
#[test]
fn a_mail_of_which_nobody_knows_is_shown_and_is_not_sent_again_by_itself() -> Result<()> {
    alone(async |stage| {
        let mut uncertain = BTreeMap::new();
        for name in ["reached", "arrived", "lost"] {
            stage.sink.script(&stage.address(name), [Behaviour::HangUpAfterDot]);
            let (user, _) = stage.invite(name).await?;
            let mail = stage.mail_becomes(&user.user_id, DeliveryState::Uncertain).await?;
            assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Pending);
            assert_eq!(mail.attempts[0].outcome(), DeliveryOutcome::Uncertain);
            uncertain.insert(name, mail);
        }
        let all = api::ListDeliveriesRequest {
            tenant_id: stage.tenant.clone(),
            states: vec![DeliveryState::Uncertain.into()],
            ..api::ListDeliveriesRequest::default()
        };
        let listed = stage
            .clients
            .deliveries()
            .list_deliveries(all)
            .await?
            .into_inner()
            .deliveries;
        assert_eq!(listed.len(), 3);

        stage.system.advance(2 * DAY).await?;
        stage.settled().await?;
        for name in ["reached", "arrived", "lost"] {
            assert_eq!(stage.mails(name).len(), 1, "{name}");
        }
        // An operator looks into the mail server's log.
        let arrived = resolve(&stage, &uncertain["arrived"].delivery_id, DeliveryResolution::Sent).await?;
        assert_eq!(arrived.state(), DeliveryState::Sent);
        stage.becomes(&arrived.user_id, UserStatus::Invited).await?;
        let lost = resolve(&stage, &uncertain["lost"].delivery_id, DeliveryResolution::SendAgain).await?;
        assert_eq!(lost.state(), DeliveryState::Queued);
        assert_eq!(stage.mail("lost", 2).await?.message_id, uncertain["lost"].message_id);
        stage.becomes(&lost.user_id, UserStatus::Invited).await?;
        let again = resolve(&stage, &lost.delivery_id, DeliveryResolution::SendAgain).await;
        assert_refused(again, Code::FailedPrecondition, "DELIVERY_NOT_UNCERTAIN");

        // The ladder still reaches the person.
        stage.settled().await?;
        stage.system.advance(DAY + MINUTE).await?;
        let reminder = stage.mail("reached", 2).await?;
        assert_ne!(reminder.message_id, uncertain["reached"].message_id);
        stage
            .becomes(&uncertain["reached"].user_id, UserStatus::Invited)
            .await?;
        stage.accept(&stage.link("reached", 1).await?).await?;
        assert_eq!(stage.mails("arrived").len(), 2, "the mail and the reminder");
        Ok(())
    })
}

/// B12: the worker dies while the mail server has the content.
#[test]
fn a_worker_that_dies_in_mid_send_leaves_an_uncertain_mail_and_not_a_second_one() -> Result<()> {
    alone(async |mut stage| {
        let late = Behaviour::ConfirmAfter(Duration::from_mins(2));
        stage.sink.script(&stage.address("ana"), [late]);
        let (user, _) = stage.invite("ana").await?;
        stage.mail("ana", 1).await?;
        stage.mail_becomes(&user.user_id, DeliveryState::Transmitting).await?;
        let worker = stage.system.workers.get_mut(&Worker::Invitation).context("a worker")?;
        worker.kill();
        worker.restart().await?;
        // Within the lease, it may still be that the worker reports the end.
        let (marker, _) = stage.invited("first").await?;
        let state = stage.deliveries(&user.user_id).await?[0].state();
        assert_eq!(
            (state, marker.status()),
            (DeliveryState::Transmitting, UserStatus::Invited)
        );
        stage.system.advance(12 * MINUTE).await?;
        stage.mail_becomes(&user.user_id, DeliveryState::Uncertain).await?;
        stage.system.advance(DAY).await?;
        stage.invited("second").await?;
        assert_eq!(stage.mails("ana").len(), 1);
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Pending);
        assert_eq!(
            stage.history(&user.user_id).await?,
            ["user.created", "invitation.queued"]
        );
        // Whoever got it can use it.
        assert_eq!(
            stage.accept(&stage.link("ana", 1).await?).await?.status(),
            UserStatus::Active
        );
        Ok(())
    })
}

/// B12, L16: dead before the content was sent, nothing is uncertain: the mail goes out with the next try.
#[test]
fn a_connection_that_breaks_before_the_content_only_delays_the_mail() -> Result<()> {
    alone(async |stage| {
        let user = stage.create("ana", InitialState::Pending).await?;
        stage
            .sink
            .script(&stage.address("ana"), [Behaviour::HangUpBeforeGoAhead]);
        stage.invite("ana").await?;
        stage.mail_becomes(&user.user_id, DeliveryState::Deferred).await?;
        stage.system.advance(HOUR).await?;
        stage.becomes(&user.user_id, UserStatus::Invited).await?;
        assert_eq!(stage.mails("ana").len(), 1);
        Ok(())
    })
}
