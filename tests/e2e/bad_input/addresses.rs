//! Addresses: what is none, and what is one although it does not look so.

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::InitialState;

use super::{Case, assert_all_refused, case, mask};
use crate::stage::{refused, together};

fn bad_addresses() -> Vec<(&'static str, String)> {
    let label = "d".repeat(50);
    vec![
        ("empty", String::new()),
        ("blank", " \t ".into()),
        ("no @", "ana.example.org".into()),
        ("two @", "ana@maths@example.org".into()),
        ("nothing before the @", "@example.org".into()),
        ("nothing after the @", "ana@".into()),
        ("65 octets before the @", format!("{}@example.org", "a".repeat(65))),
        (
            "255 octets",
            format!("{}@{label}.{label}.{label}.{label}", "a".repeat(51)),
        ),
        ("a line break", "ana@example.org\r\nbcc: eve@example.org".into()),
        ("a line break inside", "an\na@example.org".into()),
        ("a NUL", "ana\0@example.org".into()),
        ("DEL", "ana\u{7f}@example.org".into()),
        ("a name around it", "Ana Silva <ana@example.org>".into()),
        ("angle brackets", "<ana@example.org>".into()),
        ("quotes", "\"ana silva\"@example.org".into()),
        ("a comment", "ana(maths)@example.org".into()),
        ("two of them", "ana@example.org, bo@example.org".into()),
        ("a space inside", "ana silva@example.org".into()),
        ("right-to-left override", "ana\u{202e}@example.org".into()),
        ("isolate in the domain", "ana@exam\u{2066}ple.org".into()),
        ("zero-width space", "ana\u{200b}@example.org".into()),
        ("zero-width joiner in the domain", "ana@exam\u{200d}ple.org".into()),
        ("byte order mark", "\u{feff}ana@example.org".into()),
        ("soft hyphen", "ana\u{ad}@example.org".into()),
        ("two dots", "ana..silva@example.org".into()),
        ("no full domain", "ana@localhost".into()),
        ("an IP address", "ana@[127.0.0.1]".into()),
        ("a domain with an underscore", "ana@exa_mple.org".into()),
        ("a domain with an empty label", "ana@example..org".into()),
        ("a letter before the @ that few servers take", "añа@example.org".into()),
    ]
}

/// L13, L1: wherever an address is given.
#[test]
fn a_bad_address_is_named_wherever_it_is_given() -> Result<()> {
    together(async |stage| {
        let there = stage.active("there").await?;
        let mut cases: Vec<Case> = Vec::new();
        for (what, email) in bad_addresses() {
            let user = api::User {
                email: email.clone(),
                ..api::User::default()
            };
            let create = stage.new_user(user, InitialState::Pending);
            cases.push(case!(
                format!("create: {what}"),
                stage.clients.users(),
                create_user,
                create,
                ["user.email"]
            ));
            let update = api::UpdateUserRequest {
                user: Some(api::User {
                    email: email.clone(),
                    ..there.clone()
                }),
                update_mask: Some(mask(&["email"])),
                ..api::UpdateUserRequest::default()
            };
            cases.push(case!(
                format!("update: {what}"),
                stage.clients.users(),
                update_user,
                update,
                ["user.email"]
            ));
            let look_up = api::LookupUserRequest {
                tenant_id: stage.tenant.clone(),
                key: Some(api::lookup_user_request::Key::Email(email.clone())),
            };
            cases.push(case!(
                format!("look up: {what}"),
                stage.clients.users(),
                lookup_user,
                look_up,
                ["email"]
            ));
            let test = api::SendTestInvitationRequest {
                tenant_id: stage.tenant.clone(),
                email: email.clone(),
                ..api::SendTestInvitationRequest::default()
            };
            let invitations = stage.clients.invitations();
            cases.push(case!(
                format!("test: {what}"),
                invitations,
                send_test_invitation,
                test,
                ["email"]
            ));
            if !email.is_empty() {
                let school = api::UpdateTenantRequest {
                    tenant: Some(api::Tenant {
                        tenant_id: stage.tenant.clone(),
                        reply_to: email,
                        ..api::Tenant::default()
                    }),
                    update_mask: Some(mask(&["reply_to"])),
                    options: None,
                };
                let tenants = stage.clients.tenants();
                cases.push(case!(
                    format!("reply to: {what}"),
                    tenants,
                    update_tenant,
                    school,
                    ["tenant.reply_to"]
                ));
            }
        }
        assert_all_refused(&stage, cases).await
    })
}

/// L4: in a text of many, a bad one is told by itself.
#[test]
fn a_bad_address_among_others_is_refused_alone() -> Result<()> {
    together(async |stage| {
        let bad: Vec<String> = bad_addresses()
            .into_iter()
            .filter(|(_, address)| !address.contains([' ', '\t', '\n', ',']) && !address.is_empty())
            .map(|(_, address)| address)
            .collect();
        let good = stage.address("good");
        let text = format!("{} {good}", bad.join(" "));
        let answer = stage
            .clients
            .invitations()
            .invite_users(stage.inviting(text))
            .await?
            .into_inner();
        assert_eq!(
            (answer.invited_count, answer.refused_count),
            (1, i32::try_from(bad.len())?)
        );
        for (result, address) in answer.results.iter().zip(&bad) {
            let Some(api::invite_result::Outcome::Refused(refusal)) = &result.outcome else {
                panic!("{address:?} was invited")
            };
            assert_eq!((&result.address, refusal.reason.as_str()), (address, "INVALID_FIELDS"));
            assert!(refusal.message.contains(address.as_str()), "{}", refusal.message);
        }
        assert_eq!(stage.mail("good", 1).await?.to, good);

        let tenant = || stage.tenant.clone();
        let invite = |addresses: String| api::InviteUsersRequest {
            tenant_id: tenant(),
            addresses,
            ..api::InviteUsersRequest::default()
        };
        let many: Vec<String> = (0..1_001).map(|index| stage.address(&format!("u{index}"))).collect();
        let cases = vec![
            case!(
                "none",
                stage.clients.invitations(),
                invite_users,
                invite(" ,;\n".into()),
                ["addresses"]
            ),
            case!(
                "1,001",
                stage.clients.invitations(),
                invite_users,
                invite(many.join(";")),
                ["addresses"]
            ),
            case!(
                "500,001",
                stage.clients.invitations(),
                invite_users,
                invite("a ".repeat(250_001)),
                ["addresses"]
            ),
        ];
        assert_all_refused(&stage, cases).await
    })
}

/// L4: unusual, and as good as any.
#[test]
fn unusual_addresses_are_taken_and_equal_their_folded_form() -> Result<()> {
    together(async |stage| {
        let label = "d".repeat(50);
        let good = [
            ("ana+year7@example.org".to_owned(), "ANA+Year7@EXAMPLE.ORG"),
            ("bo@MÜNCHEN.example".into(), "bo@xn--mnchen-3ya.example"),
            ("cy@例え.テスト".into(), "cy@xn--r8jz45g.xn--zckzah"),
            ("o'connor@example.org".into(), "O'Connor@Example.org"),
            (format!("{}@example.org", "a".repeat(64)), ""),
            (format!("{}@{label}.{label}.{label}.{label}", "a".repeat(50)), ""),
            (" padded@example.org\t".into(), "padded@example.org"),
        ];
        for (given, folded) in good {
            let user = api::User {
                email: given.clone(),
                ..api::User::default()
            };
            let user = stage
                .create_as(user, InitialState::Pending)
                .await
                .with_context(|| given.clone())?;
            assert_eq!(user.email, given.trim());
            if folded.is_empty() {
                continue;
            }
            let same = api::User {
                email: folded.into(),
                ..api::User::default()
            };
            let refusal = refused(
                stage
                    .clients
                    .users()
                    .create_user(stage.new_user(same, InitialState::Pending))
                    .await,
            );
            assert_eq!(
                (refusal.code, refusal.reason.as_str()),
                (Code::AlreadyExists, "EMAIL_TAKEN"),
                "{folded}"
            );
        }
        // A tag makes another address.
        let untagged = api::User {
            email: "ana@example.org".into(),
            ..api::User::default()
        };
        stage.create_as(untagged, InitialState::Pending).await?;
        Ok(())
    })
}
