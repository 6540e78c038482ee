//! Erasures, read and carried out on what hangs on an account.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{After, StoreError};
use crate::audit::AuditKeys;
use crate::erasure::{Erasure, ErasureState};
use crate::ids::{ErasureId, TenantId, UserId};

/// Which erasures, the newest first.
#[derive(Debug, Clone)]
pub struct ErasureQuery {
    /// Whose.
    pub tenant: TenantId,
    /// In any of these; empty: all.
    pub states: Vec<ErasureState>,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Where to go on.
    pub after: Option<After>,
    /// At most so many.
    pub limit: u32,
}

/// Erasures, and what they look for.
#[async_trait]
pub trait Erasures: Send + Sync {
    /// One erasure.
    async fn erasure(&self, tenant: TenantId, id: ErasureId) -> Result<Option<Erasure>, StoreError>;
    /// One page of erasures.
    async fn list_erasures(&self, query: &ErasureQuery) -> Result<Vec<Erasure>, StoreError>;
    /// The services that are asked to erase their part.
    async fn erasure_subscribers(&self, tenant: TenantId) -> Result<BTreeSet<String>, StoreError>;
    /// Erases all traces of the accounts of these erasures of one tenant that are `ERASING`, outside of the accounts
    /// themselves, and counts what went in each erasure, together with what it erases: broken off and repeated, it goes on
    /// where it was, and counts nothing twice. `keys` show that it was Usher who did so to the audit log.
    async fn erase_traces(&self, tenant: TenantId, erasures: &[ErasureId], keys: &AuditKeys) -> Result<(), StoreError>;
}
