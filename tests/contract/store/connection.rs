//! Connections: the schema, callers that hang up, a pool that is empty, a server that is not there.

use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::poll_fn;
use usher_core::ports::{Cursor, Outbox as _, Store as _, StoreError};
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::free_port;
use usher_tests::environment::postgres::Postgres;

use super::on_both;
use super::stage::{Stage, creating};

on_both! {
    a_caller_that_hangs_up_while_beginning_leaves_no_transaction_open,
    a_full_pool_answers_that_the_database_is_not_available,
    a_schema_that_was_migrated_passes_and_can_be_migrated_again,
    a_set_of_hundreds_is_written_and_read_at_once,
}

/// A `begin` that is dropped at any point must not hand its connection back with a transaction open: what the next one
/// writes there would be answered with OK and never committed.
async fn a_caller_that_hangs_up_while_beginning_leaves_no_transaction_open(stage: Stage) -> Result<()> {
    let mut config = stage.config.clone();
    config.max_connections = 2;
    config.acquire_timeout = Duration::from_secs(10);
    let store = SeaStore::connect(&config).await?;
    for round in 0_u64..60 {
        let polls = round % 6;
        let mut begin = Box::pin(store.begin());
        for _ in 0..polls {
            // Polled now and then, dropped wherever it stands.
            let ready = poll_fn(|context| Poll::Ready(begin.as_mut().poll(context).is_ready())).await;
            if ready {
                break;
            }
            tokio::time::sleep(Duration::from_micros(round * 20)).await;
        }
        drop(begin);
        let position = Cursor(round.to_string());
        store.save_position("queue", &position).await?;
        assert_eq!(
            stage.store.load_position("queue").await?,
            Some(position),
            "round {round}"
        );
    }
    Ok(())
}

async fn a_full_pool_answers_that_the_database_is_not_available(stage: Stage) -> Result<()> {
    let mut config = stage.config.clone();
    config.max_connections = 1;
    config.acquire_timeout = Duration::from_millis(500);
    let store = SeaStore::connect(&config).await?;
    let held = store.begin().await?;
    let began = Instant::now();
    let refused = store.begin().await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "it does not wait for ever");
    drop(held);
    store.begin().await?;
    Ok(())
}

async fn a_schema_that_was_migrated_passes_and_can_be_migrated_again(stage: Stage) -> Result<()> {
    stage.store.check().await?;
    stage.write(creating([&stage.person("ana")])).await?;
    stage.store.migrate().await?;
    stage.store.check().await?;
    assert!(stage.replica().await?.check().await.is_ok());
    Ok(())
}

async fn a_set_of_hundreds_is_written_and_read_at_once(stage: Stage) -> Result<()> {
    let people: Vec<_> = (0..1_500).map(|number| stage.person(&format!("p{number}"))).collect();
    stage.write(creating(&people)).await?;
    let ids: Vec<_> = people.iter().map(|person| (person.tenant, person.id)).collect();
    let read = usher_core::ports::Directory::users(&stage.store, &ids).await?;
    assert_eq!(read.len(), people.len());
    Ok(())
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once_and_an_empty_database_does_not_pass() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::shared().await?.database().await?;
    let sqlite = format!("sqlite:{}?mode=rwc", folder.path().join("fresh.db").display());
    for url in [postgres, sqlite] {
        let config = StoreConfig::new(url);
        let (first, second) = (SeaStore::connect(&config).await?, SeaStore::connect(&config).await?);
        let fault = first.check().await.expect_err("nothing is there").to_string();
        assert!(fault.contains("usher migrate"), "it says the way out: {fault}");
        let (one, two) = tokio::join!(first.migrate(), second.migrate());
        one?;
        two?;
        first.check().await?;
        first.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_in_memory_database_serves_for_tests() -> Result<()> {
    let store = SeaStore::connect(&StoreConfig::new("sqlite::memory:")).await?;
    store.migrate().await?;
    store.check().await?;
    store.save_position("queue", &Cursor("1".into())).await?;
    assert_eq!(store.load_position("queue").await?, Some(Cursor("1".into())));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_available_and_a_wrong_url_is_a_fault() -> Result<()> {
    let mut config = StoreConfig::new(format!("postgres://usher:secret-word@127.0.0.1:{}/usher", free_port()?));
    config.acquire_timeout = Duration::from_millis(500);
    let fault = SeaStore::connect(&config).await.expect_err("nobody listens");
    assert!(matches!(fault, StoreError::Unavailable(_)), "{fault}");
    assert!(!fault.to_string().contains("secret-word"));
    for url in [
        "postgres://usher:secret-word@host:port/usher",
        "mysql://usher:secret-word@host/usher",
    ] {
        let fault = SeaStore::connect(&StoreConfig::new(url))
            .await
            .expect_err("no such URL");
        assert!(matches!(fault, StoreError::Internal(_)), "{fault}");
        assert!(!fault.to_string().contains("secret-word"), "{fault}");
    }
    Ok(())
}
