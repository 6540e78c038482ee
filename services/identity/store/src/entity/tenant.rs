//! `tenants`: one row an organisation, its settings as one document.

use sea_orm::entity::prelude::*;
use usher_core::ids::TenantId;
use usher_core::ports::StoreError;
use usher_core::tenant::Tenant;

use super::{from_json, to_json};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    pub version: i64,
    pub settings: Json,
    pub created_at: DateTimeUtc,
    pub templates: Json,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Tenant> for Model {
    fn from(tenant: &Tenant) -> Self {
        Self {
            tenant_id: tenant.id.0,
            version: tenant.version,
            settings: to_json(&tenant.settings),
            created_at: tenant.created_at,
            templates: to_json(&tenant.templates),
        }
    }
}

impl TryFrom<Model> for Tenant {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: TenantId(row.tenant_id),
            version: row.version,
            settings: from_json("the settings", row.settings)?,
            created_at: row.created_at,
            templates: from_json("the templates", row.templates)?,
        })
    }
}
