//! Nobody gives more than they hold (U1), nor changes whoever holds more (U2).

use crate::common::*;
use usher_authorization::{GIVES_MORE, Grant, HOLDS_MORE, Intent, Principal, Question, Resource};
use usher_core::refusal::Refusal;
use usher_core::role::BuiltInRole::{self, Administrator, Author, Coach, Instructor, Learner};
use usher_core::role::Permission::*;
use usher_core::role::{Permission, Scope};

const CHANGES: [Permission; 5] = [
    UsersUpdate,
    UsersChangeStatus,
    UsersSetExpiration,
    InvitationsSend,
    DeliveriesResolve,
];

fn refusal(principal: &Principal, permission: Permission, resource: &Resource, intent: &Intent) -> (String, String) {
    let question = Question {
        principal,
        permission,
        resource,
        intent,
        tree: &tree(),
    };
    match AUTHORIZER.require(&question).expect_err("denied") {
        Refusal::PermissionDenied { permission, scope } => (permission, scope),
        other => panic!("{other:?}"),
    }
}

/// U1: whatever they may do beside it.
#[test]
fn u1_nobody_gives_a_role_that_may_more_than_they_do_in_that_scope() {
    let assigner = me(vec![custom(&[RolesAssign, GroupsRead], in_group(10))]);
    let admin = me(vec![built_in(Administrator, in_group(10))]);
    let may_give = |who: &Principal, role: BuiltInRole, scope: Scope| {
        reason(who, RolesAssign, scope, &giving(&[role.as_str()], 0))
    };
    for (role, expected) in [
        (Administrator, GIVES_MORE),
        (Coach, GIVES_MORE),
        // Alone it gives nothing, but to a coach it gives invitations (L7).
        (Instructor, GIVES_MORE),
        (Author, "allowed"),
        (Learner, "allowed"),
    ] {
        assert_eq!(may_give(&assigner, role, in_group(12)), expected, "{role:?}");
        assert_eq!(may_give(&admin, role, in_group(12)), "allowed", "{role:?}");
        // Where they may not assign at all, that is why.
        assert_eq!(may_give(&assigner, role, in_group(20)), "", "{role:?}");
        assert_eq!(may_give(&admin, role, Scope::Platform), "", "{role:?}");
    }
    // Held elsewhere is not held there.
    let coach_elsewhere = me(vec![
        custom(&[RolesAssign], Scope::Platform),
        built_in(Coach, in_group(20)),
    ]);
    assert_eq!(may_give(&coach_elsewhere, Coach, in_group(10)), GIVES_MORE);
    assert_eq!(may_give(&coach_elsewhere, Coach, in_group(20)), "allowed");
    assert_eq!(may_give(&coach_elsewhere, Coach, Scope::Platform), GIVES_MORE);
}

/// U1: nor by a role that they make, and not by any of the ways in.
#[test]
fn u1_a_role_of_the_tenants_own_is_made_of_permissions_that_its_maker_has() {
    let gives = |permissions: &[Permission]| Intent {
        gives: AUTHORIZER.given_by(permissions.iter().copied()),
        ..Intent::default()
    };
    let maker = me(vec![custom(&[RolesDefine, UsersRead], Scope::Platform)]);
    assert!(may_with(&maker, RolesDefine, Scope::Platform, &gives(&[UsersRead])));
    assert!(!may_with(
        &maker,
        RolesDefine,
        Scope::Platform,
        &gives(&[UsersRead, UsersUpdate])
    ));
    // What people never have is given to nobody by a role.
    assert!(may_with(
        &maker,
        RolesDefine,
        Scope::Platform,
        &gives(&[WorkPerform, TenantsCreate])
    ));
    let admin = me(vec![built_in(Administrator, Scope::Platform)]);
    assert!(may_with(&admin, RolesDefine, Scope::Platform, &gives(Permission::ALL)));
    for permission in [UsersCreate, UsersImport, InvitationsSend] {
        let inviter = me(vec![custom(&[permission, RolesAssign], in_group(10))]);
        let answer = reason(&inviter, permission, in_group(10), &giving(&["learner", "coach"], 1));
        assert_eq!(answer, GIVES_MORE, "{permission:?}");
    }
}

/// U1: by their names; everything, if they may do everything.
#[test]
fn u1_a_service_gives_what_it_holds_itself() {
    let gives = |role: BuiltInRole| giving(&[role.as_str()], 0);
    let portal = service(&["roles.assign", "groups.read"]);
    assert!(may_with(&portal, RolesAssign, in_group(10), &gives(Author)));
    assert_eq!(reason(&portal, RolesAssign, in_group(10), &gives(Coach)), GIVES_MORE);
    assert!(may_with(
        &service(&["*"]),
        RolesAssign,
        Scope::Platform,
        &gives(Administrator)
    ));
}

/// U1: so that whoever reads it knows whom to ask.
#[test]
fn u1_the_refusal_names_what_is_missing() {
    let assigner = me(vec![custom(&[RolesAssign, UsersRead], in_group(10))]);
    let place = Resource::Scope(in_group(10));
    let (permission, scope) = refusal(&assigner, RolesAssign, &place, &giving(&["coach"], 0));
    assert_eq!(permission, "users.explain");
    assert_eq!(
        scope,
        "in group 00000000-0000-0000-0000-00000000000a; nobody gives more than they hold there themselves, and what is \
         given has users.explain, invitations.read, groups.read and 1 more"
    );
}

/// U2: the other's roles count, wherever they are held; reading stays.
#[test]
fn u2_nobody_changes_whoever_may_change_more_somewhere_than_they_do() {
    let hal = me(vec![built_in(Administrator, in_group(10))]);
    let ada = me(vec![built_in(Administrator, Scope::Platform)]);
    let of = |held: Grant| holder(2, &[10], &[held]);
    let beyond = [
        of(built_in(Administrator, Scope::Platform)),
        of(built_in(Administrator, in_group(20))),
        of(built_in(Administrator, session("spring"))),
        of(custom(&[UsersUpdate], Scope::Platform)),
        of(custom(&[UsersRead, RolesDefine], in_group(20))),
    ];
    let within = [
        of(built_in(Administrator, in_group(10))),
        of(built_in(Administrator, in_group(12))),
        of(custom(&[UsersUpdate], in_group(11))),
        // Whoever reads elsewhere, or is something else there.
        of(built_in(Coach, Scope::Platform)),
        of(built_in(Author, in_group(20))),
        of(built_in(Instructor, session("spring"))),
        of(built_in(Learner, in_group(20))),
        of(custom(&[UsersRead, JobsRead, WorkPerform], Scope::Platform)),
    ];
    let none = Intent::default();
    for permission in CHANGES {
        for (others, expected) in [(&beyond[..], HOLDS_MORE), (&within[..], "allowed")] {
            for other in others {
                let answer = |who| reason(who, permission, other.clone(), &none);
                assert_eq!(answer(&hal), expected, "{permission:?} {other:?}");
                assert_eq!(answer(&ada), "allowed", "{permission:?} {other:?}");
                assert_eq!(answer(&service(&["*"])), "allowed", "{permission:?} {other:?}");
            }
        }
    }
    for permission in [UsersRead, UsersExplain, InvitationsRead, DeliveriesRead, RolesRead] {
        for other in &beyond {
            assert!(may(&hal, permission, other.clone()), "{permission:?} {other:?}");
        }
    }
}

/// U2: whoever administers a group by a role of the tenant's own does not change its administrators.
#[test]
fn u2_a_role_of_the_tenants_own_does_not_change_administrators_of_its_scope() {
    let porter = me(vec![custom(&CHANGES, in_group(10))]);
    let admin = holder(2, &[10], &[built_in(Administrator, in_group(10))]);
    let equal = holder(2, &[10], &[custom(&CHANGES, in_group(12))]);
    for permission in CHANGES {
        assert_eq!(
            reason(&porter, permission, admin.clone(), &Intent::default()),
            HOLDS_MORE
        );
        assert!(may(&porter, permission, equal.clone()));
    }
}

/// U2: and whoever is nothing to them does not learn what they hold.
#[test]
fn u2_a_refusal_tells_of_the_others_roles_only_to_those_who_could_act_else() {
    let admin = holder(2, &[10], &[built_in(Administrator, Scope::Platform)]);
    assert_eq!(reason(&me(vec![]), UsersUpdate, admin.clone(), &Intent::default()), "");
    let hal = me(vec![built_in(Administrator, in_group(10))]);
    let (permission, scope) = refusal(&hal, UsersUpdate, &admin, &Intent::default());
    assert_eq!(permission, "users.update");
    assert!(
        scope.ends_with("; ask an administrator of the platform") && scope.contains("tenants.update"),
        "{scope}"
    );
    // The own account is one's own, whatever was just given or taken.
    let own = holder(ME, &[10], &[built_in(Administrator, Scope::Platform)]);
    assert!(may_with(&hal, UsersUpdate, own, &changing(&["language"])));
}
