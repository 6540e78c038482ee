//! `audit`: who did what to whom (B14).

use sea_orm::entity::prelude::*;
use usher_core::audit::{AuditRow, Erasable, Redaction};
use usher_core::ids::{AuditId, JobId, TenantId, UserId};

use super::audit_link;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub audit_id: Uuid,
    pub occurred_at: DateTimeUtc,
    pub actor: String,
    pub caller: String,
    pub method: String,
    pub permission: String,
    pub outcome: String,
    pub subject_id: Option<Uuid>,
    pub job_id: Option<Uuid>,
    pub reason: String,
    pub request_id: String,
    pub details: Option<String>,
    pub salt: Option<Vec<u8>>,
    pub digest: Vec<u8>,
    pub redacted_by: Option<Uuid>,
    pub redaction: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::audit_link::Entity",
        from = "(Column::TenantId, Column::AuditId)",
        to = "(super::audit_link::Column::TenantId, super::audit_link::Column::AuditId)"
    )]
    Link,
}

impl Related<super::audit_link::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Link.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

/// What comes later: an erasure.
pub(crate) const LATER: [&str; 2] = ["redacted_by", "redaction"];

impl From<&AuditRow> for Model {
    fn from(row: &AuditRow) -> Self {
        Self {
            tenant_id: row.tenant.0,
            audit_id: row.id.0,
            occurred_at: row.at,
            actor: row.actor.clone(),
            caller: row.caller.clone(),
            method: row.method.clone(),
            permission: row.permission.clone(),
            outcome: row.outcome.clone(),
            subject_id: row.subject.map(|user| user.0),
            job_id: row.job.map(|job| job.0),
            reason: row.reason.clone(),
            request_id: row.request_id.clone(),
            details: row.erasable.as_ref().map(|kept| kept.details.clone()),
            salt: row.erasable.as_ref().map(|kept| kept.salt.clone()),
            digest: row.digest.clone(),
            redacted_by: row.redaction.as_ref().map(|it| it.erasure),
            redaction: row.redaction.as_ref().map(|it| it.proof.clone()),
        }
    }
}

/// Whatever was done to a row, it can be read: what is wrong with it, the verifier says. So one of two columns that belong
/// together is taken for both.
impl Model {
    /// The row, with its code, and with its place in the chain if it has one.
    pub(crate) fn with(self, link: Option<audit_link::Model>) -> AuditRow {
        let row = self;
        let is_kept = row.details.is_some() || row.salt.is_some();
        let is_redacted = row.redacted_by.is_some() || row.redaction.is_some();
        AuditRow {
            tenant: TenantId(row.tenant_id),
            id: AuditId(row.audit_id),
            at: row.occurred_at,
            actor: row.actor,
            caller: row.caller,
            method: row.method,
            permission: row.permission,
            outcome: row.outcome,
            subject: row.subject_id.map(UserId),
            job: row.job_id.map(JobId),
            reason: row.reason,
            request_id: row.request_id,
            erasable: is_kept.then(|| Erasable {
                details: row.details.unwrap_or_default(),
                salt: row.salt.unwrap_or_default(),
            }),
            digest: row.digest,
            code: link.as_ref().map(|link| link.code.clone()).unwrap_or_default(),
            redaction: is_redacted.then(|| Redaction {
                erasure: row.redacted_by.unwrap_or_default(),
                proof: row.redaction.unwrap_or_default(),
            }),
            link: link.and_then(audit_link::Model::link),
        }
    }
}
