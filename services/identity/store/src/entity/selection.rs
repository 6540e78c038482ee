//! `selections`: what jobs work on; their items are in `selection_chunks`.

use sea_orm::entity::prelude::*;
use usher_core::ids::{SelectionId, TenantId};
use usher_core::job::Selection;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "selections")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub selection_id: Uuid,
    pub digest: Vec<u8>,
    pub item_count: i64,
    pub usable_until: DateTimeUtc,
    pub filter: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Selection> for Model {
    fn from(selection: &Selection) -> Self {
        Self {
            tenant_id: selection.tenant.0,
            selection_id: selection.id.0,
            digest: selection.digest.clone(),
            item_count: selection.count,
            usable_until: selection.until,
            filter: selection.filter.clone(),
        }
    }
}

impl From<Model> for Selection {
    fn from(row: Model) -> Self {
        Self {
            tenant: TenantId(row.tenant_id),
            id: SelectionId(row.selection_id),
            digest: row.digest,
            count: row.item_count,
            until: row.usable_until,
            filter: row.filter,
        }
    }
}
