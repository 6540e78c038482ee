//! Many questions of one principal, as lists and bulk jobs have them: a million accounts of one group are one evaluation.

use std::collections::HashMap;

use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{Permission, Scope};

use crate::decision::{Decision, POLICY_FAILED};
use crate::entities::Asking;
use crate::policies::Policies;
use crate::question::{Intent, Principal, Resource};

/// Answers that are remembered at most; further ones are evaluated each time.
const MAX_REMEMBERED: usize = 10_000;

/// Answers questions of one principal, and remembers the answers. Accounts in the same groups cannot differ to policies,
/// except for the principal's own and for those that a policy names: these are evaluated each time.
///
/// It sees the roles and the groups as they were when it was made, so make one for each call or each batch of a job.
#[derive(Debug)]
pub struct Asker<'a> {
    policies: &'a Policies,
    /// `None`: the principal cannot be told to Cedar, so everything is denied.
    asking: Option<Asking>,
    tree: &'a GroupTree,
    remembered: HashMap<Permission, HashMap<Intent, Answers>>,
    count: usize,
}

/// Answers by what they were about.
#[derive(Debug, Default)]
struct Answers {
    scopes: HashMap<Scope, Decision>,
    /// By the sorted groups of the account.
    accounts: HashMap<Vec<GroupId>, Decision>,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(policies: &'a Policies, principal: &Principal, tree: &'a GroupTree) -> Self {
        Self {
            policies,
            asking: Asking::new(principal).ok(),
            tree,
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
            Resource::User { groups, .. } if groups.is_sorted() => Key::Groups(groups),
            Resource::User { groups, .. } => {
                let mut groups = groups.clone();
                groups.sort();
                sorted = groups;
                Key::Groups(&sorted)
            }
        };
        let answers = self
            .remembered
            .get(&permission)
            .and_then(|by_intent| by_intent.get(intent));
        let known = answers.and_then(|answers| match key {
            Key::Scope(scope) => answers.scopes.get(scope),
            Key::Groups(groups) => answers.accounts.get(groups),
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
                Key::Groups(groups) => answers.accounts.insert(groups.to_vec(), decision.clone()),
            };
        }
        decision
    }

    /// Whether an account may be decided otherwise than others in its groups.
    fn is_singular(&self, id: UserId) -> bool {
        let own = self.asking.as_ref().and_then(|asking| asking.own);
        own == Some(id) || self.policies.named.contains(&id)
    }

    /// Asks the policies.
    pub(crate) fn evaluate(&self, permission: Permission, resource: &Resource, intent: &Intent) -> Decision {
        match &self.asking {
            Some(asking) => self.policies.decide(asking, permission, resource, intent, self.tree),
            None => Decision::Denied {
                reason: Some(POLICY_FAILED.to_owned()),
            },
        }
    }
}

/// What a remembered answer is about.
#[derive(Clone, Copy)]
enum Key<'a> {
    Scope(&'a Scope),
    Groups(&'a [GroupId]),
}
