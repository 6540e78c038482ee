//! `inactivity_runs`: one row for the deactivations that were due at one moment (B10).

use sea_orm::entity::prelude::*;
use usher_core::ids::{InactivityRunId, TenantId, UserId};
use usher_core::inactivity::{InactivityRun, InactivityRunState};
use usher_core::ports::StoreError;

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inactivity_runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    pub state: String,
    pub created_at: DateTimeUtc,
    pub covers: DateTimeUtc,
    pub position_at: Option<DateTimeUtc>,
    pub position_user: Option<Uuid>,
    pub due: i64,
    pub active: i64,
    pub deactivated: i64,
    pub decided_at: Option<DateTimeUtc>,
    pub decided_by: String,
    pub ended_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&InactivityRun> for Model {
    fn from(run: &InactivityRun) -> Self {
        Self {
            tenant_id: run.tenant.0,
            run_id: run.id.0,
            state: run.state.as_str().into(),
            created_at: run.created_at,
            covers: run.covers,
            position_at: run.position.map(|(at, _)| at),
            position_user: run.position.map(|(_, user)| user.0),
            due: run.due,
            active: run.active,
            deactivated: run.deactivated,
            decided_at: run.decided_at,
            decided_by: run.decided_by.clone(),
            ended_at: run.ended_at,
        }
    }
}

impl TryFrom<Model> for InactivityRun {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: InactivityRunId(row.run_id),
            state: InactivityRunState::from_name(&row.state).ok_or_else(|| unreadable("the state", &row.state))?,
            created_at: row.created_at,
            covers: row.covers,
            position: row.position_at.zip(row.position_user.map(UserId)),
            due: row.due,
            active: row.active,
            deactivated: row.deactivated,
            decided_at: row.decided_at,
            decided_by: row.decided_by,
            ended_at: row.ended_at,
        })
    }
}
