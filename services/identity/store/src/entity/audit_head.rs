//! `audit_heads`: the end of each tenant's chain, and how far it was announced.

use sea_orm::entity::prelude::*;
use usher_core::audit::AuditHead;
use usher_core::ids::TenantId;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_heads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    pub sequence: i64,
    pub chain: Vec<u8>,
    pub kept_after: i64,
    pub kept_chain: Vec<u8>,
    pub code: Vec<u8>,
    pub announced_sequence: i64,
    pub announced_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Model> for AuditHead {
    fn from(row: &Model) -> Self {
        Self {
            tenant: TenantId(row.tenant_id),
            sequence: row.sequence,
            chain: row.chain.clone(),
            kept_after: row.kept_after,
            kept_chain: row.kept_chain.clone(),
            code: row.code.clone(),
        }
    }
}
