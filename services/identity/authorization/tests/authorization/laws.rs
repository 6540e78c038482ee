//! What holds whatever anybody holds (U1, U2).

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use usher_authorization::{Grant, Intent, Reach, Resource};
use usher_core::role::Permission::{UsersExplain, UsersRead, UsersUpdate};
use usher_core::role::{BuiltInRole, Permission, Scope};

use crate::common::*;

fn scope() -> impl Strategy<Value = Scope> {
    let scopes = [10, 11, 12, 20, 21, 99].map(in_group).into_iter();
    select(
        scopes
            .chain([Scope::Platform, session("spring"), session("autumn")])
            .collect::<Vec<_>>(),
    )
}

fn permission() -> impl Strategy<Value = Permission> {
    select(Permission::ALL)
}

fn grant() -> impl Strategy<Value = Grant> {
    let built_in = (select(&BuiltInRole::ALL[..]), scope()).prop_map(|(role, scope)| built_in(role, scope));
    let custom = (prop::collection::vec(permission(), 0..5), scope())
        .prop_map(|(permissions, scope)| custom(&permissions, scope));
    prop_oneof![built_in, custom]
}

fn resource() -> impl Strategy<Value = Resource> {
    let groups = subsequence(vec![10, 11, 12, 20, 21, 99], 0..4).prop_shuffle();
    prop_oneof![
        scope().prop_map(Resource::Scope),
        (1_u128..4, groups, prop::collection::vec(grant(), 0..3))
            .prop_map(|(number, groups, held)| holder(number, &groups, &held)),
    ]
}

fn intent() -> impl Strategy<Value = Intent> {
    let roles = subsequence(vec!["learner", "coach", "administrator"], 0..3);
    let fields = subsequence(vec!["first_name", "language", "email"], 0..3);
    (any::<bool>(), roles, 0_usize..3, fields).prop_map(|(sets_deletion_date, roles, group_count, fields)| Intent {
        sets_deletion_date,
        fields: strings(&fields),
        ..giving(&roles, group_count)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// U1: without any role there is the own account, and nothing else.
    #[test]
    fn u1_without_a_role_nothing_but_the_own_account_is_allowed(
        permission in permission(),
        resource in resource(),
        intent in intent(),
    ) {
        let own = is_mine(&resource);
        if decide(&me(vec![]), permission, &resource, &intent).is_allowed() {
            prop_assert!(own && [UsersRead, UsersExplain, UsersUpdate].contains(&permission));
        }
    }

    /// U1: no policy of ours forbids because of a role.
    #[test]
    fn u1_one_more_role_never_takes_anything_away(
        grants in prop::collection::vec(grant(), 0..4),
        another in grant(),
        permission in permission(),
        resource in resource(),
        intent in intent(),
    ) {
        let before = decide(&me(grants.clone()), permission, &resource, &intent);
        let after = decide(&me([grants, vec![another]].concat()), permission, &resource, &intent);
        prop_assert!(after.is_allowed() || !before.is_allowed(), "{before:?} became {after:?}");
    }

    /// U2: and roles in one group say nothing about another.
    #[test]
    fn u2_roles_in_groups_reach_nobody_outside_of_them(
        roles in prop::collection::vec(select(&BuiltInRole::ALL[..]), 0..4),
        permission in permission(),
        intent in intent(),
    ) {
        let holder = me(roles.into_iter().map(|role| built_in(role, in_group(10))).collect());
        for elsewhere in [account(2, &[20, 21]), account(2, &[]), Resource::Scope(Scope::Platform)] {
            prop_assert!(!decide(&holder, permission, &elsewhere, &intent).is_allowed(), "{elsewhere:?}");
        }
    }

    /// U2: what is remembered is what would be answered.
    #[test]
    fn u2_an_asker_answers_as_single_questions_are_answered(
        grants in prop::collection::vec(grant(), 0..4),
        permissions in prop::collection::vec(permission(), 1..3),
        resources in prop::collection::vec(resource(), 1..8),
        intents in prop::collection::vec(intent(), 1..3),
    ) {
        let (principal, tree) = (me(grants), tree());
        let mut asker = AUTHORIZER.asker(&principal, &tree);
        for resource in resources.iter().chain(&resources) {
            for permission in &permissions {
                for intent in &intents {
                    let alone = decide(&principal, *permission, resource, intent);
                    prop_assert_eq!(asker.decide(*permission, resource, intent), alone);
                }
            }
        }
    }

    /// U2: a list shows exactly those whom one may look at one by one.
    #[test]
    fn u2_reach_holds_those_groups_whose_members_are_allowed_one_by_one(
        grants in prop::collection::vec(grant(), 0..5),
        permission in select(vec![UsersRead, Permission::UsersChangeStatus, Permission::InvitationsRead]),
    ) {
        let principal = me(grants);
        let reach = AUTHORIZER.reach(&principal, permission, &tree());
        for number in [10, 11, 12, 20, 21] {
            let listed = match &reach {
                Reach::Everything => true,
                Reach::Groups(groups) => groups.contains(&group(number)),
                Reach::Nothing => false,
            };
            prop_assert_eq!(may(&principal, permission, account(2, &[number])), listed, "{}", number);
        }
    }
}

fn is_mine(resource: &Resource) -> bool {
    matches!((resource, account(ME, &[])), (Resource::User { id, .. }, Resource::User { id: mine, .. }) if *id == mine)
}
