//! The identity service: owns state and time.
//!
//! A call goes from `grpc` (parse, gathering every fault) through `operations` (gathered reads and writes) to the rules of
//! `usher_core` and the store, in one transaction. `background` publishes what happened and fires what is due.

mod app;
mod audit;
mod authorize;
pub mod background;
mod call;
pub mod clock;
pub mod config;
mod convert;
mod grpc;
mod health;
mod judge;
mod observe;
pub mod operations;
mod page;
mod parse;
mod render;
mod server;
pub mod service;
pub mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use argon2::Argon2;
use chrono::TimeDelta;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use usher_bus::memory::MemoryBus;
use usher_bus::rabbitmq::RabbitMq;
use usher_core::clock::Clock;
use usher_core::ports::Store;
use usher_platform::{Context, Failure};
use usher_store::{SeaStore, StoreConfig};
use uuid::Uuid;

use crate::background::event_log::{InOutbox, OutboxLog};
use crate::background::housekeeping::Housekeeping;
use crate::background::relay::Relay;
use crate::background::sealer::Sealer;
use crate::clock::DatabaseClock;
use crate::config::Config;
use crate::service::{Door, Ground, Service};

/// A service that listens.
pub struct Running {
    /// Where the API listens.
    pub address: SocketAddr,
    /// The bus for workers in this process; `None` where a broker carries the events.
    pub bus: Option<MemoryBus>,
    service: Service,
}

impl Running {
    /// Ends when the service has drained after the context's shutdown, or failed.
    pub async fn wait(self) -> Result<(), Failure> {
        self.service.wait().await
    }
}

/// Runs the service until the context says stop.
pub async fn run(config: Config, context: Context) -> Result<(), Failure> {
    start(config, context).await?.wait().await
}

/// Starts the service. It listens at once, and is ready when the database and the broker have answered. Without the URL of a
/// broker it has a bus of its own.
pub async fn start(config: Config, context: Context) -> Result<Running, Failure> {
    config.check_without_bus()?;
    let database = context.readiness.condition("database");
    let door = Door::open(&config, &context).await?;
    let address = door.address;
    let store = connect(&config.database, &context).await?;
    let rehearsal = Some(config.clock.rehearsal_file.clone()).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = &rehearsal {
        tracing::warn!(path = %path.display(), "the clock runs ahead by what this file says: a rehearsal");
    }
    let clock = DatabaseClock::connect(&*store, rehearsal).await?;
    let ground = Ground {
        store: Arc::clone(&store),
        clock: clock.clone(),
        hashing: Argon2::default(),
    };
    let service = door.serve(&config, &context, ground)?;
    database.set(true, "");

    let (tasks, shutdown) = (&service.tasks, context.shutdown.clone());
    let follower = (Arc::clone(&clock), Arc::clone(&store), shutdown.clone());
    tasks.spawn(async move { follower.0.follow(&*follower.1, follower.2).await });
    tasks.spawn(service.sweep().run(shutdown.clone()));
    let audit_keys = Arc::clone(&service.app.audit_keys);
    if config.audit.seal {
        let sealer = Sealer {
            store: Arc::clone(&store),
            clock: clock.clone(),
            keys: Arc::clone(&audit_keys),
        };
        tasks.spawn(sealer.run(shutdown.clone()));
    } else {
        tracing::warn!("audit.seal is off: what is taken out of the audit log is not noticed");
    }
    let housekeeping = Housekeeping {
        store: Arc::clone(&store),
        clock: clock.clone(),
        database,
        events: TimeDelta::days(i64::from(config.retention.events_days.max(1))),
        responses: TimeDelta::hours(i64::from(config.retention.responses_hours)),
        jobs: TimeDelta::days(i64::from(config.retention.jobs_days.max(1))),
        audit: Some(TimeDelta::days(config.retention.audit_days.into())).filter(|kept| !kept.is_zero()),
        audit_keys,
    };
    tasks.spawn(housekeeping.run(shutdown.clone()));
    let bus = start_bus(&config, &context, &store, clock, service.app.engine.commits(), tasks);

    Ok(Running { address, bus, service })
}

/// RabbitMQ, or the in-process bus where no broker is configured.
fn start_bus(
    config: &Config,
    context: &Context,
    store: &Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    commits: watch::Receiver<u64>,
    tasks: &TaskTracker,
) -> Option<MemoryBus> {
    let owner = format!("{}-{}", context.name, Uuid::new_v4().simple());
    let (store, bus) = (Arc::clone(store), context.readiness.condition("bus"));
    let shutdown = context.shutdown.clone();
    if let Some(url) = &config.bus.url {
        let rabbit = RabbitMq::new(SecretString::from(url.expose().to_owned()), "usher-identity");
        let publisher = rabbit.publisher();
        tasks.spawn(
            Relay {
                store,
                clock,
                publisher,
                owner,
                bus,
            }
            .run(commits, shutdown),
        );
        return None;
    }
    let log = Arc::new(OutboxLog {
        store: Arc::clone(&store),
    });
    // The in-process bus reads the outbox itself; the relay only marks, so that what is old can be pruned.
    tasks.spawn(
        Relay {
            store,
            clock,
            publisher: InOutbox,
            owner,
            bus,
        }
        .run(commits.clone(), shutdown),
    );
    Some(MemoryBus::new(log, commits))
}

async fn connect(config: &config::Database, context: &Context) -> Result<Arc<dyn Store>, Failure> {
    let settings = StoreConfig {
        max_connections: config.max_connections,
        ..StoreConfig::new(config.url.expose())
    };
    let mut told = false;
    loop {
        match open(&settings, config.migrate).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(usher_core::ports::StoreError::Unavailable(cause)) => {
                if !told {
                    tracing::warn!(cause, "the database does not answer; waiting for it");
                    told = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return Err("stopped while waiting for the database".into()),
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
        }
    }
}

async fn open(settings: &StoreConfig, migrate: bool) -> Result<SeaStore, usher_core::ports::StoreError> {
    let store = SeaStore::connect(settings).await?;
    if migrate {
        store.migrate().await?;
    }
    store.check().await?;
    Ok(store)
}
