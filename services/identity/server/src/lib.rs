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
pub mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use usher_bus::memory::MemoryBus;
use usher_bus::rabbitmq::RabbitMq;
use usher_core::clock::Clock;
use usher_core::ports::Store;
use usher_platform::{Context, Failure};
use usher_store::{SeaStore, StoreConfig};
use uuid::Uuid;

use crate::app::{App, Sender};
use crate::audit::Recorder;
use crate::background::event_log::{InOutbox, OutboxLog};
use crate::background::housekeeping::Housekeeping;
use crate::background::jobs::JobRunner;
use crate::background::relay::Relay;
use crate::background::sealer::Sealer;
use crate::background::sweep::Sweep;
use crate::clock::DatabaseClock;
use crate::config::Config;
use crate::operations::access::AccessCache;
use crate::operations::engine::Engine;
use crate::operations::gather::UserReader;
use crate::operations::passwords::Passwords;
use crate::operations::templates::Templates;
use crate::server::Api;

/// A service that listens.
pub struct Running {
    /// Where the API listens.
    pub address: SocketAddr,
    /// The bus for workers in this process; `None` where a broker carries the events.
    pub bus: Option<MemoryBus>,
    api: Api,
    recorder: Recorder,
    tasks: TaskTracker,
}

impl Running {
    /// Ends when the service has drained after the context's shutdown, or failed.
    pub async fn wait(self) -> Result<(), Failure> {
        let result = self.api.wait().await;
        self.recorder.flush().await;
        self.tasks.close();
        self.tasks.wait().await;
        result
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
    let keys = Arc::new(config.links.keys()?);
    let audit_keys = Arc::new(config.audit.keys()?);
    let database = context.readiness.condition("database");
    let listener = server::bind(config.grpc.listen).await?;
    let address = listener.local_addr()?;
    let api = Api::start(
        listener,
        &config.grpc,
        context.readiness.clone(),
        context.shutdown.clone(),
        context.abort.clone(),
    )
    .await?;
    tracing::info!(%address, "the API listens");
    let store = connect(&config.database, &context).await?;
    let rehearsal = Some(config.clock.rehearsal_file.clone()).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = &rehearsal {
        tracing::warn!(path = %path.display(), "the clock runs ahead by what this file says: a rehearsal");
    }
    let clock = DatabaseClock::connect(&*store, rehearsal).await?;

    let tasks = TaskTracker::new();
    let shutdown = context.shutdown.clone();
    let sqlite = config.database.url.scheme().starts_with("sqlite");
    let access = Arc::new(AccessCache::new(Arc::clone(&store), clock.clone() as Arc<dyn Clock>));
    let writers = if sqlite { 1 } else { 2 };
    let engine = Engine::start(
        Arc::clone(&store),
        clock.clone(),
        access.clone(),
        Arc::clone(&audit_keys),
        writers,
    );
    let recorder = Recorder::start(
        Arc::clone(&store),
        clock.clone(),
        Arc::clone(&audit_keys),
        config.audit.service_reads,
    );
    let app = App {
        engine: engine.clone(),
        reader: UserReader::start(&store, 3),
        access: Arc::clone(&access),
        passwords: Passwords::try_new(hashing_workers(config.passwords.workers))?,
        store: Arc::clone(&store),
        clock: clock.clone(),
        keys,
        audit_keys: Arc::clone(&audit_keys),
        recorder: recorder.clone(),
        templates: Arc::new(Templates::new(Arc::clone(&store))),
        permissions: config.authorization.permissions()?,
        job_started: Arc::new(Notify::new()),
        shutdown: context.shutdown.clone(),
        leases: config.delivery.leases(),
        sender: Arc::new(Sender {
            from_address: config.mail.from_address.clone(),
            message_id_domain: config.mail.message_id_domain.clone(),
            accept_url: config.links.accept_url.clone(),
            sign_in_url: config.links.sign_in_url.clone(),
        }),
    };
    api.open(app.clone());
    database.set(true, "");
    let runner = JobRunner {
        app,
        owner: format!("{}-{}", context.name, Uuid::new_v4().simple()),
    };
    tasks.spawn(runner.run(shutdown.clone()));

    let follower = (Arc::clone(&clock), Arc::clone(&store), shutdown.clone());
    tasks.spawn(async move { follower.0.follow(&*follower.1, follower.2).await });
    tasks.spawn({
        let (commits, shutdown) = (engine.commits(), shutdown.clone());
        async move { access.follow(commits, shutdown).await }
    });
    let sweep = Sweep {
        store: Arc::clone(&store),
        clock: clock.clone(),
        engine: engine.clone(),
    };
    tasks.spawn(sweep.run(shutdown.clone()));
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
    let bus = start_bus(&config, &context, &store, clock.clone(), engine.commits(), &tasks);

    Ok(Running {
        address,
        bus,
        api,
        recorder,
        tasks,
    })
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

fn hashing_workers(configured: usize) -> usize {
    if configured > 0 {
        configured
    } else {
        std::thread::available_parallelism().map_or(1, Into::into)
    }
}
