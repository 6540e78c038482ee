//! Writes down what changed nothing: gathered, a statement for many. The queue has an end: when it is full, calls wait, so
//! that nothing is lost while the service runs. A crash loses what had not been written by then: the last moments of reads
//! and refusals, never a change, which has its entry in its own transaction.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{mpsc, oneshot};
use usher_core::audit::{AuditEntry, AuditKeys, AuditRow};
use usher_core::clock::Clock;
use usher_core::ids::TenantId;
use usher_core::ports::{Store, StoreError};

use super::Call;

/// Entries that wait at most; further calls wait to get in.
const MAX_WAITING: usize = 4_096;
/// Entries of one statement at most.
const MAX_BATCH: usize = 500;
/// The pause after a fault.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a batch is tried that fails for a fault of ours.
const TRIES: u32 = 5;
/// How long the last entries may take when the service stops.
const LAST: Duration = Duration::from_secs(5);
/// Tenants that are known to exist, at most.
const MAX_TENANTS: u64 = 100_000;

enum Waiting {
    Row(Box<AuditRow>),
    /// Answered once everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// Takes entries.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Waiting>,
    keys: Arc<AuditKeys>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tenants: Cache<TenantId, ()>,
    /// Reads of services in their own name are written down too.
    pub(super) service_reads: bool,
}

impl Recorder {
    /// Starts to write.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        keys: Arc<AuditKeys>,
        service_reads: bool,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(write(Arc::clone(&store), waiting));
        Self {
            queue,
            keys,
            store,
            clock,
            tenants: Cache::new(MAX_TENANTS),
            service_reads,
        }
    }

    /// Takes what is to be written down about a call; waits while too much waits.
    pub(super) async fn record(&self, call: &Call, outcome: &str) {
        if let Some(entry) = call.entry(outcome, self.clock.now()) {
            self.put(entry).await;
        }
    }

    /// The same, of its items that were refused and not written down with a change.
    pub(super) async fn record_refused(&self, call: &Call) {
        for entry in call.refused(self.clock.now()) {
            self.put(entry).await;
        }
    }

    async fn put(&self, entry: AuditEntry) {
        if !self.is_tenant(entry.tenant).await {
            return;
        }
        metrics::counter!("usher_audit_recorded_total").increment(1);
        let row = Box::new(self.keys.sign(entry));
        // The writer ends with the process only.
        let _ = self.queue.send(Waiting::Row(row)).await;
    }

    /// Waits until what was taken is written, for a while.
    pub(crate) async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Waiting::Flush(sender)).await.is_ok() {
                let _ = receiver.await;
            }
        };
        if tokio::time::timeout(LAST, flushed).await.is_err() {
            tracing::error!("the last entries of the audit log could not be written");
        }
    }

    /// Nothing is kept for tenants that there are not: whoever makes up ids fills no table.
    async fn is_tenant(&self, tenant: TenantId) -> bool {
        if self.tenants.contains_key(&tenant) {
            return true;
        }
        match self.store.tenant(tenant).await {
            Ok(Some(_)) => self.tenants.insert(tenant, ()),
            Ok(None) => return false,
            Err(error) => tracing::debug!(%error, "it is not known whether there is such a tenant"),
        }
        true
    }
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let mut rows = Vec::with_capacity(batch.len());
        let mut flushed = Vec::new();
        for item in batch.drain(..) {
            match item {
                Waiting::Row(row) => rows.push(*row),
                Waiting::Flush(sender) => flushed.push(sender),
            }
        }
        put(&*store, &rows).await;
        for sender in flushed {
            let _ = sender.send(());
        }
    }
}

/// Writes a batch, however long the database is away.
async fn put(store: &dyn Store, rows: &[AuditRow]) {
    let mut tries = 0;
    while !rows.is_empty() {
        match store.append_audit(rows).await {
            Ok(()) => return,
            Err(StoreError::Internal(cause)) if tries >= TRIES => {
                tracing::error!(cause, count = rows.len(), "entries of the audit log cannot be written");
                return;
            }
            Err(error) => {
                tries += 1;
                tracing::warn!(%error, "the audit log cannot be written now; it is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
