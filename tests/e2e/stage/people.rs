//! Groups, roles and whom lists find.

use super::*;

impl<G: Deref<Target = System>> Stage<G> {
    /// Clients that act as somebody.
    pub(crate) fn acting(&self, id: &str) -> Result<Clients> {
        self.system.clients_as(id)
    }

    /// Creates a group below another, or at the top where that is empty.
    pub(crate) async fn group(&self, name: &str, parent: &str) -> Result<String> {
        let request = api::CreateGroupRequest {
            group: Some(api::Group {
                tenant_id: self.tenant.clone(),
                name: name.into(),
                parent_group_id: parent.into(),
                ..api::Group::default()
            }),
            options: None,
        };
        let created = self.clients.groups().create_group(request).await?.into_inner();
        Ok(created.group.context("no group in the answer")?.group_id)
    }

    /// The request that adds people to a group.
    pub(crate) fn joining(&self, group: &str, users: &[&str]) -> api::AddGroupMembersRequest {
        api::AddGroupMembersRequest {
            tenant_id: self.tenant.clone(),
            group_id: group.into(),
            user_ids: users.iter().map(ToString::to_string).collect(),
            options: None,
        }
    }

    /// Adds people to a group.
    pub(crate) async fn join(&self, group: &str, users: &[&str]) -> Result<()> {
        let added = self
            .clients
            .groups()
            .add_group_members(self.joining(group, users))
            .await?;
        for result in added.into_inner().results {
            anyhow::ensure!(result.refused.is_none(), "{result:?}");
        }
        Ok(())
    }

    /// The request that gives somebody a role somewhere.
    pub(crate) fn giving(&self, user: &str, role: &str, scope: api::Scope) -> api::AssignRolesRequest {
        api::AssignRolesRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            roles: vec![api::RoleInScope {
                role: role.into(),
                scope: Some(scope),
            }],
            options: None,
        }
    }

    /// Gives somebody a role somewhere.
    pub(crate) async fn give(&self, user: &str, role: &str, scope: api::Scope) -> Result<()> {
        self.clients
            .roles()
            .assign_roles(self.giving(user, role, scope))
            .await?;
        Ok(())
    }

    /// Takes a role away from somebody.
    pub(crate) async fn take(&self, user: &str, role: &str, scope: api::Scope) -> Result<()> {
        let api::AssignRolesRequest {
            tenant_id,
            user_id,
            roles,
            options,
        } = self.giving(user, role, scope);
        let request = api::RevokeRolesRequest {
            tenant_id,
            user_id,
            roles,
            options,
        };
        self.clients.roles().revoke_roles(request).await?;
        Ok(())
    }

    /// Makes a role of chosen permissions.
    pub(crate) async fn role(&self, name: &str, permissions: &[&str]) -> Result<api::Role> {
        let request = api::CreateRoleRequest {
            tenant_id: self.tenant.clone(),
            display_name: name.into(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            options: None,
        };
        let created = self.clients.roles().create_role(request).await?.into_inner();
        created.role.context("no role in the answer")
    }

    /// What somebody holds.
    pub(crate) async fn held(&self, user: &str) -> Result<Vec<api::RoleAssignment>> {
        let request = api::ListRoleAssignmentsRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ListRoleAssignmentsRequest::default()
        };
        let held = self.clients.roles().list_role_assignments(request).await?;
        Ok(held.into_inner().assignments)
    }

    /// The names before the @ of everybody whom a filter matches, as somebody sees it, in pages of two.
    pub(crate) async fn found(
        &self,
        clients: &Clients,
        filter: api::UserFilter,
        order_by: &str,
    ) -> Result<Vec<String>, Status> {
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListUsersRequest {
                tenant_id: self.tenant.clone(),
                filter: Some(filter.clone()),
                order_by: order_by.into(),
                page_size: 2,
                page_token,
            };
            let page = clients.users().list_users(request).await?.into_inner();
            names.extend(
                page.users
                    .into_iter()
                    .map(|user| user.email.split('@').next().unwrap_or_default().to_owned()),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(names);
            }
        }
    }
}
