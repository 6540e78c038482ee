//! What comes back after a mail server took a mail: through `usher bounces`, as a mail server pipes it (L13, L14).

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{
    BounceKind, BounceOutcome, DeliveryOutcome, DeliveryState, InvitationState, UserStatus,
};

use crate::command_line::{printed, usher_reading};
use crate::stage::{Alone, DAY, HOUR, PATIENCE, alone, assert_refused, refused, together};

/// What a mail server reports of a mail: of the address, by the Message-ID.
fn notification(address: &str, message_id: &str, action: &str, status: &str, said: &str) -> String {
    format!(
        "From: MAILER-DAEMON@relay.example\r\nTo: no-reply@usher.example\r\nSubject: Undelivered Mail\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nIt did not arrive.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n\
         Final-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; {said}\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nTo: {address}\r\nMessage-ID: <{message_id}>\r\n\r\n--b--\r\n"
    )
}

fn complaint(message_id: &str) -> String {
    format!(
        "From: feedback@provider.example\r\nSubject: FW\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nUnwanted.\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{message_id}>\r\nSubject: x\r\n\r\nx\r\n--b--\r\n"
    )
}

impl Alone {
    /// Pipes a message into `usher bounces`; answers its exit code and what it printed.
    async fn pipe(&self, message: String, more: &[&str]) -> Result<(Option<i32>, String)> {
        let server = format!("http://127.0.0.1:{}", self.system.port);
        let mut arguments = vec!["bounces", "-", "--server", &server, "--tenant", &self.tenant];
        arguments.extend(more);
        let output = usher_reading(message.into_bytes(), &arguments).await?;
        Ok((output.status.code(), printed(&output)))
    }

    async fn suppressed(&self) -> Result<Vec<String>> {
        let list = api::ListSuppressionsRequest {
            tenant_id: self.tenant.clone(),
            ..api::ListSuppressionsRequest::default()
        };
        let listed = self.clients.deliveries().list_suppressions(list).await?.into_inner();
        Ok(listed.suppressions.into_iter().map(|it| it.email).collect())
    }

    /// Whom the first event of a type is about.
    async fn told_of(&self, event: &str) -> Result<String> {
        let watch = api::WatchEventsRequest {
            tenant_id: self.tenant.clone(),
            from_beginning: true,
            type_prefixes: vec![event.to_owned()],
            ..api::WatchEventsRequest::default()
        };
        let mut stream = self.clients.events().watch_events(watch).await?.into_inner();
        loop {
            let answer = tokio::time::timeout(PATIENCE, stream.message()).await??;
            if let Some(event) = answer.context("the stream ended")?.event {
                assert!(!event.delivery_id.is_empty() && !format!("{event:?}").contains('@'));
                return Ok(event.user_id);
            }
        }
    }

    /// The Message-ID of the newest mail that somebody got.
    async fn message_id(&self, name: &str) -> Result<String> {
        self.mail(name, 1).await?;
        let received = self.sink.received_by(&self.address(name));
        Ok(received.last().context("a mail")?.message_id.clone())
    }
}

/// L13, L14, L16
#[test]
fn a_bounce_after_the_mail_server_took_it_suppresses_the_address_and_ends_its_reminders() -> Result<()> {
    alone(async |stage| {
        let (user, _) = stage.invited("ana").await?;
        let id = stage.message_id("ana").await?;
        let said = "550 5.1.1 User unknown in virtual mailbox table";
        let message = notification(&stage.address("ana"), &id, "failed", "5.1.1", said);
        let (code, told) = stage.pipe(message.clone(), &["--dry-run"]).await?;
        assert_eq!(code, Some(0), "{told}");
        assert!(
            told.contains("suppressed") && stage.suppressed().await?.is_empty(),
            "{told}"
        );
        let (code, told) = stage.pipe(message.clone(), &["--json"]).await?;
        assert!(code == Some(0) && told.contains("\"SUPPRESSED\""), "{told}");
        assert_eq!(stage.suppressed().await?, [stage.address("ana")]);
        let dead = stage
            .invitations(&user.user_id, &[InvitationState::Undeliverable])
            .await?;
        assert_eq!(dead.len(), 1);
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Invited);
        assert_eq!(stage.told_of("delivery.bounced").await?, user.user_id);
        let mails = stage.deliveries(&user.user_id).await?;
        let mail = mails.iter().find(|mail| mail.message_id == id).context("the mail")?;
        assert_eq!(mail.state(), DeliveryState::Sent);
        let last = mail.attempts.last().context("what came back")?;
        assert_eq!(
            (last.outcome(), last.response.as_str()),
            (DeliveryOutcome::Bounced, said)
        );

        stage.system.advance(15 * DAY).await?;
        stage.settled().await?;
        assert_eq!(stage.mails("ana").len(), 1, "no reminder follows");
        let send = api::SendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: user.user_id.clone(),
            ..api::SendInvitationRequest::default()
        };
        let answer = stage.clients.invitations().send_invitation(send.clone()).await;
        assert_refused(answer, Code::FailedPrecondition, "ADDRESS_SUPPRESSED");

        // It is lifted, and the same message, read again, does not bring it back.
        let lift = api::RemoveSuppressionRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("ana"),
            options: None,
        };
        stage.clients.deliveries().remove_suppression(lift).await?;
        let (code, told) = stage.pipe(message, &[]).await?;
        assert!(code == Some(0) && told.contains("known"), "{told}");
        assert!(stage.suppressed().await?.is_empty());
        stage.clients.invitations().send_invitation(send).await?;
        stage.mail("ana", 2).await?;
        Ok(())
    })
}

/// L13
#[test]
fn soft_bounces_foreign_mails_and_other_messages_suppress_nobody() -> Result<()> {
    alone(async |stage| {
        let (user, _) = stage.invited("ana").await?;
        let (id, ana) = (stage.message_id("ana").await?, stage.address("ana"));
        for (action, status, said) in [
            ("failed", "5.2.2", "552 5.2.2 full"),
            ("failed", "5.7.1", "550 5.7.1 policy"),
            ("delayed", "4.4.1", "451 4.4.1 later"),
        ] {
            for _ in 0..2 {
                let (code, told) = stage.pipe(notification(&ana, &id, action, status, said), &[]).await?;
                assert!(code == Some(0) && told.contains("recorded"), "{told}");
            }
        }
        let mails = stage.deliveries(&user.user_id).await?;
        let mail = mails.iter().find(|mail| mail.message_id == id).context("the mail")?;
        let soft = mail
            .attempts
            .iter()
            .filter(|it| it.outcome() == DeliveryOutcome::SoftBounced);
        assert_eq!(soft.count(), 3, "each is written down once");
        for foreign in [
            "20261124.forged@elsewhere.example",
            "0192f0a0b0c07000800000000000dead@usher.example",
        ] {
            let forged = notification(&ana, foreign, "failed", "5.1.1", "550 5.1.1 gone");
            let (code, told) = stage.pipe(forged, &[]).await?;
            assert!(code == Some(0) && told.contains("passed over"), "{told}");
        }
        let (code, told) = stage
            .pipe(
                "Subject: Out of office\r\n\r\nStatus: 5.1.1\r\nAction: failed".into(),
                &[],
            )
            .await?;
        assert!(code == Some(0) && told.contains("no report"), "{told}");
        let delivered = notification(&ana, &id, "delivered", "2.0.0", "250 2.0.0 taken");
        let (code, told) = stage.pipe(delivered, &[]).await?;
        assert!(code == Some(0) && told.contains("no report"), "{told}");
        assert!(stage.suppressed().await?.is_empty());
        stage.system.advance(3 * DAY + HOUR).await?;
        stage.mail("ana", 2).await?;

        let away = [
            "bounces",
            "-",
            "--server",
            "http://127.0.0.1:1",
            "--tenant",
            &stage.tenant,
        ];
        let hard = notification(&ana, &id, "failed", "5.1.1", "550 5.1.1 gone");
        let output = usher_reading(hard.into_bytes(), &away).await?;
        assert_eq!(output.status.code(), Some(75), "the mail server tries again");
        Ok(())
    })
}

/// L13
#[test]
fn a_complaint_suppresses_an_active_persons_address_and_leaves_them_as_they_are() -> Result<()> {
    alone(async |stage| {
        let (user, _) = stage.invited("ana").await?;
        stage.accept(&stage.link("ana", 1).await?).await?;
        let message = complaint(&stage.message_id("ana").await?);
        let (code, told) = stage.pipe(message.clone(), &[]).await?;
        assert!(code == Some(0) && told.contains("complaint of"), "{told}");
        assert_eq!(stage.suppressed().await?, [stage.address("ana")]);
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Active);
        assert_eq!(stage.told_of("delivery.complained").await?, user.user_id);
        let (_, told) = stage.pipe(message, &[]).await?;
        assert!(told.contains("known"), "{told}");
        Ok(())
    })
}

/// L13: an address alone is taken for the newest mail to it, of the last 30 days.
#[test]
fn a_report_that_names_only_an_address_needs_a_mail_that_went_there_lately() -> Result<()> {
    alone(async |stage| {
        stage.invited("ana").await?;
        let report = |name: &str| api::BounceReport {
            recipient: stage.address(name),
            kind: BounceKind::Hard.into(),
            ..api::BounceReport::default()
        };
        let call = |reports: Vec<api::BounceReport>| api::ReportBounceRequest {
            tenant_id: stage.tenant.clone(),
            reports,
            options: None,
        };
        let told = async |reports: Vec<api::BounceReport>| -> Result<Vec<BounceOutcome>> {
            let answer = stage
                .clients
                .deliveries()
                .report_bounce(call(reports))
                .await?
                .into_inner();
            Ok(answer.results.iter().map(api::BounceResult::outcome).collect())
        };
        assert_eq!(
            told(vec![report("nobody"), report("ana"), report("ana")]).await?,
            [
                BounceOutcome::Unknown,
                BounceOutcome::Suppressed,
                BounceOutcome::Repeated
            ]
        );
        assert_eq!(stage.suppressed().await?, [stage.address("ana")]);
        stage.invited("ben").await?;
        stage.system.advance(3 * DAY + HOUR).await?;
        stage.mail("ben", 2).await?;
        stage.settled().await?;
        stage.system.advance(50 * DAY).await?;
        stage.settled().await?;
        assert_eq!(told(vec![report("ben")]).await?, [BounceOutcome::Unknown]);
        Ok(())
    })
}

/// L13
#[test]
fn a_report_that_makes_no_sense_is_refused_with_every_fault() -> Result<()> {
    together(async |stage| {
        let call = |reports: Vec<api::BounceReport>| api::ReportBounceRequest {
            tenant_id: stage.tenant.clone(),
            reports,
            options: None,
        };
        let report = api::BounceReport {
            kind: BounceKind::Hard.into(),
            status: "4.2.2".into(),
            recipient: "no address".into(),
            ..api::BounceReport::default()
        };
        let bare = api::BounceReport::default();
        let answer = stage.clients.deliveries().report_bounce(call(vec![report, bare])).await;
        assert_eq!(
            refused(answer).fields,
            [
                "reports[0].status",
                "reports[0].recipient",
                "reports[1].kind",
                "reports[1]"
            ]
        );
        for count in [0, 101] {
            let reports = vec![api::BounceReport::default(); count];
            let answer = stage.clients.deliveries().report_bounce(call(reports)).await;
            assert_eq!(refused(answer).fields[0], "reports");
        }
        Ok(())
    })
}
