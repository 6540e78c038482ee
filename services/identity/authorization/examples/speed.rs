//! How long decisions take: `cargo run --release -p usher-authorization --example speed`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use usher_authorization::{ActingUser, Authorizer, Grant, Intent, Principal, Question, Resource};
use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{BuiltInRole, Permission, Scope};
use uuid::Uuid;

const GROUPS: u128 = 1_000;
const SINGLE: u32 = 20_000;
const MANY: u32 = 1_000_000;

fn group(number: u128) -> GroupId {
    GroupId(Uuid::from_u128(number))
}

fn administrator(groups: u128) -> Principal {
    let grants = (1..=groups).map(|number| Grant::BuiltIn {
        role: BuiltInRole::Administrator,
        scope: Scope::Group(group(number)),
    });
    Principal::User(ActingUser {
        id: UserId(Uuid::nil()),
        active: true,
        grants: grants.collect(),
    })
}

/// The account with this number, in the group with that one.
fn account(number: u32, of: u128) -> Resource {
    Resource::User {
        id: UserId(Uuid::from_u128(u128::from(number) + 1)),
        groups: vec![group(of)],
        roles: vec![],
    }
}

/// The same, of a coach of that group who administers the last one.
fn teacher(number: u32, of: u128) -> Resource {
    let held = |role, number| Grant::BuiltIn {
        role,
        scope: Scope::Group(group(number)),
    };
    Resource::User {
        id: UserId(Uuid::from_u128(u128::from(number) + 1)),
        groups: vec![group(of)],
        roles: vec![held(BuiltInRole::Administrator, GROUPS), held(BuiltInRole::Coach, of)],
    }
}

fn each(what: &str, count: u32, mut run: impl FnMut(u32)) {
    let started = Instant::now();
    for number in 0..count {
        run(number);
    }
    let all: Duration = started.elapsed();
    println!("{what}: {:?} each, {all:?} for {count}", all / count);
}

fn main() {
    each("loading the policies", 20, |_| drop(black_box(Authorizer::embedded())));
    let authorizer = Authorizer::embedded();
    // Each group is below one of ten times fewer, so the deepest have three above them.
    let tree = GroupTree::new((1..=GROUPS).map(|number| (group(number), (number >= 10).then(|| group(number / 10)))));
    let intent = Intent::default();
    for held in [1, 200] {
        let principal = administrator(held);
        let permission = Permission::UsersChangeStatus;
        each(&format!("{held} roles, alone"), SINGLE, |number| {
            let resource = account(number, u128::from(number) % GROUPS + 1);
            let question = Question {
                principal: &principal,
                permission,
                resource: &resource,
                intent: &intent,
                tree: &tree,
            };
            let _ = black_box(authorizer.decide(&question));
        });
        let asker = || authorizer.asker(&principal, &tree);
        each(&format!("{held} roles, making an asker"), SINGLE, |_| {
            drop(black_box(asker()));
        });
        each(&format!("{held} roles, of an asker, not remembered"), SINGLE, {
            let mut asker = asker();
            move |number| {
                // The own account is never remembered.
                let own = Resource::User {
                    id: UserId(Uuid::nil()),
                    groups: vec![group(u128::from(number) % GROUPS + 1)],
                    roles: vec![],
                };
                let _ = black_box(asker.decide(permission, &own, &Intent::default()));
            }
        });
        each(
            &format!("{held} roles, of an asker, a million in {GROUPS} groups"),
            MANY,
            {
                let mut asker = asker();
                let intent = &intent;
                move |number| {
                    let resource = account(number, u128::from(number) % GROUPS + 1);
                    let _ = black_box(asker.decide(permission, &resource, intent));
                }
            },
        );
        each(
            &format!("{held} roles, of an asker, a million who hold roles themselves"),
            MANY,
            {
                let mut asker = asker();
                let intent = &intent;
                move |number| {
                    let resource = teacher(number, u128::from(number) % GROUPS + 1);
                    let _ = black_box(asker.decide(permission, &resource, intent));
                }
            },
        );
        each(&format!("{held} roles, reach"), 100, |_| {
            drop(black_box(authorizer.reach(&principal, Permission::UsersRead, &tree)));
        });
    }
}
