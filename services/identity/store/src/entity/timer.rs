//! `timers`: one row for everything that waits.

use sea_orm::entity::prelude::*;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::StoreError;
use usher_core::timer::{Timer, TimerKey, TimerKind};

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "timers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: Uuid,
    pub user_id: Option<Uuid>,
    pub due_at: DateTimeUtc,
    pub fired: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Timer> for Model {
    fn from(timer: &Timer) -> Self {
        Self {
            tenant_id: timer.key.tenant.0,
            kind: timer.key.kind.as_str().into(),
            subject: timer.key.subject,
            user_id: timer.user.map(|user| user.0),
            due_at: timer.due_at,
            fired: timer.fired,
        }
    }
}

impl TryFrom<Model> for Timer {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let kind = TimerKind::from_name(&row.kind).ok_or_else(|| unreadable("the timer", &row.kind))?;
        Ok(Self {
            key: TimerKey {
                tenant: TenantId(row.tenant_id),
                kind,
                subject: row.subject,
            },
            user: row.user_id.map(UserId),
            due_at: row.due_at,
            fired: row.fired,
        })
    }
}
