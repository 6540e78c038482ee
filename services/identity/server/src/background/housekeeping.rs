//! Gauges of what waits, readiness of the database, and the pruning of what is no longer kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use usher_core::audit::AuditKeys;
use usher_core::clock::Clock;
use usher_core::delivery::DeliveryStateName;
use usher_core::ports::{Backlog, Store};
use usher_platform::Condition;

/// How often the database is asked whether it is there.
const CHECK: Duration = Duration::from_secs(2);
/// How often what waits is counted.
const COUNT: Duration = Duration::from_secs(10);
/// How often is pruned, and how many rows at a time.
const PRUNE: Duration = Duration::from_mins(1);
const PRUNE_ROWS: u32 = 5_000;

/// Looks after the store.
pub struct Housekeeping {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Off while the database does not answer.
    pub database: Condition,
    /// How long published events are kept.
    pub events: TimeDelta,
    /// How long answers are kept.
    pub responses: TimeDelta,
    /// How long reports of jobs are kept.
    pub jobs: TimeDelta,
    /// How long entries of the audit log are kept; `None`: for good.
    pub audit: Option<TimeDelta>,
    /// What it is sealed with.
    pub audit_keys: Arc<AuditKeys>,
}

impl Housekeeping {
    /// Runs until told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let (mut counted, mut pruned) = (None::<Instant>, None::<Instant>);
        loop {
            match self.store.check().await {
                Ok(()) => self.database.set(true, ""),
                Err(error) => self.database.set(false, error.to_string()),
            }
            if counted.is_none_or(|at| at.elapsed() >= COUNT) {
                counted = Some(Instant::now());
                match self.store.backlog(self.clock.now()).await {
                    Ok(backlog) => gauge(&backlog),
                    Err(error) => tracing::debug!(%error, "what waits cannot be counted"),
                }
            }
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE) {
                pruned = Some(Instant::now());
                let now = self.clock.now();
                match self
                    .store
                    .prune(now - self.events, now - self.responses, PRUNE_ROWS)
                    .await
                {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "rows that are no longer kept were deleted"),
                    Err(error) => {
                        tracing::warn!(%error, "rows that are no longer kept cannot be deleted; tried again later");
                    }
                }
                if let Err(error) = self.store.prune_jobs(now, now - self.jobs, PRUNE_ROWS).await {
                    tracing::warn!(%error, "old jobs cannot be deleted; tried again later");
                }
                if let Some(kept) = self.audit
                    && let Err(error) = self.store.prune_audit(&self.audit_keys, now - kept, PRUNE_ROWS).await
                {
                    tracing::warn!(%error, "old entries of the audit log cannot be deleted; tried again later");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(CHECK) => {}
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats; counts of rows fit well within 52 bits"
)]
fn gauge(backlog: &Backlog) {
    metrics::gauge!("usher_outbox_depth").set(backlog.outbox_depth as f64);
    metrics::gauge!("usher_outbox_age_seconds").set(backlog.outbox_age_seconds);
    metrics::gauge!("usher_timers_overdue").set(backlog.timers_overdue as f64);
    for state in DeliveryStateName::ALL {
        if state.is_live() || state == DeliveryStateName::Uncertain {
            let count = backlog.deliveries.get(&state).copied().unwrap_or(0);
            metrics::gauge!("usher_deliveries", "state" => state.as_str()).set(count as f64);
        }
    }
}
