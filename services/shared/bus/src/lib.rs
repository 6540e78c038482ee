//! The event bus: what an event looks like on the wire, how it is published, and how it is consumed. RabbitMQ carries it
//! between processes (`rabbitmq`); `memory` does when everything runs in one.
//!
//! The bus carries what happened and what is due now. It never holds anything back for later, and it never counts tries:
//! both are the identity service's.

pub mod envelope;
pub mod memory;
pub mod rabbitmq;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The topic exchange that every event goes to.
pub const EXCHANGE: &str = "usher.events";

/// A queue of calls to work, and the routing keys that are bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Its name on the broker.
    pub name: &'static str,
    /// The routing keys bound to it.
    pub routing_keys: &'static [&'static str],
}

/// The queues of the workers. Publisher and consumer declare all of them, so that no call to work finds none.
pub const QUEUES: &[Queue] = &[INVITATION, REMINDER, EXPIRATION, ERASURE];
/// Of the invitation worker.
pub const INVITATION: Queue = Queue {
    name: "usher.invitation",
    routing_keys: &["invitation.due"],
};
/// Of the reminder worker.
pub const REMINDER: Queue = Queue {
    name: "usher.reminder",
    routing_keys: &["reminder.due"],
};
/// Of the expiration worker.
pub const EXPIRATION: Queue = Queue {
    name: "usher.expiration",
    routing_keys: &["expiration.due"],
};
/// Of the erasure worker.
pub const ERASURE: Queue = Queue {
    name: "usher.erasure",
    routing_keys: &["erasure.due"],
};

/// One event on the wire: CloudEvents 1.0 in AMQP binary mode, the data being a `usher.events.v1.LifecycleEvent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// CloudEvents `id`, also the AMQP `message_id`.
    pub id: Uuid,
    /// CloudEvents `type`, for example `usher.user.activated.v1`.
    pub event_type: String,
    /// For example `user.activated`.
    pub routing_key: String,
    /// CloudEvents `subject`: the user's id; empty if it is about none.
    pub subject: String,
    /// CloudEvents extension attribute `tenantid`.
    pub tenant: Uuid,
    /// CloudEvents `time`.
    pub time: DateTime<Utc>,
    /// W3C `traceparent` of the call that caused it; empty: none.
    pub trace_parent: String,
    /// Whether it must reach a queue: a call to work that nobody gets is a fault, a fact that nobody wants is not. Said to
    /// the broker, not to the consumer: what comes out of RabbitMQ has `false` here.
    pub must_route: bool,
    /// `LifecycleEvent`, encoded.
    pub data: Bytes,
}

/// Why events could not be published. None of the batch may be taken for published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No connection, or it broke. Try the whole batch again.
    #[error("the broker cannot be reached: {0}")]
    Unavailable(String),
    /// The broker did not confirm, refused or returned at least one. Try the whole batch again.
    #[error("the broker did not take {refused} of {total} events: {cause}")]
    Refused {
        /// How many were not taken.
        refused: usize,
        /// Of how many.
        total: usize,
        /// The first cause.
        cause: String,
    },
}

/// Publishes events. One task owns a publisher; it is never shared.
#[async_trait]
pub trait Publisher: Send {
    /// Publishes a batch in order. `Ok` only if every event was confirmed and none was returned; after an error nothing
    /// is known about any of them. An empty batch only makes sure that the bus is there. Answers within a deadline of its
    /// own.
    async fn publish(&mut self, batch: &[Envelope]) -> Result<(), PublishError>;
}

/// Why no message can be had. The consumer has to be opened anew.
#[derive(Debug, thiserror::Error)]
#[error("the consumer ended: {0}")]
pub struct ConsumeError(pub String);

/// Hands out the messages of one queue. Dropped, it hands out no more; what it has handed out can still be settled, so that
/// a worker can finish what it holds.
#[async_trait]
pub trait Consumer: Send {
    /// The next message. At most `prefetch` of them are out unsettled at a time. An error ends the consumer. Dropping the
    /// call half-way loses nothing.
    async fn next(&mut self) -> Result<Message, ConsumeError>;
}

/// Opens consumers and tells whether the bus is there.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Consumes a queue with at most `prefetch` unsettled messages.
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Box<dyn Consumer>, ConsumeError>;
}

/// A message of a queue. It has to be settled by one of its methods; dropped unsettled, it is delivered again.
pub struct Message {
    /// What it carries.
    pub envelope: Envelope,
    /// It may have been handed out before.
    pub redelivered: bool,
    settle: Option<Box<dyn Settle>>,
}

/// How a bus is told what became of a message.
#[async_trait]
pub trait Settle: Send {
    /// Carries out the settlement. A fault is no matter to the caller: the message comes again.
    async fn settle(self: Box<Self>, settlement: Settlement);
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Dealt with.
    Ack,
    /// To be delivered again.
    Retry,
    /// Never to be delivered again: it goes to the dead-letter queue.
    Reject,
}

impl Message {
    /// A message of a bus.
    pub fn new(envelope: Envelope, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self {
            envelope,
            redelivered,
            settle: Some(settle),
        }
    }

    /// Settles it.
    pub async fn settle(mut self, settlement: Settlement) {
        if let Some(settle) = self.settle.take() {
            settle.settle(settlement).await;
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.envelope.id)
            .field("routing_key", &self.envelope.routing_key)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
