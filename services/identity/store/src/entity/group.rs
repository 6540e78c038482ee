//! `user_groups`: one row a group.

use sea_orm::entity::prelude::*;
use usher_core::group::Group;
use usher_core::ids::{GroupId, TenantId};
use usher_core::text::fold;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user_groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: Uuid,
    pub version: i64,
    pub name: String,
    /// What lists are sorted by and texts are searched in.
    pub name_key: String,
    pub external_id: Option<String>,
    pub parent_id: Option<Uuid>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Group> for Model {
    fn from(group: &Group) -> Self {
        Self {
            tenant_id: group.tenant.0,
            group_id: group.id.0,
            version: group.version,
            name: group.name.clone(),
            name_key: fold(&group.name),
            external_id: group.external_id.clone(),
            parent_id: group.parent.map(|parent| parent.0),
            created_at: group.created_at,
            updated_at: group.updated_at,
        }
    }
}

impl From<Model> for Group {
    fn from(row: Model) -> Self {
        Self {
            tenant: TenantId(row.tenant_id),
            id: GroupId(row.group_id),
            version: row.version,
            name: row.name,
            external_id: row.external_id,
            parent: row.parent_id.map(GroupId),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
