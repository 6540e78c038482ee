//! What both buses promise (K2, K3). Each promise is tested on both: `on_rabbitmq` and `in_memory`.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use usher_bus::{Consumer, Envelope, INVITATION, Message, PublishError, QUEUES, Settlement, Subscriber};
use uuid::Uuid;

/// A bus under test.
#[async_trait]
pub(crate) trait Bus: Send {
    /// Makes events known, in order.
    async fn publish(&mut self, batch: &[Envelope]) -> Result<(), PublishError>;
    /// Hands them out.
    fn subscriber(&self) -> &dyn Subscriber;
}

/// An event with a number to tell it by.
pub(crate) fn event(number: u32, routing_key: &str) -> Envelope {
    Envelope {
        id: Uuid::from_u128(0xE0_0000_0000 + u128::from(number)),
        event_type: format!("usher.{routing_key}.v1"),
        routing_key: routing_key.to_owned(),
        subject: Uuid::from_u128(u128::from(number % 7)).to_string(),
        tenant: Uuid::from_u128(1),
        time: DateTime::from_timestamp_micros(1_790_000_000_000_000 + i64::from(number)).expect("in range"),
        trace_parent: format!("00-{:032x}-{:016x}-01", number + 1, number + 1),
        must_route: routing_key.strip_suffix(".due").is_some(),
        data: Bytes::from(number.to_string()),
    }
}

/// Calls to the invitation worker.
pub(crate) fn calls(numbers: impl IntoIterator<Item = u32>) -> Vec<Envelope> {
    numbers
        .into_iter()
        .map(|number| event(number, "invitation.due"))
        .collect()
}

/// The number of an event.
pub(crate) fn number(envelope: &Envelope) -> u32 {
    std::str::from_utf8(&envelope.data)
        .expect("text")
        .parse()
        .expect("a number")
}

/// The next message, which has to come soon.
pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Message {
    tokio::time::timeout(Duration::from_mins(1), consumer.next())
        .await
        .expect("a message comes")
        .expect("no error")
}

/// That no message comes.
pub(crate) async fn nothing(consumer: &mut Box<dyn Consumer>) {
    if let Ok(message) = tokio::time::timeout(Duration::from_millis(400), consumer.next()).await {
        panic!("nothing was to come: {message:?}");
    }
}

/// Acknowledges as many messages, and answers their numbers in order.
pub(crate) async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let message = next(consumer).await;
        numbers.push(number(&message.envelope));
        message.settle(Settlement::Ack).await;
    }
    numbers
}

macro_rules! contract {
    ($($promise:ident),+ $(,)?) => {
        mod on_rabbitmq {
            $(#[tokio::test]
            async fn $promise() -> anyhow::Result<()> {
                super::$promise(&mut crate::bus_rabbitmq::Rabbit::fresh().await?).await;
                Ok(())
            })+
        }
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $promise() {
                super::$promise(&mut crate::bus_memory::Memory::fresh()).await;
            })+
        }
    };
}

contract!(
    every_event_reaches_the_queue_bound_to_its_key_and_no_other,
    an_event_arrives_as_it_was_published,
    events_arrive_in_the_order_in_which_they_were_published,
    what_was_published_before_anyone_consumed_is_not_lost,
    a_fact_that_nobody_is_bound_to_is_no_error,
    an_unsettled_message_comes_back_after_its_consumer_is_gone,
    a_message_that_is_dropped_unsettled_comes_again,
    a_retry_comes_again_and_says_so,
    a_reject_goes_away_for_good,
    an_acknowledged_message_does_not_come_back,
    prefetch_bounds_what_is_out,
    a_message_can_be_settled_after_its_consumer_is_gone,
    a_call_to_next_that_is_given_up_loses_nothing,
);

async fn every_event_reaches_the_queue_bound_to_its_key_and_no_other(bus: &mut dyn Bus) {
    let mut consumers = Vec::new();
    for queue in QUEUES {
        consumers.push(bus.subscriber().consume(*queue, 10).await.unwrap());
    }
    let batch: Vec<_> = QUEUES
        .iter()
        .zip(0..)
        .map(|(queue, number)| event(number, queue.routing_keys[0]))
        .chain([event(99, "user.activated")])
        .collect();
    bus.publish(&batch).await.unwrap();
    for (consumer, expected) in consumers.iter_mut().zip(0..) {
        assert_eq!(take(consumer, 1).await, [expected]);
        nothing(consumer).await;
    }
}

async fn an_event_arrives_as_it_was_published(bus: &mut dyn Bus) {
    let mut consumer = bus.subscriber().consume(INVITATION, 10).await.unwrap();
    let whole = event(1, "invitation.due");
    let bare = Envelope {
        subject: String::new(),
        trace_parent: String::new(),
        data: Bytes::new(),
        ..event(2, "invitation.due")
    };
    bus.publish(&[whole.clone(), bare.clone()]).await.unwrap();
    for published in [whole, bare] {
        let message = next(&mut consumer).await;
        assert!(!message.redelivered);
        assert_eq!(
            Envelope {
                must_route: true,
                ..message.envelope.clone()
            },
            published
        );
        message.settle(Settlement::Ack).await;
    }
}

async fn events_arrive_in_the_order_in_which_they_were_published(bus: &mut dyn Bus) {
    let mut consumer = bus.subscriber().consume(INVITATION, 50).await.unwrap();
    for start in (0..1_000).step_by(250) {
        bus.publish(&calls(start..start + 250)).await.unwrap();
    }
    assert_eq!(take(&mut consumer, 1_000).await, (0..1_000).collect::<Vec<_>>());
}

async fn what_was_published_before_anyone_consumed_is_not_lost(bus: &mut dyn Bus) {
    bus.publish(&calls(0..3)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 10).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, [0, 1, 2]);
}

async fn a_fact_that_nobody_is_bound_to_is_no_error(bus: &mut dyn Bus) {
    bus.publish(&[event(0, "user.activated")]).await.unwrap();
}

async fn an_unsettled_message_comes_back_after_its_consumer_is_gone(bus: &mut dyn Bus) {
    bus.publish(&calls(0..3)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 2).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, [0]);
    let unsettled = next(&mut consumer).await;
    drop(consumer);
    drop(unsettled);
    let mut consumer = bus.subscriber().consume(INVITATION, 2).await.unwrap();
    let back: BTreeSet<_> = take(&mut consumer, 2).await.into_iter().collect();
    assert_eq!(back, BTreeSet::from([1, 2]));
    nothing(&mut consumer).await;
}

async fn a_message_that_is_dropped_unsettled_comes_again(bus: &mut dyn Bus) {
    bus.publish(&calls(0..1)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 1).await.unwrap();
    drop(next(&mut consumer).await);
    assert_eq!(take(&mut consumer, 1).await, [0]);
}

async fn a_retry_comes_again_and_says_so(bus: &mut dyn Bus) {
    bus.publish(&calls(0..1)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 1).await.unwrap();
    for redelivered in [false, true, true] {
        let message = next(&mut consumer).await;
        assert_eq!(message.redelivered, redelivered);
        message.settle(Settlement::Retry).await;
    }
    assert_eq!(take(&mut consumer, 1).await, [0]);
    nothing(&mut consumer).await;
}

async fn a_reject_goes_away_for_good(bus: &mut dyn Bus) {
    bus.publish(&calls(0..2)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 1).await.unwrap();
    next(&mut consumer).await.settle(Settlement::Reject).await;
    assert_eq!(take(&mut consumer, 1).await, [1]);
    nothing(&mut consumer).await;
    drop(consumer);
    let mut consumer = bus.subscriber().consume(INVITATION, 1).await.unwrap();
    nothing(&mut consumer).await;
}

async fn an_acknowledged_message_does_not_come_back(bus: &mut dyn Bus) {
    bus.publish(&calls(0..500)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 100).await.unwrap();
    take(&mut consumer, 500).await;
    drop(consumer);
    let mut consumer = bus.subscriber().consume(INVITATION, 100).await.unwrap();
    nothing(&mut consumer).await;
}

async fn prefetch_bounds_what_is_out(bus: &mut dyn Bus) {
    bus.publish(&calls(0..10)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 3).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut consumer).await);
    }
    nothing(&mut consumer).await;
    held.remove(1).settle(Settlement::Ack).await;
    let message = next(&mut consumer).await;
    assert_eq!(number(&message.envelope), 3);
    nothing(&mut consumer).await;
}

async fn a_message_can_be_settled_after_its_consumer_is_gone(bus: &mut dyn Bus) {
    bus.publish(&calls(0..1)).await.unwrap();
    let mut consumer = bus.subscriber().consume(INVITATION, 1).await.unwrap();
    let message = next(&mut consumer).await;
    drop(consumer);
    message.settle(Settlement::Ack).await;
    let mut consumer = bus.subscriber().consume(INVITATION, 1).await.unwrap();
    nothing(&mut consumer).await;
}

async fn a_call_to_next_that_is_given_up_loses_nothing(bus: &mut dyn Bus) {
    let mut consumer = bus.subscriber().consume(INVITATION, 10).await.unwrap();
    nothing(&mut consumer).await;
    bus.publish(&calls(0..100)).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 100 {
        if let Ok(message) = tokio::time::timeout(Duration::from_micros(200), consumer.next()).await {
            let message = message.unwrap();
            numbers.push(number(&message.envelope));
            message.settle(Settlement::Ack).await;
        }
    }
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}
