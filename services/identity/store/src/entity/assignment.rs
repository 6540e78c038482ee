//! `role_assignments`: one row for each role that somebody holds somewhere.

use sea_orm::entity::prelude::*;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::StoreError;
use usher_core::role::{Assignment, RoleRef, Scope};

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "role_assignments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub role: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub scope_kind: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub scope_id: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Assignment> for Model {
    fn from(assignment: &Assignment) -> Self {
        let (scope_kind, scope_id) = assignment.scope.parts();
        Self {
            tenant_id: assignment.tenant.0,
            user_id: assignment.user.0,
            role: assignment.role.to_string(),
            scope_kind: scope_kind.into(),
            scope_id,
        }
    }
}

impl TryFrom<Model> for Assignment {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            user: UserId(row.user_id),
            role: RoleRef::from_name(&row.role).ok_or_else(|| unreadable("the role", &row.role))?,
            scope: Scope::from_parts(&row.scope_kind, &row.scope_id)
                .ok_or_else(|| unreadable("the scope", &row.scope_kind))?,
        })
    }
}
