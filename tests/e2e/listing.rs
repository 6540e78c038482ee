//! Lists of users: filters, orders, pages that stay stable while rows change; look-ups.

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, UserStatus};

use crate::stage::{Together, assert_refused, refused, together};

/// Who there is: name, first name, last name, language, labels.
const PEOPLE: [(&str, &str, &str, &str, &[&str]); 6] = [
    ("zoe", "Zoë", "Élan", "fr", &["Choir", "Year 7"]),
    ("ana", "Ana", "Silva", "pt-BR", &["Year 7"]),
    ("bo", "Bo", "de la Cruz", "", &["Choir"]),
    ("yamada", "花子", "山田", "ja", &[]),
    ("elodie", "Élodie", "Müller", "fr", &["Year 8"]),
    ("x100_%", "O’Connor", "100%", "en", &[]),
];

async fn people(stage: &Together) -> Result<Vec<api::User>> {
    let mut users = Vec::new();
    for (name, first, last, language, labels) in PEOPLE {
        let user = api::User {
            email: stage.address(name),
            first_name: first.into(),
            last_name: last.into(),
            language: language.into(),
            labels: labels.iter().map(ToString::to_string).collect(),
            external_id: format!("S-{name}"),
            ..api::User::default()
        };
        users.push(stage.create_as(user, InitialState::Pending).await?);
    }
    Ok(users)
}

async fn list(stage: &Together, filter: api::UserFilter, order_by: &str, page_size: i32) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            filter: Some(filter.clone()),
            order_by: order_by.into(),
            page_size,
            page_token,
        };
        let page = stage.clients.users().list_users(request).await?.into_inner();
        found.extend(
            page.users
                .into_iter()
                .map(|user| user.email.split('@').next().unwrap_or_default().to_owned()),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// S1, S4, U3: filters look at the effective status.
#[test]
fn users_are_found_by_status_label_language_and_text() -> Result<()> {
    together(async |stage| {
        let users = people(&stage).await?;
        stage.deactivate(&users[2].user_id).await?;
        let filter = api::UserFilter::default;
        let labels = |labels: &[&str]| api::UserFilter {
            labels: labels.iter().map(ToString::to_string).collect(),
            ..filter()
        };
        let text = |text: &str| api::UserFilter {
            text: text.into(),
            ..filter()
        };
        let statuses = |statuses: &[UserStatus]| api::UserFilter {
            statuses: statuses.iter().map(|status| (*status).into()).collect(),
            ..filter()
        };
        let languages = |languages: &[&str]| api::UserFilter {
            languages: languages.iter().map(ToString::to_string).collect(),
            ..filter()
        };
        let everybody: &[&str] = &["zoe", "ana", "bo", "yamada", "elodie", "x100_%"];
        let both = api::UserFilter {
            languages: vec!["fr".into()],
            ..labels(&["Year 8"])
        };
        let cases: [(api::UserFilter, &[&str]); 17] = [
            (filter(), everybody),
            (statuses(&[UserStatus::Deactivated]), &["bo"]),
            (
                statuses(&[UserStatus::Pending]),
                &["zoe", "ana", "yamada", "elodie", "x100_%"],
            ),
            (statuses(&[UserStatus::Deactivated, UserStatus::Pending]), everybody),
            (statuses(&[UserStatus::Active, UserStatus::Expired]), &[]),
            (labels(&["Year 7"]), &["zoe", "ana"]),
            (labels(&["Year 7", "Choir"]), &["zoe"]),
            (labels(&["year 7"]), &[]),
            (languages(&["fr", "ja"]), &["zoe", "yamada", "elodie"]),
            (both, &["elodie"]),
            (text("elodie"), &["elodie"]),
            (text("MULLER"), &["elodie"]),
            (text("山"), &["yamada"]),
            // Characters that a database gives a meaning are characters here.
            (text("0_%"), &["x100_%"]),
            (text("%"), &["x100_%"]),
            (text("'; DROP TABLE users; --"), &[]),
            (text(&stage.address("ana")), &["ana"]),
        ];
        for (filter, expected) in cases {
            assert_eq!(list(&stage, filter.clone(), "", 0).await?, expected, "{filter:?}");
        }
        Ok(())
    })
}

/// U3
#[test]
fn users_are_ordered_by_name_address_or_creation_in_pages_of_any_size() -> Result<()> {
    together(async |stage| {
        people(&stage).await?;
        let orders: [(&str, &[&str]); 4] = [
            ("create_time", &["zoe", "ana", "bo", "yamada", "elodie", "x100_%"]),
            ("email", &["ana", "bo", "elodie", "x100_%", "yamada", "zoe"]),
            ("name", &["x100_%", "bo", "zoe", "elodie", "ana", "yamada"]),
            ("", &["zoe", "ana", "bo", "yamada", "elodie", "x100_%"]),
        ];
        for (order, expected) in orders {
            for page_size in [1, 2, 4, 6, 1_000] {
                assert_eq!(
                    list(&stage, api::UserFilter::default(), order, page_size).await?,
                    expected,
                    "{order}"
                );
                if !order.is_empty() {
                    let reverse: Vec<_> = expected.iter().rev().copied().collect();
                    let descending = format!("{order} desc");
                    assert_eq!(
                        list(&stage, api::UserFilter::default(), &descending, page_size).await?,
                        reverse
                    );
                }
            }
        }
        Ok(())
    })
}

/// U3
#[test]
fn pages_skip_and_repeat_nobody_while_rows_come_and_go() -> Result<()> {
    together(async |stage| {
        let users = people(&stage).await?;
        let request = |page_token: String| api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            order_by: "email".into(),
            page_size: 2,
            page_token,
            ..api::ListUsersRequest::default()
        };
        let names = |users: &[api::User]| -> Vec<String> {
            users
                .iter()
                .map(|user| user.email.split('@').next().unwrap_or_default().to_owned())
                .collect()
        };
        let first = stage
            .clients
            .users()
            .list_users(request(String::new()))
            .await?
            .into_inner();
        assert_eq!(names(&first.users), ["ana", "bo"]);
        // One before the end of the page, one after it, and the last of the page moves.
        stage.create("aaa", InitialState::Pending).await?;
        stage.create("cy", InitialState::Pending).await?;
        let moved = api::UpdateUserRequest {
            user: Some(api::User {
                email: stage.address("zz-bo"),
                ..users[2].clone()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["email".into()],
            }),
            ..api::UpdateUserRequest::default()
        };
        stage.clients.users().update_user(moved).await?;
        let second = stage
            .clients
            .users()
            .list_users(request(first.next_page_token))
            .await?
            .into_inner();
        assert_eq!(names(&second.users), ["cy", "elodie"]);
        Ok(())
    })
}

#[test]
fn users_are_looked_up_by_any_spelling_of_their_address_or_by_external_id() -> Result<()> {
    together(async |stage| {
        let idn = api::User {
            email: "jose+klasse@MÜNCHEN.example".into(),
            external_id: "S 1/ä".into(),
            ..api::User::default()
        };
        let user = stage.create_as(idn, InitialState::Pending).await?;
        assert_eq!(user.email, "jose+klasse@MÜNCHEN.example", "as it was given");
        let look_up = |key: api::lookup_user_request::Key| api::LookupUserRequest {
            tenant_id: stage.tenant.clone(),
            key: Some(key),
        };
        let email = |text: &str| look_up(api::lookup_user_request::Key::Email(text.into()));
        let external_id = |text: &str| look_up(api::lookup_user_request::Key::ExternalId(text.into()));
        let mut users = stage.clients.users();
        let same = [
            email("jose+klasse@xn--mnchen-3ya.example"),
            email("JOSE+KLASSE@münchen.EXAMPLE"),
            external_id("S 1/ä"),
        ];
        for request in same {
            assert_eq!(users.lookup_user(request).await?.into_inner().user, Some(user.clone()));
        }
        for request in [email("jose@münchen.example"), external_id("s 1/ä")] {
            assert_refused(users.lookup_user(request).await, Code::NotFound, "USER_NOT_FOUND");
        }
        let batch = api::BatchGetUsersRequest {
            tenant_id: stage.tenant.clone(),
            user_ids: vec![stage.tenant.clone(), user.user_id.clone()],
        };
        let found = users.batch_get_users(batch).await?.into_inner();
        assert_eq!(
            (found.users, found.missing_user_ids),
            (vec![user], vec![stage.tenant.clone()])
        );
        Ok(())
    })
}

#[test]
fn what_belongs_to_one_tenant_is_unknown_to_another() -> Result<()> {
    together(async |stage| {
        let (user, invitation) = stage.invited("ana").await?;
        let delivery = stage.deliveries(&user.user_id).await?.pop().context("a mail")?;
        let foreign = stage.system.tenant(api::Tenant::default()).await?;
        let get = api::GetUserRequest {
            tenant_id: foreign.clone(),
            user_id: user.user_id.clone(),
        };
        assert_refused(
            stage.clients.users().get_user(get).await,
            Code::NotFound,
            "USER_NOT_FOUND",
        );
        let out = api::DeactivateUserRequest {
            tenant_id: foreign.clone(),
            user_id: user.user_id.clone(),
            ..api::DeactivateUserRequest::default()
        };
        assert_refused(
            stage.clients.users().deactivate_user(out).await,
            Code::NotFound,
            "USER_NOT_FOUND",
        );
        let cancel = api::CancelInvitationRequest {
            tenant_id: foreign.clone(),
            invitation_id: invitation.invitation_id,
            options: None,
        };
        let answer = stage.clients.invitations().cancel_invitation(cancel).await;
        assert_refused(answer, Code::NotFound, "INVITATION_NOT_FOUND");
        let resolve = api::ResolveDeliveryRequest {
            tenant_id: foreign.clone(),
            delivery_id: delivery.delivery_id,
            resolution: api::DeliveryResolution::Sent.into(),
            options: None,
        };
        let answer = stage.clients.deliveries().resolve_delivery(resolve).await;
        assert_refused(answer, Code::NotFound, "DELIVERY_NOT_FOUND");
        // The address is free there.
        let same = api::CreateUserRequest {
            tenant_id: foreign,
            ..stage.new_user(
                api::User {
                    email: user.email,
                    ..api::User::default()
                },
                InitialState::Pending,
            )
        };
        stage.clients.users().create_user(same).await?;
        let nowhere = api::CreateUserRequest {
            tenant_id: "00000000-0000-7000-8000-000000000000".into(),
            ..stage.new_user(
                api::User {
                    email: stage.address("x"),
                    ..api::User::default()
                },
                InitialState::Pending,
            )
        };
        let refusal = refused(stage.clients.users().create_user(nowhere).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::NotFound, "TENANT_NOT_FOUND")
        );
        Ok(())
    })
}
