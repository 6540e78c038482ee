//! What is asked: who, what, about what, and with which intent.

use std::collections::BTreeSet;

use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{BuiltInRole, Permission, Scope};

use crate::powers::PermissionSet;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A person.
    User(ActingUser),
    /// A program that acts by itself.
    Service {
        /// As in its credentials.
        name: String,
        /// Names of permissions; `*` is all of them.
        permissions: BTreeSet<String>,
    },
}

/// The person who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActingUser {
    /// Their account.
    pub id: UserId,
    /// Whether its effective status is ACTIVE. Whoever is not active is refused everything.
    pub active: bool,
    /// The roles that they hold: at most `usher_core::role::MAX_ASSIGNMENTS`, in any order.
    pub grants: Vec<Grant>,
}

/// A role that somebody holds somewhere (U2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// One that every tenant has (U1).
    BuiltIn {
        /// Which.
        role: BuiltInRole,
        /// Where.
        scope: Scope,
    },
    /// One of the tenant's own making, with what it is made of at the moment.
    Custom {
        /// In any order.
        permissions: Vec<Permission>,
        /// Where.
        scope: Scope,
    },
}

impl Grant {
    /// Where it is held.
    pub fn scope(&self) -> &Scope {
        match self {
            Self::BuiltIn { scope, .. } | Self::Custom { scope, .. } => scope,
        }
    }
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The tenant, a group or a session: to create there, to list there, to change the place itself.
    Scope(Scope),
    /// One account.
    User {
        /// Whose.
        id: UserId,
        /// The groups that the user is in directly. Sorted ones are found faster by an [`Asker`](crate::Asker).
        groups: Vec<GroupId>,
        /// The roles that the user holds; those that give nothing may be left out.
        roles: Vec<Grant>,
    },
}

/// What the call would do, as far as policies look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Intent {
    /// It sets the date at which accounts are deleted (L6).
    pub sets_deletion_date: bool,
    /// The roles that it would give: names of built-in roles, UUIDs of custom ones (L5, L7).
    pub roles: BTreeSet<String>,
    /// What these roles give: [`Authorizer::given`](crate::Authorizer::given). It is compared with what whoever asks holds
    /// in the place that is asked about (U1); where an account is, with what they hold on the platform.
    pub gives: PermissionSet,
    /// The groups that the people are put into (L7).
    pub group_count: usize,
    /// The fields that it would change, as in the update mask. Without any, nobody may update their own account.
    pub fields: BTreeSet<String>,
}

/// One question to the policies.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What for.
    pub permission: Permission,
    /// About what. A call about several groups asks about each (L6, L9).
    pub resource: &'a Resource,
    /// What the call would do.
    pub intent: &'a Intent,
    /// The tenant's groups. A group that is not in it counts as one at the top.
    pub tree: &'a GroupTree,
}
