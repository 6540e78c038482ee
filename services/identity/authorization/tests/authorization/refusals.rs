//! How a refusal reads: what is missing, where, and whom to ask.

use usher_authorization::{Intent, Principal, Question, Resource};
use usher_core::refusal::Refusal;
use usher_core::role::BuiltInRole::Administrator;
use usher_core::role::Permission::{self, UsersChangeStatus, UsersRead, WorkPerform};
use usher_core::role::Scope;

use crate::common::*;

fn refusal(principal: &Principal, permission: Permission, resource: &Resource) -> Refusal {
    let (intent, tree) = (Intent::default(), tree());
    let question = Question {
        principal,
        permission,
        resource,
        intent: &intent,
        tree: &tree,
    };
    AUTHORIZER.require(&question).expect_err("denied")
}

/// U2: in one sentence.
#[test]
fn u2_a_refusal_says_which_permission_is_missing_where_and_whom_to_ask() {
    let nobody = me(vec![]);
    for (resource, expected) in [
        (
            Resource::Scope(Scope::Platform),
            "on the platform; ask an administrator of the platform",
        ),
        (
            Resource::Scope(in_group(10)),
            "in group 00000000-0000-0000-0000-00000000000a; ask an administrator of that group",
        ),
        (
            Resource::Scope(session("spring")),
            "in session spring; ask an administrator of the platform",
        ),
        (
            account(2, &[10]),
            "on user 00000000-0000-0000-0000-000000000002; ask an administrator of one of their groups",
        ),
        (
            account(2, &[]),
            "on user 00000000-0000-0000-0000-000000000002; ask an administrator of the platform",
        ),
    ] {
        let text = refusal(&nobody, UsersRead, &resource).to_string();
        assert_eq!(text, format!("the permission users.read is missing: {expected}"));
    }
    let portal = refusal(&service(&[]), UsersRead, &Resource::Scope(Scope::Platform));
    assert!(
        portal
            .to_string()
            .ends_with("; add it to those of the service platform"),
        "{portal}"
    );
    let admin = me(vec![built_in(Administrator, Scope::Platform)]);
    let work = refusal(&admin, WorkPerform, &Resource::Scope(Scope::Platform));
    assert!(
        work.to_string()
            .ends_with("; a policy forbids it with the reason SERVICES_ONLY"),
        "{work}"
    );
}

/// S9, S4: refusals of their own.
#[test]
fn s9_the_own_status_and_an_actor_who_is_not_active_have_refusals_of_their_own() {
    let mut actor = me(vec![built_in(Administrator, Scope::Platform)]);
    assert_eq!(
        refusal(&actor, UsersChangeStatus, &account(ME, &[])),
        Refusal::OwnStatus
    );
    if let Principal::User(user) = &mut actor {
        user.active = false;
    }
    let expected = Refusal::ActorNotActive("00000000-0000-0000-0000-000000000001".into());
    assert_eq!(refusal(&actor, UsersChangeStatus, &account(ME, &[])), expected);
    assert_eq!(refusal(&actor, UsersRead, &account(2, &[])), expected);
}
