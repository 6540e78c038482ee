//! From the commit to a consumer, at 200 events a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use prost::Message as _;
use usher_proto::events::v1::LifecycleEvent;
use usher_proto::identity::v1::{CreateUserRequest, Tenant, User};
use usher_tests::environment::postgres::Postgres;
use usher_tests::system::{Options, System};
use uuid::Uuid;

use crate::Effort;
use crate::report::Report;

/// Events a second.
const RATE: u32 = 200;

/// Measures from the answer of CreateUser, which follows the commit, to the event at a consumer.
pub(crate) async fn run(postgres: &Postgres, effort: Effort, report: &mut Report) -> Result<()> {
    let database_url = Some(postgres.database().await?);
    let system = System::start(Options {
        database_url,
        without_workers: true,
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    let seen: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let consuming = tokio::spawn(consume(system.amqp_url.clone(), Arc::clone(&seen)));
    // The queue is bound before the first event.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let clients = system.clients()?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut creating = tokio::task::JoinSet::new();
    let began = Instant::now();
    while began.elapsed() < effort.time * 2 {
        ticks.tick().await;
        let (clients, tenant_id) = (clients.clone(), tenant.clone());
        creating.spawn(async move {
            let user = User {
                email: format!("{}@example.org", Uuid::new_v4().simple()),
                ..User::default()
            };
            let request = CreateUserRequest {
                tenant_id,
                user: Some(user),
                ..CreateUserRequest::default()
            };
            let created = clients.users().create_user(request).await?;
            let committed = Instant::now();
            Ok::<_, anyhow::Error>((created.into_inner().user.context("no user")?.user_id, committed))
        });
    }
    let mut committed = Vec::new();
    while let Some(created) = creating.join_next().await {
        committed.push(created??);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    consuming.abort();
    let seen = seen.lock().map_err(|_| anyhow::anyhow!("the consumer panicked"))?;
    let mut latencies: Vec<f64> = committed
        .iter()
        .filter_map(|(user, at)| Some(seen.get(user)?.saturating_duration_since(*at).as_secs_f64() * 1_000.0))
        .collect();
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies.get((latencies.len() * percent / 100).min(latencies.len().saturating_sub(1)));
    report.note(format!(
        "from the answer of the call to the event at a consumer, {RATE} events/s, {} of {} seen: p50 {:.1} ms, p99 {:.1} ms",
        latencies.len(),
        committed.len(),
        at(50).copied().unwrap_or(f64::NAN),
        at(99).copied().unwrap_or(f64::NAN),
    ));
    Ok(())
}

async fn consume(amqp_url: String, seen: Arc<Mutex<HashMap<String, Instant>>>) -> Result<()> {
    let connection = Connection::connect(&amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let queue = "usher.bench.latency";
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default())
        .await?;
    let (exchange, key) = (usher_bus::EXCHANGE.into(), "user.created".into());
    channel
        .queue_bind(
            queue.into(),
            exchange,
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = channel
        .basic_consume(queue.into(), "bench".into(), options, FieldTable::default())
        .await?;
    while let Some(delivery) = consumer.next().await {
        let event = LifecycleEvent::decode(delivery?.data.as_slice())?;
        if let Ok(mut seen) = seen.lock() {
            seen.insert(event.user_id, Instant::now());
        }
    }
    Ok(())
}
