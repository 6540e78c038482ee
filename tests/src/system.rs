//! Usher as it is deployed, for a test: the five processes against PostgreSQL and RabbitMQ, or the service alone on
//! SQLite; a mail server beside it, and a clock that the test moves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use usher_proto::identity::v1::access_service_client::AccessServiceClient;
use usher_proto::identity::v1::activity_service_client::ActivityServiceClient;
use usher_proto::identity::v1::audit_service_client::AuditServiceClient;
use usher_proto::identity::v1::bulk_service_client::BulkServiceClient;
use usher_proto::identity::v1::delivery_service_client::DeliveryServiceClient;
use usher_proto::identity::v1::erasure_service_client::ErasureServiceClient;
use usher_proto::identity::v1::event_service_client::EventServiceClient;
use usher_proto::identity::v1::group_service_client::GroupServiceClient;
use usher_proto::identity::v1::inactivity_service_client::InactivityServiceClient;
use usher_proto::identity::v1::invitation_service_client::InvitationServiceClient;
use usher_proto::identity::v1::role_service_client::RoleServiceClient;
use usher_proto::identity::v1::seat_service_client::SeatServiceClient;
use usher_proto::identity::v1::template_service_client::TemplateServiceClient;
use usher_proto::identity::v1::tenant_service_client::TenantServiceClient;
use usher_proto::identity::v1::transfer_service_client::TransferServiceClient;
use usher_proto::identity::v1::user_service_client::UserServiceClient;
use usher_proto::identity::v1::work_service_client::WorkServiceClient;
use usher_proto::identity::v1::{CreateTenantRequest, Tenant};
use uuid::Uuid;

use crate::environment::postgres::Postgres;
use crate::environment::processes::Process;
use crate::environment::rabbitmq::Broker;
use crate::environment::{free_port, new_folder};
use crate::ledger::{self, Seats};

/// A key for links; its value is no matter.
pub const LINK_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm";
/// A key for the audit log; its value is no matter.
pub const AUDIT_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTBmZWRjYmE5ODc2NTQzMjEw";
/// What links begin with.
pub const ACCEPT_URL: &str = "https://learn.example/accept";

const IDENTITY: &str = "usher-identity";

/// Names who acts.
#[derive(Clone)]
pub struct As(String);

impl Interceptor for As {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let actor = MetadataValue::try_from(self.0.as_str()).map_err(|_| Status::internal("not ASCII"))?;
            request.metadata_mut().insert("usher-actor-id", actor);
        }
        Ok(request)
    }
}

/// A channel that names who acts.
pub type Caller = InterceptedService<Channel, As>;

/// Clients of every service.
#[derive(Clone)]
pub struct Clients {
    caller: Caller,
}

impl Clients {
    /// Clients that act as somebody; empty: nobody named.
    pub fn new(channel: Channel, actor: &str) -> Self {
        Self {
            caller: InterceptedService::new(channel, As(actor.to_owned())),
        }
    }

    /// TenantService.
    pub fn tenants(&self) -> TenantServiceClient<Caller> {
        TenantServiceClient::new(self.caller.clone())
    }

    /// UserService.
    pub fn users(&self) -> UserServiceClient<Caller> {
        UserServiceClient::new(self.caller.clone()).max_decoding_message_size(32 << 20)
    }

    /// InvitationService.
    pub fn invitations(&self) -> InvitationServiceClient<Caller> {
        InvitationServiceClient::new(self.caller.clone()).max_decoding_message_size(32 << 20)
    }

    /// AccessService.
    pub fn access(&self) -> AccessServiceClient<Caller> {
        AccessServiceClient::new(self.caller.clone())
    }

    /// WorkService.
    pub fn work(&self) -> WorkServiceClient<Caller> {
        WorkServiceClient::new(self.caller.clone())
    }

    /// DeliveryService.
    pub fn deliveries(&self) -> DeliveryServiceClient<Caller> {
        DeliveryServiceClient::new(self.caller.clone()).max_decoding_message_size(32 << 20)
    }

    /// AuditService.
    pub fn audit(&self) -> AuditServiceClient<Caller> {
        AuditServiceClient::new(self.caller.clone()).max_decoding_message_size(32 << 20)
    }

    /// GroupService.
    pub fn groups(&self) -> GroupServiceClient<Caller> {
        GroupServiceClient::new(self.caller.clone())
    }

    /// RoleService.
    pub fn roles(&self) -> RoleServiceClient<Caller> {
        RoleServiceClient::new(self.caller.clone())
    }

    /// ActivityService.
    pub fn activity(&self) -> ActivityServiceClient<Caller> {
        ActivityServiceClient::new(self.caller.clone())
    }

    /// InactivityService.
    pub fn inactivity(&self) -> InactivityServiceClient<Caller> {
        InactivityServiceClient::new(self.caller.clone())
    }

    /// SeatService.
    pub fn seats(&self) -> SeatServiceClient<Caller> {
        SeatServiceClient::new(self.caller.clone())
    }

    /// TemplateService.
    pub fn templates(&self) -> TemplateServiceClient<Caller> {
        TemplateServiceClient::new(self.caller.clone())
    }

    /// ErasureService.
    pub fn erasures(&self) -> ErasureServiceClient<Caller> {
        ErasureServiceClient::new(self.caller.clone())
    }

    /// BulkService.
    pub fn bulk(&self) -> BulkServiceClient<Caller> {
        BulkServiceClient::new(self.caller.clone())
    }

    /// TransferService.
    pub fn transfer(&self) -> TransferServiceClient<Caller> {
        TransferServiceClient::new(self.caller.clone())
    }

    /// EventService.
    pub fn events(&self) -> EventServiceClient<Caller> {
        EventServiceClient::new(self.caller.clone())
    }

    /// TransferService.
    pub fn transfers(&self) -> TransferServiceClient<Caller> {
        TransferServiceClient::new(self.caller.clone()).max_decoding_message_size(32 << 20)
    }
}

/// Which worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// Invitations, account notifications, test mails.
    Invitation,
    /// Reminders.
    Reminder,
    /// Expirations.
    Expiration,
    /// Erasures.
    Erasure,
}

impl Worker {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Invitation, Self::Reminder, Self::Expiration, Self::Erasure];

    /// The name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Invitation => "usher-worker-invitation",
            Self::Reminder => "usher-worker-reminder",
            Self::Expiration => "usher-worker-expiration",
            Self::Erasure => "usher-worker-erasure",
        }
    }
}

/// What a test wants otherwise than usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where mails go: a port of the loopback interface. Without one, the workers that send mail are not started.
    pub smtp_port: Option<u16>,
    /// `USHER__SECTION__KEY` for the identity service.
    pub identity: Vec<(String, String)>,
    /// `USHER__SECTION__KEY` for all workers.
    pub workers: Vec<(String, String)>,
    /// No workers at all: the test does the work itself.
    pub without_workers: bool,
    /// A database of the test's own; otherwise one on the server that all tests share.
    pub database_url: Option<String>,
    /// A virtual host of the test's own; otherwise one on the broker that all tests share.
    pub amqp_url: Option<String>,
    /// The service on SQLite; then there are no workers.
    pub sqlite: bool,
}

/// A deployment with a database, a virtual host and processes of its own. Everything ends when it is dropped.
pub struct System {
    /// The identity service.
    pub identity: Process,
    /// The workers.
    pub workers: BTreeMap<Worker, Process>,
    /// PostgreSQL, or the SQLite file.
    pub database_url: String,
    /// RabbitMQ.
    pub amqp_url: String,
    /// Where the API listens.
    pub port: u16,
    /// What the identity service is configured by, for replicas of it.
    environment: Vec<(String, String)>,
    clock: PathBuf,
    ahead: std::sync::atomic::AtomicI64,
    /// What was found right when the seats were checked last.
    checked: tokio::sync::Mutex<BTreeMap<Uuid, Seats>>,
}

impl Drop for System {
    fn drop(&mut self) {
        ledger::check_at_end(&self.database_url, async || self.check_seats().await);
    }
}

impl System {
    /// Starts it and waits until everything is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = new_folder("system")?;
        let clock = folder.join("clock");
        std::fs::write(&clock, "0")?;
        let port = free_port()?;
        let database_url = match options.database_url {
            Some(url) => url,
            None if options.sqlite => format!("sqlite:{}?mode=rwc", folder.join("usher.db").display()),
            None => Postgres::shared().await?.database().await?,
        };
        // The service asks for a broker whatever its database is.
        let amqp_url = match options.amqp_url {
            Some(url) => url,
            None => Broker::shared().await?.vhost().await?,
        };
        let mut environment = vars([
            ("USHER__GRPC__LISTEN", format!("127.0.0.1:{port}")),
            ("USHER__DATABASE__URL", database_url.clone()),
            ("USHER__LINKS__KEY", LINK_KEY.to_owned()),
            ("USHER__AUDIT__KEY", AUDIT_KEY.to_owned()),
            (
                "USHER__LINKS__ACCEPT_URL",
                format!("{ACCEPT_URL}?tenant={{tenant}}&token={{token}}"),
            ),
            ("USHER__CLOCK__REHEARSAL_FILE", clock.display().to_string()),
            ("USHER__BUS__URL", amqp_url.clone()),
        ]);
        environment.extend(options.identity);
        let identity = Process::start(IDENTITY, &[], environment.clone()).await?;
        let mut workers = BTreeMap::new();
        let wanted: &[Worker] = if options.without_workers || options.sqlite {
            &[]
        } else if options.smtp_port.is_some() {
            &Worker::ALL
        } else {
            &[Worker::Expiration, Worker::Erasure]
        };
        for worker in wanted {
            let mut environment = vars([
                ("USHER__IDENTITY__URL", format!("http://127.0.0.1:{port}")),
                ("USHER__BUS__URL", amqp_url.clone()),
            ]);
            if let (Some(smtp), Worker::Invitation | Worker::Reminder) = (options.smtp_port, worker) {
                environment.extend(vars([("USHER__SMTP__URL", format!("smtp://127.0.0.1:{smtp}"))]));
            }
            // Whoever sends no mail refuses settings of a mail server.
            let own = |(name, _): &&(String, String)| {
                matches!(worker, Worker::Invitation | Worker::Reminder) || !name.starts_with("USHER__SMTP__")
            };
            environment.extend(options.workers.iter().filter(own).cloned());
            let mut process = Process::new(worker.program(), &[], environment)?;
            process.spawn()?;
            workers.insert(*worker, process);
        }
        for process in workers.values_mut() {
            process.ready().await?;
        }
        let ahead = std::sync::atomic::AtomicI64::new(0);
        Ok(Self {
            identity,
            workers,
            database_url,
            amqp_url,
            port,
            environment,
            clock,
            ahead,
            checked: tokio::sync::Mutex::default(),
        })
    }

    /// B13: checks that the ledger of each tenant adds up to its active accounts, and to what the service tells. Happens by
    /// itself when the system is dropped; tests that share one do it when they end.
    pub async fn check_seats(&self) -> Result<()> {
        ledger::check(self, &mut *self.checked.lock().await).await
    }

    /// Clients that act as nobody in particular.
    pub fn clients(&self) -> Result<Clients> {
        self.clients_as("")
    }

    /// Clients that act as somebody.
    pub fn clients_as(&self, actor: &str) -> Result<Clients> {
        clients(self.port, actor)
    }

    /// Starts one more identity service on the same database, with the same clock, and answers clients of that one.
    pub async fn replica(&self) -> Result<(Process, Clients)> {
        let port = free_port()?;
        let mut environment = self.environment.clone();
        environment.extend(vars([("USHER__GRPC__LISTEN", format!("127.0.0.1:{port}"))]));
        Ok((Process::start(IDENTITY, &[], environment).await?, clients(port, "")?))
    }

    /// What the service's clock shows, since the epoch: the machine's, and what the test added.
    pub fn now(&self) -> Duration {
        use std::sync::atomic::Ordering;
        #[expect(
            clippy::disallowed_methods,
            reason = "the database, whose clock counts, is on this machine"
        )]
        let machine = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        machine + Duration::from_secs(self.ahead.load(Ordering::SeqCst).unsigned_abs())
    }

    /// Creates a tenant with settings; its id.
    pub async fn tenant(&self, settings: Tenant) -> Result<String> {
        let tenant = Some(Tenant {
            display_name: "École des Tests".into(),
            ..settings
        });
        let request = CreateTenantRequest { tenant, options: None };
        let created = self.clients()?.tenants().create_tenant(request).await?.into_inner();
        Ok(created.tenant.context("no tenant in the answer")?.tenant_id)
    }

    /// Moves the service's clock forward by whole seconds. The service sees it within a moment, or when it starts.
    pub fn set_ahead(&self, by: Duration) -> Result<i64> {
        use std::sync::atomic::Ordering;
        let seconds = i64::try_from(by.as_secs())?;
        let ahead = self.ahead.fetch_add(seconds, Ordering::SeqCst) + seconds;
        // Written whole or not at all: the service may read at any moment.
        let next = self.clock.with_extension("next");
        std::fs::write(&next, ahead.to_string())?;
        std::fs::rename(&next, &self.clock)?;
        Ok(ahead)
    }

    /// Moves the service's clock forward, and waits until it has moved.
    pub async fn advance(&self, by: Duration) -> Result<()> {
        let ahead = self.set_ahead(by)?;
        let port = self.identity.admin_port();
        crate::environment::eventually("the clock moved", Duration::from_secs(10), async || {
            let text = crate::environment::http::get(port, "/metrics").await.ok()?.body;
            let line = text
                .lines()
                .find(|line| line.starts_with("usher_clock_ahead_seconds"))?;
            let shown: f64 = line.split_whitespace().last()?.parse().ok()?;
            #[expect(clippy::cast_precision_loss, reason = "seconds of a test fit")]
            ((shown - ahead as f64).abs() < 0.5).then_some(())
        })
        .await
    }
}

fn clients(port: u16, actor: &str) -> Result<Clients> {
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))
        .context("the URL of the service")?
        .connect_timeout(Duration::from_secs(2))
        .connect_lazy();
    Ok(Clients::new(channel, actor))
}

/// Variables of a process.
pub fn vars<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
