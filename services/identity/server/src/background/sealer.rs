//! Seals the audit log (B14): gives rows their places in the chain of their tenant, after they were written. Every replica
//! does; one at a time has a tenant.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use usher_core::audit::AuditKeys;
use usher_core::clock::Clock;
use usher_core::ids::TenantId;
use usher_core::ports::{Sealing, Store, StoreError};

/// Rows sealed in one transaction: small enough to keep nobody waiting for the disk.
const BATCH: u32 = 500;
/// Batches of one tenant before others have their turn.
const TURN: u32 = 20;
/// Tenants looked for at a time.
const TENANTS: u32 = 200;
/// How often rows are looked for.
const PERIOD: Duration = Duration::from_secs(1);
/// How often a tenant's chain is announced at most.
const ANNOUNCED: TimeDelta = TimeDelta::minutes(1);

/// Seals.
pub(crate) struct Sealer {
    /// The log.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What it is sealed with.
    pub keys: Arc<AuditKeys>,
}

impl Sealer {
    /// Seals until told to stop.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            let more = match self.round(&shutdown).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::debug!(%error, "the audit log cannot be sealed now; it is tried again");
                    false
                }
            };
            if more && !shutdown.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Each tenant has its turn; answers whether there is more to seal.
    async fn round(&self, shutdown: &CancellationToken) -> Result<bool, StoreError> {
        let (mut after, mut more, mut broken) = (None, false, 0_u32);
        loop {
            let before = self.clock.now() - ANNOUNCED;
            let tenants = self.store.unsealed_tenants(before, after, TENANTS).await?;
            for tenant in &tenants {
                if shutdown.is_cancelled() {
                    return Ok(false);
                }
                match self.turn(*tenant).await? {
                    Sealing::Sealed(count) => more |= count >= BATCH,
                    Sealing::Busy => {}
                    Sealing::Broken => broken += 1,
                }
            }
            after = tenants.last().copied();
            if tenants.len() < TENANTS as usize {
                break;
            }
        }
        metrics::gauge!("usher_audit_broken_chains").set(f64::from(broken));
        Ok(more)
    }

    async fn turn(&self, tenant: TenantId) -> Result<Sealing, StoreError> {
        let mut sealing = Sealing::Busy;
        for _ in 0..TURN {
            let now = self.clock.now();
            let sealed = self
                .store
                .seal_audit(tenant, &self.keys, now, now - ANNOUNCED, BATCH)
                .await;
            sealing = match sealed {
                // Another replica began the chain at the same time.
                Err(StoreError::Conflict(_)) => Sealing::Busy,
                sealed => sealed?,
            };
            match sealing {
                Sealing::Sealed(count) => {
                    metrics::counter!("usher_audit_sealed_total").increment(count.into());
                    if count < BATCH {
                        break;
                    }
                }
                Sealing::Busy => break,
                Sealing::Broken => {
                    tracing::error!(%tenant, "the end of the audit log was tampered with; it is not sealed: run `usher audit verify`");
                    break;
                }
            }
        }
        Ok(sealing)
    }
}
