//! The server's statistics about young tables (PostgreSQL).
//!
//! The plans of prepared statements are kept. One that was made while a table was empty takes any index for as good as the
//! right one, and the server's own `ANALYZE` comes up to a minute later: a large import into a fresh database would crawl
//! until then. So a process asks for statistics when it has written its first hundred, thousand and ten thousand events;
//! from there on the server does it in time.

use std::sync::atomic::{AtomicUsize, Ordering};

use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::SeaStore;

const STEPS: [usize; 3] = [100, 1_000, 10_000];

/// How much this process has written.
#[derive(Debug, Default)]
pub(crate) struct Written(AtomicUsize);

impl Written {
    /// Adds events. Answers whether statistics are due.
    fn add(&self, events: usize) -> bool {
        let before = self.0.fetch_add(events, Ordering::Relaxed);
        STEPS.iter().any(|step| before < *step && *step <= before + events)
    }
}

impl SeaStore {
    /// Counts what was committed, and refreshes the statistics beside whatever else goes on.
    pub(crate) fn has_written(&self, events: usize) {
        if self.backend != DbBackend::Postgres || !self.written.add(events) {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            let tables =
                "ANALYZE users, invitations, deliveries, timers, outbox, history, responses, audit, audit_links";
            if let Err(error) = store.writer.execute_unprepared(tables).await {
                tracing::debug!(%error, "no statistics yet; the server takes them by itself later");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_due_once_at_each_step() {
        let written = Written::default();
        let due: Vec<bool> = [99, 1, 899, 2, 20_000, 50_000].map(|events| written.add(events)).into();
        assert_eq!(due, [false, true, false, true, true, false]);
    }
}
