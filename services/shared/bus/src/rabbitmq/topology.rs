//! What has to be there before anything is published or consumed. Publisher and consumer both declare all of it, so the
//! order in which processes start does not matter, and a call to work never finds its queue missing.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::{EXCHANGE, QUEUES};

/// Where rejected messages go.
pub const DEAD_LETTER_EXCHANGE: &str = "usher.dead";
/// Where they stay until an operator has looked at them.
pub const DEAD_LETTER_QUEUE: &str = "usher.dead-letter";

/// A queue that nobody drains fills up to this many messages; then publishing fails and the outbox holds the rest.
const MAX_LENGTH: i64 = 1_000_000;
/// Tries are counted in the database. RabbitMQ 4 dead-letters after 20 redeliveries unless told another figure, and 3.x
/// knows no "unlimited": this one is out of reach on both.
const DELIVERY_LIMIT: i64 = 1_000_000_000;

pub(super) async fn declare(channel: &Channel) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await?;
    channel
        .exchange_declare(
            DEAD_LETTER_EXCHANGE.into(),
            ExchangeKind::Fanout,
            durable,
            FieldTable::default(),
        )
        .await?;
    declare_queue(channel, DEAD_LETTER_QUEUE, quorum()).await?;
    bind(channel, DEAD_LETTER_QUEUE, DEAD_LETTER_EXCHANGE, "").await?;
    for queue in QUEUES {
        declare_queue(channel, queue.name, work_queue()).await?;
        for routing_key in queue.routing_keys {
            bind(channel, queue.name, EXCHANGE, routing_key).await?;
        }
    }
    Ok(())
}

/// A full queue refuses what is published instead of dropping what it holds.
fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_LENGTH));
    arguments
}

/// Dead-lettering is at least once only together with `reject-publish`.
fn work_queue() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD_LETTER_EXCHANGE));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn declare_queue(channel: &Channel, name: &'static str, arguments: FieldTable) -> Result<(), lapin::Error> {
    channel
        .queue_declare(name.into(), QueueDeclareOptions::durable(), arguments)
        .await
        .map(drop)
}

async fn bind(
    channel: &Channel,
    queue: &'static str,
    exchange: &'static str,
    routing_key: &'static str,
) -> Result<(), lapin::Error> {
    let options = QueueBindOptions::default();
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            routing_key.into(),
            options,
            FieldTable::default(),
        )
        .await
}
