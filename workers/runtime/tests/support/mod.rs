//! A bus that a test fills by hand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::Notify;
use usher_bus::{ConsumeError, Consumer, Envelope, Message, Queue, Settle, Settlement, Subscriber};
use usher_platform::{Context, Readiness};
use usher_proto::events::v1::LifecycleEvent;
use uuid::Uuid;

/// What one consumer will bring, in order.
pub(crate) enum Next {
    Message(Envelope),
    Redelivered(Envelope),
    End,
}

#[derive(Default)]
pub(crate) struct Bus {
    queue: Mutex<VecDeque<Next>>,
    more: Notify,
    /// How often a consumer was opened.
    pub(crate) opened: AtomicUsize,
    /// Prefetch of the last one.
    pub(crate) prefetch: AtomicUsize,
    settled: Mutex<Vec<(Uuid, Settlement)>>,
    changed: Notify,
}

impl Bus {
    pub(crate) fn put(&self, next: Next) {
        self.queue.lock().unwrap().push_back(next);
        self.more.notify_one();
    }

    pub(crate) fn settled(&self) -> Vec<(Uuid, Settlement)> {
        self.settled.lock().unwrap().clone()
    }

    /// Waits until so many messages are settled.
    pub(crate) async fn settle_of(&self, count: usize) -> Vec<(Uuid, Settlement)> {
        loop {
            let changed = self.changed.notified();
            if self.settled().len() >= count {
                return self.settled();
            }
            changed.await;
        }
    }
}

/// Shared by the subscriber, its consumers and their messages.
#[derive(Clone, Default)]
pub(crate) struct FakeBus(pub(crate) Arc<Bus>);

#[async_trait]
impl Subscriber for FakeBus {
    async fn consume(&self, _: Queue, prefetch: u16) -> Result<Box<dyn Consumer>, ConsumeError> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        self.0.prefetch.store(prefetch.into(), Ordering::SeqCst);
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Consumer for FakeBus {
    async fn next(&mut self) -> Result<Message, ConsumeError> {
        loop {
            let next = self.0.queue.lock().unwrap().pop_front();
            let (envelope, redelivered) = match next {
                Some(Next::Message(envelope)) => (envelope, false),
                Some(Next::Redelivered(envelope)) => (envelope, true),
                Some(Next::End) => return Err(ConsumeError("the broker went away".into())),
                None => {
                    self.0.more.notified().await;
                    continue;
                }
            };
            let settle = FakeSettle {
                bus: self.0.clone(),
                id: envelope.id,
            };
            return Ok(Message::new(envelope, redelivered, Box::new(settle)));
        }
    }
}

struct FakeSettle {
    bus: Arc<Bus>,
    id: Uuid,
}

#[async_trait]
impl Settle for FakeSettle {
    async fn settle(self: Box<Self>, settlement: Settlement) {
        self.bus.settled.lock().unwrap().push((self.id, settlement));
        self.bus.changed.notify_waiters();
    }
}

/// An event whose delivery is named like this, with the number as its id.
pub(crate) fn envelope(number: u128, delivery: &str) -> Envelope {
    let event = LifecycleEvent {
        delivery_id: delivery.into(),
        ..LifecycleEvent::default()
    };
    Envelope {
        id: Uuid::from_u128(number),
        event_type: "usher.invitation.due.v1".into(),
        routing_key: "invitation.due".into(),
        subject: String::new(),
        tenant: Uuid::nil(),
        time: chrono::DateTime::UNIX_EPOCH,
        trace_parent: String::new(),
        must_route: true,
        data: prost::Message::encode_to_vec(&event).into(),
    }
}

pub(crate) fn context() -> Context {
    Context {
        name: "test".into(),
        shutdown: tokio_util::sync::CancellationToken::new(),
        abort: tokio_util::sync::CancellationToken::new(),
        readiness: Readiness::new(),
        drain: std::time::Duration::from_secs(20),
    }
}
