//! Who acts, in one tenant: asked about scopes, about accounts, and about the roles that a call gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::Status;
use usher_authorization::{Asker, Grant, Intent, PermissionSet, Principal, Question, Reach, Resource};
use usher_core::account::{Account, Belonging};
use usher_core::group::GroupTree;
use usher_core::ids::{RoleId, TenantId, UserId};
use usher_core::refusal::Refusal;
use usher_core::role::{CustomRole, Permission, RoleRef, Scope};

use crate::authorize::{OwnRoles, Permissions};
use crate::operations::world::World;
use crate::status::refused;

/// Who acts in one tenant, and what they may there.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) permissions: Permissions,
    pub(crate) principal: Arc<Principal>,
    pub(crate) tree: Arc<GroupTree>,
    /// What others hold by roles of the tenant's own. Of no meaning where a service acts: it may change everybody.
    pub(crate) roles: Arc<OwnRoles>,
}

impl Judge {
    /// Refuses what is not allowed, naming the permission that is missing.
    pub(crate) fn require(&self, permission: Permission, resource: &Resource, intent: &Intent) -> Result<(), Refusal> {
        self.asker().require(permission, resource, intent)
    }

    /// Where they have a permission: for lists (U2).
    pub(crate) fn reach(&self, permission: Permission) -> Reach {
        self.permissions
            .authorizer
            .reach(&self.principal, permission, &self.tree)
    }

    /// Where they have a permission; refused if that is nowhere.
    pub(crate) fn reach_somewhere(&self, permission: Permission) -> Result<Reach, Status> {
        match self.reach(permission) {
            Reach::Nothing => {
                let denied = self.require(permission, &Resource::Scope(Scope::Platform), &Intent::default());
                Err(refused(&denied.err().unwrap_or_else(|| Refusal::PermissionDenied {
                    permission: permission.as_str().to_owned(),
                    scope: "anywhere; ask an administrator of the platform".into(),
                })))
            }
            reach => Ok(reach),
        }
    }

    /// For many questions.
    pub(crate) fn asker(&self) -> Asking<'_> {
        Asking {
            asker: self.permissions.authorizer.asker(&self.principal, &self.tree),
            judge: self,
        }
    }

    /// Whether a person acts. A service acts on the whole tenant, so its items need not be asked about one by one.
    pub(crate) fn is_user(&self) -> bool {
        matches!(*self.principal, Principal::User(_))
    }

    /// An account as something that is asked about.
    pub(crate) fn resource(&self, user: UserId, belonging: &Belonging) -> Resource {
        let authorizer = &self.permissions.authorizer;
        // Most people are learners, and nothing more.
        let gives = |grant: &Grant| match grant {
            Grant::BuiltIn { role, .. } => !authorizer.permissions_of(*role).is_empty(),
            Grant::Custom { .. } => true,
        };
        let held = belonging.roles.iter();
        Resource::User {
            id: user,
            groups: belonging.groups.iter().copied().collect(),
            roles: held
                .filter_map(|(role, scope)| grant(*role, scope, &self.roles))
                .filter(gives)
                .collect(),
        }
    }
}

/// Many questions of one principal.
pub(crate) struct Asking<'a> {
    asker: Asker<'a>,
    judge: &'a Judge,
}

impl Asking<'_> {
    /// Refuses what is not allowed, naming the permission that is missing.
    pub(crate) fn require(
        &mut self,
        permission: Permission,
        resource: &Resource,
        intent: &Intent,
    ) -> Result<(), Refusal> {
        let question = Question {
            principal: &self.judge.principal,
            permission,
            resource,
            intent,
            tree: &self.judge.tree,
        };
        self.asker.decide(permission, resource, intent).into_result(&question)
    }

    /// An account that was loaded with its groups and roles, as something that is asked about.
    pub(crate) fn resource(&self, account: &Account) -> Resource {
        self.judge.resource(account.user.id, &account.belonging)
    }

    /// Refuses to give roles that may more in their scopes than whoever acts (U1). That they may assign roles there at all
    /// is asked before; that there are these roles was checked.
    pub(crate) fn require_given<'r>(
        &mut self,
        tenant: TenantId,
        given: impl IntoIterator<Item = &'r (RoleRef, Scope)>,
        world: &World,
    ) -> Result<(), Refusal> {
        self.require_given_of(given, |id| world.loaded.roles.get(&(tenant, id)))
    }

    /// The same, with the tenant's own roles from wherever they were read.
    pub(crate) fn require_given_of<'r, 'c>(
        &mut self,
        given: impl IntoIterator<Item = &'r (RoleRef, Scope)>,
        own: impl Fn(RoleId) -> Option<&'c CustomRole>,
    ) -> Result<(), Refusal> {
        let authorizer = &self.judge.permissions.authorizer;
        let mut by_scope: BTreeMap<&Scope, PermissionSet> = BTreeMap::new();
        for (role, scope) in given {
            let powers = match role {
                RoleRef::BuiltIn(role) => authorizer.given(*role),
                RoleRef::Custom(id) => own(*id)
                    .map(|role| authorizer.given_by(role.permissions.iter().copied()))
                    .unwrap_or_default(),
            };
            let here = by_scope.entry(scope).or_default();
            *here = here.with(powers);
        }
        for (scope, powers) in by_scope {
            self.require_giving(Permission::RolesAssign, scope, powers)?;
        }
        Ok(())
    }

    /// Refuses a call that gives permissions in a scope which whoever acts does not have there.
    pub(crate) fn require_giving(
        &mut self,
        permission: Permission,
        scope: &Scope,
        gives: PermissionSet,
    ) -> Result<(), Refusal> {
        if gives.is_empty() {
            return Ok(());
        }
        let intent = Intent {
            gives,
            ..Intent::default()
        };
        self.require(permission, &Resource::Scope(scope.clone()), &intent)
    }

    /// What a role of these permissions gives.
    pub(crate) fn given_by(&self, permissions: &[Permission]) -> PermissionSet {
        let authorizer = &self.judge.permissions.authorizer;
        authorizer.given_by(permissions.iter().copied())
    }
}

/// A role that somebody holds, as policies see it. `None`: the role is gone.
pub(crate) fn grant(role: RoleRef, scope: &Scope, own: &OwnRoles) -> Option<Grant> {
    let scope = scope.clone();
    Some(match role {
        RoleRef::BuiltIn(role) => Grant::BuiltIn { role, scope },
        RoleRef::Custom(id) => Grant::Custom {
            permissions: own.get(&id)?.permissions.clone(),
            scope,
        },
    })
}
