//! Where a user belongs: groups and roles. They stand beside the account: joining a group is no change of it, and its
//! version stays.

use std::collections::BTreeSet;

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::event::{Event, EventType};
use crate::ids::GroupId;
use crate::refusal::Refusal;
use crate::role::{Assignment, MAX_ASSIGNMENTS, RoleRef, Scope};
use crate::status::Status;

/// Groups that one user can be in.
pub const MAX_GROUPS: usize = 1_000;

/// The groups and roles of a user. Right only where a command asked for them to be loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belonging {
    /// Those that they are a member of themselves.
    pub groups: BTreeSet<GroupId>,
    /// What they hold, and where.
    pub roles: BTreeSet<(RoleRef, Scope)>,
}

/// Where an account is put as it is created or invited (L5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// It becomes a member of these groups.
    pub groups: BTreeSet<GroupId>,
    /// It is given these roles: in each of the groups (L9), or on the platform where there are none.
    pub roles: BTreeSet<RoleRef>,
    /// It is given these roles where they say, whatever the groups are.
    pub held: BTreeSet<(RoleRef, Scope)>,
}

impl Placement {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.roles.is_empty() && self.held.is_empty()
    }

    /// Where roles are given.
    pub fn scopes(&self) -> Vec<Scope> {
        if self.groups.is_empty() {
            vec![Scope::Platform]
        } else {
            self.groups.iter().copied().map(Scope::Group).collect()
        }
    }

    /// The roles with where they are given.
    pub fn grants(&self) -> Vec<(RoleRef, Scope)> {
        let scopes = self.scopes();
        let grants = self.roles.iter();
        let mut grants: Vec<_> = grants
            .flat_map(|role| scopes.iter().map(|scope| (*role, scope.clone())))
            .collect();
        grants.extend(self.held.iter().cloned());
        grants
    }
}

impl Belonging {
    /// What of a placement they do not have yet: groups, and roles with where they are given.
    pub fn lacks(&self, placement: &Placement) -> (Vec<GroupId>, Vec<(RoleRef, Scope)>) {
        let groups = placement.groups.difference(&self.groups).copied().collect();
        let mut grants = placement.grants();
        grants.retain(|grant| !self.roles.contains(grant));
        (groups, grants)
    }
}

impl Account {
    /// Puts them where they are to be. That groups and roles exist was checked before.
    pub fn place(&mut self, placement: &Placement, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        let mut moved = false;
        for group in &placement.groups {
            moved |= self.join(*group, act, changes)? == Effect::Changed;
        }
        for (role, scope) in placement.grants() {
            moved |= self.assign(role, scope, act, changes)? == Effect::Changed;
        }
        Ok(if moved { Effect::Changed } else { Effect::Unchanged })
    }

    /// Makes them a member of a group. That there is one was checked before.
    pub fn join(&mut self, group: GroupId, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        self.check_not_erased()?;
        if self.belonging.groups.contains(&group) {
            return Ok(Effect::Unchanged);
        }
        if self.belonging.groups.len() >= MAX_GROUPS {
            let fault = format!("are more than {MAX_GROUPS} for one user; take them out of others first");
            return Err(Refusal::field("group_ids", fault));
        }
        self.belonging.groups.insert(group);
        self.change_membership(group, true, act, changes);
        Ok(Effect::Changed)
    }

    /// Takes them out of a group.
    pub fn leave(&mut self, group: GroupId, act: &Act, changes: &mut Changeset) -> Effect {
        if !self.belonging.groups.remove(&group) {
            return Effect::Unchanged;
        }
        self.change_membership(group, false, act, changes);
        Effect::Changed
    }

    /// Gives them a role in a scope. That there are both was checked before.
    pub fn assign(
        &mut self,
        role: RoleRef,
        scope: Scope,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Effect, Refusal> {
        self.check_not_erased()?;
        if self.belonging.roles.contains(&(role, scope.clone())) {
            return Ok(Effect::Unchanged);
        }
        if self.belonging.roles.len() >= MAX_ASSIGNMENTS {
            let fault = format!("are more than {MAX_ASSIGNMENTS} for one user; take others away first");
            return Err(Refusal::field("roles", fault));
        }
        self.belonging.roles.insert((role, scope.clone()));
        self.change_role(role, scope, true, act, changes);
        Ok(Effect::Changed)
    }

    /// Takes a role in a scope away.
    pub fn revoke(&mut self, role: RoleRef, scope: Scope, act: &Act, changes: &mut Changeset) -> Effect {
        if !self.belonging.roles.remove(&(role, scope.clone())) {
            return Effect::Unchanged;
        }
        self.change_role(role, scope, false, act, changes);
        Effect::Changed
    }

    fn check_not_erased(&self) -> Result<(), Refusal> {
        if self.user.status == Status::Erased {
            Err(Refusal::UserErased(self.name()))
        } else {
            Ok(())
        }
    }

    fn change_membership(&self, group: GroupId, added: bool, act: &Act, changes: &mut Changeset) {
        let kind = if added {
            EventType::MembershipAdded
        } else {
            EventType::MembershipRemoved
        };
        let membership = added.then_some(self.user.created_at);
        changes
            .memberships
            .insert((self.user.tenant, group, self.user.id), membership);
        changes.events.push(Event {
            group: Some(group),
            ..self.event(act, kind)
        });
    }

    fn change_role(&self, role: RoleRef, scope: Scope, assigned: bool, act: &Act, changes: &mut Changeset) {
        let kind = if assigned {
            EventType::RoleAssigned
        } else {
            EventType::RoleRevoked
        };
        let (group, session) = match &scope {
            Scope::Platform => (None, String::new()),
            Scope::Group(group) => (Some(*group), String::new()),
            Scope::Session(session) => (None, session.clone()),
        };
        changes.events.push(Event {
            group,
            session,
            role: role.to_string(),
            ..self.event(act, kind)
        });
        let assignment = Assignment {
            tenant: self.user.tenant,
            user: self.user.id,
            role,
            scope,
        };
        changes.assignments.insert(assignment, assigned);
    }
}
