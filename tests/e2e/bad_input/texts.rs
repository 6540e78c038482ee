//! Names and messages.

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use usher_proto::identity::v1 as api;

use super::{Case, assert_all_refused, case, mask};
use crate::stage::together;

#[test]
fn names_with_line_breaks_markup_or_tricks_are_refused_and_every_script_is_taken() -> Result<()> {
    together(async |stage| {
        let there = stage.active("there").await?;
        let bad = [
            "Ana\nSilva",
            "Ana\r\nBcc: eve@example.org",
            "<b>Ana</b>",
            "<script>alert(1)</script>",
            "visit https://evil.example",
            "Ana\u{202e}avliS",
            "Ana\u{200b}",
            "Ana\0",
            "\u{2028}Ana\u{2028}Silva",
        ];
        let mut cases: Vec<Case> = Vec::new();
        for name in bad.map(ToOwned::to_owned).into_iter().chain(["é".repeat(101)]) {
            let update = api::UpdateUserRequest {
                user: Some(api::User {
                    first_name: name.clone(),
                    last_name: name.clone(),
                    ..there.clone()
                }),
                update_mask: Some(mask(&["first_name", "last_name"])),
                ..api::UpdateUserRequest::default()
            };
            let fields = ["user.first_name", "user.last_name"];
            cases.push(case!(
                format!("update: {name:?}"),
                stage.clients.users(),
                update_user,
                update,
                fields
            ));
            let preview = api::PreviewInvitationRequest {
                tenant_id: stage.tenant.clone(),
                first_name: name.clone(),
                reminder_step: 11,
                ..api::PreviewInvitationRequest::default()
            };
            let fields = ["first_name", "reminder_step"];
            cases.push(case!(
                format!("preview: {name:?}"),
                stage.clients.invitations(),
                preview_invitation,
                preview,
                fields
            ));
            let tenant = api::CreateTenantRequest {
                tenant: Some(api::Tenant {
                    display_name: name.repeat(3),
                    sender_name: name.clone(),
                    seat_limit: -1,
                    ..api::Tenant::default()
                }),
                options: None,
            };
            let fields = ["tenant.display_name", "tenant.sender_name", "tenant.seat_limit"];
            cases.push(case!(
                format!("tenant: {name:?}"),
                stage.clients.tenants(),
                create_tenant,
                tenant,
                fields
            ));
        }
        assert_all_refused(&stage, cases).await?;
        for name in [
            "O’Connor",
            "d'Arc",
            "山田",
            "محمد",
            "Nguyễn",
            "Anne-Marie",
            "{{ 7 * 7 }}",
            "A & B; -- %s",
            "ක්‍ෂ",
        ] {
            let update = api::UpdateUserRequest {
                user: Some(api::User {
                    first_name: name.into(),
                    ..there.clone()
                }),
                update_mask: Some(mask(&["first_name"])),
                ..api::UpdateUserRequest::default()
            };
            let updated = stage
                .clients
                .users()
                .update_user(update)
                .await?
                .into_inner()
                .user
                .context("a user")?;
            assert_eq!(updated.first_name, name);
        }
        Ok(())
    })
}

/// L11
#[test]
fn messages_that_are_too_long_or_twice_in_a_language_are_refused() -> Result<()> {
    together(async |stage| {
        let message = |language: &str, subject: &str, text: String| api::Message {
            language: language.into(),
            subject: subject.into(),
            text,
        };
        let messages = vec![
            message("fr", "Bienvenue", "é".repeat(10_001)),
            message("de", &"s".repeat(201), "t".repeat(10_000)),
            message("FR", "Encore", "\u{7}".into()),
            message("not a tag", "one line\r\nBcc: eve@example.org", String::new()),
        ];
        let invite = api::InviteUsersRequest {
            messages: messages.clone(),
            ..stage.inviting(stage.address("ana"))
        };
        let preview = api::PreviewInvitationRequest {
            tenant_id: stage.tenant.clone(),
            messages,
            ..api::PreviewInvitationRequest::default()
        };
        let fields = [
            "messages[0].text",
            "messages[1].subject",
            "messages[2].text",
            "messages[2].language",
            "messages[3].language",
            "messages[3].subject",
        ];
        let many = api::InviteUsersRequest {
            messages: vec![message("", "", String::new()); 51],
            ..stage.inviting(stage.address("ana"))
        };
        let cases = vec![
            case!("invite", stage.clients.invitations(), invite_users, invite, fields),
            case!(
                "preview",
                stage.clients.invitations(),
                preview_invitation,
                preview,
                fields
            ),
            case!(
                "51 messages",
                stage.clients.invitations(),
                invite_users,
                many,
                ["messages"]
            ),
        ];
        assert_all_refused(&stage, cases).await?;
        // As long as it may be, in characters and not in octets.
        let full = api::InviteUsersRequest {
            messages: vec![message("", &"é".repeat(200), "é".repeat(10_000))],
            ..stage.inviting(stage.address("ana"))
        };
        stage.clients.invitations().invite_users(full).await?;
        let mail = stage.mail("ana", 1).await?;
        assert_eq!(mail.subject, "é".repeat(200));
        assert!(mail.text.starts_with(&"é".repeat(10_000)));
        Ok(())
    })
}
