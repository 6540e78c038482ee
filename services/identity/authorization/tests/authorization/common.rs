//! People, places and questions for tests.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use usher_authorization::{
    ActingUser, Authorizer, Decision, Grant, Intent, PermissionSet, Principal, Question, Resource,
};
use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{BuiltInRole, Permission, Scope};
use uuid::Uuid;

/// The policies of this crate.
pub(crate) static AUTHORIZER: LazyLock<Authorizer> = LazyLock::new(Authorizer::embedded);

/// Whoever acts.
pub(crate) const ME: u128 = 1;

pub(crate) fn group(number: u128) -> GroupId {
    GroupId(Uuid::from_u128(number))
}

pub(crate) fn in_group(number: u128) -> Scope {
    Scope::Group(group(number))
}

pub(crate) fn session(id: &str) -> Scope {
    Scope::Session(id.into())
}

/// Group 12 is below 11, which is below 10. Groups 20 and 21 stand by themselves.
pub(crate) fn tree() -> GroupTree {
    GroupTree::new([
        (group(10), None),
        (group(11), Some(group(10))),
        (group(12), Some(group(11))),
        (group(20), None),
        (group(21), None),
    ])
}

pub(crate) fn built_in(role: BuiltInRole, scope: Scope) -> Grant {
    Grant::BuiltIn { role, scope }
}

pub(crate) fn custom(permissions: &[Permission], scope: Scope) -> Grant {
    Grant::Custom {
        permissions: permissions.to_vec(),
        scope,
    }
}

/// An active user with these roles.
pub(crate) fn me(grants: Vec<Grant>) -> Principal {
    Principal::User(ActingUser {
        id: UserId(Uuid::from_u128(ME)),
        active: true,
        grants,
    })
}

pub(crate) fn service(permissions: &[&str]) -> Principal {
    Principal::Service {
        name: "platform".into(),
        permissions: strings(permissions),
    }
}

/// An account in groups.
pub(crate) fn account(number: u128, groups: &[u128]) -> Resource {
    holder(number, groups, &[])
}

pub(crate) fn strings(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// An account in groups, of somebody who holds these roles.
pub(crate) fn holder(number: u128, in_groups: &[u128], held: &[Grant]) -> Resource {
    Resource::User {
        id: UserId(Uuid::from_u128(number)),
        groups: in_groups.iter().copied().map(group).collect(),
        roles: held.to_vec(),
    }
}

/// A call that gives these built-in roles on so many groups.
pub(crate) fn giving(roles: &[&str], group_count: usize) -> Intent {
    let known = roles.iter().filter_map(|name| BuiltInRole::from_name(name));
    Intent {
        roles: strings(roles),
        gives: known
            .map(|role| AUTHORIZER.given(role))
            .fold(PermissionSet::EMPTY, PermissionSet::with),
        group_count,
        ..Intent::default()
    }
}

/// A call that changes these fields.
pub(crate) fn changing(fields: &[&str]) -> Intent {
    Intent {
        fields: strings(fields),
        ..Intent::default()
    }
}

pub(crate) fn decide(principal: &Principal, permission: Permission, resource: &Resource, intent: &Intent) -> Decision {
    AUTHORIZER.decide(&Question {
        principal,
        permission,
        resource,
        intent,
        tree: &tree(),
    })
}

/// Whether a call without a particular intent is allowed.
pub(crate) fn may(principal: &Principal, permission: Permission, resource: impl Into<Place>) -> bool {
    may_with(principal, permission, resource, &Intent::default())
}

pub(crate) fn may_with(
    principal: &Principal,
    permission: Permission,
    resource: impl Into<Place>,
    intent: &Intent,
) -> bool {
    decide(principal, permission, &resource.into().0, intent).is_allowed()
}

/// The reason why a call is denied; empty: none of its own.
pub(crate) fn reason(
    principal: &Principal,
    permission: Permission,
    resource: impl Into<Place>,
    intent: &Intent,
) -> String {
    match decide(principal, permission, &resource.into().0, intent) {
        Decision::Allowed => "allowed".into(),
        Decision::Denied { reason, .. } => reason.unwrap_or_default(),
    }
}

/// A resource, from a scope or from an account.
pub(crate) struct Place(pub(crate) Resource);

impl From<Resource> for Place {
    fn from(resource: Resource) -> Self {
        Self(resource)
    }
}

impl From<Scope> for Place {
    fn from(scope: Scope) -> Self {
        Self(Resource::Scope(scope))
    }
}
