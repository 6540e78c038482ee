//! What a worker is given, and what it answers.

use async_trait::async_trait;
use tonic::{Code, Status};
use usher_bus::Envelope;
use usher_proto::events::v1::LifecycleEvent;

/// One message, decoded.
#[derive(Debug, Clone)]
pub struct Work {
    /// As it came over the bus.
    pub envelope: Envelope,
    /// What it carries.
    pub event: LifecycleEvent,
    /// It may have been handed out before.
    pub redelivered: bool,
}

/// Why a message is not dealt with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// Something that the work needs is away: the message comes again.
    #[error("to be tried again: {0}")]
    Retry(String),
    /// The message cannot be dealt with, now or later: it goes to the dead letters.
    #[error("cannot be dealt with: {0}")]
    Reject(String),
}

/// A refusal by the identity service: what is wrong with the question itself stays wrong.
impl From<Status> for WorkError {
    fn from(status: Status) -> Self {
        let text = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => Self::Reject(text),
            _ => Self::Retry(text),
        }
    }
}

/// Deals with messages one at a time. A panic counts as [`WorkError::Retry`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Deals with one message.
    async fn handle(&self, work: &Work) -> Result<(), WorkError>;
}

/// Deals with messages many at a time. The answer counts for all of them.
#[async_trait]
pub trait BatchHandler: Send + Sync + 'static {
    /// Deals with a batch of at least one message.
    async fn handle_batch(&self, batch: &[Work]) -> Result<(), WorkError>;
}

/// Messages one at a time are batches of one.
pub(crate) struct Each<H>(pub(crate) H);

#[async_trait]
impl<H: Handler> BatchHandler for Each<H> {
    async fn handle_batch(&self, batch: &[Work]) -> Result<(), WorkError> {
        for work in batch {
            self.0.handle(work).await?;
        }
        Ok(())
    }
}
