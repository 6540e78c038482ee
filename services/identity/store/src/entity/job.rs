//! `jobs`: one row a job. Who works on it (`lease_*`, `served_at`) is no part of what it is.

use sea_orm::entity::prelude::*;
use usher_core::ids::{JobId, SelectionId, TenantId};
use usher_core::job::{Counts, Job, JobState};
use usher_core::ports::StoreError;

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: Uuid,
    pub action: String,
    pub state: String,
    pub selection_id: Uuid,
    pub total: i64,
    pub next_chunk: i32,
    pub changed: i64,
    pub unchanged: i64,
    pub skipped: i64,
    pub failed: i64,
    pub origin_id: Option<Uuid>,
    pub actor: String,
    pub reason: String,
    pub request_id: String,
    pub created_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
    pub revision: i32,
    pub filter: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<&Job> for Model {
    type Error = StoreError;

    fn try_from(job: &Job) -> Result<Self, StoreError> {
        Ok(Self {
            tenant_id: job.tenant.0,
            job_id: job.id.0,
            action: serde_json::to_string(&job.action).map_err(|error| unreadable("the action", error))?,
            state: job.state.as_str().into(),
            selection_id: job.selection.0,
            total: job.total,
            next_chunk: job.next_chunk,
            changed: job.counts.changed,
            unchanged: job.counts.unchanged,
            skipped: job.counts.skipped,
            failed: job.counts.failed,
            origin_id: job.origin.map(|origin| origin.0),
            actor: job.actor.clone(),
            reason: job.reason.clone(),
            request_id: job.request_id.clone(),
            created_at: job.created_at,
            ended_at: job.ended_at,
            revision: job.revision,
            filter: job.filter.clone(),
        })
    }
}

impl TryFrom<Model> for Job {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: JobId(row.job_id),
            action: serde_json::from_str(&row.action).map_err(|error| unreadable("the action", error))?,
            state: JobState::from_name(&row.state).ok_or_else(|| unreadable("the state", &row.state))?,
            selection: SelectionId(row.selection_id),
            total: row.total,
            next_chunk: row.next_chunk,
            counts: Counts {
                changed: row.changed,
                unchanged: row.unchanged,
                skipped: row.skipped,
                failed: row.failed,
            },
            origin: row.origin_id.map(JobId),
            actor: row.actor,
            reason: row.reason,
            request_id: row.request_id,
            revision: row.revision,
            filter: row.filter,
            created_at: row.created_at,
            ended_at: row.ended_at,
        })
    }
}
