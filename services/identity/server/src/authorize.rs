//! Who acts, and what they may: where a call's caller becomes a principal, and where policies are asked.
//!
//! For now whoever calls is believed: the metadata `usher-actor-id` names the acting user by UUID, or a service. Verified
//! credentials take the place of [`Caller::of`]; nothing else looks at metadata.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tonic::Status;
use tonic::metadata::MetadataMap;
use usher_authorization::{ActingUser, Authorizer, Intent, Principal, Question, Reach, Resource};
use usher_core::account::{Belonging, Placement};
use usher_core::group::GroupTree;
use usher_core::ids::{DeliveryId, InvitationId, RoleId, TenantId, UserId};
use usher_core::ports::DeliveryQuery;
use usher_core::refusal::Refusal;
use usher_core::role::{BuiltInRole, CustomRole, Permission, RoleRef, Scope};
use usher_core::status::Status as UserStatus;
use usher_core::user::User;

use crate::app::App;
use crate::call::{ANONYMOUS, actor};
use crate::judge::{Judge, grant};
use crate::operations::engine::Failure;
use crate::parse::Faults;
use crate::status::refused;

/// How long a tenant's tree of groups is remembered, and what its own roles are made of: a group that moved counts in its
/// new place after so long, and what others hold by a role that changed.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Tenants that this is remembered of at most.
const MAX_TENANTS: u64 = 1_000;

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
    roles: Cache<TenantId, Arc<OwnRoles>>,
}

/// The roles of a tenant's own making.
pub(crate) type OwnRoles = HashMap<RoleId, CustomRole>;

impl Permissions {
    /// With these policies.
    pub(crate) fn new(authorizer: Arc<Authorizer>, services: BTreeSet<String>) -> Self {
        Self {
            authorizer,
            services: Arc::new(services),
            decided: Cache::new(10_000),
            trees: Cache::builder()
                .max_capacity(MAX_TENANTS)
                .time_to_live(REMEMBERED)
                .build(),
            roles: Cache::builder()
                .max_capacity(MAX_TENANTS)
                .time_to_live(REMEMBERED)
                .build(),
        }
    }
}

impl App {
    /// Refuses a call on the whole tenant, or on the tenants themselves.
    pub(crate) async fn permit(&self, caller: &Caller, tenant: TenantId, permission: Permission) -> Result<(), Status> {
        if let Caller::Service(name) = caller {
            return self
                .permit_service(name, permission)
                .map_err(|refusal| refused(&refusal));
        }
        self.permit_in(caller, tenant, permission, &[Scope::Platform])
            .await
            .map(drop)
    }

    /// Refuses a call about scopes that means nothing beside what it asks for. Answers who acts.
    pub(crate) async fn permit_in(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        scopes: &[Scope],
    ) -> Result<Judge, Status> {
        self.permit_on(caller, tenant, permission, scopes, &Intent::default())
            .await
    }

    /// Refuses a call about scopes: each is asked about. Answers who acts, for whatever else is to be asked.
    pub(crate) async fn permit_on(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        scopes: &[Scope],
        intent: &Intent,
    ) -> Result<Judge, Status> {
        crate::audit::note_tenant(tenant);
        let mut judge = self.judge(caller, tenant).await?;
        if let Caller::Service(name) = caller {
            self.permit_service(name, permission)
                .map_err(|refusal| refused(&refusal))?;
            return Ok(judge);
        }
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
        Ok(judge)
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
                let found = self.store.belongings(&[(tenant, user)]).await.map_err(Failure::from)?;
                let belonging = found.into_values().next().unwrap_or_default();
                judge.require(permission, &judge.resource(user, &belonging), intent)
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
    ) -> Result<Judge, Status> {
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
    ) -> Result<Judge, Status> {
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
            let belonging = found.remove(&(user.tenant, user.id)).unwrap_or_default();
            let resource = judge.resource(user.id, &belonging);
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
        let (tree, roles) = match &principal {
            Principal::User(_) => (self.tree(tenant).await?, self.own_roles(tenant).await?),
            Principal::Service { .. } => Default::default(),
        };
        Ok(Judge {
            permissions,
            principal: Arc::new(principal),
            tree,
            roles,
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
            // What is taken away from whoever acts counts at once.
            self.read_roles(tenant).await?
        } else {
            Arc::default()
        };
        Ok(ActingUser {
            id,
            active,
            grants: roles
                .iter()
                .filter_map(|(role, scope)| grant(*role, scope, &custom))
                .collect(),
        })
    }

    /// The groups of a tenant changed here: whoever administers them is known at once.
    pub(crate) fn groups_changed(&self, tenant: TenantId) {
        self.permissions.trees.invalidate(&tenant);
    }

    /// The roles of a tenant's own changed here.
    pub(crate) fn roles_changed(&self, tenant: TenantId) {
        self.permissions.roles.invalidate(&tenant);
    }

    async fn own_roles(&self, tenant: TenantId) -> Result<Arc<OwnRoles>, Status> {
        match self.permissions.roles.get(&tenant) {
            Some(roles) => Ok(roles),
            None => self.read_roles(tenant).await,
        }
    }

    async fn read_roles(&self, tenant: TenantId) -> Result<Arc<OwnRoles>, Status> {
        let found = self.store.roles(tenant).await.map_err(Failure::from)?;
        let roles: Arc<OwnRoles> = Arc::new(found.into_iter().map(|role| (role.id, role)).collect());
        self.permissions.roles.insert(tenant, Arc::clone(&roles));
        Ok(roles)
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

fn intent_of(placement: &Placement, sets_deletion_date: bool) -> Intent {
    Intent {
        sets_deletion_date,
        roles: placement.roles.iter().map(ToString::to_string).collect(),
        group_count: placement.groups.len(),
        ..Intent::default()
    }
}
