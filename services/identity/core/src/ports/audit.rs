//! The audit log.

use async_trait::async_trait;

use super::StoreError;
use crate::audit::{AuditHead, AuditKeys, AuditRow, Redaction};
use crate::clock::Timestamp;
use crate::ids::{AuditId, JobId, TenantId, UserId};

/// Which entries of the audit log, the newest first.
#[derive(Debug, Clone)]
pub struct AuditQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only about this user.
    pub user: Option<UserId>,
    /// Only of this method.
    pub method: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<String>,
    /// Only refusals.
    pub refused: bool,
    /// Only as part of this job.
    pub job: Option<JobId>,
    /// From here on.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Where to go on: the last one.
    pub after: Option<AuditId>,
    /// At most so many.
    pub limit: u32,
}

impl AuditQuery {
    /// All of a tenant's.
    pub fn all(tenant: TenantId, limit: u32) -> Self {
        Self {
            tenant,
            actor: None,
            user: None,
            method: None,
            outcome: None,
            refused: false,
            job: None,
            from: None,
            to: None,
            after: None,
            limit,
        }
    }
}

/// How the sealing of a tenant's rows went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// So many rows were sealed; as many as were asked for, if there may be more.
    Sealed(u32),
    /// Another replica seals them.
    Busy,
    /// The record of the end of the chain was tampered with, or is missing: it is not gone on with.
    Broken,
}

/// The audit log (B14). Entries of changes are written by [`super::Transaction::apply`], together with the changes.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Writes entries of what changed nothing.
    async fn append_audit(&self, rows: &[AuditRow]) -> Result<(), StoreError>;
    /// One page of entries.
    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError>;
    /// Tenants that have rows which are not sealed, or whose seal was not announced since an instant; by id, after one.
    async fn unsealed_tenants(
        &self,
        announced_before: Timestamp,
        after: Option<TenantId>,
        limit: u32,
    ) -> Result<Vec<TenantId>, StoreError>;
    /// Seals up to `limit` rows of a tenant, the oldest first, and announces how far it is by an event, unless it did so
    /// after `announced_before`. No write waits for it. Rows that become visible later are sealed later: each row has its
    /// place once, and there is no gap.
    async fn seal_audit(
        &self,
        tenant: TenantId,
        keys: &AuditKeys,
        now: Timestamp,
        announced_before: Timestamp,
        limit: u32,
    ) -> Result<Sealing, StoreError>;
    /// The end of a tenant's chain.
    async fn audit_head(&self, tenant: TenantId) -> Result<Option<AuditHead>, StoreError>;
    /// Sealed rows by sequence and id, after one; up to a sequence.
    async fn sealed_audit(
        &self,
        tenant: TenantId,
        after: (i64, AuditId),
        up_to: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;
    /// Rows that are not sealed, by id, after one.
    async fn unsealed_audit(
        &self,
        tenant: TenantId,
        after: Option<AuditId>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;
    /// Rows that say they are sealed beyond the end of the chain, at most `limit`.
    async fn audit_beyond_head(&self, tenant: TenantId, limit: u32) -> Result<Vec<AuditRow>, StoreError>;
    /// Erases what is personal from all rows about a user (S12): the reason, the request id and the details. The log still
    /// holds. `redaction`: with the proof of [`AuditKeys::redaction`]. Answers how many rows.
    async fn redact_audit(&self, tenant: TenantId, user: UserId, redaction: &Redaction) -> Result<u64, StoreError>;
    /// Deletes the oldest sealed rows of tenants, up to the first that is to be kept, and writes down in the head where the
    /// log begins now; about `limit` rows. Answers how many.
    async fn prune_audit(&self, keys: &AuditKeys, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
