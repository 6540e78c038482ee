//! `custom_roles`: one row for each role of a tenant's own.

use sea_orm::entity::prelude::*;
use usher_core::ids::{RoleId, TenantId};
use usher_core::ports::StoreError;
use usher_core::role::CustomRole;
use usher_core::text::fold;

use super::{from_json, to_json};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "custom_roles")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub role_id: Uuid,
    pub version: i64,
    pub name: String,
    pub name_key: String,
    pub permissions: Json,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&CustomRole> for Model {
    fn from(role: &CustomRole) -> Self {
        Self {
            tenant_id: role.tenant.0,
            role_id: role.id.0,
            version: role.version,
            name: role.name.clone(),
            name_key: fold(&role.name),
            permissions: to_json(&role.permissions),
            created_at: role.created_at,
        }
    }
}

impl TryFrom<Model> for CustomRole {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: RoleId(row.role_id),
            version: row.version,
            name: row.name,
            permissions: from_json("the permissions", row.permissions)?,
            created_at: row.created_at,
        })
    }
}
