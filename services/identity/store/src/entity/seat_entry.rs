//! `seat_ledger`: one row for each seat that was taken or given back.

use sea_orm::entity::prelude::*;
use usher_core::event::EventType;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::StoreError;
use usher_core::seats::SeatEntry;

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "seat_ledger")]
pub struct Model {
    /// Given by the database.
    #[sea_orm(primary_key)]
    pub sequence: i64,
    pub tenant_id: Uuid,
    pub user_id: Uuid,
    pub occurred_at: DateTimeUtc,
    pub change: i16,
    pub cause: String,
    pub actor: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What the database fills in.
pub(crate) const GENERATED: [&str; 1] = ["sequence"];

impl From<&SeatEntry> for Model {
    fn from(entry: &SeatEntry) -> Self {
        Self {
            sequence: 0,
            tenant_id: entry.tenant.0,
            user_id: entry.user.0,
            occurred_at: entry.at,
            change: if entry.change < 0 { -1 } else { 1 },
            cause: entry.cause.as_str().into(),
            actor: entry.actor.clone(),
        }
    }
}

impl TryFrom<Model> for SeatEntry {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            user: UserId(row.user_id),
            at: row.occurred_at,
            change: row.change.into(),
            cause: EventType::from_name(&row.cause).ok_or_else(|| unreadable("the cause", &row.cause))?,
            actor: row.actor,
        })
    }
}
