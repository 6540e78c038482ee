//! Creating accounts, and inviting addresses in whatever form they come (L2 to L4), also many at once.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use futures::future::join_all;
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, InvitationState, UserStatus};

use crate::stage::{PASSWORD, assert_refused, refused, together};

/// L2
#[test]
fn an_account_created_with_a_password_is_active_at_once_and_its_owner_is_told() -> Result<()> {
    together(async |stage| {
        let user = stage.active("ana").await?;
        assert_eq!(user.status(), UserStatus::Active);
        assert!(user.activate_time.is_some() && !user.must_change_password);
        assert!(stage.access(&user.user_id).await?.allowed);
        let mail = stage.mail("ana", 1).await?;
        assert_eq!(mail.to, stage.address("ana"));
        assert!(
            mail.subject.contains("Your account") && mail.subject.contains("École des Tests"),
            "{}",
            mail.subject
        );
        assert!(!mail.text.contains(PASSWORD) && !mail.html.contains(PASSWORD));
        assert!(!stage.sign_in("ana", PASSWORD).await?.into_inner().must_change_password);
        stage.mail_becomes(&user.user_id, api::DeliveryState::Sent).await?;
        assert_eq!(stage.mails("ana").len(), 1);
        Ok(())
    })
}

/// L2
#[test]
fn a_generated_password_is_mailed_and_must_be_changed_at_the_first_sign_in() -> Result<()> {
    together(async |stage| {
        let user = stage.create("ana", InitialState::ActiveWithGeneratedPassword).await?;
        assert_eq!((user.status(), user.must_change_password), (UserStatus::Active, true));
        let mail = stage.mail("ana", 1).await?;
        let (_, after) = mail
            .text
            .split_once("one-time password\n")
            .context("a password in the mail")?;
        let one_time = after.lines().next().unwrap_or_default();
        assert!(one_time.len() >= 12, "{one_time:?} is too short to be safe");

        assert_refused(
            stage.sign_in("ana", "wrong password").await,
            Code::Unauthenticated,
            "WRONG_CREDENTIALS",
        );
        assert!(stage.sign_in("ana", one_time).await?.into_inner().must_change_password);
        let change = |new: &str| api::ChangePasswordRequest {
            tenant_id: stage.tenant.clone(),
            email: stage.address("ana"),
            current_password: one_time.into(),
            new_password: new.into(),
            options: None,
        };
        let same = refused(stage.clients.access().change_password(change(one_time)).await);
        assert_eq!(
            (same.code, same.fields),
            (Code::InvalidArgument, vec!["new_password".to_owned()])
        );
        let changed = stage
            .clients
            .access()
            .change_password(change(PASSWORD))
            .await?
            .into_inner();
        assert!(!changed.user.context("a user")?.must_change_password);
        assert!(!stage.sign_in("ana", PASSWORD).await?.into_inner().must_change_password);
        assert_refused(
            stage.sign_in("ana", one_time).await,
            Code::Unauthenticated,
            "WRONG_CREDENTIALS",
        );
        Ok(())
    })
}

/// L3
#[test]
fn inviting_an_active_account_is_refused_by_name_and_the_others_go_through() -> Result<()> {
    together(async |stage| {
        let active = stage.active("ana").await?;
        let addresses = format!(
            "{} {} {}",
            stage.address("bo"),
            stage.address("ANA"),
            stage.address("cy")
        );
        let answer = stage
            .clients
            .invitations()
            .invite_users(stage.inviting(addresses))
            .await?
            .into_inner();
        assert_eq!((answer.invited_count, answer.refused_count), (2, 1));
        let Some(api::invite_result::Outcome::Refused(refusal)) = &answer.results[1].outcome else {
            panic!("{:?}", answer.results[1])
        };
        assert_eq!(refusal.reason, "USER_ALREADY_ACTIVE");
        assert!(refusal.message.contains(&stage.address("ana")), "{}", refusal.message);
        stage.mail("bo", 1).await?;
        stage.mail("cy", 1).await?;
        assert_eq!(stage.user(&active.user_id).await?, active);

        let send = api::SendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: active.user_id,
            ..api::SendInvitationRequest::default()
        };
        let refusal = refused(stage.clients.invitations().send_invitation(send).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::AlreadyExists, "USER_ALREADY_ACTIVE")
        );
        assert!(refusal.message.contains(&stage.address("ana")), "{}", refusal.message);
        let again = stage.active("Ana").await.expect_err("taken");
        let status = again.downcast_ref::<tonic::Status>().context("a status")?;
        assert_refused(Err::<(), _>(status.clone()), Code::AlreadyExists, "USER_ALREADY_ACTIVE");
        Ok(())
    })
}

/// L4
#[test]
fn addresses_come_apart_at_every_separator_and_duplicates_fold_into_one() -> Result<()> {
    together(async |stage| {
        let at = |name: &str| stage.address(name);
        let text = format!(
            "{}, {};{}\n{}\r\n\t{} {} ,;\u{3000}{} no-address {}",
            at("a"),
            at("b+maths"),
            at("c"),
            at("d"),
            at("A"),
            at("b"),
            at("a").to_uppercase(),
            at("C"),
        );
        let answer = stage
            .clients
            .invitations()
            .invite_users(stage.inviting(text))
            .await?
            .into_inner();
        let results: Vec<&str> = answer.results.iter().map(|result| result.address.as_str()).collect();
        let expected = [at("a"), at("b+maths"), at("c"), at("d"), at("b"), "no-address".into()];
        assert_eq!(results, expected);
        assert_eq!((answer.invited_count, answer.refused_count), (5, 1));
        let Some(api::invite_result::Outcome::Refused(refusal)) = &answer.results[5].outcome else {
            panic!("{:?}", answer.results[5])
        };
        assert_eq!(refusal.reason, "INVALID_FIELDS");
        assert!(refusal.message.contains("no-address"), "{}", refusal.message);
        for name in ["a", "b+maths", "c", "d", "b"] {
            assert_eq!(stage.mail(name, 1).await?.to, at(name));
        }
        assert_eq!(stage.mails("a").len(), 1);
        Ok(())
    })
}

/// L4: what is set on the invitation lands on the account.
#[test]
fn language_and_labels_of_the_call_go_to_accounts_that_it_creates() -> Result<()> {
    together(async |stage| {
        let there = api::User {
            email: stage.address("there"),
            language: "de".into(),
            labels: vec!["Choir".into()],
            ..api::User::default()
        };
        let there = stage.create_as(there, InitialState::Pending).await?;
        let request = api::InviteUsersRequest {
            language: "fr".into(),
            labels: vec!["Year 7".into()],
            ..stage.inviting(format!("{};{}", stage.address("new"), stage.address("there")))
        };
        let answer = stage.clients.invitations().invite_users(request).await?.into_inner();
        let users: Vec<(api::User, bool)> = answer
            .results
            .into_iter()
            .filter_map(|result| match result.outcome {
                Some(api::invite_result::Outcome::Invited(it)) => Some((it.user?, it.created)),
                _ => None,
            })
            .collect();
        assert_eq!((users[0].0.language.as_str(), users[0].1), ("fr", true));
        assert_eq!(users[0].0.labels, ["Year 7"]);
        assert_eq!((users[1].0.language.as_str(), users[1].1), ("de", false));
        assert_eq!(
            (&users[1].0.user_id, &users[1].0.labels),
            (&there.user_id, &vec!["Choir".into(), "Year 7".into()])
        );
        assert!(stage.mail("new", 1).await?.subject.contains("invitation à rejoindre"));
        assert!(stage.mail("there", 1).await?.subject.contains("Einladung"));
        Ok(())
    })
}

/// L4, L8: whatever the order in which calls are carried out, nobody gets two accounts or two living links.
#[test]
fn two_hundred_invitations_of_one_address_at_once_give_one_account_and_one_living_link() -> Result<()> {
    together(async |stage| {
        let calls = (0..200).map(|_| async {
            let answer = stage
                .clients
                .invitations()
                .invite_users(stage.inviting(stage.address("ana")))
                .await?;
            anyhow::Ok(answer.into_inner().results)
        });
        let mut users = HashSet::new();
        let mut created = 0;
        for results in join_all(calls).await {
            for result in results? {
                let Some(api::invite_result::Outcome::Invited(invited)) = result.outcome else {
                    panic!("{result:?}")
                };
                created += usize::from(invited.created);
                users.insert(invited.user.context("a user")?.user_id);
            }
        }
        assert_eq!((users.len(), created), (1, 1));
        let id = users.into_iter().next().unwrap_or_default();
        assert_eq!(stage.invitations(&id, &[]).await?.len(), 1);
        assert_eq!(stage.invitations(&id, &[InvitationState::Superseded]).await?.len(), 199);
        stage.becomes(&id, UserStatus::Invited).await?;
        stage.settled().await?;
        let mut living = 0;
        for mail in stage.mails("ana") {
            living += usize::from(stage.inspect(&crate::stage::token(&mail)?).await.is_ok());
        }
        assert_eq!(living, 1);
        Ok(())
    })
}

/// L2, L3
#[test]
fn of_many_accounts_created_at_once_for_one_address_one_succeeds() -> Result<()> {
    together(async |stage| {
        let calls = (0..50).map(|index| {
            let user = api::User {
                email: stage.address(if index % 2 == 0 { "ana" } else { "ANA" }),
                external_id: format!("S-{index}"),
                ..api::User::default()
            };
            let request = stage.new_user(user, InitialState::Pending);
            let mut users = stage.clients.users();
            async move { users.create_user(request).await }
        });
        let (good, bad): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((good.len(), bad.len()), (1, 49));
        for answer in bad {
            assert_refused(answer, Code::AlreadyExists, "EMAIL_TAKEN");
        }
        // The same for an external id, whatever the addresses.
        let calls = (0..50).map(|index| {
            let user = api::User {
                email: stage.address(&format!("u{index}")),
                external_id: "one for all".into(),
                ..api::User::default()
            };
            let request = stage.new_user(user, InitialState::Pending);
            let mut users = stage.clients.users();
            async move { users.create_user(request).await }
        });
        let (good, bad): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((good.len(), bad.len()), (1, 49));
        for answer in bad {
            assert_refused(answer, Code::AlreadyExists, "EXTERNAL_ID_TAKEN");
        }
        Ok(())
    })
}
