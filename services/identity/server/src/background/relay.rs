//! The outbox relay: publishes what was committed, in order per user.
//!
//! Lanes keep the order: a lane has one owner at a time, and the owner publishes on one channel from this one task. Rows
//! are marked published only when the broker confirmed every event of the batch. Failing that, the whole batch is
//! published again, so consumers may see an event twice, never none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Span;
use tracing::field::Empty;
use usher_bus::{Envelope, Publisher};
use usher_core::clock::Clock;
use usher_core::event::Event;
use usher_core::ports::{LaneLease, OutboxRow, Store, StoreError};
use usher_platform::{Condition, trace};

use crate::convert;

/// Events in one batch.
const BATCH: u32 = 1_000;
/// How long lanes are leased; longer than a publisher's deadline.
const LEASE: Duration = Duration::from_secs(15);
/// How often the lease is renewed and the share looked at anew.
const RENEW: Duration = Duration::from_secs(3);
/// How often the outbox is looked at, if nothing wakes the relay: other replicas commit too.
const PERIOD: Duration = Duration::from_millis(250);
/// The pause after a fault: doubling up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Publishes the outbox.
pub struct Relay<P> {
    /// The outbox.
    pub store: Arc<dyn Store>,
    /// The time, for leases.
    pub clock: Arc<dyn Clock>,
    /// The bus.
    pub publisher: P,
    /// Names this replica among all.
    pub owner: String,
    /// Off while nothing can be published.
    pub bus: Condition,
}

impl<P: Publisher> Relay<P> {
    /// Publishes until told to stop; then gives its lanes back.
    pub async fn run(mut self, mut commits: watch::Receiver<u64>, shutdown: CancellationToken) {
        let mut pause = PAUSE.0;
        while !shutdown.is_cancelled() {
            match self.publish_all(&mut commits, &shutdown, &mut pause).await {
                Ok(()) => break,
                Err(fault) => {
                    self.bus.set(false, &fault);
                    tracing::warn!(
                        fault,
                        pause_ms = pause.as_millis(),
                        "the outbox cannot be published; it is tried again"
                    );
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
        if let Err(error) = self.store.release_lanes(&self.owner).await {
            tracing::debug!(%error, "lanes could not be given back; their lease lapses by itself");
        }
    }

    async fn publish_all(
        &mut self,
        commits: &mut watch::Receiver<u64>,
        shutdown: &CancellationToken,
        pause: &mut Duration,
    ) -> Result<(), String> {
        let mut lease = self.lease().await?;
        // Shows that the broker is there before anything is to be published.
        self.publisher.publish(&[]).await.map_err(|error| error.to_string())?;
        self.bus.set(true, "");
        let mut rows = self.next(&lease.0, &[]).await?;
        while !shutdown.is_cancelled() {
            if lease.1.elapsed() >= RENEW {
                // Notices the loss of the broker also while there is nothing to publish.
                self.publisher.publish(&[]).await.map_err(|error| error.to_string())?;
                let before = lease.0.lanes.clone();
                lease = self.lease().await?;
                if before != lease.0.lanes {
                    rows = self.next(&lease.0, &[]).await?;
                }
            }
            if rows.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = commits.changed() => {}
                    () = tokio::time::sleep(PERIOD) => {}
                }
                rows = self.next(&lease.0, &[]).await?;
                continue;
            }
            let began = Instant::now();
            let batch: Vec<Envelope> = rows.iter().map(|row| envelope(&row.event)).collect();
            let spans: Vec<Span> = rows.iter().filter_map(|row| span(&row.event)).collect();
            let result = self.publisher.publish(&batch).await;
            for span in spans {
                if result.is_err() {
                    span.record("otel.status_code", "ERROR");
                }
            }
            result.map_err(|error| error.to_string())?;
            metrics::counter!("usher_outbox_published_total").increment(rows.len() as u64);
            metrics::histogram!("usher_outbox_publish_seconds").record(began.elapsed());
            let published: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
            let marked = self.store.mark_published(&published, self.clock.now());
            let (marked, next) = tokio::join!(marked, self.next(&lease.0, &published));
            marked.map_err(|error| error.to_string())?;
            *pause = PAUSE.0;
            rows = next?;
        }
        Ok(())
    }

    async fn lease(&self) -> Result<(LaneLease, Instant), String> {
        let now = self.clock.now();
        let until = now + TimeDelta::from_std(LEASE).unwrap_or(TimeDelta::seconds(15));
        let lease = self
            .store
            .lease_lanes(&self.owner, now, until)
            .await
            .map_err(|error| error.to_string())?;
        metrics::gauge!("usher_outbox_lanes").set(u32::try_from(lease.lanes.len()).map_or(0.0, f64::from));
        Ok((lease, Instant::now()))
    }

    async fn next(&self, lease: &LaneLease, except: &[i64]) -> Result<Vec<OutboxRow>, String> {
        if lease.lanes.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Result<_, StoreError> = self.store.unpublished(&lease.lanes, except, BATCH).await;
        rows.map_err(|error| error.to_string())
    }
}

/// From here to the broker's confirm, as a part of the trace that caused the event (K5); none where nobody records it.
fn span(event: &Event) -> Option<Span> {
    trace::is_recorded(&event.trace_parent).then(|| {
        let span = tracing::info_span!(
            parent: None,
            "outbox.publish",
            otel.kind = "producer",
            event = %event.id.0,
            kind = event.kind.as_str(),
            otel.status_code = Empty,
        );
        trace::set_remote_parent(&span, &event.trace_parent);
        span
    })
}

/// An event on the wire.
pub fn envelope(event: &Event) -> Envelope {
    Envelope {
        id: event.id.0,
        event_type: event.kind.cloud_events_type(),
        routing_key: event.kind.as_str().to_owned(),
        subject: event.user.map(|user| user.to_string()).unwrap_or_default(),
        tenant: event.tenant.0,
        time: event.at,
        trace_parent: event.trace_parent.clone(),
        must_route: event.kind.is_call_to_work(),
        data: convert::event(event).encode_to_vec().into(),
    }
}
