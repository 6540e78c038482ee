//! Calls about people: accounts, invitations, access.

use usher_proto::identity::v1::lookup_user_request::Key;

use super::calls::{Answer, done, planned, shown};
use super::cast::{Cast, Holder, Place, Spot};
use super::*;

pub(super) async fn access(name: &str, cast: &Cast<'_>, me: &Holder, _: &Spot<'_>) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let email = me.person.email.clone();
    let mut clients = me.clients.access();
    match name {
        "CheckAccess" => {
            let request = api::CheckAccessRequest {
                tenant_id,
                user_ids: vec![me.person.id.clone()],
            };
            done(clients.check_access(request).await)
        }
        "VerifyPassword" => {
            let request = api::VerifyPasswordRequest {
                tenant_id,
                email,
                password: PASSWORD.into(),
            };
            done(clients.verify_password(request).await)
        }
        "ChangePassword" => {
            let request = api::ChangePasswordRequest {
                tenant_id,
                email,
                current_password: PASSWORD.into(),
                new_password: format!("{PASSWORD} staple"),
                options: planned(),
            };
            done(clients.change_password(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

pub(super) async fn users(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let may = Calls::planned(cast.stage, &me.clients);
    let mut clients = me.clients.users();
    match (name, spot) {
        ("CreateUser", Spot::At(place)) => done(may.create("new", &groups(place), &["learner"]).await),
        ("ListUsers", Spot::At(place)) => {
            let request = api::ListUsersRequest {
                tenant_id,
                filter: Some(api::UserFilter {
                    group_ids: groups(place).iter().map(ToString::to_string).collect(),
                    ..api::UserFilter::default()
                }),
                page_size: 1_000,
                ..api::ListUsersRequest::default()
            };
            shown(clients.list_users(request).await, |it| {
                it.users.iter().any(|user| user.user_id == place.person.id)
            })
        }
        ("GetUser", Spot::Person(person)) => done(may.get(&person.id).await),
        ("BatchGetUsers", Spot::Person(person)) => {
            let request = api::BatchGetUsersRequest {
                tenant_id,
                user_ids: vec![person.id.clone()],
            };
            shown(clients.batch_get_users(request).await, |it| !it.users.is_empty())
        }
        ("LookupUser", Spot::Person(person)) => {
            let request = api::LookupUserRequest {
                tenant_id,
                key: Some(Key::Email(person.email.clone())),
            };
            done(clients.lookup_user(request).await)
        }
        ("UpdateUser", Spot::Person(person)) => done(may.update(&person.id, "language").await),
        ("DeactivateUser", Spot::Person(person)) => done(may.deactivate(&person.id).await),
        ("ReactivateUser", Spot::Person(person)) => done(may.reactivate(&person.id).await),
        ("SetUserExpiration", Spot::Person(person)) => done(may.expire(&person.id).await),
        ("ExplainUser", Spot::Person(person)) => done(may.explain(&person.id).await),
        _ => None,
    }
}

/// The group of a place; none for the platform.
fn groups(place: &Place) -> Vec<&str> {
    let group = Some(place.group.as_str());
    group.filter(|group| !group.is_empty()).into_iter().collect()
}

pub(super) async fn invitations(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Option<Answer> {
    let may = Calls::planned(cast.stage, &me.clients);
    match (name, spot) {
        ("InviteUsers", Spot::At(place)) => {
            let sent = may.invite(&["new"], &groups(place), &["learner"]).await;
            Some(sent.map(|reasons| reasons == [""]))
        }
        ("InviteUsers", Spot::Session(session)) => {
            let request = api::InviteUsersRequest {
                session_id: (*session).into(),
                ..may.inviting(&["new"], &[&cast.north.group], &["learner"])
            };
            Some(may.send(request).await.map(|reasons| reasons == [""]))
        }
        ("SendInvitation", Spot::Person(person)) => done(may.send_again(&person.id).await),
        (_, Spot::Person(person)) => of_invitation(name, cast, me, &person.invitation).await,
        (_, Spot::At(place)) => of_place(name, cast, me, place).await,
        (_, Spot::Whole) => behind_link(name, cast, me).await,
        (_, Spot::Session(_)) => None,
    }
}

async fn of_invitation(name: &str, cast: &Cast<'_>, me: &Holder, invitation: &str) -> Option<Answer> {
    let (tenant_id, invitation_id) = (cast.stage.tenant.clone(), invitation.to_owned());
    let mut clients = me.clients.invitations();
    match name {
        "GetInvitation" => {
            let request = api::GetInvitationRequest {
                tenant_id,
                invitation_id,
            };
            done(clients.get_invitation(request).await)
        }
        "CancelInvitation" => {
            let request = api::CancelInvitationRequest {
                tenant_id,
                invitation_id,
                options: planned(),
            };
            done(clients.cancel_invitation(request).await)
        }
        "ResendInvitation" => {
            let request = api::ResendInvitationRequest {
                tenant_id,
                invitation_id,
                options: planned(),
                ..api::ResendInvitationRequest::default()
            };
            done(clients.resend_invitation(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

async fn of_place(name: &str, cast: &Cast<'_>, me: &Holder, place: &Place) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.invitations();
    match name {
        "ListInvitations" => {
            let request = api::ListInvitationsRequest {
                tenant_id,
                page_size: 1_000,
                ..api::ListInvitationsRequest::default()
            };
            shown(clients.list_invitations(request).await, |it| {
                let mut found = it.invitations.iter();
                found.any(|found| found.invitation_id == place.person.invitation)
            })
        }
        // No place is said in these: they are for whoever invites anywhere.
        _ if place.group != cast.north.group => None,
        "PreviewInvitation" => {
            let request = api::PreviewInvitationRequest {
                tenant_id,
                ..api::PreviewInvitationRequest::default()
            };
            done(clients.preview_invitation(request).await)
        }
        "SendTestInvitation" => {
            let request = api::SendTestInvitationRequest {
                tenant_id,
                email: cast.stage.address("test"),
                options: planned(),
                ..api::SendTestInvitationRequest::default()
            };
            done(clients.send_test_invitation(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

async fn behind_link(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let (tenant_id, token) = (cast.stage.tenant.clone(), cast.token.clone());
    let mut clients = me.clients.invitations();
    match name {
        "InspectInvitation" => {
            let request = api::InspectInvitationRequest { tenant_id, token };
            done(clients.inspect_invitation(request).await)
        }
        "AcceptInvitation" => {
            let request = api::AcceptInvitationRequest {
                options: planned(),
                ..cast.stage.accepting(&token)
            };
            done(clients.accept_invitation(request).await)
        }
        "RequestFreshInvitation" => {
            let request = api::RequestFreshInvitationRequest { tenant_id, token };
            done(clients.request_fresh_invitation(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}
