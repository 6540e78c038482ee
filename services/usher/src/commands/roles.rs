//! `usher roles`: what each role may do, and who holds which where (U1, U2).

use std::collections::{HashMap, HashSet};

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use usher_proto::identity::v1::{
    AssignRolesRequest, BatchGetUsersRequest, CreateRoleRequest, DeleteRoleRequest, ListRoleAssignmentsRequest,
    Permission, RevokeRolesRequest, Role, RoleAssignment, RoleInScope, Scope, ScopeKind, UpdateRoleRequest,
};

use super::{Change, Limit, Session};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::names::{Groups as GroupNames, Roles as RoleNames};
use crate::output::{self, Show};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Roles {
    /// List the built-in roles and your own, with what they may do.
    List {
        /// Explain every permission that a role can be made of.
        #[arg(long)]
        permissions: bool,
    },
    /// Make a role of chosen permissions.
    Create {
        /// Its name.
        name: String,
        /// A permission, for example users.read; repeat it for several.
        #[arg(long, required = true)]
        permission: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Change a role of your own; its holders have the new permissions at once.
    Update {
        /// Which.
        role: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// A permission; repeat it for several. They replace those that are there.
        #[arg(long)]
        permission: Vec<String>,
        /// Refuse if the role has another version by now.
        #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
        expected_version: i64,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a role of your own that nobody holds.
    Delete {
        /// Which.
        role: String,
        #[command(flatten)]
        change: Change,
    },
    /// Give a user a role: on the platform, in a group with those below it, or in a programme session.
    Assign(Hold),
    /// Take a role away from a user.
    Revoke(Hold),
    /// Show who holds what, and where.
    Holders(Holders),
}

#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// Id, address or external id.
    user: String,
    /// Which role.
    role: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    change: Change,
}

/// Where a role is held.
#[derive(Debug, Args)]
struct Place {
    /// In this group and those below it: id, external id or path A/B.
    #[arg(long)]
    group: Option<String>,
    /// In this programme session.
    #[arg(long, conflicts_with = "group")]
    session: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Holders {
    /// Only of this role.
    #[arg(long)]
    role: Option<String>,
    /// Only of this user: id, address or external id.
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    limit: Limit,
}

impl Place {
    async fn scope(&self, session: &Session) -> Result<Option<Scope>, Failure> {
        Ok(match (&self.group, &self.session) {
            (Some(group), _) => Some(in_group(session.client.group_id(group).await?)),
            (None, Some(id)) => Some(in_session(id.clone())),
            (None, None) => None,
        })
    }
}

/// On the platform.
pub(super) fn on_platform() -> Scope {
    Scope {
        kind: ScopeKind::Platform.into(),
        id: String::new(),
    }
}

/// In a group, by its UUID.
pub(super) fn in_group(id: String) -> Scope {
    Scope {
        kind: ScopeKind::Group.into(),
        id,
    }
}

/// In a programme session.
pub(super) fn in_session(id: String) -> Scope {
    Scope {
        kind: ScopeKind::Session.into(),
        id,
    }
}

pub(super) async fn run(command: &Roles, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let tenant_id = client.tenant.clone();
    match command {
        Roles::List { permissions } => list(*permissions, session).await,
        Roles::Create {
            name,
            permission,
            change,
        } => {
            let request = CreateRoleRequest {
                tenant_id,
                display_name: name.clone(),
                permissions: permission.clone(),
                options: Some(change.options()),
            };
            show(session, client.roles().create_role(request).await?.into_inner().role)
        }
        Roles::Update {
            role,
            name,
            permission,
            expected_version,
            change,
        } => {
            let given = [
                ("display_name", name.is_some()),
                ("permissions", !permission.is_empty()),
            ];
            let paths: Vec<String> = given
                .iter()
                .filter(|(_, given)| *given)
                .map(|(path, _)| (*path).to_owned())
                .collect();
            if paths.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change; see `usher roles update --help`".into(),
                ));
            }
            let request = UpdateRoleRequest {
                tenant_id,
                role: client.role_name(role).await?,
                display_name: name.clone().unwrap_or_default(),
                permissions: permission.clone(),
                update_mask: Some(FieldMask { paths }),
                expected_version: *expected_version,
                options: Some(change.options()),
            };
            show(session, client.roles().update_role(request).await?.into_inner().role)
        }
        Roles::Delete { role, change } => {
            let request = DeleteRoleRequest {
                tenant_id,
                role: client.role_name(role).await?,
                options: Some(change.options()),
            };
            client.roles().delete_role(request).await?;
            Ok(Exit::Done)
        }
        Roles::Assign(hold) => {
            let request = AssignRolesRequest {
                tenant_id,
                user_id: client.user_id(&hold.user).await?,
                roles: vec![hold.role_in_scope(session).await?],
                options: Some(hold.change.options()),
            };
            let answer = client.roles().assign_roles(request).await?.into_inner();
            held(&answer.assignments, session).await
        }
        Roles::Revoke(hold) => {
            let request = RevokeRolesRequest {
                tenant_id,
                user_id: client.user_id(&hold.user).await?,
                roles: vec![hold.role_in_scope(session).await?],
                options: Some(hold.change.options()),
            };
            let answer = client.roles().revoke_roles(request).await?.into_inner();
            held(&answer.assignments, session).await
        }
        Roles::Holders(holders) => self::holders(holders, session).await,
    }
}

impl Hold {
    async fn role_in_scope(&self, session: &Session) -> Result<RoleInScope, Failure> {
        Ok(RoleInScope {
            role: session.client.role_name(&self.role).await?,
            scope: Some(self.place.scope(session).await?.unwrap_or_else(on_platform)),
        })
    }
}

async fn list(permissions: bool, session: &Session) -> Result<Exit, Failure> {
    let RoleNames(answer) = session.client.all_roles().await?;
    if permissions {
        session.out.list(&answer.permissions)?;
    } else if session.out.json {
        session.out.list(&answer.roles)?;
    } else {
        let rows = answer.roles.iter().map(|role| row(role, &answer.permissions));
        output::table(Role::COLUMNS, rows)?;
    }
    Ok(Exit::Done)
}

/// A role's cells. Where it has all permissions of an area, the area stands for them: `users.*`.
fn row(role: &Role, every: &[Permission]) -> Vec<String> {
    let mut cells = role.cells();
    let held: HashSet<&str> = role.permissions.iter().map(|found| found.name.as_str()).collect();
    let areas = every.chunk_by(|one, next| area(one) == area(next));
    let shown = areas.flat_map(|permissions| {
        let names: Vec<String> = permissions
            .iter()
            .filter(|permission| held.contains(permission.name.as_str()))
            .map(|permission| permission.name.clone())
            .collect();
        if names.len() == permissions.len() && names.len() > 1 {
            vec![format!("{}.*", area(&permissions[0]))]
        } else {
            names
        }
    });
    cells[2] = shown.collect::<Vec<_>>().join(", ");
    cells
}

fn area(permission: &Permission) -> &str {
    let name = permission.name.as_str();
    name.split_once('.').map_or(name, |(area, _)| area)
}

async fn holders(holders: &Holders, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let user_id = match &holders.user {
        Some(user) => client.user_id(user).await?,
        None => String::new(),
    };
    let role = match &holders.role {
        Some(role) => client.role_name(role).await?,
        None => String::new(),
    };
    let scope = holders.place.scope(session).await?;
    let page = |page_size, page_token| {
        let request = ListRoleAssignmentsRequest {
            tenant_id: client.tenant.clone(),
            user_id: user_id.clone(),
            scope: scope.clone(),
            role: role.clone(),
            page_size,
            page_token,
        };
        async move {
            let answer = client.roles().list_role_assignments(request).await?.into_inner();
            Ok((answer.assignments, answer.next_page_token))
        }
    };
    if session.out.json {
        holders.limit.show(session.out, page).await?;
        return Ok(Exit::Done);
    }
    held(&holders.limit.gather(page).await?, session).await
}

/// Prints assignments: for people with the names of what their ids stand for, as far as whoever asks may read them.
async fn held(assignments: &[RoleAssignment], session: &Session) -> Result<Exit, Failure> {
    if session.out.json || assignments.is_empty() {
        session.out.list(assignments)?;
        return Ok(Exit::Done);
    }
    let client = &session.client;
    let groups = client.all_groups().await.unwrap_or_default();
    let roles = client.all_roles().await.unwrap_or_default();
    let mut addresses = HashMap::new();
    let mut ids: Vec<String> = assignments.iter().map(|held| held.user_id.clone()).collect();
    ids.dedup();
    for user_ids in ids.chunks(1_000) {
        let request = BatchGetUsersRequest {
            tenant_id: client.tenant.clone(),
            user_ids: user_ids.to_vec(),
        };
        if let Ok(answer) = client.users().batch_get_users(request).await {
            let users = answer.into_inner().users.into_iter();
            addresses.extend(users.map(|user| (user.user_id, user.email)));
        }
    }
    let rows = assignments.iter().map(|held| {
        vec![
            held.user_id.clone(),
            addresses.get(&held.user_id).cloned().unwrap_or_default(),
            roles.name(&held.role).to_owned(),
            place(held.scope.as_ref(), &groups),
        ]
    });
    output::table(&["USER ID", "EMAIL", "ROLE", "WHERE"], rows)?;
    Ok(Exit::Done)
}

/// Where a role is held, for people.
fn place(scope: Option<&Scope>, groups: &GroupNames) -> String {
    let Some(scope) = scope else {
        return String::new();
    };
    match scope.kind() {
        ScopeKind::Group => format!("group {}", groups.path(&scope.id)),
        ScopeKind::Session => format!("session {}", scope.id),
        ScopeKind::Platform => "platform".into(),
        ScopeKind::Unspecified => String::new(),
    }
}

fn show(session: &Session, role: Option<Role>) -> Result<Exit, Failure> {
    let role = role.ok_or_else(|| incomplete("role"))?;
    session.out.one(
        &role,
        &[
            ("Role", role.role.clone()),
            ("Name", role.display_name.clone()),
            ("May", may(&role)),
            ("Created", time::show(role.create_time.as_ref())),
            ("Version", role.version.to_string()),
        ],
    )?;
    Ok(Exit::Done)
}

fn may(role: &Role) -> String {
    let names: Vec<&str> = role.permissions.iter().map(|found| found.name.as_str()).collect();
    names.join(", ")
}

impl Show for Role {
    const NAME: &'static str = "usher.identity.v1.Role";
    const COLUMNS: &'static [&'static str] = &["ROLE", "NAME", "MAY"];

    fn cells(&self) -> Vec<String> {
        let name = if self.built_in {
            "(built in)"
        } else {
            &self.display_name
        };
        vec![self.role.clone(), name.to_owned(), may(self)]
    }
}

impl Show for Permission {
    const NAME: &'static str = "usher.identity.v1.Permission";
    const COLUMNS: &'static [&'static str] = &["PERMISSION", "WHAT FOR"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.description.clone()]
    }
}

impl Show for RoleAssignment {
    const NAME: &'static str = "usher.identity.v1.RoleAssignment";
    const COLUMNS: &'static [&'static str] = &["USER ID", "ROLE", "WHERE"];

    fn cells(&self) -> Vec<String> {
        let place = place(self.scope.as_ref(), &GroupNames::default());
        vec![self.user_id.clone(), self.role.clone(), place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u1_an_area_stands_for_its_permissions_where_a_role_has_all_of_them() {
        let permissions = |names: &[&str]| -> Vec<Permission> {
            let permission = |name: &&str| Permission {
                name: (*name).into(),
                description: String::new(),
            };
            names.iter().map(permission).collect()
        };
        let every = permissions(&["users.read", "users.update", "roles.read", "roles.assign", "seats.read"]);
        let role = Role {
            role: "coach".into(),
            built_in: true,
            permissions: permissions(&["roles.read", "seats.read", "users.read", "users.update"]),
            ..Role::default()
        };
        assert_eq!(
            row(&role, &every),
            ["coach", "(built in)", "users.*, roles.read, seats.read"]
        );
    }

    #[test]
    fn u2_a_role_is_held_on_the_platform_in_a_group_or_in_a_session() {
        let groups = GroupNames::default();
        for (scope, shown) in [
            (on_platform(), "platform"),
            (in_group("g".into()), "group g"),
            (in_session("s".into()), "session s"),
        ] {
            assert_eq!(place(Some(&scope), &groups), shown);
        }
    }
}
