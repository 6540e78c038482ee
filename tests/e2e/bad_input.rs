//! Bad input gets a clear answer, one violation for each fault, and loses nothing. What looks bad and is good, is taken.

mod addresses;
mod pages;
mod texts;

use anyhow::Result;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, MutationOptions};

use crate::stage::{DAY, Refused, Together, refused, together};

/// A request that must be refused: what is wrong with it, the call, and the fields that the answer must name.
type Case = (String, BoxFuture<'static, Result<(), Status>>, Vec<String>);

macro_rules! case {
    ($what:expr, $client:expr, $method:ident, $request:expr, $fields:expr) => {{
        let (mut client, request) = ($client, $request);
        let call = async move { client.$method(request).await.map(drop) }.boxed();
        let fields: &[&str] = &$fields;
        (
            $what.to_string(),
            call,
            fields.iter().map(ToString::to_string).collect(),
        )
    }};
}

pub(crate) use case;

/// Carries out the cases; the tenant's users must be the same afterwards.
async fn assert_all_refused(stage: &Together, cases: Vec<Case>) -> Result<()> {
    stage.settled().await?;
    let before = everything(stage).await?;
    for (what, call, fields) in cases {
        let refusal = refused(call.await);
        let Refused {
            code, reason, message, ..
        } = &refusal;
        assert_eq!(
            (*code, reason.as_str()),
            (Code::InvalidArgument, "INVALID_FIELDS"),
            "{what}: {message}"
        );
        assert_eq!(refusal.fields, fields, "{what}: {message}");
    }
    assert_eq!(everything(stage).await?, before, "something was done");
    Ok(())
}

async fn everything(stage: &Together) -> Result<(Vec<api::User>, Vec<api::Invitation>, Vec<api::Delivery>)> {
    let list = api::ListUsersRequest {
        tenant_id: stage.tenant.clone(),
        page_size: 1_000,
        ..api::ListUsersRequest::default()
    };
    let users = stage.clients.users().list_users(list).await?.into_inner().users;
    Ok((users, stage.invitations("", &[]).await?, stage.deliveries("").await?))
}
fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_fault_of_a_request_is_named_and_not_only_the_first() -> Result<()> {
    together(async |stage| {
        let user = api::User {
            user_id: "7".into(),
            email: "ana".into(),
            external_id: "x".repeat(201),
            first_name: "Ana\nBcc: eve@example.org".into(),
            last_name: "<b>Silva</b>".into(),
            language: "french".into(),
            labels: vec!["good".into(), String::new(), "a\tb".into(), "l".repeat(101)],
            expire_time: Some(Timestamp::default()),
            ..api::User::default()
        };
        let create = api::CreateUserRequest {
            tenant_id: "school".into(),
            user: Some(user),
            initial_state: 99,
            password: "given, but for what?".into(),
            options: Some(MutationOptions {
                request_id: "with spaces".into(),
                reason: "two\nlines".into(),
                validate_only: false,
            }),
            ..api::CreateUserRequest::default()
        };
        let mut refusal = refused(stage.clients.users().create_user(create).await);
        refusal.fields.sort();
        let expected = [
            "initial_state",
            "options.reason",
            "options.request_id",
            "password",
            "tenant_id",
            "user.email",
            "user.expire_time",
            "user.external_id",
            "user.first_name",
            "user.labels[1]",
            "user.labels[2]",
            "user.labels[3]",
            "user.language",
            "user.last_name",
            "user.user_id",
        ];
        assert_eq!(refusal.fields, expected);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::InvalidArgument, "INVALID_FIELDS")
        );
        assert!(refusal.message.contains("15 field(s)"), "{}", refusal.message);
        Ok(())
    })
}

#[test]
fn unknown_mask_paths_are_named() -> Result<()> {
    together(async |stage| {
        let there = stage.active("there").await?;
        let update = |paths: &[&str]| api::UpdateUserRequest {
            user: Some(there.clone()),
            update_mask: Some(mask(paths)),
            ..api::UpdateUserRequest::default()
        };
        let tenant = |paths: &[&str]| api::UpdateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id: stage.tenant.clone(),
                ..api::Tenant::default()
            }),
            update_mask: Some(mask(paths)),
            options: None,
        };
        let without = api::UpdateUserRequest {
            update_mask: None,
            ..update(&[])
        };
        let (users, tenants) = (stage.clients.users(), stage.clients.tenants());
        let twice = ["update_mask", "update_mask"];
        let cases = vec![
            case!("no mask", users.clone(), update_user, without, ["update_mask"]),
            case!(
                "an empty mask",
                users.clone(),
                update_user,
                update(&[]),
                ["update_mask"]
            ),
            case!("a star", users.clone(), update_user, update(&["*"]), ["update_mask"]),
            case!(
                "the status",
                users.clone(),
                update_user,
                update(&["status", "labels"]),
                ["update_mask"]
            ),
            case!(
                "two unknown",
                users.clone(),
                update_user,
                update(&["user.email", "expire_time"]),
                twice
            ),
            case!(
                "another spelling",
                users,
                update_user,
                update(&["firstName"]),
                ["update_mask"]
            ),
            case!(
                "the version",
                tenants.clone(),
                update_tenant,
                tenant(&["version"]),
                ["update_mask"]
            ),
            case!("an empty path", tenants, update_tenant, tenant(&[""]), ["update_mask"]),
        ];
        assert_all_refused(&stage, cases).await
    })
}

/// S13
#[test]
fn expirations_in_the_past_or_beyond_the_year_9999_are_refused() -> Result<()> {
    together(async |stage| {
        let there = stage.active("there").await?;
        let now = stage.after(std::time::Duration::ZERO);
        let at = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
        let times = [
            ("a minute ago", at(now.seconds - 60)),
            ("1970", at(0)),
            ("before 1970", at(-1)),
            ("the year 10000", at(253_402_300_800)),
            ("no year at all", at(i64::MAX)),
            ("nor this", at(i64::MIN)),
            (
                "nanos out of range",
                Some(Timestamp {
                    nanos: -1,
                    ..stage.after(DAY)
                }),
            ),
        ];
        let mut cases: Vec<Case> = Vec::new();
        for (what, expire_time) in times {
            let set = api::SetUserExpirationRequest {
                tenant_id: stage.tenant.clone(),
                user_id: there.user_id.clone(),
                expire_time,
                ..api::SetUserExpirationRequest::default()
            };
            cases.push(case!(
                format!("set: {what}"),
                stage.clients.users(),
                set_user_expiration,
                set,
                ["expire_time"]
            ));
            let user = api::User {
                email: stage.address("new"),
                expire_time,
                ..api::User::default()
            };
            let create = stage.new_user(user, InitialState::Pending);
            cases.push(case!(
                format!("create: {what}"),
                stage.clients.users(),
                create_user,
                create,
                ["user.expire_time"]
            ));
            let invite = api::InviteUsersRequest {
                expire_time,
                ..stage.inviting(stage.address("new"))
            };
            cases.push(case!(
                format!("invite: {what}"),
                stage.clients.invitations(),
                invite_users,
                invite,
                ["expire_time"]
            ));
        }
        assert_all_refused(&stage, cases).await?;
        stage.expire(&there.user_id, at(253_402_300_799)).await?;
        Ok(())
    })
}

/// B1
#[test]
fn a_request_id_that_was_used_with_another_body_is_refused() -> Result<()> {
    together(async |stage| {
        let options = Some(MutationOptions {
            request_id: "A-z0_9.:-".into(),
            ..MutationOptions::default()
        });
        let request = |name: &str| api::CreateUserRequest {
            options: options.clone(),
            ..stage.new_user(
                api::User {
                    email: stage.address(name),
                    ..api::User::default()
                },
                InitialState::Pending,
            )
        };
        let mut users = stage.clients.users();
        users.create_user(request("ana")).await?;
        let refusal = refused(users.create_user(request("bo")).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::InvalidArgument, "REQUEST_ID_REUSED")
        );
        assert_eq!(refusal.fields, ["options.request_id"]);
        let mut cases: Vec<Case> = Vec::new();
        for id in ["a b", "ä", "a/b", "x".repeat(65).as_str()] {
            let bad = api::CreateUserRequest {
                options: Some(MutationOptions {
                    request_id: id.into(),
                    ..MutationOptions::default()
                }),
                ..request("cy")
            };
            cases.push(case!(
                format!("{id:?}"),
                stage.clients.users(),
                create_user,
                bad,
                ["options.request_id"]
            ));
        }
        assert_all_refused(&stage, cases).await
    })
}
