//! Who acts, and what they may: where a call's caller becomes a principal, and where policies are asked.
//!
//! For now whoever calls is believed: the metadata `usher-actor-id` names the acting user by UUID, or a service. Verified
//! credentials take the place of [`Caller::of`]; nothing else looks at metadata.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tonic::Status;
use tonic::metadata::MetadataMap;
use usher_authorization::{ActingUser, Asker, Authorizer, Grant, Intent, Principal, Question, Reach, Resource};
use usher_core::account::{Account, Belonging, Placement};
use usher_core::group::GroupTree;
use usher_core::ids::{DeliveryId, InvitationId, TenantId, UserId};
use usher_core::ports::DeliveryQuery;
use usher_core::refusal::Refusal;
use usher_core::role::{BuiltInRole, CustomRole, Permission, RoleRef, Scope};
use usher_core::status::Status as UserStatus;
use usher_core::user::User;

use crate::app::App;
use crate::call::{ANONYMOUS, actor};
use crate::operations::engine::Failure;
use crate::parse::Faults;
use crate::status::refused;

/// How long a tenant's tree of groups is remembered: a group that moved counts in its new place after so long.
const TREE: Duration = Duration::from_secs(1);
/// Trees that are remembered at most.
const MAX_TREES: u64 = 1_000;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A person, through some service.
    User(UserId),
    /// A service, by itself.
    Service(String),
}

impl Caller {
    /// As the metadata says.
    pub(crate) fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        let mut faults = Faults::default();
        let name = actor(metadata, &mut faults);
        crate::call::finish(faults)?;
        Ok(Self::named(&name))
    }

    /// Whose jobs they may know of: everybody's (`None`), or their own where they reach into some groups only (U2).
    pub(crate) fn only_own(&self, reach: &Reach) -> Option<String> {
        match (self, reach) {
            (Self::User(user), Reach::Groups(_) | Reach::Nothing) => Some(user.to_string()),
            _ => None,
        }
    }

    /// From the id of an actor.
    pub(crate) fn named(actor: &str) -> Self {
        match actor.parse() {
            Ok(user) => Self::User(UserId(user)),
            Err(_) => Self::Service(actor.to_owned()),
        }
    }
}

/// What is remembered about who may do what.
#[derive(Clone)]
pub(crate) struct Permissions {
    /// The policies.
    pub authorizer: Arc<Authorizer>,
    /// What services may that act by themselves, whatever they are called.
    pub services: Arc<BTreeSet<String>>,
    /// What was decided about services: they act on the whole tenant, so the name and the permission say it all.
    decided: Cache<(String, Permission), bool>,
    trees: Cache<TenantId, Arc<GroupTree>>,
}

impl Permissions {
    /// With these policies.
    pub(crate) fn new(authorizer: Arc<Authorizer>, services: BTreeSet<String>) -> Self {
        Self {
            authorizer,
            services: Arc::new(services),
            decided: Cache::new(10_000),
            trees: Cache::builder().max_capacity(MAX_TREES).time_to_live(TREE).build(),
        }
    }
}

/// Who acts in one tenant, and what they may there.
#[derive(Clone)]
pub(crate) struct Judge {
    permissions: Permissions,
    principal: Arc<Principal>,
    tree: Arc<GroupTree>,
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
            principal: &self.principal,
            tree: &self.tree,
        }
    }

    /// Whether a person acts. A service acts on the whole tenant, so its items need not be asked about one by one.
    pub(crate) fn is_user(&self) -> bool {
        matches!(*self.principal, Principal::User(_))
    }
}

/// Many questions of one principal.
pub(crate) struct Asking<'a> {
    asker: Asker<'a>,
    principal: &'a Principal,
    tree: &'a GroupTree,
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
            principal: self.principal,
            permission,
            resource,
            intent,
            tree: self.tree,
        };
        self.asker.decide(permission, resource, intent).into_result(&question)
    }
}

impl App {
    /// Refuses a call on the whole tenant, or on the tenants themselves.
    pub(crate) async fn permit(&self, caller: &Caller, tenant: TenantId, permission: Permission) -> Result<(), Status> {
        self.permit_on(caller, tenant, permission, &[Scope::Platform], &Intent::default())
            .await
            .map(drop)
    }

    /// Refuses a call about scopes: each is asked about.
    pub(crate) async fn permit_on(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        scopes: &[Scope],
        intent: &Intent,
    ) -> Result<Option<Judge>, Status> {
        crate::audit::note_tenant(tenant);
        if let Caller::Service(name) = caller {
            return self
                .permit_service(name, permission)
                .map(|()| None)
                .map_err(|refusal| refused(&refusal));
        }
        let mut judge = self.judge(caller, tenant).await?;
        let unknown = |scope: &Scope| matches!(scope, Scope::Group(group) if !judge.tree.contains(*group));
        if scopes.iter().any(unknown) {
            // Perhaps it was made at another replica just now.
            self.groups_changed(tenant);
            judge = self.judge(caller, tenant).await?;
        }
        for scope in scopes {
            judge
                .require(permission, &Resource::Scope(scope.clone()), intent)
                .map_err(|refusal| refused(&refusal))?;
        }
        Ok(Some(judge))
    }

    /// Refuses a call about one account.
    pub(crate) async fn permit_on_user(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        user: UserId,
        intent: &Intent,
    ) -> Result<(), Status> {
        crate::audit::note_user(tenant, user);
        match caller {
            Caller::Service(name) => self.permit_service(name, permission),
            Caller::User(_) => {
                let judge = self.judge(caller, tenant).await?;
                let resource = self.resource(tenant, user).await?;
                judge.require(permission, &resource, intent)
            }
        }
        .map_err(|refusal| refused(&refusal))
    }

    /// Refuses a call that proves by itself whom it is about, by a link or a password, or that is about no person: only the
    /// program that calls is asked about.
    pub(crate) fn permit_program(&self, caller: &Caller, permission: Permission) -> Result<(), Status> {
        let name = match caller {
            Caller::Service(name) => name,
            Caller::User(_) => ANONYMOUS,
        };
        self.permit_service(name, permission)
            .map_err(|refusal| refused(&refusal))
    }

    /// Refuses whoever is no worker: a person never is.
    pub(crate) fn permit_worker(&self, caller: &Caller) -> Result<(), Status> {
        match caller {
            Caller::Service(name) => self.permit_service(name, Permission::WorkPerform),
            Caller::User(_) => Err(Refusal::PermissionDenied {
                permission: Permission::WorkPerform.as_str().to_owned(),
                scope: "for people; workers act by their own names".into(),
            }),
        }
        .map_err(|refusal| refused(&refusal))
    }

    /// Refuses a call that puts accounts into groups and gives them roles: each group is asked about (L6, L9).
    pub(crate) async fn permit_placement(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        placement: &Placement,
        sets_deletion_date: bool,
    ) -> Result<Option<Judge>, Status> {
        let intent = intent_of(placement, sets_deletion_date);
        let scopes = placement.scopes();
        // Whoever may bring people in may bring learners in.
        let learner = RoleRef::BuiltIn(BuiltInRole::Learner);
        if placement.roles.iter().any(|role| *role != learner) {
            self.permit_on(caller, tenant, Permission::RolesAssign, &scopes, &intent)
                .await?;
        }
        self.permit_on(caller, tenant, permission, &scopes, &intent).await
    }

    /// Refuses invitations: into groups, or from a programme session (L6, L7).
    pub(crate) async fn permit_invitations(
        &self,
        caller: &Caller,
        tenant: TenantId,
        placement: &Placement,
        session: &str,
        sets_deletion_date: bool,
    ) -> Result<Option<Judge>, Status> {
        if session.is_empty() {
            let permission = Permission::InvitationsSend;
            return self
                .permit_placement(caller, tenant, permission, placement, sets_deletion_date)
                .await;
        }
        let intent = intent_of(placement, sets_deletion_date);
        let scopes = [Scope::Session(session.to_owned())];
        self.permit_on(caller, tenant, Permission::InvitationsSend, &scopes, &intent)
            .await
    }

    /// Refuses a call about the user whom an invitation is for.
    pub(crate) async fn permit_on_invitation(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        id: InvitationId,
    ) -> Result<(), Status> {
        if let Caller::Service(_) = caller {
            return self.permit(caller, tenant, permission).await;
        }
        let found = self.store.invitation(tenant, id).await.map_err(Failure::from)?;
        let found = found.ok_or_else(|| refused(&Refusal::InvitationNotFound(id.to_string())))?;
        self.permit_on_user(caller, tenant, permission, found.user, &Intent::default())
            .await
    }

    /// Refuses a call about the user to whom a mail goes; a test mail goes to nobody, and is asked about on the platform.
    pub(crate) async fn permit_on_delivery(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        id: DeliveryId,
    ) -> Result<(), Status> {
        if let Caller::User(_) = caller {
            let query = DeliveryQuery {
                tenant,
                user: None,
                delivery: Some(id),
                groups: Vec::new(),
                states: Vec::new(),
                after: None,
                limit: 1,
            };
            let found = self.store.list_deliveries(&query).await.map_err(Failure::from)?;
            if let Some(user) = found.first().and_then(|record| record.delivery.user) {
                return self
                    .permit_on_user(caller, tenant, permission, user, &Intent::default())
                    .await;
            }
        }
        self.permit(caller, tenant, permission).await
    }

    /// Keeps those of the users whom a permission is about.
    pub(crate) async fn keep_permitted(
        &self,
        judge: &Judge,
        permission: Permission,
        users: &mut Vec<User>,
    ) -> Result<(), Status> {
        if !judge.is_user() {
            return judge
                .require(permission, &Resource::Scope(Scope::Platform), &Intent::default())
                .map_err(|refusal| refused(&refusal));
        }
        let keys: Vec<_> = users.iter().map(|user| (user.tenant, user.id)).collect();
        let mut found = self.store.belongings(&keys).await.map_err(Failure::from)?;
        let mut asking = judge.asker();
        users.retain(|user| {
            let groups = found.remove(&(user.tenant, user.id)).unwrap_or_default().groups;
            let resource = Resource::User {
                id: user.id,
                groups: groups.into_iter().collect(),
            };
            asking.require(permission, &resource, &Intent::default()).is_ok()
        });
        Ok(())
    }

    /// Who acts, with everything that decides what they may.
    pub(crate) async fn judge(&self, caller: &Caller, tenant: TenantId) -> Result<Judge, Status> {
        crate::audit::note_tenant(tenant);
        let permissions = self.permissions.clone();
        let principal = match caller {
            Caller::Service(name) => Principal::Service {
                name: name.clone(),
                permissions: (*permissions.services).clone(),
            },
            Caller::User(user) => Principal::User(self.acting(tenant, *user).await?),
        };
        let tree = match &principal {
            Principal::User(_) => self.tree(tenant).await?,
            Principal::Service { .. } => Arc::new(GroupTree::default()),
        };
        Ok(Judge {
            permissions,
            principal: Arc::new(principal),
            tree,
        })
    }

    /// An account as something that is asked about.
    pub(crate) async fn resource(&self, tenant: TenantId, user: UserId) -> Result<Resource, Status> {
        let found = self.store.belongings(&[(tenant, user)]).await.map_err(Failure::from)?;
        let groups = found.into_values().next().unwrap_or_default().groups;
        Ok(Resource::User {
            id: user,
            groups: groups.into_iter().collect(),
        })
    }

    fn permit_service(&self, name: &str, permission: Permission) -> Result<(), Refusal> {
        let Permissions {
            authorizer, services, ..
        } = &self.permissions;
        let key = (name.to_owned(), permission);
        let ask = || {
            let principal = Principal::Service {
                name: key.0.clone(),
                permissions: (**services).clone(),
            };
            let tree = GroupTree::default();
            authorizer.require(&Question {
                principal: &principal,
                permission,
                resource: &Resource::Scope(Scope::Platform),
                intent: &Intent::default(),
                tree: &tree,
            })
        };
        if self.permissions.decided.get(&key) == Some(true) {
            return Ok(());
        }
        ask()?;
        self.permissions.decided.insert(key, true);
        Ok(())
    }

    async fn acting(&self, tenant: TenantId, id: UserId) -> Result<ActingUser, Status> {
        let user = self.reader.user(tenant, id).await.map_err(Failure::from)?;
        let active = user.is_some_and(|user| user.effective_status(self.now()) == UserStatus::ACTIVE);
        if !active {
            return Ok(ActingUser {
                id,
                active,
                grants: Vec::new(),
            });
        }
        let found = self.store.belongings(&[(tenant, id)]).await.map_err(Failure::from)?;
        let Belonging { roles, .. } = found.into_values().next().unwrap_or_default();
        let custom = if roles.iter().any(|(role, _)| matches!(role, RoleRef::Custom(_))) {
            self.store.roles(tenant).await.map_err(Failure::from)?
        } else {
            Vec::new()
        };
        Ok(ActingUser {
            id,
            active,
            grants: roles.into_iter().filter_map(|held| grant(held, &custom)).collect(),
        })
    }

    /// The groups of a tenant changed here: whoever administers them is known at once.
    pub(crate) fn groups_changed(&self, tenant: TenantId) {
        self.permissions.trees.invalidate(&tenant);
    }

    async fn tree(&self, tenant: TenantId) -> Result<Arc<GroupTree>, Status> {
        if let Some(tree) = self.permissions.trees.get(&tenant) {
            return Ok(tree);
        }
        let groups = self.store.groups(tenant).await.map_err(Failure::from)?;
        let tree = Arc::new(GroupTree::new(groups.iter().map(|group| (group.id, group.parent))));
        self.permissions.trees.insert(tenant, Arc::clone(&tree));
        Ok(tree)
    }
}

/// An account that was loaded with its groups, as something that is asked about.
pub(crate) fn resource_of(account: &Account) -> Resource {
    Resource::User {
        id: account.user.id,
        groups: account.belonging.groups.iter().copied().collect(),
    }
}

fn intent_of(placement: &Placement, sets_deletion_date: bool) -> Intent {
    Intent {
        sets_deletion_date,
        roles: placement.roles.iter().map(ToString::to_string).collect(),
        group_count: placement.groups.len(),
        ..Intent::default()
    }
}

fn grant((role, scope): (RoleRef, Scope), custom: &[CustomRole]) -> Option<Grant> {
    match role {
        RoleRef::BuiltIn(role) => Some(Grant::BuiltIn { role, scope }),
        RoleRef::Custom(id) => {
            let role = custom.iter().find(|role| role.id == id)?;
            Some(Grant::Custom {
                permissions: role.permissions.clone(),
                scope,
            })
        }
    }
}
