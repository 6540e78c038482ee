//! Production's clock: it follows the database's, so that a host with a skewed clock decides nothing early, and all
//! replicas agree. Between two looks it runs on the monotonic clock. It never goes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use usher_core::clock::{Clock, Timestamp};
use usher_core::ports::{StoreError, Timers};

/// How often the database's clock is looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// How often the rehearsal file is looked at.
const REHEARSAL_PERIOD: Duration = Duration::from_millis(100);

/// Follows the clock of a database.
pub struct DatabaseClock {
    started: Instant,
    /// What the database's clock showed at `started`: microseconds since the epoch.
    origin: AtomicI64,
    /// What a rehearsal adds: microseconds.
    ahead: AtomicI64,
    /// What was answered last.
    floor: AtomicI64,
    rehearsal: Option<PathBuf>,
}

impl DatabaseClock {
    /// Looks at the database's clock for the first time.
    pub async fn connect<S: Timers + ?Sized>(store: &S, rehearsal: Option<PathBuf>) -> Result<Arc<Self>, StoreError> {
        let clock = Self {
            started: Instant::now(),
            origin: AtomicI64::new(0),
            ahead: AtomicI64::new(0),
            floor: AtomicI64::new(i64::MIN),
            rehearsal,
        };
        clock.look(store).await?;
        clock.rehearse().await;
        Ok(Arc::new(clock))
    }

    /// Keeps following until told to stop.
    pub async fn follow<S: Timers + ?Sized>(&self, store: &S, shutdown: CancellationToken) {
        let mut looked = Instant::now();
        let period = if self.rehearsal.is_some() {
            REHEARSAL_PERIOD
        } else {
            PERIOD
        };
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
            self.rehearse().await;
            if looked.elapsed() >= PERIOD {
                looked = Instant::now();
                if let Err(error) = self.look(store).await {
                    tracing::debug!(%error, "the database's clock cannot be read; the host's monotonic clock goes on");
                }
            }
        }
    }

    async fn look<S: Timers + ?Sized>(&self, store: &S) -> Result<(), StoreError> {
        let before = self.started.elapsed();
        let at = store.now().await?;
        let after = self.started.elapsed();
        let middle = (before + after) / 2;
        self.origin
            .store(at.timestamp_micros() - micros(middle), Ordering::SeqCst);
        Ok(())
    }

    async fn rehearse(&self) {
        let Some(path) = &self.rehearsal else { return };
        let Ok(text) = tokio::fs::read_to_string(path).await else {
            return;
        };
        if let Ok(seconds) = text.trim().parse::<i64>() {
            self.ahead.store(seconds.saturating_mul(1_000_000), Ordering::SeqCst);
            metrics::gauge!("usher_clock_ahead_seconds").set(i32::try_from(seconds).map_or(f64::MAX, f64::from));
        }
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let now =
            self.origin.load(Ordering::SeqCst) + micros(self.started.elapsed()) + self.ahead.load(Ordering::SeqCst);
        let now = now.max(self.floor.fetch_max(now, Ordering::SeqCst));
        DateTime::from_timestamp_micros(now).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
