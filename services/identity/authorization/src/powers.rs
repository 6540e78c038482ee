//! What roles come to: to compare what somebody gives, or what another holds, with what whoever acts holds themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{BuiltInRole, Permission, Scope};
use uuid::Uuid;

use crate::entities::Asking;
use crate::policies::{Asked, Policies};
use crate::question::{ActingUser, Grant, Intent, Principal, Resource};

/// A set of permissions, as small as a number: bulk jobs compare one for each item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u64);

const _: () = assert!(Permission::ALL.len() <= 64, "a bit for each");

impl PermissionSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    fn bit(permission: Permission) -> u64 {
        1 << permission as u64
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those of both.
    #[must_use]
    pub fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Each, in the order of `Permission::ALL`.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        let all = Permission::ALL.iter().copied();
        all.filter(move |permission| self.0 & Self::bit(*permission) != 0)
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        let bits = permissions.into_iter().map(Self::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// What each role gives, found by asking the policies: so policies that were replaced are told truthfully.
#[derive(Debug)]
pub(crate) struct Powers {
    /// What a built-in role gives to whoever holds nothing else.
    alone: BTreeMap<BuiltInRole, BTreeSet<Permission>>,
    /// The same, with what it gives to those who hold others too (L7).
    at_most: BTreeMap<BuiltInRole, PermissionSet>,
    /// What people can have by a role of the tenant's own making: some permissions are for services only.
    custom: PermissionSet,
}

impl Powers {
    pub(crate) fn new(policies: &Policies) -> Self {
        let everything = Grant::Custom {
            permissions: Permission::ALL.to_vec(),
            scope: Scope::Platform,
        };
        let told = |role| {
            let alone = alone(policies, built_in(role, Scope::Platform));
            let at_most: PermissionSet = alone.iter().copied().chain(beside_others(policies, role)).collect();
            ((role, alone), (role, at_most))
        };
        let (alone_by_role, at_most) = BuiltInRole::ALL.into_iter().map(told).unzip();
        Self {
            alone: alone_by_role,
            at_most,
            custom: alone(policies, everything).into_iter().collect(),
        }
    }

    pub(crate) fn alone(&self, role: BuiltInRole) -> &BTreeSet<Permission> {
        static NOTHING: BTreeSet<Permission> = BTreeSet::new();
        self.alone.get(&role).unwrap_or(&NOTHING)
    }

    /// What a built-in role can give to somebody.
    pub(crate) fn given(&self, role: BuiltInRole) -> PermissionSet {
        self.at_most.get(&role).copied().unwrap_or_default()
    }

    /// What a role of these permissions can give to somebody.
    pub(crate) fn given_by(&self, permissions: impl IntoIterator<Item = Permission>) -> PermissionSet {
        self.custom.among(permissions.into_iter().collect())
    }

    /// What another has by a role that they hold.
    fn held(&self, grant: &Grant) -> PermissionSet {
        match grant {
            Grant::BuiltIn { role, .. } => self.alone(*role).iter().copied().collect(),
            Grant::Custom { permissions, .. } => self.given_by(permissions.iter().copied()),
        }
    }
}

fn built_in(role: BuiltInRole, scope: Scope) -> Grant {
    Grant::BuiltIn { role, scope }
}

/// What a role lets somebody do on the platform, or to another, who holds nothing else.
fn alone(policies: &Policies, grant: Grant) -> BTreeSet<Permission> {
    let other = Resource::User {
        id: UserId(Uuid::max()),
        groups: Vec::new(),
        roles: Vec::new(),
    };
    let places = [Resource::Scope(Scope::Platform), other];
    allowed(policies, vec![grant], &places, &Intent::default())
}

/// What a role lets somebody do in a session who holds every role elsewhere (L7).
fn beside_others(policies: &Policies, role: BuiltInRole) -> BTreeSet<Permission> {
    let elsewhere = Scope::Group(GroupId(Uuid::nil()));
    let others = BuiltInRole::ALL.into_iter();
    let others = others.map(|other| built_in(other, elsewhere.clone()));
    let inviting = Intent {
        roles: [BuiltInRole::Learner.as_str().to_owned()].into(),
        group_count: 1,
        ..Intent::default()
    };
    let grants = others.chain([built_in(role, Scope::Platform)]).collect();
    let session = Resource::Scope(Scope::Session("any".to_owned()));
    allowed(policies, grants, &[session], &inviting)
}

/// What the policies let a made-up user with these roles do in one of these places.
fn allowed(policies: &Policies, grants: Vec<Grant>, places: &[Resource], intent: &Intent) -> BTreeSet<Permission> {
    let user = Principal::User(ActingUser {
        id: UserId(Uuid::nil()),
        active: true,
        grants,
    });
    let Ok(asking) = Asking::new(&user) else {
        return BTreeSet::new();
    };
    let tree = GroupTree::default();
    let may = |permission: &Permission| {
        places.iter().any(|resource| {
            let asked = Asked {
                permission: *permission,
                resource,
                intent,
                tree: &tree,
                gives_more: PermissionSet::EMPTY,
                holds_more: PermissionSet::EMPTY,
            };
            policies.decide(&asking, &asked).is_allowed()
        })
    };
    Permission::ALL.iter().copied().filter(may).collect()
}

/// What whoever acts holds, and where.
#[derive(Debug)]
pub(crate) enum Holdings<'a> {
    /// A service holds what it holds in the whole tenant.
    Everywhere(PermissionSet),
    /// A person, by their roles.
    In(HashMap<&'a Scope, PermissionSet>),
}

impl<'a> Holdings<'a> {
    pub(crate) fn new(principal: &'a Principal, powers: &Powers) -> Self {
        match principal {
            Principal::Service { permissions, .. } if permissions.contains("*") => {
                Self::Everywhere(Permission::ALL.iter().copied().collect())
            }
            Principal::Service { permissions, .. } => {
                let known = permissions.iter().filter_map(|name| Permission::from_name(name));
                Self::Everywhere(known.collect())
            }
            Principal::User(user) => {
                let mut held: HashMap<&Scope, PermissionSet> = HashMap::new();
                for grant in &user.grants {
                    let gives = match grant {
                        Grant::BuiltIn { role, .. } => powers.given(*role),
                        Grant::Custom { permissions, .. } => powers.given_by(permissions.iter().copied()),
                    };
                    let here = held.entry(grant.scope()).or_default();
                    *here = here.with(gives);
                }
                Self::In(held)
            }
        }
    }

    /// Those of the permissions that are not held in a scope, nor in one that it lies in (U2).
    pub(crate) fn lacking(&self, permissions: PermissionSet, scope: &Scope, tree: &GroupTree) -> PermissionSet {
        if permissions.is_empty() {
            return permissions;
        }
        let held = match self {
            Self::Everywhere(held) => return permissions.without(*held),
            Self::In(held) => held,
        };
        let at = |scope: &Scope| held.get(scope).copied().unwrap_or_default();
        let left = permissions.without(at(&Scope::Platform)).without(at(scope));
        match scope {
            Scope::Group(group) if !left.is_empty() => {
                let above = tree.with_ancestors(*group).into_iter();
                above.fold(left, |left, group| left.without(at(&Scope::Group(group))))
            }
            Scope::Group(_) | Scope::Platform | Scope::Session(_) => left,
        }
    }

    /// What another holds somewhere that is not held there.
    pub(crate) fn lacking_of(&self, roles: &[Grant], powers: &Powers, tree: &GroupTree) -> PermissionSet {
        let lacking = roles
            .iter()
            .map(|grant| self.lacking(powers.held(grant), grant.scope(), tree));
        lacking.fold(PermissionSet::EMPTY, PermissionSet::with)
    }
}
