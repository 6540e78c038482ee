//! The outbox as the log that the in-process bus reads: a crash loses nothing, since it goes on from where it was.

use std::sync::Arc;

use async_trait::async_trait;
use usher_bus::memory::EventLog;
use usher_bus::{Envelope, PublishError, Publisher};
use usher_core::ports::{Cursor, Store};

use super::relay::envelope;

/// Publishes to the in-process bus: an event is there as soon as it is in the outbox.
#[derive(Debug, Clone, Copy)]
pub struct InOutbox;

#[async_trait]
impl Publisher for InOutbox {
    async fn publish(&mut self, _batch: &[Envelope]) -> Result<(), PublishError> {
        Ok(())
    }
}

/// Reads the outbox for the in-process bus.
pub struct OutboxLog {
    /// The outbox.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl EventLog for OutboxLog {
    async fn read(
        &self,
        _queue: &str,
        after: Option<String>,
        routing_keys: &[&str],
        limit: usize,
    ) -> Result<(Vec<(String, Envelope)>, Option<String>), String> {
        let cursor = match after {
            Some(position) => Cursor(position),
            None => self.store.beginning().await.map_err(|error| error.to_string())?,
        };
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let followed = self
            .store
            .follow(&cursor, None, limit)
            .await
            .map_err(|error| error.to_string())?;
        let Some(followed) = followed else {
            // Pruned while the process was down for very long: the timers call again for whatever is still due.
            let beginning = self.store.beginning().await.map_err(|error| error.to_string())?;
            return Ok((Vec::new(), Some(beginning.0)));
        };
        let events = followed
            .events
            .iter()
            .filter(|(_, event)| routing_keys.contains(&event.kind.as_str()))
            .map(|(at, event)| (at.0.clone(), envelope(event)))
            .collect();
        Ok((events, Some(followed.cursor.0)))
    }

    async fn load_position(&self, queue: &str) -> Result<Option<String>, String> {
        let position = self
            .store
            .load_position(queue)
            .await
            .map_err(|error| error.to_string())?;
        Ok(position.map(|cursor| cursor.0))
    }

    async fn save_position(&self, queue: &str, position: &str) -> Result<(), String> {
        self.store
            .save_position(queue, &Cursor(position.to_owned()))
            .await
            .map_err(|error| error.to_string())
    }
}
