//! Who may do what: the policies, and what is asked of them.

use std::collections::BTreeSet;
use std::path::Path;

use usher_core::group::GroupTree;
use usher_core::ids::GroupId;
use usher_core::refusal::Refusal;
use usher_core::role::{BuiltInRole, Permission, Scope};

use crate::asker::Asker;
use crate::decision::Decision;
use crate::error::PolicyError;
use crate::policies::Policies;
use crate::powers::{PermissionSet, Powers};
use crate::question::{Intent, Principal, Question, Resource};

/// Decides by policies. It does not change once it is made, and can be shared between threads.
#[derive(Debug)]
pub struct Authorizer {
    policies: Policies,
    powers: Powers,
}

/// Where a principal has a permission: for lists (U2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// In the whole tenant.
    Everything,
    /// In these groups, those below them included; never empty.
    Groups(BTreeSet<GroupId>),
    /// Nowhere, but perhaps on the own account and in sessions: ask about those by themselves.
    Nothing,
}

impl Authorizer {
    /// With the policies that are compiled in: those of the folder `policies/` beside this crate.
    pub fn embedded() -> Self {
        let policies = Policies::embedded();
        Self::new(policies.expect("these texts are part of the build, and the tests of this crate load them"))
    }

    /// With the policies of a folder: all its `*.cedar` files and its `usher.cedarschema`; folders in it are not looked
    /// into. The error is one line that names the file and the position.
    pub fn load(folder: &Path) -> Result<Self, PolicyError> {
        Policies::load(folder).map(Self::new)
    }

    fn new(policies: Policies) -> Self {
        let powers = Powers::new(&policies);
        Self { policies, powers }
    }

    /// Answers one question. For many of the same principal, see [`Authorizer::asker`].
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        self.asker(question.principal, question.tree)
            .evaluate(question.permission, question.resource, question.intent)
    }

    /// Answers one question with the refusal that it comes to: see [`Decision::into_result`].
    pub fn require(&self, question: &Question<'_>) -> Result<(), Refusal> {
        self.decide(question).into_result(question)
    }

    /// For many questions of one principal: what cannot differ is evaluated once.
    pub fn asker<'a>(&'a self, principal: &'a Principal, tree: &'a GroupTree) -> Asker<'a> {
        Asker::new(&self.policies, &self.powers, principal, tree)
    }

    /// What a built-in role may do when it is held on the platform, alone. It is found by asking the policies about the
    /// platform and about another account, so policies that were replaced are told truthfully.
    pub fn permissions_of(&self, role: BuiltInRole) -> &BTreeSet<Permission> {
        self.powers.alone(role)
    }

    /// What a built-in role gives at most, with what it gives only to those who hold another too (L7): for
    /// [`Intent::gives`].
    pub fn given(&self, role: BuiltInRole) -> PermissionSet {
        self.powers.given(role)
    }

    /// What a role of the tenant's own making gives: its permissions, without those that people never have.
    pub fn given_by(&self, permissions: impl IntoIterator<Item = Permission>) -> PermissionSet {
        self.powers.given_by(permissions)
    }

    /// Where a principal has a permission. It is found by asking about the platform, then about each group that the
    /// principal holds a role in.
    pub fn reach(&self, principal: &Principal, permission: Permission, tree: &GroupTree) -> Reach {
        let asker = self.asker(principal, tree);
        let allowed = |scope: Scope| {
            asker
                .evaluate(permission, &Resource::Scope(scope), &Intent::default())
                .is_allowed()
        };
        if allowed(Scope::Platform) {
            return Reach::Everything;
        }
        let Principal::User(user) = principal else {
            return Reach::Nothing;
        };
        let held = user.grants.iter().filter_map(|grant| match grant.scope() {
            Scope::Group(id) => Some(*id),
            Scope::Platform | Scope::Session(_) => None,
        });
        let mut held: BTreeSet<GroupId> = held.collect();
        held.retain(|group| allowed(Scope::Group(*group)));
        let groups = tree.with_descendants(&held);
        if groups.is_empty() {
            Reach::Nothing
        } else {
            Reach::Groups(groups)
        }
    }
}
