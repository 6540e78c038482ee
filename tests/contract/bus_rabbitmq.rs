//! What only RabbitMQ can get wrong: every line of the pitfalls of confirms, returns, full queues, blocked and silent
//! connections has a test here that goes through our publisher and consumer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use usher_bus::rabbitmq::{DEAD_LETTER_QUEUE, RabbitMq, RabbitPublisher, RabbitSubscriber};
use usher_bus::{Consumer, EXCHANGE, Envelope, INVITATION, PublishError, Publisher, Settlement, Subscriber};
use usher_tests::environment::eventually;
use usher_tests::environment::rabbitmq::Broker;

use crate::bus::{Bus, calls, event, next, take};

/// A virtual host of its own on the shared broker.
pub(crate) struct Rabbit {
    url: String,
    publisher: RabbitPublisher,
    subscriber: RabbitSubscriber,
}

impl Rabbit {
    pub(crate) async fn fresh() -> Result<Self> {
        Ok(Self::at(Broker::shared().await?.vhost().await?))
    }

    fn at(url: String) -> Self {
        let rabbit = client(&url);
        Self {
            publisher: rabbit.publisher(),
            subscriber: rabbit.subscriber(),
            url,
        }
    }

    /// A bare channel, to look at the broker from outside.
    async fn channel(&self) -> Result<(lapin::Connection, Channel)> {
        let connection = lapin::Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

fn client(url: &str) -> RabbitMq {
    RabbitMq::new(url.into(), "contract")
}

#[async_trait]
impl Bus for Rabbit {
    async fn publish(&mut self, batch: &[Envelope]) -> Result<(), PublishError> {
        self.publisher.publish(batch).await
    }

    fn subscriber(&self) -> &dyn Subscriber {
        &self.subscriber
    }
}

/// Everything in a queue, by event id; it stays empty behind.
async fn drain(channel: &Channel, queue: &'static str) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
        let id = message
            .delivery
            .properties
            .message_id()
            .as_ref()
            .map_or("", |id| id.as_str());
        ids.push(id.to_owned());
        message.delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(ids)
}

async fn dead_letters(channel: &Channel, count: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    eventually("the dead letters", Duration::from_secs(20), async || {
        ids.extend(drain(channel, DEAD_LETTER_QUEUE).await.ok()?);
        (ids.len() >= count).then_some(())
    })
    .await?;
    Ok(ids)
}

#[tokio::test]
async fn a_call_to_work_without_a_queue_is_refused_and_named() -> Result<()> {
    let mut rabbit = Rabbit::fresh().await?;
    let batch = [
        event(0, "invitation.due"),
        event(1, "nobody.due"),
        event(2, "user.created"),
    ];
    let error = rabbit.publish(&batch).await.unwrap_err();
    let PublishError::Refused {
        refused: 1,
        total: 3,
        cause,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(
        cause.contains(&batch[1].id.to_string()) && cause.contains("nobody.due") && cause.contains("NO_ROUTE"),
        "{cause}"
    );
    // And with the fault out of the way, the publisher works again.
    rabbit.publish(&[event(0, "invitation.due")]).await?;
    Ok(())
}

/// The client library reports some of them as plain acks, when their returns were hung on other confirms.
#[tokio::test]
async fn every_returned_event_of_a_batch_is_counted() -> Result<()> {
    let mut rabbit = Rabbit::fresh().await?;
    for round in 0..20 {
        let key = |number| {
            if number % 2 == 0 {
                "nobody.due"
            } else {
                "invitation.due"
            }
        };
        let batch: Vec<_> = (0..400)
            .map(|number| event(round * 400 + number, key(number)))
            .collect();
        let error = rabbit.publish(&batch).await.unwrap_err();
        assert!(
            matches!(
                error,
                PublishError::Refused {
                    refused: 200,
                    total: 400,
                    ..
                }
            ),
            "{error:?}"
        );
        let error = rabbit.publish(&batch[..1]).await.unwrap_err();
        assert!(
            matches!(
                error,
                PublishError::Refused {
                    refused: 1,
                    total: 1,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_full_queue_is_an_error_and_what_was_confirmed_is_in_it() -> Result<()> {
    let rabbit = Rabbit::fresh().await?;
    let (_connection, channel) = rabbit.channel().await?;
    client(&rabbit.url).subscriber().consume(INVITATION, 1).await?;
    Broker::shared().await?.limit_queues(&rabbit.url, 100).await?;

    // Several publishers at once, so that acks and nacks come mixed.
    let mut publishing = Vec::new();
    for publisher in 0..8_u32 {
        let mut bus = client(&rabbit.url).publisher();
        publishing.push(tokio::spawn(async move {
            let (mut confirmed, mut refused) = (Vec::new(), 0);
            for batch in 0..100 {
                let start = (publisher * 100 + batch) * 5;
                let batch = calls(start..start + 5);
                match bus.publish(&batch).await {
                    Ok(()) => confirmed.extend(batch.into_iter().map(|it| it.id.to_string())),
                    Err(PublishError::Refused { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (confirmed, refused)
        }));
    }
    let (mut confirmed, mut refused) = (BTreeSet::new(), 0);
    for publisher in publishing {
        let (its_confirmed, its_refused) = publisher.await?;
        confirmed.extend(its_confirmed);
        refused += its_refused;
    }
    let held: BTreeSet<_> = drain(&channel, INVITATION.name).await?.into_iter().collect();
    let lost: Vec<_> = confirmed.difference(&held).collect();
    assert!(lost.is_empty(), "{} confirmed events are not in the queue", lost.len());
    assert!(
        refused > 600,
        "the queue was full most of the time, but only {refused} of 800 batches were refused"
    );
    Ok(())
}

#[tokio::test]
async fn a_rejected_message_is_found_in_the_dead_letters() -> Result<()> {
    let mut rabbit = Rabbit::fresh().await?;
    let batch = calls(0..1);
    rabbit.publish(&batch).await?;
    let mut consumer = rabbit.subscriber.consume(INVITATION, 1).await?;
    next(&mut consumer).await.settle(Settlement::Reject).await;
    let (_connection, channel) = rabbit.channel().await?;
    assert_eq!(dead_letters(&channel, 1).await?, [batch[0].id.to_string()]);
    Ok(())
}

#[tokio::test]
async fn a_foreign_message_is_moved_to_the_dead_letters_and_the_next_one_comes() -> Result<()> {
    let mut rabbit = Rabbit::fresh().await?;
    let mut consumer = rabbit.subscriber.consume(INVITATION, 1).await?;
    let (_connection, channel) = rabbit.channel().await?;
    let properties = BasicProperties::default().with_message_id("foreign".into());
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(EXCHANGE.into(), "invitation.due".into(), options, b"what?", properties)
        .await?;
    // So that the order of the two is certain.
    let waiting = async || (dead_letters_waiting(&rabbit).await.ok()? == 1).then_some(());
    let (moved, _) = tokio::join!(
        eventually("moved", Duration::from_secs(20), waiting),
        timeout(Duration::from_secs(5), consumer.next())
    );
    moved?;
    rabbit.publish(&calls(7..8)).await?;
    assert_eq!(take(&mut consumer, 1).await, [7]);
    assert_eq!(dead_letters(&channel, 1).await?, ["foreign"]);
    Ok(())
}

async fn dead_letters_waiting(rabbit: &Rabbit) -> Result<u32> {
    let (_connection, channel) = rabbit.channel().await?;
    let passive = lapin::options::QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    Ok(channel
        .queue_declare(DEAD_LETTER_QUEUE.into(), passive, FieldTable::default())
        .await?
        .message_count())
}

#[tokio::test]
async fn a_batch_given_up_half_way_does_not_spoil_the_next() -> Result<()> {
    let mut rabbit = Rabbit::fresh().await?;
    rabbit.publish(&calls(0..1)).await?;
    for micros in (100..5_000).step_by(200) {
        let _ = timeout(Duration::from_micros(micros), rabbit.publish(&calls(1..200))).await;
        let error = rabbit.publish(&[event(1_000, "nobody.due")]).await.unwrap_err();
        assert!(
            matches!(
                error,
                PublishError::Refused {
                    refused: 1,
                    total: 1,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_consumer_whose_queue_was_deleted_ends() -> Result<()> {
    let rabbit = Rabbit::fresh().await?;
    let mut consumer = rabbit.subscriber.consume(INVITATION, 1).await?;
    let (_connection, channel) = rabbit.channel().await?;
    channel
        .queue_delete(INVITATION.name.into(), QueueDeleteOptions::default())
        .await?;
    ends(&mut consumer).await?;
    // Opened anew, it has declared its queue again.
    rabbit.subscriber.consume(INVITATION, 1).await?;
    Ok(())
}

async fn ends(consumer: &mut Box<dyn Consumer>) -> Result<String> {
    let ended = timeout(Duration::from_secs(20), consumer.next())
        .await
        .context("the consumer hangs")?;
    Ok(ended.err().context("the consumer goes on")?.0)
}

#[tokio::test]
async fn a_quiet_consumer_with_a_healthy_broker_stays_and_still_gets_messages() -> Result<()> {
    let mut rabbit = Rabbit::fresh().await?;
    let subscriber = client(&rabbit.url)
        .subscriber()
        .with_silence(Duration::from_millis(300));
    let mut consumer = subscriber.consume(INVITATION, 2).await?;
    assert!(timeout(Duration::from_secs(1), consumer.next()).await.is_err());
    rabbit.publish(&calls(0..3)).await?;
    let held = (next(&mut consumer).await, next(&mut consumer).await);
    assert!(
        timeout(Duration::from_millis(500), consumer.next()).await.is_err(),
        "a held message is no silence"
    );
    drop(held);
    take(&mut consumer, 3).await;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_fell_silent_ends_the_consumer_and_fails_the_publisher_in_time() -> Result<()> {
    let url = Broker::shared().await?.vhost().await?;
    let line = Line::to(&url).await?;
    let mut publisher = client(&line.url).publisher().with_deadline(Duration::from_millis(700));
    let subscriber = client(&line.url).subscriber().with_silence(Duration::from_millis(200));
    publisher.publish(&calls(0..1)).await?;
    let mut consumer = subscriber.consume(INVITATION, 1).await?;
    take(&mut consumer, 1).await;

    line.silent.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let error = publisher.publish(&calls(1..2)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    ends(&mut consumer).await?;
    assert!(client(&line.url).ping().await.is_err());

    line.silent.store(false, Ordering::Relaxed);
    publisher.publish(&calls(2..3)).await?;
    client(&line.url).ping().await?;
    Ok(())
}

/// A line to the broker that can be cut without a word.
struct Line {
    url: String,
    silent: Arc<AtomicBool>,
}

impl Line {
    async fn to(broker: &str) -> Result<Self> {
        let mut url = url::Url::parse(broker)?;
        let host = format!("{}:{}", url.host_str().context("host")?, url.port().unwrap_or(5672));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        url.set_host(Some("127.0.0.1"))?;
        let _ = url.set_port(Some(listener.local_addr()?.port()));
        let silent = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&silent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&host).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(forward(from_client, to_server, Arc::clone(&switch)));
                tokio::spawn(forward(from_server, to_client, Arc::clone(&switch)));
            }
        });
        Ok(Self {
            url: url.into(),
            silent,
        })
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // What was swallowed once leaves a hole, so such a connection stays silent.
        if silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_at_once_and_without_the_password() -> Result<()> {
    let port = usher_tests::environment::free_port()?;
    for url in [
        format!("amqp://usher:sesame@127.0.0.1:{port}/x"),
        "amqp//usher:sesame@nowhere".to_owned(),
    ] {
        let rabbit = client(&url);
        let published = rabbit.publisher().publish(&calls(0..1)).await.unwrap_err();
        let consumed = rabbit
            .subscriber()
            .consume(INVITATION, 1)
            .await
            .err()
            .context("no broker")?;
        let pinged = rabbit.ping().await.unwrap_err();
        for text in [
            published.to_string(),
            consumed.to_string(),
            pinged.to_string(),
            format!("{rabbit:?}{pinged:?}"),
        ] {
            assert!(!text.contains("sesame"), "{text}");
        }
    }
    Ok(())
}

/// Nothing that was confirmed is lost, and both ends find back by themselves, whether the broker stops or is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_loses_nothing_that_it_confirmed() -> Result<()> {
    let mut broker = Broker::start().await?;
    let url = broker.vhost().await?;
    let stopped = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish_until(stopped.clone(), client(&url).publisher()));
    let consuming = tokio::spawn(consume_until(stopped.clone(), client(&url).subscriber()));

    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.restart().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.kill()?;
    broker.start_again().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stopped.store(true, Ordering::Relaxed);

    let (confirmed, failures) = timeout(Duration::from_mins(1), publishing)
        .await
        .context("the publisher hangs")??;
    let mut seen = timeout(Duration::from_mins(1), consuming)
        .await
        .context("the consumer hangs")??;
    let mut rest = client(&url).subscriber().consume(INVITATION, 500).await?;
    while let Ok(message) = timeout(Duration::from_secs(2), rest.next()).await {
        let message = message?;
        seen.insert(message.envelope.id);
        message.settle(Settlement::Ack).await;
    }
    let lost = confirmed.iter().filter(|id| !seen.contains(id)).count();
    assert_eq!(lost, 0, "of {} confirmed events", confirmed.len());
    assert!(
        confirmed.len() > 1_000 && failures > 0,
        "{} confirmed, {failures} failures",
        confirmed.len()
    );
    Ok(())
}

async fn publish_until(stopped: Arc<AtomicBool>, mut publisher: RabbitPublisher) -> (Vec<uuid::Uuid>, u32) {
    let (mut confirmed, mut failures, mut number) = (Vec::new(), 0, 0);
    let mut last_failed = false;
    while !stopped.load(Ordering::Relaxed) || last_failed {
        let batch = calls(number..number + 50);
        last_failed = publisher.publish(&batch).await.is_err();
        if last_failed {
            failures += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            confirmed.extend(batch.iter().map(|it| it.id));
            number += 50;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (confirmed, failures)
}

async fn consume_until(stopped: Arc<AtomicBool>, subscriber: RabbitSubscriber) -> BTreeSet<uuid::Uuid> {
    let mut seen = BTreeSet::new();
    while !stopped.load(Ordering::Relaxed) {
        let Ok(mut consumer) = subscriber.consume(INVITATION, 100).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stopped.load(Ordering::Relaxed) {
            match timeout(Duration::from_millis(200), consumer.next()).await {
                Ok(Ok(message)) => {
                    seen.insert(message.envelope.id);
                    message.settle(Settlement::Ack).await;
                }
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
    }
    seen
}

/// A broker short of memory reads nothing more from publishers and says nothing; consumers go on.
#[tokio::test]
async fn a_blocked_broker_fails_the_publisher_in_time_and_lets_consumers_settle() -> Result<()> {
    let broker = Broker::start().await?;
    let url = broker.vhost().await?;
    let mut publisher = client(&url).publisher().with_deadline(Duration::from_secs(1));
    publisher.publish(&calls(0..2)).await?;
    let mut consumer = client(&url).subscriber().consume(INVITATION, 1).await?;
    broker.block_publishers(true).await?;
    for number in 2..8 {
        let error = publisher.publish(&calls(number..=number)).await.unwrap_err();
        assert!(error.to_string().contains("takes no publishes"), "{error:?}");
    }
    assert_eq!(take(&mut consumer, 2).await, [0, 1]);
    // A connection that is blocked cannot even be closed: one for each attempt would pile up.
    let connections = broker
        .management("GET", "connections?columns=name", "")
        .await?
        .success()?
        .body;
    assert!(connections.matches("name").count() <= 2, "{connections}");
    broker.block_publishers(false).await?;
    eventually("unblocked", Duration::from_secs(10), async || {
        publisher.publish(&calls(8..9)).await.ok()
    })
    .await?;
    Ok(())
}
