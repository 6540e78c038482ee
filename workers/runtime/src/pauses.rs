//! Pauses before something is tried again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// The pause before messages that failed are given back to the bus, which hands them out again at once: 1 s, doubling to
/// 30 s as failures follow each other. A success of any message ends the row. What fails at the same time fails for the
/// same cause, so it counts as one: otherwise a hiccup would cost a busy worker half a minute.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    row: Mutex<Row>,
}

#[derive(Debug, Default)]
struct Row {
    failures: u32,
    /// When the last of them was counted.
    counted: Option<Instant>,
}

impl Pauses {
    pub(crate) fn succeeded(&self) {
        *self.row.lock().unwrap_or_else(PoisonError::into_inner) = Row::default();
    }

    /// For work that began then and failed now.
    pub(crate) fn failed(&self, begun: Instant) -> Duration {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if row.counted.is_none_or(|counted| begun > counted) {
            row.failures = row.failures.saturating_add(1);
            row.counted = Some(Instant::now());
        }
        Duration::from_secs(1 << (row.failures.max(1) - 1).min(5)).min(Duration::from_secs(30))
    }
}

/// The pauses between attempts to open a consumer: 0.2 s doubling to 10 s, with jitter so that the workers of a broker
/// that comes back do not all come at once.
#[derive(Debug)]
pub(crate) struct Reopening(ExponentialBackoff);

impl Reopening {
    pub(crate) fn new() -> Self {
        let pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .without_max_times();
        Self(pauses.build())
    }

    pub(crate) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_30_s_and_a_success_starts_them_anew() {
        let pauses = Pauses::default();
        let mut row = Vec::new();
        for _ in 0..7 {
            let pause = pauses.failed(Instant::now());
            tokio::time::sleep(pause).await;
            row.push(pause.as_secs());
        }
        assert_eq!(row, [1, 2, 4, 8, 16, 30, 30]);
        pauses.succeeded();
        assert_eq!(pauses.failed(Instant::now()).as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_the_same_time_counts_once() {
        let pauses = Pauses::default();
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!((0..16).all(|_| pauses.failed(begun).as_secs() == 1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(pauses.failed(Instant::now()).as_secs(), 2);
    }

    #[test]
    fn a_consumer_is_opened_again_soon_at_first_and_every_10_to_20_s_later() {
        let mut reopening = Reopening::new();
        assert!(reopening.next() < Duration::from_millis(401));
        let late = (0..20).map(|_| reopening.next()).last().unwrap();
        assert!((10..=20).contains(&late.as_secs()), "{late:?}");
    }
}
