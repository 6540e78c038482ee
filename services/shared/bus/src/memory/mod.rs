//! The bus inside one process. It has no store of its own: it reads the outbox, which holds every event anyway, and keeps
//! per queue the position up to which everything is settled. So a crash loses nothing; it hands out again what lies past
//! that position.
//!
//! A queue has one consumer at a time, which is all that one process needs.

mod reader;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use self::reader::Reader;
use crate::{ConsumeError, Consumer, Envelope, Message, Queue, Subscriber};

/// How long opening a consumer waits for the one before it to finish.
const HANDOVER: Duration = Duration::from_secs(5);

/// The committed events, in the order in which they became visible. A position is opaque to the bus.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Up to `limit` events after a position (or from the start) whose routing key is one of those, each with its
    /// position, in order; and the position that was reached, which lies past events that do not match too. `None`: the log
    /// is empty. An event that becomes visible later has a position past the one reached.
    async fn read(
        &self,
        queue: &str,
        after: Option<String>,
        routing_keys: &[&str],
        limit: usize,
    ) -> Result<(Vec<(String, Envelope)>, Option<String>), String>;

    /// The position up to which the queue's events are settled.
    async fn load_position(&self, queue: &str) -> Result<Option<String>, String>;

    /// Keeps it.
    async fn save_position(&self, queue: &str, position: &str) -> Result<(), String>;
}

/// Hands out the events of an [`EventLog`].
pub struct MemoryBus {
    log: Arc<dyn EventLog>,
    wake: watch::Receiver<u64>,
    /// Held by the reader of a queue as long as it lives.
    readers: Mutex<HashMap<&'static str, Arc<tokio::sync::Mutex<()>>>>,
}

impl MemoryBus {
    /// A bus over a log. `wake` changes at each commit; the log is read once a second even if it does not.
    pub fn new(log: Arc<dyn EventLog>, wake: watch::Receiver<u64>) -> Self {
        Self {
            log,
            wake,
            readers: Mutex::default(),
        }
    }
}

#[async_trait]
impl Subscriber for MemoryBus {
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Box<dyn Consumer>, ConsumeError> {
        let place = Arc::clone(
            self.readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(queue.name)
                .or_default(),
        );
        let place = tokio::time::timeout(HANDOVER, place.lock_owned())
            .await
            .map_err(|_| ConsumeError(format!("{} has a consumer already", queue.name)))?;
        let position = self.log.load_position(queue.name).await.map_err(ConsumeError)?;
        let prefetch = usize::from(prefetch.max(1));
        let (messages, received) = mpsc::channel(prefetch + 1);
        let reader = Reader::new(Arc::clone(&self.log), queue, prefetch, position, messages);
        tokio::spawn(reader.run(self.wake.clone(), place));
        Ok(Box::new(MemoryConsumer { queue, received }))
    }
}

struct MemoryConsumer {
    queue: Queue,
    received: mpsc::Receiver<Result<Message, ConsumeError>>,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Result<Message, ConsumeError> {
        let ended = || Err(ConsumeError(format!("the reader of {} has stopped", self.queue.name)));
        self.received.recv().await.unwrap_or_else(ended)
    }
}
