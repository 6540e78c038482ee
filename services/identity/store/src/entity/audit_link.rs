//! `audit_links`: the code of each row of `audit`, and its place in the chain of its tenant (B14). The place comes after the row was
//! written, so it stands in a narrow table of its own: the row itself, and all its indexes, are written once. All that sealing
//! reads stands here, too: it looks at no row.

use sea_orm::entity::prelude::*;
use usher_core::audit::{AuditRow, Link};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_links")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub audit_id: Uuid,
    pub code: Vec<u8>,
    pub sequence: Option<i64>,
    pub chain: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What comes later: the seal.
pub(crate) const LATER: [&str; 2] = ["sequence", "chain"];

impl From<&AuditRow> for Model {
    fn from(row: &AuditRow) -> Self {
        Self {
            tenant_id: row.tenant.0,
            audit_id: row.id.0,
            code: row.code.clone(),
            sequence: row.link.as_ref().map(|link| link.sequence),
            chain: row.link.as_ref().map(|link| link.chain.clone()),
        }
    }
}

impl Model {
    /// The place, once there is one.
    pub(crate) fn link(self) -> Option<Link> {
        self.sequence.map(|sequence| Link {
            sequence,
            chain: self.chain.unwrap_or_default(),
        })
    }
}
