//! `delivery_attempts`: one row a try, under the claim that it was made with.

use sea_orm::entity::prelude::*;
use usher_core::delivery::{Attempt, Outcome, Phase};
use usher_core::ids::{ClaimId, DeliveryId, TenantId};
use usher_core::ports::StoreError;

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery_attempts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub claim_id: Uuid,
    pub worker: String,
    pub started_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
    pub outcome: Option<String>,
    pub response: String,
    pub smtp_code: i32,
    pub phase: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What the end of a try writes; its beginning stays.
pub(crate) const END: [Column; 5] = [
    Column::EndedAt,
    Column::Outcome,
    Column::Response,
    Column::SmtpCode,
    Column::Phase,
];

impl From<&Attempt> for Model {
    fn from(attempt: &Attempt) -> Self {
        Self {
            tenant_id: attempt.tenant.0,
            delivery_id: attempt.delivery.0,
            claim_id: attempt.claim.0,
            worker: attempt.worker.clone(),
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            outcome: attempt.outcome.map(|outcome| outcome.as_str().into()),
            response: attempt.response.clone(),
            smtp_code: attempt.smtp_code,
            phase: attempt.phase.as_str().into(),
        }
    }
}

impl TryFrom<Model> for Attempt {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let outcome = match row.outcome {
            Some(name) => Some(Outcome::from_name(&name).ok_or_else(|| unreadable("the outcome", &name))?),
            None => None,
        };
        let phase = Phase::from_name(&row.phase).ok_or_else(|| unreadable("the phase", &row.phase))?;
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            delivery: DeliveryId(row.delivery_id),
            claim: ClaimId(row.claim_id),
            worker: row.worker,
            started_at: row.started_at,
            ended_at: row.ended_at,
            outcome,
            response: row.response,
            smtp_code: row.smtp_code,
            phase,
        })
    }
}
