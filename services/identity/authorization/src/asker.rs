//! Many questions of one principal, as lists and bulk jobs have them: a million accounts of one group are one evaluation.

use std::cell::OnceCell;
use std::collections::HashMap;

use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{Permission, Scope};

use crate::decision::{Decision, GIVES_MORE, HOLDS_MORE, POLICY_FAILED};
use crate::entities::Asking;
use crate::policies::{Asked, Policies};
use crate::powers::{Holdings, PermissionSet, Powers};
use crate::question::{Intent, Principal, Resource};

/// Answers that are remembered at most; further ones are evaluated each time.
const MAX_REMEMBERED: usize = 10_000;

/// Answers questions of one principal, and remembers the answers. Accounts in the same groups cannot differ to policies,
/// except for those that hold more than the principal, for the principal's own, and for those that a policy names.
///
/// It sees the roles and the groups as they were when it was made, so make one for each call or each batch of a job.
#[derive(Debug)]
pub struct Asker<'a> {
    policies: &'a Policies,
    powers: &'a Powers,
    principal: &'a Principal,
    /// `None`: the principal cannot be told to Cedar, so everything is denied.
    asking: Option<Asking>,
    tree: &'a GroupTree,
    /// Found out when it is needed: most questions are about nobody's roles.
    holdings: OnceCell<Holdings<'a>>,
    remembered: HashMap<Permission, HashMap<Intent, Answers>>,
    count: usize,
}

/// Answers by what they were about.
#[derive(Debug, Default)]
struct Answers {
    scopes: HashMap<Scope, Decision>,
    /// By what the account holds more than the principal, and by its sorted groups.
    accounts: HashMap<PermissionSet, HashMap<Vec<GroupId>, Decision>>,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(
        policies: &'a Policies,
        powers: &'a Powers,
        principal: &'a Principal,
        tree: &'a GroupTree,
    ) -> Self {
        Self {
            policies,
            powers,
            principal,
            asking: Asking::new(principal).ok(),
            tree,
            holdings: OnceCell::new(),
            remembered: HashMap::new(),
            count: 0,
        }
    }

    /// Answers exactly as [`Authorizer::decide`](crate::Authorizer::decide).
    pub fn decide(&mut self, permission: Permission, resource: &Resource, intent: &Intent) -> Decision {
        let sorted;
        let key = match resource {
            Resource::Scope(scope) => Key::Scope(scope),
            Resource::User { id, .. } if self.is_singular(*id) => return self.evaluate(permission, resource, intent),
            Resource::User { groups, .. } if groups.is_sorted() => Key::Groups(self.holds_more(resource), groups),
            Resource::User { groups, .. } => {
                let mut groups = groups.clone();
                groups.sort();
                sorted = groups;
                Key::Groups(self.holds_more(resource), &sorted)
            }
        };
        let answers = self
            .remembered
            .get(&permission)
            .and_then(|by_intent| by_intent.get(intent));
        let known = answers.and_then(|answers| match key {
            Key::Scope(scope) => answers.scopes.get(scope),
            Key::Groups(more, groups) => answers.accounts.get(&more)?.get(groups),
        });
        if let Some(known) = known {
            return known.clone();
        }
        let decision = self.evaluate(permission, resource, intent);
        if self.count < MAX_REMEMBERED {
            self.count += 1;
            let by_intent = self.remembered.entry(permission).or_default();
            let answers = by_intent.entry(intent.clone()).or_default();
            match key {
                Key::Scope(scope) => answers.scopes.insert(scope.clone(), decision.clone()),
                Key::Groups(more, groups) => {
                    let accounts = answers.accounts.entry(more).or_default();
                    accounts.insert(groups.to_vec(), decision.clone())
                }
            };
        }
        decision
    }

    /// Whether an account may be decided otherwise than others in its groups.
    fn is_singular(&self, id: UserId) -> bool {
        self.is_own(id) || self.policies.named.contains(&id)
    }

    fn is_own(&self, id: UserId) -> bool {
        self.asking.as_ref().and_then(|asking| asking.own) == Some(id)
    }

    fn holdings(&self) -> &Holdings<'a> {
        self.holdings.get_or_init(|| Holdings::new(self.principal, self.powers))
    }

    /// What the user that it is about holds somewhere, and the principal does not hold there.
    fn holds_more(&self, resource: &Resource) -> PermissionSet {
        match resource {
            Resource::User { id, roles, .. } if !roles.is_empty() && !self.is_own(*id) => {
                self.holdings().lacking_of(roles, self.powers, self.tree)
            }
            Resource::User { .. } | Resource::Scope(_) => PermissionSet::EMPTY,
        }
    }

    /// What the call gives, and the principal does not hold there.
    fn gives_more(&self, resource: &Resource, intent: &Intent) -> PermissionSet {
        if intent.gives.is_empty() {
            return PermissionSet::EMPTY;
        }
        let scope = match resource {
            Resource::Scope(scope) => scope,
            Resource::User { .. } => &Scope::Platform,
        };
        self.holdings().lacking(intent.gives, scope, self.tree)
    }

    /// Asks the policies.
    pub(crate) fn evaluate(&self, permission: Permission, resource: &Resource, intent: &Intent) -> Decision {
        let Some(asking) = &self.asking else {
            return Decision::denied(Some(POLICY_FAILED));
        };
        let asked = Asked {
            permission,
            resource,
            intent,
            tree: self.tree,
            gives_more: PermissionSet::EMPTY,
            holds_more: PermissionSet::EMPTY,
        };
        // Whoever may not do it at all learns that, and nothing about the roles of others.
        let plain = self.policies.decide(asking, &asked);
        let (gives_more, holds_more) = (self.gives_more(resource, intent), self.holds_more(resource));
        if !plain.is_allowed() || (gives_more.is_empty() && holds_more.is_empty()) {
            return plain;
        }
        let asked = Asked {
            gives_more,
            holds_more,
            ..asked
        };
        match self.policies.decide(asking, &asked) {
            Decision::Denied { reason, .. } => Decision::Denied {
                lacking: match reason.as_deref() {
                    Some(GIVES_MORE) => gives_more,
                    Some(HOLDS_MORE) => holds_more,
                    _ => PermissionSet::EMPTY,
                },
                reason,
            },
            Decision::Allowed => Decision::Allowed,
        }
    }
}

/// What a remembered answer is about.
#[derive(Clone, Copy)]
enum Key<'a> {
    Scope(&'a Scope),
    Groups(PermissionSet, &'a [GroupId]),
}
