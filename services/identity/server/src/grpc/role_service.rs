//! Roles, who holds them and where (U1, U2).

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use usher_authorization::{Intent, Resource};
use usher_core::account::{Account, Effect, Placement};
use usher_core::change::{Act, Changeset};
use usher_core::event::{Event, EventType};
use usher_core::ids::{RoleId, TenantId, UserId};
use usher_core::ports::{After, AssignmentQuery, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::{Assignment, BuiltInRole, CustomRole, Permission, RoleRef, Scope};
use usher_core::text;
use usher_proto::identity::v1::role_service_server::RoleService;
use usher_proto::identity::v1::{
    AssignRolesRequest, AssignRolesResponse, CreateRoleRequest, CreateRoleResponse, DeleteRoleRequest,
    DeleteRoleResponse, ListRoleAssignmentsRequest, ListRoleAssignmentsResponse, ListRolesRequest, ListRolesResponse,
    RevokeRolesRequest, RevokeRolesResponse, RoleAssignment, RoleInScope, UpdateRoleRequest, UpdateRoleResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{Mutation, finish, tenant as parse_tenant};
use crate::convert;
use crate::judge::{Asking, Judge};
use crate::operations::engine::Failure;
use crate::operations::world::World;
use crate::page::Question;
use crate::parse::Faults;

const PATHS: &[&str] = &["display_name", "permissions"];
/// Roles of one call at most.
const MAX_ROLES: usize = 100;

#[tonic::async_trait]
impl RoleService for App {
    async fn list_roles(&self, request: Request<ListRolesRequest>) -> Result<Response<ListRolesResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let tenant = parse_tenant(&request.get_ref().tenant_id, &mut faults);
        finish(faults)?;
        self.permit_somewhere(&caller, tenant, Permission::RolesRead).await?;
        let own = self.store.roles(tenant).await.map_err(Failure::from)?;
        let built_in = BuiltInRole::ALL
            .into_iter()
            .map(|role| convert::built_in_role(role, self.permissions.authorizer.permissions_of(role)));
        Ok(Response::new(ListRolesResponse {
            roles: built_in.chain(own.iter().map(convert::custom_role)).collect(),
            permissions: Permission::ALL.iter().copied().map(convert::permission).collect(),
        }))
    }

    async fn create_role(&self, request: Request<CreateRoleRequest>) -> Result<Response<CreateRoleResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("CreateRole", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let name = display_name(&body.display_name, &mut faults);
        let permissions = permissions(&body.permissions, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::RolesDefine).await?;
        let judge = self.judge(&caller, tenant).await?;
        let id = RoleId::mint(self.now());
        let command = mutation
            .clone()
            .command(tenant, role_keys(tenant), move |world, changes| {
                world.tenant(tenant)?;
                check_name(world, tenant, id, &name)?;
                check_made(&judge, &permissions)?;
                let role = CustomRole {
                    tenant,
                    id,
                    version: 1,
                    name: name.clone(),
                    permissions: permissions.clone(),
                    created_at: world.now,
                };
                put(role, EventType::RoleCreated, &mutation.act(world.now), world, changes);
                Ok(CreateRoleResponse {
                    role: world.loaded.roles.get(&(tenant, id)).map(convert::custom_role),
                })
            });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn update_role(&self, request: Request<UpdateRoleRequest>) -> Result<Response<UpdateRoleResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("UpdateRole", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id = own_role(&body.role, &mut faults);
        let paths = faults.mask("update_mask", body.update_mask.as_ref(), PATHS);
        let has = |path: &str| paths.iter().any(|given| given == path);
        let name = has("display_name").then(|| display_name(&body.display_name, &mut faults));
        let chosen = has("permissions").then(|| permissions(&body.permissions, &mut faults));
        let expected = body.expected_version;
        finish(faults)?;
        self.permit(&caller, tenant, Permission::RolesDefine).await?;
        let judge = self.judge(&caller, tenant).await?;
        let command = mutation
            .clone()
            .command(tenant, role_keys(tenant), move |world, changes| {
                let before = role(world, tenant, id)?;
                if expected != 0 && expected != before.version {
                    return Err(Refusal::VersionMismatch {
                        expected,
                        actual: before.version,
                    });
                }
                let mut after = CustomRole {
                    name: name.clone().unwrap_or_else(|| before.name.clone()),
                    permissions: chosen.clone().unwrap_or_else(|| before.permissions.clone()),
                    ..before.clone()
                };
                if after != before {
                    check_name(world, tenant, id, &after.name)?;
                    let mut added = after.permissions.clone();
                    added.retain(|permission| !before.permissions.contains(permission));
                    check_made(&judge, &added)?;
                    after.version += 1;
                    put(after, EventType::RoleUpdated, &mutation.act(world.now), world, changes);
                }
                Ok(UpdateRoleResponse {
                    role: world.loaded.roles.get(&(tenant, id)).map(convert::custom_role),
                })
            });
        let answer = self.engine.run(command).await?;
        self.roles_changed(tenant);
        Ok(Response::new(answer))
    }

    async fn delete_role(&self, request: Request<DeleteRoleRequest>) -> Result<Response<DeleteRoleResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("DeleteRole", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id = own_role(&body.role, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::RolesDefine).await?;
        let keys = Keys {
            role_holders: [(tenant, RoleRef::Custom(id))].into(),
            ..role_keys(tenant)
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let gone = role(world, tenant, id)?;
            if world.loaded.held_roles.contains(&(tenant, RoleRef::Custom(id))) {
                return Err(Refusal::RoleInUse(gone.name));
            }
            let act = mutation.act(world.now);
            changes.events.push(Event {
                role: id.to_string(),
                ..act.event(EventType::RoleDeleted, tenant, None)
            });
            changes.deleted_roles.insert((tenant, id));
            world.loaded.roles.remove(&(tenant, id));
            Ok(DeleteRoleResponse {})
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn assign_roles(
        &self,
        request: Request<AssignRolesRequest>,
    ) -> Result<Response<AssignRolesResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("AssignRoles", &request, body.options.as_ref())?;
        let target = Holder::parse(&body.tenant_id, &body.user_id, &body.roles, &mut faults);
        finish(faults)?;
        let (assignments, changed_count) = self.edit_roles(&caller, mutation, target, true).await?;
        Ok(Response::new(AssignRolesResponse {
            assignments,
            changed_count,
        }))
    }

    async fn revoke_roles(
        &self,
        request: Request<RevokeRolesRequest>,
    ) -> Result<Response<RevokeRolesResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("RevokeRoles", &request, body.options.as_ref())?;
        let target = Holder::parse(&body.tenant_id, &body.user_id, &body.roles, &mut faults);
        finish(faults)?;
        let (assignments, changed_count) = self.edit_roles(&caller, mutation, target, false).await?;
        Ok(Response::new(RevokeRolesResponse {
            assignments,
            changed_count,
        }))
    }

    async fn list_role_assignments(
        &self,
        request: Request<ListRoleAssignmentsRequest>,
    ) -> Result<Response<ListRoleAssignmentsResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let user: Option<UserId> = faults.optional_id("user_id", &body.user_id);
        let scope = body.scope.as_ref().map(|scope| faults.scope("scope", scope));
        let role = (!body.role.is_empty()).then(|| faults.role("role", &body.role));
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListRoleAssignments", &body);
        let after = question.after(&token, &mut faults);
        let after = after.and_then(|after| assignment_after(tenant, &after));
        finish(faults)?;
        match (&user, &scope) {
            (Some(user), _) => {
                self.permit_on_user(&caller, tenant, Permission::RolesRead, *user, &Intent::default())
                    .await?;
            }
            (None, Some(scope)) => {
                self.permit_in(&caller, tenant, Permission::RolesRead, std::slice::from_ref(scope))
                    .await?;
            }
            (None, None) => self.permit(&caller, tenant, Permission::RolesRead).await?,
        }
        let query = AssignmentQuery {
            tenant,
            user,
            scope,
            role,
            after,
            limit,
        };
        let found = self.store.list_assignments(&query).await.map_err(Failure::from)?;
        Ok(Response::new(ListRoleAssignmentsResponse {
            next_page_token: question.next(&found, limit, after_assignment),
            assignments: found
                .iter()
                .map(|held| convert::assignment(held.user, held.role, &held.scope))
                .collect(),
        }))
    }
}

/// Where a page ended: the user is the id, the rest is the key. Only the last part may contain spaces.
fn after_assignment(held: &Assignment) -> After {
    let (kind, scope) = held.scope.parts();
    After {
        key: format!("{} {kind} {scope}", held.role),
        id: held.user.0,
    }
}

/// The reverse of `after_assignment`.
fn assignment_after(tenant: TenantId, after: &After) -> Option<Assignment> {
    let mut parts = after.key.splitn(3, ' ');
    let role = RoleRef::from_name(parts.next()?)?;
    let scope = Scope::from_parts(parts.next()?, parts.next()?)?;
    Some(Assignment {
        tenant,
        user: UserId(after.id),
        role,
        scope,
    })
}

/// Who is given or loses which roles.
struct Holder {
    tenant: TenantId,
    user: UserId,
    roles: BTreeSet<(RoleRef, Scope)>,
}

impl Holder {
    fn parse(tenant: &str, user: &str, roles: &[RoleInScope], faults: &mut Faults) -> Self {
        if roles.is_empty() || roles.len() > MAX_ROLES {
            faults.add("roles", format!("has {} roles; give 1 to {MAX_ROLES}", roles.len()));
        }
        Self {
            tenant: parse_tenant(tenant, faults),
            user: faults.id("user_id", user),
            roles: faults.roles_in_scopes("roles", roles).into_iter().collect(),
        }
    }
}

impl App {
    async fn edit_roles(
        &self,
        caller: &Caller,
        mutation: Mutation,
        target: Holder,
        assign: bool,
    ) -> Result<(Vec<RoleAssignment>, i32), Status> {
        let Holder { tenant, user, roles } = target;
        // Each scope is asked about (L6).
        let scopes: BTreeSet<Scope> = roles.iter().map(|(_, scope)| scope.clone()).collect();
        let scopes: Vec<Scope> = scopes.into_iter().collect();
        // Told is what they may read: a foreign user's other roles are not (U2).
        let judge = self.permit_in(caller, tenant, Permission::RolesAssign, &scopes).await?;
        let keys = Keys {
            users: [(tenant, user)].into(),
            ..granting_keys(tenant, &roles)
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            let mut asking = judge.asker();
            if assign {
                for (role, scope) in &roles {
                    check_exists(world, tenant, *role, scope)?;
                }
                asking.require_given(tenant, &roles, world)?;
            }
            let account = world.account(tenant, user)?;
            let changed_count =
                account.decide(changes, |account, changes| edit(account, &roles, assign, &act, changes))?;
            // Told is what they may read: a foreign user's other roles are not (U2).
            let held = account.belonging.roles.iter().filter(|(_, scope)| {
                let resource = Resource::Scope(if judge.is_user() {
                    scope.clone()
                } else {
                    Scope::Platform
                });
                asking
                    .require(Permission::RolesRead, &resource, &Intent::default())
                    .is_ok()
            });
            Ok(AssignRolesResponse {
                assignments: held
                    .map(|(role, scope)| convert::assignment(user, *role, scope))
                    .collect(),
                changed_count,
            })
        });
        let answer: AssignRolesResponse = self.engine.run(command).await?;
        Ok((answer.assignments, answer.changed_count))
    }
}

fn edit(
    account: &mut Account,
    roles: &BTreeSet<(RoleRef, Scope)>,
    assign: bool,
    act: &Act,
    changes: &mut Changeset,
) -> Result<i32, Refusal> {
    let mut count = 0;
    for (role, scope) in roles {
        let effect = if assign {
            account.assign(*role, scope.clone(), act, changes)?
        } else {
            account.revoke(*role, scope.clone(), act, changes)
        };
        count += i32::from(effect == Effect::Changed);
    }
    Ok(count)
}

/// What is needed to give these roles: that they and their groups are there, and stay.
pub(crate) fn granting_keys<'a>(tenant: TenantId, roles: impl IntoIterator<Item = &'a (RoleRef, Scope)>) -> Keys {
    let mut keys = Keys {
        tenants: [tenant].into(),
        with_belonging: true,
        ..Keys::default()
    };
    for (role, scope) in roles {
        if matches!(role, RoleRef::Custom(_)) {
            keys.roles.insert(tenant);
        }
        if let Scope::Group(group) = scope {
            keys.groups.insert((tenant, *group));
        }
    }
    keys
}

/// What is needed to put accounts where they are to be.
pub(crate) fn placement_keys(tenant: TenantId, placement: &Placement) -> Keys {
    let mut keys = granting_keys(tenant, &placement.grants());
    keys.groups
        .extend(placement.groups.iter().map(|group| (tenant, *group)));
    keys.with_belonging = !placement.is_empty();
    keys
}

/// Whether the groups and the roles of a placement are there, and are whoever acts to give.
pub(crate) fn check_placement(
    world: &World,
    tenant: TenantId,
    placement: &Placement,
    asking: &mut Asking<'_>,
) -> Result<(), Refusal> {
    for group in &placement.groups {
        check_exists(
            world,
            tenant,
            RoleRef::BuiltIn(BuiltInRole::Learner),
            &Scope::Group(*group),
        )?;
    }
    let given = placement.grants();
    for (role, scope) in &given {
        check_exists(world, tenant, *role, scope)?;
    }
    asking.require_given(tenant, &given, world)
}

/// Whether a role can be made of these permissions by whoever acts (U1).
fn check_made(judge: &Judge, permissions: &[Permission]) -> Result<(), Refusal> {
    let mut asking = judge.asker();
    let gives = asking.given_by(permissions);
    asking.require_giving(Permission::RolesDefine, &Scope::Platform, gives)
}

/// Whether a role and the group it is to be held in are there.
pub(crate) fn check_exists(world: &World, tenant: TenantId, held: RoleRef, scope: &Scope) -> Result<(), Refusal> {
    if let RoleRef::Custom(id) = held {
        role(world, tenant, id)?;
    }
    match scope {
        Scope::Group(group) if !world.loaded.groups.contains_key(&(tenant, *group)) => {
            Err(Refusal::GroupNotFound(group.to_string()))
        }
        Scope::Group(_) | Scope::Platform | Scope::Session(_) => Ok(()),
    }
}

/// The roles of a tenant's own, which do not change meanwhile.
fn role_keys(tenant: TenantId) -> Keys {
    Keys {
        tenants: [tenant].into(),
        lock_tenants: true,
        roles: [tenant].into(),
        ..Keys::default()
    }
}

fn role(world: &World, tenant: TenantId, id: RoleId) -> Result<CustomRole, Refusal> {
    let found = world.loaded.roles.get(&(tenant, id)).cloned();
    found.ok_or_else(|| Refusal::RoleNotFound(id.to_string()))
}

fn put(role: CustomRole, kind: EventType, act: &Act, world: &mut World, changes: &mut Changeset) {
    changes.events.push(Event {
        role: role.id.to_string(),
        ..act.event(kind, role.tenant, None)
    });
    changes.roles.insert((role.tenant, role.id), role.clone());
    world.loaded.roles.insert((role.tenant, role.id), role);
}

fn check_name(world: &World, tenant: TenantId, id: RoleId, name: &str) -> Result<(), Refusal> {
    let folded = text::fold(name);
    let mut others = world.loaded.roles.values();
    let taken = others.any(|other| other.tenant == tenant && other.id != id && text::fold(&other.name) == folded);
    if taken || BuiltInRole::from_name(&folded).is_some() {
        return Err(Refusal::RoleTaken(name.to_owned()));
    }
    Ok(())
}

fn display_name(given: &str, faults: &mut Faults) -> String {
    let name = faults.take("display_name", text::name(given, 100));
    if given.trim().is_empty() {
        faults.add("display_name", "is required");
    }
    name
}

fn own_role(given: &str, faults: &mut Faults) -> RoleId {
    if BuiltInRole::from_name(given).is_some() {
        faults.add(
            "role",
            "is a built-in role; the policies of the service say what it may do",
        );
    }
    faults.id("role", given)
}

fn permissions(given: &[String], faults: &mut Faults) -> Vec<Permission> {
    if given.is_empty() || given.len() > MAX_ROLES {
        faults.add(
            "permissions",
            format!("has {} names; give 1 to {MAX_ROLES}", given.len()),
        );
    }
    let mut chosen = BTreeSet::new();
    for (index, name) in given.iter().enumerate() {
        match Permission::from_name(name) {
            Some(permission) => drop(chosen.insert(permission)),
            None => faults.add(
                format!("permissions[{index}]"),
                format!("{name:?} is no permission; ListRoles tells which there are"),
            ),
        }
    }
    chosen.into_iter().collect()
}
