//! Two independent witnesses of what happened: one listens on the broker, one follows the service's stream. Both come back
//! after every fault.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::task::JoinHandle;
use usher_proto::identity::v1::WatchEventsRequest;
use usher_tests::system::Clients;

const QUEUE: &str = "observer";
const EXCHANGE: &str = "usher.events";
const PAUSE: Duration = Duration::from_millis(200);

/// What a witness has seen: ids of events, in the order in which each was seen first.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Each id once.
    pub(crate) order: Vec<String>,
    /// How often one came again.
    pub(crate) repeats: usize,
    known: HashSet<String>,
}

impl Seen {
    fn add(&mut self, id: &str) {
        if self.known.insert(id.to_owned()) {
            self.order.push(id.to_owned());
        } else {
            self.repeats += 1;
        }
    }
}

/// A witness that works in the background until it is dropped.
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witness {
    /// Binds a durable queue of its own to all events, and consumes it. Events from now on are in it.
    pub(crate) async fn of_broker(url: &str) -> Result<Self> {
        let (connection, channel) = open(url).await?;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel
            .queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments)
            .await?;
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                QUEUE.into(),
                EXCHANGE.into(),
                "#".into(),
                options,
                FieldTable::default(),
            )
            .await?;
        connection.close(200, "OK".into()).await?;
        let (seen, url) = (Arc::<Mutex<Seen>>::default(), url.to_owned());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                // Ends with each stop of the broker.
                let _ = consume(&url, &shared).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { seen, task })
    }

    /// Follows a tenant's events from the beginning, going on from the last cursor whenever the stream ends.
    pub(crate) fn of_stream(clients: &Clients, tenant: &str) -> Self {
        let (seen, clients, tenant) = (Arc::<Mutex<Seen>>::default(), clients.clone(), tenant.to_owned());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut cursor = String::new();
            loop {
                let _ = follow(&clients, &tenant, &mut cursor, &shared).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { seen, task }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

/// How many messages wait in a queue.
pub(crate) async fn depth(url: &str, queue: &str) -> Result<u32> {
    let (connection, channel) = open(url).await?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let state = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await
        .with_context(|| format!("the queue {queue}"))?;
    let count = state.message_count();
    connection.close(200, "OK".into()).await?;
    Ok(count)
}

async fn open(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn consume(url: &str, seen: &Mutex<Seen>) -> Result<()> {
    let (_connection, channel) = open(url).await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries = channel
        .basic_consume(QUEUE.into(), "".into(), options, FieldTable::default())
        .await?;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        if let Some(id) = delivery.properties.message_id() {
            lock(seen).add(id.as_str());
        }
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

async fn follow(clients: &Clients, tenant: &str, cursor: &mut String, seen: &Mutex<Seen>) -> Result<()> {
    let request = WatchEventsRequest {
        tenant_id: tenant.to_owned(),
        after: cursor.clone(),
        from_beginning: true,
        type_prefixes: Vec::new(),
    };
    let mut events = clients.events().watch_events(request).await?.into_inner();
    while let Some(answer) = events.message().await? {
        if !answer.event_id.is_empty() {
            lock(seen).add(&answer.event_id);
        }
        *cursor = answer.cursor;
    }
    Ok(())
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
