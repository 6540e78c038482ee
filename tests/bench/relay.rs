//! The relay against a bare publisher with confirms to a quorum queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use prost::Message as _;
use secrecy::SecretString;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use usher_bus::rabbitmq::RabbitMq;
use usher_core::clock::Clock;
use usher_core::ports::Store;
use usher_identity::background::relay::Relay;
use usher_identity::clock::DatabaseClock;
use usher_platform::Readiness;
use usher_proto::events::v1::LifecycleEvent;
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::postgres::Postgres;
use usher_tests::environment::rabbitmq::Broker;
use uuid::Uuid;

use crate::report::Report;
use crate::{Effort, floor};

/// Fills an outbox with calls to work, which go to a quorum queue as the floor's do, and lets the relay empty it.
pub(crate) async fn run(postgres: &Postgres, effort: Effort, report: &mut Report) -> Result<()> {
    let id = Uuid::new_v4().to_string();
    let event = LifecycleEvent {
        tenant_id: id.clone(),
        user_id: id.clone(),
        delivery_id: id,
        ..LifecycleEvent::default()
    };
    let body = event.encode_to_vec();
    let (mut below, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let amqp_url = Broker::shared().await?.vhost().await?;
        below.push(floor::publish(&amqp_url, effort.items, 1_000, &body).await?);
        ours.push(relay(&postgres.database().await?, &amqp_url, effort.items).await?);
    }
    report.ratio(
        "relay, against a bare publisher with confirms to a quorum queue",
        &below,
        &ours,
        0.5,
    );
    Ok(())
}

async fn relay(database_url: &str, amqp_url: &str, events: usize) -> Result<f64> {
    let store = SeaStore::connect(&StoreConfig::new(database_url)).await?;
    store.migrate().await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let mut connection = PgConnection::connect(database_url).await?;
    fill(&mut connection, events).await?;
    let clock: Arc<dyn Clock> = DatabaseClock::connect(&*store, None).await?;
    let (_commits, woken) = watch::channel(0);
    let shutdown = CancellationToken::new();
    let relay = Relay {
        store: Arc::clone(&store),
        clock,
        publisher: RabbitMq::new(SecretString::from(amqp_url.to_owned()), "bench").publisher(),
        owner: "bench".into(),
        bus: Readiness::new().condition("bus"),
    };
    let began = Instant::now();
    let running = tokio::spawn(relay.run(woken, shutdown.clone()));
    loop {
        let row = connection
            .fetch_one("SELECT count(*) FROM outbox WHERE published_at IS NULL")
            .await?;
        if row.get::<i64, _>(0) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let time = began.elapsed();
    shutdown.cancel();
    running.await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of events fit")]
    Ok(events as f64 / time.as_secs_f64())
}

/// Events of many users, spread over all lanes.
async fn fill(connection: &mut PgConnection, events: usize) -> Result<()> {
    let statement = "INSERT INTO outbox (tenant_id, user_id, event_id, event_type, lane, body, occurred_at) \
        SELECT t, u, e, 'invitation.due', n % 64, \
          json_build_object('id', e, 'type', 'invitation.due', 'tenant', t, 'user', u, 'user_version', 1, \
            'at', '2026-01-01T00:00:00.000001Z', 'actor', 'usher', 'delivery', e)::text, now() \
        FROM (SELECT n, gen_random_uuid() t, gen_random_uuid() u, gen_random_uuid() e \
          FROM generate_series(1, $1::int) n) rows";
    sqlx::query(statement)
        .bind(i32::try_from(events)?)
        .execute(connection)
        .await?;
    Ok(())
}
