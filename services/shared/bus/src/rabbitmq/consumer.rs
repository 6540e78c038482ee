//! Consuming, and noticing when nothing comes any more.
//!
//! A consumer can fall silent without an error: a half-open connection, a queue that was deleted and declared anew, a
//! consumer that the broker forgot. So the end of the stream is an error, and after 30 s of silence the broker is asked
//! whether the queue is there, has a consumer, and holds nothing that should have come here: if it does twice in a row, this
//! consumer is taken for dead. The buffer of the client has no
//! bound of its own, which is why there is no consuming without a prefetch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use tokio::time::Instant;

use super::{Link, RabbitError, RabbitMq, within};
use crate::{ConsumeError, Consumer, Message, Queue, Settle, Settlement, Subscriber, envelope};

/// After this long without a message, the broker is asked whether all is well.
const SILENCE: Duration = Duration::from_secs(30);
/// How long its answer may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// Opens consumers on RabbitMQ.
#[derive(Debug, Clone)]
pub struct RabbitSubscriber {
    rabbit: RabbitMq,
    silence: Duration,
}

impl RabbitSubscriber {
    /// Opens nothing yet.
    pub fn new(rabbit: RabbitMq) -> Self {
        Self {
            rabbit,
            silence: SILENCE,
        }
    }

    /// After how long without a message the broker is asked whether all is well (30 s if not set).
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }
}

#[async_trait]
impl Subscriber for RabbitSubscriber {
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Box<dyn Consumer>, ConsumeError> {
        // 0 means "no limit" to AMQP.
        let prefetch = prefetch.max(1);
        let link = self.rabbit.open(queue.name).await.map_err(ended)?;
        let deliveries = within(CHECK_DEADLINE, async {
            link.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            Ok(link
                .channel
                .basic_consume(queue.name.into(), "".into(), options, FieldTable::default())
                .await?)
        })
        .await
        .map_err(ended)?;
        Ok(Box::new(RabbitConsumer {
            deliveries,
            link: Arc::new(link),
            queue,
            silence: self.silence,
            heard: Instant::now(),
            overdue: false,
            out: Arc::default(),
        }))
    }
}

struct RabbitConsumer {
    deliveries: lapin::Consumer,
    /// Shared with the messages, so that they can be settled after the consumer is gone.
    link: Arc<Link>,
    queue: Queue,
    silence: Duration,
    /// When a message or a good answer last came.
    heard: Instant,
    /// At the last look, messages were waiting that should have come.
    overdue: bool,
    /// How many messages are unsettled.
    out: Arc<AtomicUsize>,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Message, ConsumeError> {
        loop {
            // The time of silence runs on over calls, or a caller that gives up often would never have it checked.
            let Ok(delivery) = tokio::time::timeout_at(self.heard + self.silence, self.deliveries.next()).await else {
                let overdue = self.messages_overdue().await.map_err(ConsumeError)?;
                if overdue && self.overdue {
                    let (name, silence) = (self.queue.name, self.silence);
                    return Err(ConsumeError(format!(
                        "messages wait in {name}, and none came for twice {silence:?}"
                    )));
                }
                self.overdue = overdue;
                self.heard = Instant::now();
                continue;
            };
            self.overdue = false;
            self.heard = Instant::now();
            match delivery {
                Some(Ok(delivery)) => {
                    if let Some(message) = self.message(delivery) {
                        return Ok(message);
                    }
                }
                Some(Err(error)) => return Err(ended(error.into())),
                None => {
                    return Err(ConsumeError(format!(
                        "the broker cancelled the consumer of {}",
                        self.queue.name
                    )));
                }
            }
        }
    }
}

impl RabbitConsumer {
    /// The message in a delivery. One that is not ours goes to the dead-letter queue.
    fn message(&self, mut delivery: Delivery) -> Option<Message> {
        self.out.fetch_add(1, Ordering::Relaxed);
        let data = std::mem::take(&mut delivery.data);
        let redelivered = delivery.redelivered;
        let decoded = envelope::decode(delivery.routing_key.as_str(), &delivery.properties, data);
        let (queue, link, out) = (self.queue.name, Arc::clone(&self.link), Arc::clone(&self.out));
        let settle = RabbitSettle {
            pending: Some(Pending {
                delivery,
                queue,
                _link: link,
                out,
            }),
        };
        match decoded {
            Ok(envelope) => Some(Message::new(envelope, redelivered, Box::new(settle))),
            Err(error) => {
                tracing::error!(queue, %error, "a message that is not an event was moved to the dead letters");
                settle.spawn(Settlement::Reject);
                None
            }
        }
    }

    /// Asks the broker whether messages wait though there is room for them here; an error if this consumer cannot work.
    async fn messages_overdue(&self) -> Result<bool, String> {
        if !self.link.is_open() {
            return Err("the connection is closed".to_owned());
        }
        let state = within(CHECK_DEADLINE, async {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            Ok(self
                .link
                .channel
                .queue_declare(self.queue.name.into(), passive, FieldTable::default())
                .await?)
        })
        .await
        .map_err(|error| error.to_string())?;
        if state.consumer_count() == 0 {
            return Err(format!("the broker knows of no consumer of {}", self.queue.name));
        }
        Ok(state.message_count() > 0 && self.out.load(Ordering::Relaxed) == 0)
    }
}

struct RabbitSettle {
    pending: Option<Pending>,
}

struct Pending {
    delivery: Delivery,
    queue: &'static str,
    /// Open until the message is settled.
    _link: Arc<Link>,
    out: Arc<AtomicUsize>,
}

impl Pending {
    async fn settle(self, settlement: Settlement) {
        let acker = &self.delivery.acker;
        let settled = within(CHECK_DEADLINE, async {
            Ok(match settlement {
                Settlement::Ack => acker.ack(BasicAckOptions::default()).await?,
                Settlement::Retry => {
                    acker
                        .nack(BasicNackOptions {
                            requeue: true,
                            multiple: false,
                        })
                        .await?
                }
                Settlement::Reject => acker.reject(BasicRejectOptions { requeue: false }).await?,
            })
        });
        match settled.await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(queue = self.queue, "a message was not settled and will come again"),
            Err(error) => tracing::debug!(queue = self.queue, %error, "a message was not settled and will come again"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.out.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RabbitSettle {
    /// Settles in a task of its own. Outside a runtime nothing can be said to the broker; it requeues at the end of the
    /// connection.
    fn spawn(mut self, settlement: Settlement) {
        spawn(self.pending.take(), settlement);
    }
}

#[async_trait]
impl Settle for RabbitSettle {
    async fn settle(mut self: Box<Self>, settlement: Settlement) {
        if let Some(pending) = self.pending.take() {
            pending.settle(settlement).await;
        }
    }
}

/// Dropped unsettled, a message is delivered again at once, and not only when the connection ends.
impl Drop for RabbitSettle {
    fn drop(&mut self) {
        spawn(self.pending.take(), Settlement::Retry);
    }
}

fn spawn(pending: Option<Pending>, settlement: Settlement) {
    if let (Some(pending), Ok(runtime)) = (pending, tokio::runtime::Handle::try_current()) {
        runtime.spawn(pending.settle(settlement));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn ended(error: RabbitError) -> ConsumeError {
    ConsumeError(error.to_string())
}
