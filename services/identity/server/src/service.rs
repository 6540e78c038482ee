//! The service as its callers know it: an API on a store and a clock. What it does by itself as time goes on is started
//! beside it, so that a test can be the time.

use std::net::SocketAddr;
use std::sync::Arc;

use argon2::Argon2;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use usher_core::clock::Clock;
use usher_core::ports::Store;
use usher_platform::{Context, Failure};
use uuid::Uuid;

use crate::app::{App, Sender};
use crate::audit::Recorder;
use crate::background::jobs::JobRunner;
use crate::background::sweep::Sweep;
use crate::config::Config;
use crate::operations::access::AccessCache;
use crate::operations::engine::Engine;
use crate::operations::gather::UserReader;
use crate::operations::passwords::Passwords;
use crate::operations::templates::Templates;
use crate::server::{self, Api};

/// Writers of an engine on PostgreSQL: one transaction is prepared while another is committed. SQLite has one writer.
const WRITERS: usize = 2;

/// What a service stands on.
pub struct Ground {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How passwords are hashed.
    pub hashing: Argon2<'static>,
}

/// The API's address, at which a caller is told to wait until there is a service behind it.
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    api: Api,
}

impl Door {
    /// Listens at `grpc.listen`.
    pub async fn open(config: &Config, context: &Context) -> Result<Self, Failure> {
        let listener: TcpListener = server::bind(config.grpc.listen).await?;
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
        Ok(Self { address, api })
    }

    /// From now on calls are answered, and jobs are worked on. No timer fires, no event is published.
    pub fn serve(self, config: &Config, context: &Context, ground: Ground) -> Result<Service, Failure> {
        let Ground { store, clock, hashing } = ground;
        let audit_keys = Arc::new(config.audit.keys()?);
        let sqlite = config.database.url.scheme().starts_with("sqlite");
        let access = Arc::new(AccessCache::new(Arc::clone(&store), Arc::clone(&clock)));
        let engine = Engine::start(
            Arc::clone(&store),
            Arc::clone(&clock),
            access.clone(),
            Arc::clone(&audit_keys),
            if sqlite { 1 } else { WRITERS },
        );
        let recorder = Recorder::start(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&audit_keys),
            config.audit.service_reads,
        );
        let app = App {
            engine: engine.clone(),
            reader: UserReader::start(&store, 3),
            access: Arc::clone(&access),
            passwords: Passwords::try_new(hashing, hashing_workers(config.passwords.workers))?,
            store: Arc::clone(&store),
            clock,
            keys: Arc::new(config.links.keys()?),
            audit_keys,
            recorder,
            templates: Arc::new(Templates::new(store)),
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
        self.api.open(app.clone());
        let tasks = TaskTracker::new();
        let runner = JobRunner {
            app: app.clone(),
            owner: format!("{}-{}", context.name, Uuid::new_v4().simple()),
        };
        tasks.spawn(runner.run(context.shutdown.clone()));
        let (commits, shutdown) = (engine.commits(), context.shutdown.clone());
        tasks.spawn(async move { access.follow(commits, shutdown).await });
        Ok(Service {
            app,
            tasks,
            api: self.api,
        })
    }
}

/// A service that answers calls.
pub struct Service {
    pub(crate) app: App,
    /// What goes on beside the calls until the context's shutdown.
    pub(crate) tasks: TaskTracker,
    api: Api,
}

impl Service {
    /// What fires the timers of this service.
    pub fn sweep(&self) -> Sweep {
        Sweep {
            store: Arc::clone(&self.app.store),
            clock: Arc::clone(&self.app.clock),
            engine: self.app.engine.clone(),
        }
    }

    /// Ends when it has drained after the context's shutdown, or failed.
    pub async fn wait(self) -> Result<(), Failure> {
        let result = self.api.wait().await;
        self.app.recorder.flush().await;
        self.tasks.close();
        self.tasks.wait().await;
        result
    }
}

fn hashing_workers(configured: usize) -> usize {
    if configured > 0 {
        configured
    } else {
        std::thread::available_parallelism().map_or(1, Into::into)
    }
}
