//! Invitations as administrators and the invited see them (L1, L8, L11, L12, B11).

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DeliveryKind, DeliveryState, InitialState, InvitationState, UserStatus};

use crate::stage::{HOUR, MINUTE, PASSWORD, Together, alone, assert_refused, refused, together};

const NOT_USABLE: &str = "INVITATION_NOT_USABLE";

/// L1
#[test]
fn an_invited_person_enters_name_and_password_and_is_active_only_then() -> Result<()> {
    together(async |stage| {
        let (user, _) = stage.invited("ana").await?;
        let mail = stage.mail("ana", 1).await?;
        assert_eq!(mail.to, stage.address("ana"));
        assert!(
            mail.subject.contains("Your invitation to École des Tests"),
            "{}",
            mail.subject
        );
        let link = stage.link("ana", 1).await?;
        assert!(mail.html.contains(&link), "the same link stands in both parts");
        assert!(!stage.access(&user.user_id).await?.allowed);

        // Looking changes nothing, however often a scanner opens the link.
        for _ in 0..3 {
            let page = stage.inspect(&link).await?;
            assert_eq!(
                (page.email, page.tenant_name.as_str()),
                (stage.address("ana"), "École des Tests")
            );
        }
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Invited);

        let empty = api::AcceptInvitationRequest {
            first_name: " ".into(),
            last_name: String::new(),
            password: "short".into(),
            ..stage.accepting(&link)
        };
        let refusal = refused(stage.clients.invitations().accept_invitation(empty).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::InvalidArgument, "INVALID_FIELDS")
        );
        assert_eq!(refusal.fields, ["first_name", "last_name", "password"]);

        let accepted = stage.accept(&link).await?;
        assert_eq!(
            (accepted.first_name.as_str(), accepted.last_name.as_str()),
            ("Ana", "Silva")
        );
        assert_eq!(
            (&accepted.user_id, accepted.status()),
            (&user.user_id, UserStatus::Active)
        );
        assert!(stage.access(&user.user_id).await?.allowed);
        stage.sign_in("ana", PASSWORD).await?;
        // A link works once.
        assert_refused(stage.accept(&link).await, Code::FailedPrecondition, NOT_USABLE);
        assert_refused(stage.inspect(&link).await, Code::FailedPrecondition, NOT_USABLE);
        assert_eq!(stage.mails("ana").len(), 1);
        Ok(())
    })
}

/// L1, L8: whatever is wrong with a link, the answer is the same, so that nobody learns which links exist.
#[test]
fn unknown_forged_and_dead_links_get_one_answer() -> Result<()> {
    together(async |stage| {
        let (_, invitation) = stage.invited("ana").await?;
        let link = stage.link("ana", 1).await?;
        let mut forged = link.clone().into_bytes();
        let last = forged.len() - 2;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged)?;
        let (_, cancelled) = stage.invited("bo").await?;
        let cancelled_link = stage.link("bo", 1).await?;
        cancel(&stage, &cancelled.invitation_id).await?;
        let foreign = api::InspectInvitationRequest {
            tenant_id: stage.system.tenant(api::Tenant::default()).await?,
            token: link.clone(),
        };
        let answers = [
            refused(stage.inspect("").await),
            refused(stage.inspect("not a token").await),
            refused(stage.inspect(&"A".repeat(10_000)).await),
            refused(stage.inspect(&forged).await),
            refused(stage.inspect(&cancelled_link).await),
            refused(stage.clients.invitations().inspect_invitation(foreign).await),
            refused(stage.accept(&forged).await),
            refused(stage.accept(&cancelled_link).await),
        ];
        for answer in &answers {
            assert_eq!(answer, &answers[0]);
        }
        assert_eq!(
            (answers[0].code, answers[0].reason.as_str()),
            (Code::FailedPrecondition, NOT_USABLE)
        );
        assert_eq!(open(&stage).await?, [invitation.invitation_id]);
        Ok(())
    })
}

async fn cancel(stage: &Together, id: &str) -> Result<api::Invitation> {
    let request = api::CancelInvitationRequest {
        tenant_id: stage.tenant.clone(),
        invitation_id: id.into(),
        options: None,
    };
    let answer = stage
        .clients
        .invitations()
        .cancel_invitation(request)
        .await?
        .into_inner();
    answer.invitation.context("no invitation")
}

/// The ids of the tenant's open invitations.
async fn open(stage: &Together) -> Result<Vec<String>> {
    let open = stage.invitations("", &[]).await?;
    Ok(open.into_iter().map(|invitation| invitation.invitation_id).collect())
}

/// L8
#[test]
fn open_invitations_are_listed_and_an_accepted_one_leaves_the_list() -> Result<()> {
    together(async |stage| {
        let mut ids = Vec::new();
        for name in ["ana", "bo", "cy"] {
            ids.insert(0, stage.invited(name).await?.1.invitation_id);
        }
        assert_eq!(open(&stage).await?, ids, "the newest first");
        stage.accept(&stage.link("bo", 1).await?).await?;
        assert_eq!(open(&stage).await?, [ids[0].clone(), ids[2].clone()]);
        let accepted = stage.invitations("", &[InvitationState::Accepted]).await?;
        assert_eq!(accepted[0].invitation_id, ids[1]);
        assert!(accepted[0].accept_time.is_some());

        // Page by page it is the same list.
        let page = api::ListInvitationsRequest {
            tenant_id: stage.tenant.clone(),
            page_size: 1,
            ..api::ListInvitationsRequest::default()
        };
        let first = stage
            .clients
            .invitations()
            .list_invitations(page.clone())
            .await?
            .into_inner();
        let rest = api::ListInvitationsRequest {
            page_token: first.next_page_token.clone(),
            page_size: 10,
            ..page
        };
        let rest = stage.clients.invitations().list_invitations(rest).await?.into_inner();
        let paged: Vec<_> = first.invitations.into_iter().chain(rest.invitations).collect();
        assert_eq!(paged, stage.invitations("", &[]).await?);
        assert_eq!(rest.next_page_token, "");
        Ok(())
    })
}

/// L8
#[test]
fn cancelling_resending_and_inviting_anew_kill_the_link_that_was_sent() -> Result<()> {
    together(async |stage| {
        let (user, invitation) = stage.invited("ana").await?;
        let first = stage.link("ana", 1).await?;
        let again = api::ResendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: invitation.invitation_id.clone(),
            ..api::ResendInvitationRequest::default()
        };
        let resent = stage
            .clients
            .invitations()
            .resend_invitation(again.clone())
            .await?
            .into_inner();
        let resent = resent.invitation.context("no invitation")?;
        assert_eq!(
            (&resent.invitation_id, resent.generation),
            (&invitation.invitation_id, 2)
        );
        // At once, also before the new mail is sent.
        assert_refused(stage.inspect(&first).await, Code::FailedPrecondition, NOT_USABLE);
        let second = stage.link("ana", 2).await?;
        assert_ne!(first, second);
        stage.inspect(&second).await?;

        let send = api::SendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: user.user_id.clone(),
            ..api::SendInvitationRequest::default()
        };
        let anew = stage.clients.invitations().send_invitation(send).await?.into_inner();
        let anew = anew.invitation.context("no invitation")?.invitation_id;
        assert_ne!(anew, invitation.invitation_id);
        assert_refused(stage.inspect(&second).await, Code::FailedPrecondition, NOT_USABLE);
        let answer = stage.clients.invitations().resend_invitation(again).await;
        assert_refused(answer, Code::FailedPrecondition, "INVITATION_CLOSED");
        let third = stage.link("ana", 3).await?;
        stage.inspect(&third).await?;

        let cancelled = cancel(&stage, &anew).await?;
        assert_eq!(cancelled.state(), InvitationState::Cancelled);
        assert_refused(stage.accept(&third).await, Code::FailedPrecondition, NOT_USABLE);
        assert_eq!(cancel(&stage, &anew).await?, cancelled, "repeating it changes nothing");
        assert!(open(&stage).await?.is_empty());
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Invited);
        Ok(())
    })
}

fn message(language: &str, subject: &str, text: &str) -> api::Message {
    api::Message {
        language: language.into(),
        subject: subject.into(),
        text: text.into(),
    }
}

/// L11
#[test]
fn each_person_gets_the_customised_message_in_their_language_or_the_default_one() -> Result<()> {
    together(async |stage| {
        let mut users = Vec::new();
        for (name, language) in [("fr", "fr-CA"), ("de", "de"), ("en", ""), ("ar", "ar")] {
            let user = api::User {
                email: stage.address(name),
                language: language.into(),
                ..api::User::default()
            };
            users.push(stage.create_as(user, InitialState::Pending).await?);
        }
        let messages = vec![
            message(
                "fr",
                "Bienvenue à bord",
                "La rentrée est le 1er septembre.\n\nÀ bientôt !",
            ),
            message("", "Welcome aboard", "Term starts on 1 September."),
            message("de", "", "Der Unterricht beginnt am 1. September."),
        ];
        let addresses: Vec<_> = users.iter().map(|user| user.email.clone()).collect();
        let request = api::InviteUsersRequest {
            messages,
            ..stage.inviting(addresses.join(" "))
        };
        stage.clients.invitations().invite_users(request).await?;
        let fr = stage.mail("fr", 1).await?;
        assert_eq!(fr.subject, "Bienvenue à bord");
        assert!(
            fr.text
                .starts_with("La rentrée est le 1er septembre.\n\nÀ bientôt !\n\n"),
            "{}",
            fr.text
        );
        assert!(
            fr.text.contains("Accepter l’invitation") && fr.text.contains("token="),
            "{}",
            fr.text
        );
        let de = stage.mail("de", 1).await?;
        assert!(
            de.subject.starts_with("Ihre Einladung"),
            "an empty subject is the default one: {}",
            de.subject
        );
        assert!(
            de.text.starts_with("Der Unterricht beginnt am 1. September."),
            "{}",
            de.text
        );
        for name in ["en", "ar"] {
            assert_eq!(stage.mail(name, 1).await?.subject, "Welcome aboard");
        }

        // Nobody said anything: the default text, in the language of each.
        let (other, _) = stage.invite("other").await?;
        assert_eq!(other.language, "");
        assert!(
            stage
                .mail("other", 1)
                .await?
                .text
                .contains("You are invited to join École des Tests.")
        );
        // A resend keeps the text, or replaces it.
        let invitation = &stage.invitations(&users[0].user_id, &[]).await?[0];
        assert_eq!(
            invitation.message.as_ref().map(|it| it.subject.as_str()),
            Some("Bienvenue à bord")
        );
        let resend = api::ResendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: invitation.invitation_id.clone(),
            ..api::ResendInvitationRequest::default()
        };
        stage.clients.invitations().resend_invitation(resend.clone()).await?;
        assert_eq!(stage.mail("fr", 2).await?.subject, "Bienvenue à bord");
        let replaced = api::ResendInvitationRequest {
            messages: vec![message("fr", "Dernier appel", "")],
            ..resend
        };
        stage.clients.invitations().resend_invitation(replaced).await?;
        assert_eq!(stage.mail("fr", 3).await?.subject, "Dernier appel");
        Ok(())
    })
}

/// L12
#[test]
fn a_preview_sends_nothing_and_a_test_mail_goes_to_oneself_and_invites_nobody() -> Result<()> {
    together(async |stage| {
        let messages = vec![message("", "Welcome aboard", "Term starts on 1 September.")];
        let preview = api::PreviewInvitationRequest {
            tenant_id: stage.tenant.clone(),
            language: "fr".into(),
            first_name: "Zoë".into(),
            messages: messages.clone(),
            reminder_step: 0,
        };
        let shown = stage
            .clients
            .invitations()
            .preview_invitation(preview.clone())
            .await?
            .into_inner();
        assert_eq!(
            (shown.subject.as_str(), shown.language.as_str()),
            ("Welcome aboard", "fr")
        );
        assert!(shown.text.contains("Term starts") && shown.html.contains("Term starts"));
        let reminder = api::PreviewInvitationRequest {
            messages: Vec::new(),
            reminder_step: 1,
            ..preview
        };
        let reminder = stage
            .clients
            .invitations()
            .preview_invitation(reminder)
            .await?
            .into_inner();
        assert!(
            reminder.subject.contains("Rappel") && reminder.text.contains("Zoë"),
            "{reminder:?}"
        );
        assert!(stage.deliveries("").await?.is_empty());

        let test = api::SendTestInvitationRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("me"),
            language: "en".into(),
            first_name: "Zoë".into(),
            messages,
            options: None,
        };
        let delivery = stage
            .clients
            .invitations()
            .send_test_invitation(test)
            .await?
            .into_inner()
            .delivery_id;
        let mail = stage.mail("me", 1).await?;
        assert_eq!(mail.subject, "[Test] Welcome aboard");
        assert!(mail.text.contains("Term starts on 1 September."));
        assert!(
            mail.text.contains("This is a test of the mail. Its link does not work"),
            "{}",
            mail.text
        );
        assert_refused(
            stage.inspect(&stage.link("me", 1).await?).await,
            Code::FailedPrecondition,
            NOT_USABLE,
        );
        let sent = stage.mail_becomes("", DeliveryState::Sent).await?;
        assert_eq!(
            (sent.delivery_id, sent.kind, sent.user_id),
            (delivery, DeliveryKind::Test.into(), String::new())
        );
        assert!(open(&stage).await?.is_empty());
        let everybody = api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListUsersRequest::default()
        };
        assert!(
            stage
                .clients
                .users()
                .list_users(everybody)
                .await?
                .into_inner()
                .users
                .is_empty()
        );
        Ok(())
    })
}

/// B11
#[test]
fn a_lapsed_link_gives_a_fresh_one_to_its_own_address_and_any_other_link_gives_nothing() -> Result<()> {
    alone(async |mut stage| {
        let lifetime = prost_types::Duration {
            seconds: 7_200,
            nanos: 0,
        };
        stage
            .settings(api::Tenant {
                invitation_lifetime: Some(lifetime),
                no_reminders: true,
                ..api::Tenant::default()
            })
            .await?;
        let (user, invitation) = stage.invited("ana").await?;
        let lapsed = stage.link("ana", 1).await?;
        let (_, cancelled) = stage.invited("bo").await?;
        let cancelled_link = stage.link("bo", 1).await?;
        let cancel = api::CancelInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: cancelled.invitation_id,
            options: None,
        };
        stage.clients.invitations().cancel_invitation(cancel).await?;
        let fresh = |token: &str| api::RequestFreshInvitationRequest {
            tenant_id: stage.tenant.clone(),
            token: token.into(),
        };
        // A living link gives nothing: it works.
        let mut invitations = stage.clients.invitations();
        invitations.request_fresh_invitation(fresh(&lapsed)).await?;
        stage.inspect(&lapsed).await?;

        stage.system.advance(2 * HOUR).await?;
        assert_refused(stage.inspect(&lapsed).await, Code::FailedPrecondition, NOT_USABLE);
        assert_refused(stage.accept(&lapsed).await, Code::FailedPrecondition, NOT_USABLE);
        stage.happens(&user.user_id, "invitation.lapsed").await?;
        assert!(stage.invitations(&user.user_id, &[]).await?.is_empty());

        for token in [cancelled_link.as_str(), "", "garbage", lapsed.as_str(), lapsed.as_str()] {
            // One answer for all.
            invitations.request_fresh_invitation(fresh(token)).await?;
        }
        let link = stage.link("ana", 2).await?;
        assert_ne!(link, lapsed);
        assert_refused(stage.inspect(&lapsed).await, Code::FailedPrecondition, NOT_USABLE);
        let open = stage.invitations("", &[]).await?;
        assert_eq!(open.len(), 1);
        assert_eq!(
            (&open[0].invitation_id, open[0].generation),
            (&invitation.invitation_id, 2)
        );

        // It lapses again, and gives one more for a link of any generation.
        stage.mail_becomes(&user.user_id, DeliveryState::Sent).await?;
        stage.system.advance(2 * HOUR + MINUTE).await?;
        invitations.request_fresh_invitation(fresh(&lapsed)).await?;
        assert_eq!(
            stage.accept(&stage.link("ana", 3).await?).await?.status(),
            UserStatus::Active
        );
        assert_eq!((stage.mails("ana").len(), stage.mails("bo").len()), (3, 1));
        let reasons: Vec<String> = stage
            .explain(&user.user_id)
            .await?
            .history
            .into_iter()
            .map(|it| it.reason)
            .collect();
        assert!(
            reasons.iter().any(|reason| reason.contains("fresh link")),
            "{reasons:?}"
        );
        Ok(())
    })
}
