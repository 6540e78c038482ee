//! What each role may do, by rows of the requirements.

use crate::common::*;
use usher_authorization::{ActingUser, GIVES_MORE, Intent, OWN_STATUS, Principal, Reach};
use usher_core::role::BuiltInRole::{Administrator, Author, Coach, Instructor, Learner};
use usher_core::role::Permission::*;
use usher_core::role::{Permission, Scope};

/// U1: everything but what services only do.
#[test]
fn u1_an_administrator_of_the_platform_does_everything_but_workers_work() {
    let admin = me(vec![built_in(Administrator, Scope::Platform)]);
    for permission in Permission::ALL {
        let services_only = [TenantsCreate, WorkPerform].contains(permission);
        for scope in [Scope::Platform, in_group(12), session("spring")] {
            assert_eq!(
                may(&admin, *permission, scope.clone()),
                !services_only,
                "{permission:?} {scope:?}"
            );
        }
        assert_eq!(
            may(&admin, *permission, account(2, &[])),
            !services_only,
            "{permission:?}"
        );
    }
    assert_eq!(
        reason(&admin, WorkPerform, Scope::Platform, &Intent::default()),
        "SERVICES_ONLY"
    );
}

/// U1: a coach only reads, an author only sees groups, and learners and instructors have their own space.
#[test]
fn u1_the_other_roles_have_the_permissions_that_the_row_names_and_no_more() {
    let told = |role| AUTHORIZER.permissions_of(role).iter().copied().collect::<Vec<_>>();
    assert_eq!(
        told(Coach),
        [UsersRead, UsersExplain, InvitationsRead, GroupsRead, RolesRead]
    );
    assert_eq!(told(Author), [GroupsRead]);
    assert_eq!(told(Instructor), []);
    assert_eq!(told(Learner), []);
    assert_eq!(told(Administrator).len(), Permission::ALL.len() - 2);
}

/// U1: a power user's role grants exactly what it is made of.
#[test]
fn u1_a_custom_role_grants_exactly_its_permissions() {
    let power_user = me(vec![custom(
        &[UsersRead, JobsRead, WorkPerform, TenantsCreate],
        in_group(10),
    )]);
    for permission in Permission::ALL {
        let expected = [UsersRead, JobsRead].contains(permission);
        assert_eq!(may(&power_user, *permission, in_group(10)), expected, "{permission:?}");
        assert_eq!(
            may(&power_user, *permission, account(2, &[12])),
            expected,
            "{permission:?}"
        );
        assert!(!may(&power_user, *permission, in_group(20)), "{permission:?}");
    }
}

/// U1: otherwise a role that only invites would make administrators.
#[test]
fn u1_who_may_not_assign_roles_gives_none_but_learner_with_an_invitation() {
    let inviter = me(vec![custom(&[InvitationsSend], in_group(10))]);
    assert!(may(&inviter, InvitationsSend, in_group(10)));
    assert!(may_with(
        &inviter,
        InvitationsSend,
        in_group(10),
        &giving(&["learner"], 2)
    ));
    let more = giving(&["administrator", "learner"], 1);
    assert_eq!(reason(&inviter, InvitationsSend, in_group(10), &more), "ROLES_GIVEN");

    let assigner = me(vec![custom(&[InvitationsSend, RolesAssign], in_group(10))]);
    assert_eq!(reason(&assigner, InvitationsSend, in_group(10), &more), GIVES_MORE);
    let instructor = giving(&["instructor"], 1);
    assert_eq!(reason(&assigner, InvitationsSend, in_group(10), &instructor), "allowed");
    let elsewhere = me(vec![
        custom(&[InvitationsSend], in_group(10)),
        custom(&[RolesAssign], in_group(20)),
    ]);
    assert!(!may_with(&elsewhere, InvitationsSend, in_group(10), &more));
}

/// U1: their own space, whatever they hold.
#[test]
fn u1_everybody_reads_their_own_account_and_says_how_to_be_called() {
    let nobody = me(vec![]);
    let own = || account(ME, &[10]);
    assert!(may(&nobody, UsersRead, own()));
    assert!(may(&nobody, UsersExplain, own()));
    let names = ["first_name", "last_name", "language"];
    assert!(may_with(&nobody, UsersUpdate, own(), &changing(&names)));
    for field in ["email", "external_id", "labels"] {
        assert!(
            !may_with(&nobody, UsersUpdate, own(), &changing(&["language", field])),
            "{field}"
        );
    }
    assert!(!may(&nobody, UsersUpdate, own()), "no fields are not any fields");
    assert!(!may(&nobody, UsersRead, account(2, &[10])));
}

/// U2: those groups and all below them, nothing beside or above.
#[test]
fn u2_an_administrator_of_some_groups_manages_those_only() {
    let admin = me(vec![
        built_in(Administrator, in_group(11)),
        built_in(Administrator, in_group(20)),
    ]);
    for permission in [UsersChangeStatus, UsersUpdate, GroupsUpdate, RolesAssign, JobsRun] {
        for (scope, expected) in [
            (Scope::Platform, false),
            (in_group(10), false),
            (in_group(11), true),
            (in_group(12), true),
            (in_group(20), true),
            (in_group(21), false),
            (session("spring"), false),
        ] {
            assert_eq!(
                may(&admin, permission, scope.clone()),
                expected,
                "{permission:?} {scope:?}"
            );
        }
        for (groups, expected) in [
            (&[][..], false),
            (&[10], false),
            (&[12], true),
            (&[21, 20], true),
            (&[21], false),
        ] {
            assert_eq!(
                may(&admin, permission, account(2, groups)),
                expected,
                "{permission:?} {groups:?}"
            );
        }
    }
}

/// U2: a group that the tree does not have is at the top.
#[test]
fn u2_a_group_that_nobody_knows_is_the_platforms_only() {
    let platform = me(vec![built_in(Administrator, Scope::Platform)]);
    assert!(
        may(&platform, GroupsRead, in_group(99)),
        "so the answer can be that there is none"
    );
    let other = me(vec![built_in(Administrator, in_group(10))]);
    assert!(!may(&other, GroupsRead, in_group(99)));
}

/// U2: a coach of some groups reads those, a session's coach nobody's account.
#[test]
fn u2_a_coach_reads_in_their_scope() {
    let coach = me(vec![built_in(Coach, in_group(11))]);
    assert!(may(&coach, UsersRead, account(2, &[12])));
    assert!(!may(&coach, UsersRead, account(2, &[10])));
    assert!(!may(&coach, UsersUpdate, account(2, &[12])));
    let of_session = me(vec![built_in(Coach, session("spring"))]);
    assert!(!may(&of_session, UsersRead, account(2, &[12])));
    assert!(may(&of_session, InvitationsRead, session("spring")));
    assert!(!may(&of_session, InvitationsRead, session("autumn")));
}

/// U2: lists are cut to it.
#[test]
fn u2_reach_is_everything_or_the_groups_held_with_those_below_or_nothing() {
    let reach = |principal: &Principal, permission| AUTHORIZER.reach(principal, permission, &tree());
    let groups = |numbers: &[u128]| Reach::Groups(numbers.iter().copied().map(group).collect());
    let platform = me(vec![built_in(Administrator, Scope::Platform)]);
    assert_eq!(reach(&platform, UsersRead), Reach::Everything);
    assert_eq!(reach(&platform, WorkPerform), Reach::Nothing);

    let mixed = me(vec![
        built_in(Coach, in_group(11)),
        custom(&[UsersRead], in_group(20)),
        built_in(Author, in_group(21)),
        built_in(Coach, in_group(99)),
        built_in(Coach, session("spring")),
    ]);
    assert_eq!(reach(&mixed, UsersRead), groups(&[11, 12, 20]));
    assert_eq!(reach(&mixed, GroupsRead), groups(&[11, 12, 21]));
    assert_eq!(reach(&mixed, UsersUpdate), Reach::Nothing);

    assert_eq!(reach(&service(&["users.read"]), UsersRead), Reach::Everything);
    assert_eq!(reach(&service(&[]), UsersRead), Reach::Nothing);
}

/// L6: each group of the call is asked about, and a call without groups asks on the platform.
#[test]
fn l6_a_group_administrator_invites_into_their_own_groups_only() {
    let admin = me(vec![built_in(Administrator, in_group(11))]);
    let intent = giving(&["coach", "learner"], 1);
    for permission in [InvitationsSend, UsersCreate] {
        assert!(may_with(&admin, permission, in_group(11), &intent));
        assert!(may_with(&admin, permission, in_group(12), &intent));
        for scope in [in_group(10), in_group(20), Scope::Platform] {
            assert!(!may_with(&admin, permission, scope.clone(), &intent), "{scope:?}");
        }
    }
}

/// L6, L5: the deletion date.
#[test]
fn l6_a_group_administrator_sets_no_deletion_date_and_one_of_the_platform_does() {
    let intent = Intent {
        sets_deletion_date: true,
        ..Intent::default()
    };
    let of_group = me(vec![built_in(Administrator, in_group(11))]);
    assert_eq!(
        reason(&of_group, InvitationsSend, in_group(11), &intent),
        "DELETION_DATE"
    );
    let custom_role = me(vec![custom(&[InvitationsSend], Scope::Platform)]);
    assert_eq!(
        reason(&custom_role, InvitationsSend, in_group(11), &intent),
        "DELETION_DATE"
    );
    let of_platform = me(vec![built_in(Administrator, Scope::Platform)]);
    assert!(may_with(&of_platform, InvitationsSend, in_group(11), &intent));
    assert!(may_with(&service(&["*"]), InvitationsSend, in_group(11), &intent));
}

/// L7: from that session, as learners, on exactly one group.
#[test]
fn l7_an_instructor_who_is_a_coach_or_a_group_administrator_invites_learners_from_the_session() {
    let learner = giving(&["learner"], 1);
    for also in [Coach, Administrator] {
        let instructor = me(vec![
            built_in(Instructor, session("spring")),
            built_in(also, in_group(20)),
        ]);
        let may_invite = |from: &str, intent: &Intent| may_with(&instructor, InvitationsSend, session(from), intent);
        assert!(may_invite("spring", &learner), "{also:?}");
        assert!(!may_invite("autumn", &learner), "{also:?}");
        for intent in [
            giving(&["learner"], 0),
            giving(&["learner"], 2),
            giving(&[], 1),
            giving(&["coach"], 1),
            giving(&["learner", "author"], 1),
        ] {
            assert!(!may_invite("spring", &intent), "{intent:?}");
        }
        assert!(!may_with(&instructor, UsersRead, session("autumn"), &learner));
        assert!(!may_with(&instructor, InvitationsSend, in_group(10), &learner));
    }
}

/// L7: an instructor alone, or one of something else than a session.
#[test]
fn l7_an_instructor_who_is_nothing_else_does_not_invite() {
    let learner = giving(&["learner"], 1);
    for grants in [
        vec![built_in(Instructor, session("spring"))],
        vec![built_in(Instructor, session("spring")), built_in(Author, in_group(10))],
        vec![built_in(Coach, session("spring"))],
    ] {
        assert!(!may_with(&me(grants), InvitationsSend, session("spring"), &learner));
    }
    let of_groups = me(vec![built_in(Instructor, in_group(10)), built_in(Coach, in_group(10))]);
    assert!(!may_with(&of_groups, InvitationsSend, in_group(10), &learner));
}

/// S9: not even an administrator; and with its own reason also where nothing would permit it.
#[test]
fn s9_nobody_changes_the_status_of_the_account_that_they_act_as() {
    for grants in [vec![], vec![built_in(Administrator, Scope::Platform)]] {
        let actor = me(grants);
        for permission in [UsersChangeStatus, UsersSetExpiration] {
            let intent = Intent::default();
            assert_eq!(reason(&actor, permission, account(ME, &[10]), &intent), OWN_STATUS);
        }
    }
    let admin = me(vec![built_in(Administrator, Scope::Platform)]);
    assert!(may(&admin, UsersChangeStatus, account(2, &[])));
    assert!(may(&service(&["*"]), UsersChangeStatus, account(ME, &[])));
}

/// S4: from that moment.
#[test]
fn s4_whoever_is_not_active_is_refused_everything() {
    let inactive = Principal::User(ActingUser {
        id: usher_core::ids::UserId(uuid::Uuid::from_u128(ME)),
        active: false,
        grants: vec![built_in(Administrator, Scope::Platform)],
    });
    for permission in Permission::ALL {
        for place in [
            Place::from(Scope::Platform),
            Place::from(account(ME, &[])),
            Place::from(account(2, &[10])),
        ] {
            let reason = reason(&inactive, *permission, place, &Intent::default());
            assert_eq!(reason, "ACTOR_NOT_ACTIVE", "{permission:?}");
        }
    }
    assert_eq!(AUTHORIZER.reach(&inactive, UsersRead, &tree()), Reach::Nothing);
}

/// U1: permissions of their own, in the whole tenant.
#[test]
fn u1_a_service_does_what_it_was_given_permission_for() {
    let portal = service(&["access.sign_in", "invitations.accept"]);
    for permission in Permission::ALL {
        let expected = [AccessSignIn, InvitationsAccept].contains(permission);
        assert_eq!(may(&portal, *permission, Scope::Platform), expected, "{permission:?}");
        assert_eq!(may(&portal, *permission, account(2, &[10])), expected, "{permission:?}");
        assert!(may(&service(&["*"]), *permission, Scope::Platform), "{permission:?}");
    }
}
